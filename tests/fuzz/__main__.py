# SPDX-License-Identifier: GPL-2.0-only
"""``python -m tests.fuzz [--seconds N] [CORPUS]``: look for input that readers do not survive.

Takes the extra ``fuzz`` (``pip install -e '.[fuzz]'``). What is found interesting goes into CORPUS,
a new folder under /tmp if none is named; what ends it is said by libFuzzer, and goes there as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="stop after so long (600)")
    parser.add_argument("corpus", nargs="?", type=Path, help="inputs to begin with, and new ones")
    typed = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("there is no atheris here: .venv/bin/python -m pip install -e '.[fuzz]'")
    with atheris.instrument_imports(include=["tracer"]):
        from tests.fuzz import reader
    corpus = typed.corpus or Path(tempfile.mkdtemp(prefix="skbtrace-fuzz-"))
    corpus.mkdir(exist_ok=True)
    reader.sow(corpus)
    print(f"corpus: {corpus}", file=sys.stderr)
    arguments = [sys.argv[0], f"-max_total_time={typed.seconds}", "-max_len=32768"]
    arguments += [
        f"-artifact_prefix={corpus}/",
        "-timeout=20",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        str(corpus),
    ]

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        return reader.mutate(data, most, seed, atheris.Mutate)

    atheris.Setup(arguments, reader.one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
