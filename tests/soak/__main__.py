# SPDX-License-Identifier: GPL-2.0-only
"""Boot each kernel and soak it, print the table: ``python -m tests.soak [--seconds 600]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.bench.__main__ import tell
from tests.soak import judge
from tests.vm import KERNELS, Guest, GuestLost

MORE_S = 1800
"""What a guest needs beside the soaking: to boot, to compile, to read what is left."""


def main() -> int:
    """Soak and print. The status is 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--kernel", choices=[*KERNELS, "all"], default="all")
    parser.add_argument("--seconds", type=int, default=600, help="on each kernel")
    options = parser.parse_args()
    missed = 0
    for kernel in KERNELS if options.kernel == "all" else [options.kernel]:
        print(f"soak: {options.seconds} s on {kernel}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tests.soak.guest", str(options.seconds)]
            try:
                status = Guest(kernel).run(
                    command, out=Path(folder), timeout_s=options.seconds + MORE_S
                )
            except GuestLost as error:
                print(f"soak: {error}", file=sys.stderr)
                return 1
            if status:
                print(f"soak: it ended with status {status}", file=sys.stderr)
                return 1
            missed |= tell(judge.rows(json.loads(Path(folder, "soak.json").read_text())))
    return missed


if __name__ == "__main__":
    sys.exit(main())
