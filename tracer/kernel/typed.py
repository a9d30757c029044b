# SPDX-License-Identifier: GPL-2.0-only
"""fentry, fexit and tp_btf: programs that are given typed arguments, without a kprobe's detour.

For the first two the kernel patches a call into the function's first bytes (Documentation/bpf/
prog_lsm.rst tells of the same trampolines). The type information must have the function under the
very name that its symbol has: what the compiler has cloned is not to be had. While such a program
is attached to a module's function, the module cannot be unloaded. The third is a tracepoint's, as
a raw one, but its arguments have types. By libbpf's calls; this module knows nothing of packets.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from tracer.errors import SkbtraceError
from tracer.kernel.btf import Btf, load_libbpf
from tracer.probes import Attach, Probe

# enum bpf_prog_type and enum bpf_attach_type
_TRACING = 26
_ATTACH_TYPES = {Attach.TP_BTF: 23, Attach.FENTRY: 24, Attach.FEXIT: 25}
_NAME_BYTES = 64


class TypedError(SkbtraceError):
    """The kernel does not let a program be attached so."""


class Target(NamedTuple):
    """A function's entry or return, or a tracepoint, as the kernel's types know it."""

    attach: Attach
    type_id: int
    module: str | None = None
    """Whose types these are; None: the kernel's own."""


class _LoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts, as far as libbpf 1.0 has it."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        *((name, ctypes.c_uint32) for name in ("expected_attach_type", "prog_btf_fd")),
        *((name, ctypes.c_uint32) for name in ("prog_flags", "prog_ifindex", "kern_version")),
        *((name, ctypes.c_uint32) for name in ("attach_btf_id", "attach_prog_fd")),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("func_info_cnt", "func_info_rec_size")),
        ("line_info", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("line_info_cnt", "line_info_rec_size")),
        *((name, ctypes.c_uint32) for name in ("log_level", "log_size")),
        ("log_buf", ctypes.c_char_p),
    ]


class _BtfInfo(ctypes.Structure):
    """struct bpf_btf_info of linux/bpf.h."""

    _fields_ = [
        ("btf", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("btf_size", "id")),
        ("name", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("name_len", "kernel_btf")),
    ]


def target_of(btf: Btf, probe: Probe) -> Target | None:
    """Return what a probe may be attached to, or None if the kernel's types do not know it."""
    if probe.typed is None:
        return None
    if probe.tracepoint is not None:
        found = btf.tracepoint(probe.tracepoint)
        return None if found is None else Target(probe.typed, found)
    found = btf.function(probe.function)
    if found is not None:
        return Target(probe.typed, found)
    types = None if probe.module is None else btf.module(probe.module)
    found = None if types is None else types.function(probe.function)
    return None if found is None else Target(probe.typed, found, probe.module)


class Typed:
    """Loads such programs, and attaches them. TypedError if it cannot."""

    def __init__(self) -> None:
        self._lib: Any = load_libbpf()
        self._types: dict[str, int] = {}

    def load(self, name: str, code: bytes, target: Target) -> int:
        """Have the kernel verify a program for that target; its descriptor."""
        options = _LoadOptions(
            sz=ctypes.sizeof(_LoadOptions),
            expected_attach_type=_ATTACH_TYPES[target.attach],
            attach_btf_id=target.type_id,
            attach_btf_obj_fd=0 if target.module is None else self._types_of(target.module),
        )
        loaded: int = self._lib.bpf_prog_load(
            _TRACING, name.encode(), b"GPL", code, ctypes.c_size_t(len(code) // 8), _at(options)
        )
        if loaded < 0:
            why = os.strerror(-loaded)
            raise TypedError(f"the kernel refuses {name} by {target.attach}: {why}")
        return loaded

    def attach(self, program: int) -> int:
        """Have it called from now on; the descriptor whose closing ends that."""
        attached: int = self._lib.bpf_raw_tracepoint_open(None, program)
        if attached < 0:
            raise TypedError(f"the kernel does not attach it: {os.strerror(-attached)}")
        return attached

    def close(self) -> None:
        """Give everything back that is not a program's."""
        while self._types:
            os.close(self._types.popitem()[1])

    def _types_of(self, module: str) -> int:
        """The descriptor of a module's types."""
        if module not in self._types:
            for descriptor, name in self._all_types():
                if name == module:
                    self._types[module] = descriptor
                    break
                os.close(descriptor)
            else:
                raise TypedError(f"the kernel has no types of the module {module}")
        return self._types[module]

    def _all_types(self) -> Iterator[tuple[int, str]]:
        number = ctypes.c_uint32(0)
        while not self._lib.bpf_btf_get_next_id(number, ctypes.byref(number)):
            descriptor = self._lib.bpf_btf_get_fd_by_id(number)
            if descriptor < 0:  # it has just gone
                continue
            name = ctypes.create_string_buffer(_NAME_BYTES)
            info = _BtfInfo(name=ctypes.addressof(name), name_len=_NAME_BYTES)
            size = ctypes.c_uint32(ctypes.sizeof(info))
            self._lib.bpf_obj_get_info_by_fd(descriptor, _at(info), ctypes.byref(size))
            yield descriptor, name.value.decode()


def _at(structure: ctypes.Structure) -> Any:
    return ctypes.byref(structure)
