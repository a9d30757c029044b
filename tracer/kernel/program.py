# SPDX-License-Identifier: GPL-2.0-only
"""The kernel program: bpf/skbtrace.bpf.c, compiled by bcc for the kernel that runs.

Everything that differs between kernels is a number handed to the compiler as a definition
(``definitions``); no kernel headers are needed. This module knows nothing of journeys.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tracer.errors import PrerequisiteError, SkbtraceError

SOURCE = next(
    path
    for path in (
        Path(__file__).parents[2] / "bpf",  # in a checkout
        Path(__file__).parents[1] / "bpf",  # installed
    )
    if path.is_dir()
)

# bcc optimizes by itself what clang hands it, and nobody debugs this program with DWARF: leaving
# both out halves the time to compile.
_LIGHT = ("-Xclang", "-disable-llvm-passes", "-g0")

_DISTRIBUTION = (
    Path("/usr/lib/python3/dist-packages/bcc/__init__.py"),
    *sorted(Path("/usr/lib").glob("python3*/site-packages/bcc/__init__.py")),
)


def bcc_path() -> Path | None:
    """Where the distribution has put bcc, or None."""
    return next((path for path in _DISTRIBUTION if path.exists()), None)


def load_bcc() -> ModuleType:
    """The distribution's bcc, also from a virtual environment that does not see its packages."""
    if "bcc" in sys.modules:
        return sys.modules["bcc"]
    found = bcc_path()
    if found is None:
        raise PrerequisiteError(
            "bcc is not installed (it comes from the distribution, not from PyPI)",
            hint="sudo apt-get install python3-bpfcc",
        )
    spec = importlib.util.spec_from_file_location("bcc", found)
    assert spec is not None
    assert spec.loader is not None
    bcc = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = bcc
    try:
        spec.loader.exec_module(bcc)
    except (ImportError, OSError) as error:
        del sys.modules["bcc"]
        raise PrerequisiteError(
            f"bcc cannot be loaded: {error}", hint="sudo apt-get install --reinstall python3-bpfcc"
        ) from error
    return bcc


def compile_program(defined: list[str]) -> Any:
    """Compile and return bcc's BPF object. SkbtraceError with the compiler's words if it fails."""
    bcc = load_bcc()
    os.environ["BCC_KERNEL_SOURCE"] = str(SOURCE / "stubs")
    flags = [*defined, f"-I{SOURCE}", *_LIGHT]
    with stderr_kept() as said:
        try:
            return bcc.BPF(src_file=str(SOURCE / "skbtrace.bpf.c").encode(), cflags=flags)
        except Exception as error:  # bcc raises bare Exceptions
            words = "".join(said())
            raise SkbtraceError(f"the kernel program does not compile: {words or error}") from error


@contextlib.contextmanager
def stderr_kept() -> Iterator[Any]:
    """Keep what C code (clang, libbcc) writes to standard error; the yielded call returns it."""
    sys.stderr.flush()
    saved = os.dup(2)
    kept = os.memfd_create("stderr")
    os.dup2(kept, 2)

    def said() -> str:
        size = os.lseek(kept, 0, os.SEEK_END)
        return os.pread(kept, size, 0).decode(errors="replace")

    try:
        yield said
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(kept)
