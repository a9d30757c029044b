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
from collections.abc import Iterator, Mapping
from ctypes import c_char_p, c_size_t, c_void_p, get_errno
from pathlib import Path
from types import ModuleType
from typing import Any

from tracer.errors import PrerequisiteError, SkbtraceError
from tracer.kernel import compiled
from tracer.kernel.compiled import Code, unlinked

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
    """Return bcc's BPF object for the program, compiled if it was not since this kernel started.

    Raises SkbtraceError with the compiler's words if it does not compile.
    """
    bcc = load_bcc()
    os.environ["BCC_KERNEL_SOURCE"] = str(SOURCE / "stubs")
    flags = [*defined, f"-I{SOURCE}", *_LIGHT]
    files = sorted([*SOURCE.glob("*.[ch]"), *SOURCE.glob("stubs/**/*.h")])
    key = compiled.key_of(files, [*flags, os.uname().release, bcc.__version__])
    functions = compiled.read(key)
    if functions is not None:
        bpf = _compile(bcc, [*flags, "-DSKBTRACE_MAPS_ALONE"])
        _give(bcc, bpf, functions)
    else:
        bpf = _compile(bcc, flags)
        compiled.write(key, _taken(bcc, bpf))
    return bpf


def _compile(bcc: ModuleType, flags: list[str]) -> Any:
    with stderr_kept() as said:
        try:
            return bcc.BPF(src_file=str(SOURCE / "skbtrace.bpf.c").encode(), cflags=flags)
        except Exception as error:  # bcc raises bare Exceptions
            words = "".join(said())
            raise SkbtraceError(f"the kernel program does not compile: {words or error}") from error


def _maps(bcc: ModuleType, bpf: Any) -> dict[str, int]:
    """Map → its descriptor."""
    lib, module = bcc.lib, bpf.module
    lib.bpf_table_name.restype = c_char_p  # bcc does not say it
    lib.bpf_table_name.argtypes = [c_void_p, c_size_t]
    return {
        lib.bpf_table_name(module, i).decode(): lib.bpf_table_fd_id(module, i)
        for i in range(lib.bpf_num_tables(module))
    }


def _taken(bcc: ModuleType, bpf: Any) -> dict[str, Code]:
    """Take the functions out of what was compiled."""
    names = {descriptor: name for name, descriptor in _maps(bcc, bpf).items()}
    functions = range(bcc.lib.bpf_num_functions(bpf.module))
    return {
        name.decode(): unlinked(bpf.dump_func(name), names)
        for name in (bcc.lib.bpf_function_name(bpf.module, i) for i in functions)
    }


def _give(bcc: ModuleType, bpf: Any, functions: Mapping[str, Code]) -> None:
    """Let an object that has the maps alone load these functions, which it would not find."""
    lib, module, descriptors = bcc.lib, bpf.module, _maps(bcc, bpf)

    def load_func(name: bytes, prog_type: int, *_: object) -> Any:
        if name not in bpf.funcs:
            code = functions[name.decode()].linked(descriptors)
            license_, version = lib.bpf_module_license(module), lib.bpf_module_kern_version(module)
            program = (prog_type, name, code, len(code), license_, version)
            loaded = lib.bcc_func_load(module, *program, 0, None, 0, None, -1)
            if loaded < 0:
                raise SkbtraceError(
                    f"the kernel refuses {name.decode()}: {os.strerror(get_errno())}"
                )
            bpf.funcs[name] = bpf.Function(bpf, name, loaded)
        return bpf.funcs[name]

    bpf.load_func = load_func


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
