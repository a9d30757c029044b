# SPDX-License-Identifier: GPL-2.0-only
"""bpf/skbtrace.bpf.c, compiled by bcc for the kernel that runs.

Everything that differs between kernels is a number handed to the compiler as a definition
(``definitions``); no kernel headers are needed. Nothing here is loaded into the kernel.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from tracer.errors import SkbtraceError
from tracer.kernel import compiled
from tracer.kernel.bcc import load_bcc, stderr_kept
from tracer.kernel.compiled import Compiled, MapKind, unlinked

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
        program = _compile(bcc, flags)
        compiled.write(key, program)
    return program


def _compile(bcc: ModuleType, flags: list[str]) -> Compiled:
    os.environ["BCC_KERNEL_SOURCE"] = str(SOURCE / "stubs")
    with stderr_kept() as said:
        try:
            bpf = bcc.BPF(src_file=str(SOURCE / "skbtrace.bpf.c").encode(), cflags=flags)
        except Exception as error:  # bcc raises bare Exceptions
            words = "".join(said())
            raise SkbtraceError(f"the kernel program does not compile: {words or error}") from error
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
