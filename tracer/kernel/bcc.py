# SPDX-License-Identifier: GPL-2.0-only
"""The distribution's bcc: where it is, how it is loaded, and what it says on standard error.

bcc brings the compiler and libbcc; nothing here knows the program that they are for.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tracer.errors import PrerequisiteError

_DISTRIBUTION = (
    Path("/usr/lib/python3/dist-packages/bcc/__init__.py"),
    *sorted(Path("/usr/lib").glob("python3*/site-packages/bcc/__init__.py")),
)

_int, _uint, _size = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t
_text, _pointer = ctypes.c_char_p, ctypes.c_void_p
# Functions of libbcc that bcc's Python side does not describe (src/cc/libbpf.h, bcc_common.h).
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "bcc_create_map": (_int, [_int, _text, _int, _int, _int, _int]),
    "bcc_prog_load": (_int, [_int, _text, _pointer, _int, _text, _uint, _int, _text, _uint]),
    "bpf_table_name": (_text, [_pointer, _size]),
    "bpf_table_key_size_id": (_size, [_pointer, _size]),
    "bpf_table_leaf_size_id": (_size, [_pointer, _size]),
}


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
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(bcc.lib, name)
            function.restype, function.argtypes = result, arguments
    except (ImportError, OSError, AttributeError) as error:
        del sys.modules["bcc"]
        raise PrerequisiteError(
            f"bcc cannot be loaded: {error}", hint="sudo apt-get install --reinstall python3-bpfcc"
        ) from error
    return bcc


@contextlib.contextmanager
def stderr_kept() -> Iterator[Callable[[], str]]:
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
