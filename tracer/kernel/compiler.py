# SPDX-License-Identifier: GPL-2.0-only
"""bpf/skbtrace.bpf.c, compiled by bcc for the kernel that runs.

Everything that differs between kernels is a number handed to the compiler as a definition
(``definitions``); no kernel headers are needed. Nothing here is loaded into the kernel.

A process of its own compiles: clang leaves 130 MB behind, writes what it has to say to standard
error, and in QEMU's emulation it falls when it does not run in the first thread of a process.
There it takes a minute, too: what SKBTRACE_COMPILER names is asked first (tests/vm/compiling.py).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from tracer.errors import SkbtraceError
from tracer.kernel import compiled
from tracer.kernel.bcc import load_bcc
from tracer.kernel.compiled import Compiled, MapKind, from_json, to_json, unlinked

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

ELSEWHERE = "SKBTRACE_COMPILER"
"""Environment variable: the words of a command that compiles in place of the child below, if it
can. It gets what the child gets and says what the child says."""


def compile_program(defined: list[str]) -> Compiled:
    """Return the program, from what is kept if it was compiled since this kernel started.

    Raises SkbtraceError with the compiler's words if it does not compile.
    """
    bcc = load_bcc()
    flags = [*defined, f"-I{SOURCE}", *_LIGHT]
    files = sorted([*SOURCE.glob("*.[ch]"), *SOURCE.glob("stubs/**/*.h")])
    key = compiled.key_of(files, [*flags, os.uname().release, bcc.__version__])
    program = compiled.read(key)
    if program is None:
        program = _compiled(flags)
        compiled.write(key, program)
    return program


# Isolated, so that nothing of the current directory is run; what this process may import, it may.
_CHILD = """\
import json, sys
sys.path[:], flags = json.load(sys.stdin)
from tracer.kernel import compiler
compiler.answer(flags)
"""


def _compiled(flags: list[str]) -> Compiled:
    elsewhere = shlex.split(os.environ.get(ELSEWHERE, ""))
    if elsewhere:
        with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
            return from_json(child(flags, elsewhere).stdout)
    return compiled_here(flags)


def compiled_here(flags: list[str]) -> Compiled:
    """Return the program; nobody else is asked. Raises SkbtraceError if it does not compile."""
    done = child(flags)
    if done.returncode:
        why = done.stderr.strip() or f"the compiler ended with status {done.returncode}"
        raise SkbtraceError(f"the kernel program does not compile: {why}")
    return from_json(done.stdout)


def child(
    flags: list[str], command: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Have a process of its own compile; its output is the program. ``command``: another one."""
    return subprocess.run(
        [*(command or (sys.executable, "-I", "-c", _CHILD))],
        input=json.dumps([sys.path, flags]),
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "BCC_KERNEL_SOURCE": str(SOURCE / "stubs"), **environment},
        check=False,
        start_new_session=True,  # Ctrl-C is for the tracer, which ends in order
    )


def answer(flags: list[str]) -> None:
    """Compile, and write the program to standard output: what the child does."""
    sys.stdout.write(to_json(_compile(load_bcc(), flags)))


def _compile(bcc: ModuleType, flags: list[str]) -> Compiled:
    try:
        bpf = bcc.BPF(src_file=str(SOURCE / "skbtrace.bpf.c").encode(), cflags=flags)
    except Exception as error:  # bcc raises bare Exceptions
        sys.exit(f"{error}")
    lib, module = bcc.lib, bpf.module
    try:
        tables = range(lib.bpf_num_tables(module))
        names = {i: lib.bpf_table_name(module, i).decode() for i in tables}
        descriptors = {lib.bpf_table_fd_id(module, i): names[i] for i in tables}
        functions = [lib.bpf_function_name(module, i) for i in range(lib.bpf_num_functions(module))]
        return Compiled(
            {
                names[i]: MapKind(
                    lib.bpf_table_type_id(module, i),
                    lib.bpf_table_key_size_id(module, i),
                    lib.bpf_table_leaf_size_id(module, i),
                    lib.bpf_table_max_entries_id(module, i),
                    lib.bpf_table_flags_id(module, i),
                )
                for i in tables
            },
            {name.decode(): unlinked(bpf.dump_func(name), descriptors) for name in functions},
        )
    finally:
        bpf.cleanup()  # bcc has made the maps already
