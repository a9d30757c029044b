# SPDX-License-Identifier: GPL-2.0-only
"""The running kernel's types: where a struct keeps a member, what an enum's values are called.

Read with libbpf (bcc is linked to it) from /sys/kernel/btf/vmlinux. A walk in Python takes
seconds on a slow machine. This module knows nothing of probes or packets.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tracer.errors import PrerequisiteError

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MODULES = VMLINUX.parent

# include/uapi/linux/btf.h
_PTR, _STRUCT, _UNION, _ENUM, _TYPEDEF, _FUNC, _FUNC_PROTO = 2, 4, 5, 6, 8, 12, 13
_MODIFIERS = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type tag


class _Type(NamedTuple):
    address: int
    name: str
    kind: int
    vlen: int
    flag: bool
    size_or_type: int


class Bits(NamedTuple):
    """Where a bit field lies: its byte in the struct and its bits in that byte."""

    byte: int
    mask: int


def load_libbpf() -> Any:
    """Return libbpf. PrerequisiteError if it is not there."""
    try:
        lib = ctypes.CDLL("libbpf.so.1")
    except OSError as error:
        raise PrerequisiteError(
            "libbpf.so.1 is not installed; bcc needs it too",
            hint="sudo apt-get install python3-bpfcc",
        ) from error
    lib.libbpf_set_print(None)
    return lib


class Btf:
    """Types of the running kernel. PrerequisiteError if there are none."""

    def __init__(self, path: Path = VMLINUX) -> None:
        if not path.exists():
            raise PrerequisiteError(
                f"this kernel has no type information ({path} is missing: CONFIG_DEBUG_INFO_BTF)",
                hint="make demo   # runs the same job in a guest whose kernel has it",
            )
        self._lib = load_libbpf()
        for name, result in (
            ("btf__parse_raw", ctypes.c_void_p),
            ("btf__parse_raw_split", ctypes.c_void_p),
            ("btf__type_by_id", ctypes.c_void_p),
            ("btf__name_by_offset", ctypes.c_char_p),
        ):
            getattr(self._lib, name).restype = result
        self._btf = self._lib.btf__parse_raw(str(path).encode())
        if not self._btf:
            raise PrerequisiteError(f"libbpf cannot read {path}")
        self._modules: dict[str, Btf] = {}

    def module(self, name: str) -> Btf | None:
        """The types of a module, and the kernel's.

        None if it is not loaded or has none (before 5.11, commit 36e68442d1af).
        """
        if name in self._modules:
            return self._modules[name]
        path = MODULES / name
        if not path.exists():
            return None
        module = Btf.__new__(Btf)
        module._lib = self._lib
        module._modules = {}
        module._btf = self._lib.btf__parse_raw_split(str(path).encode(), ctypes.c_void_p(self._btf))
        if not module._btf:
            return None
        self._modules[name] = module
        return module

    def close(self) -> None:
        """Give the memory back (some 10 MB)."""
        for module in self._modules.values():
            module.close()
        if self._btf:
            self._lib.btf__free(ctypes.c_void_p(self._btf))
            self._btf = None

    def _name(self, offset: int) -> str:
        name = self._lib.btf__name_by_offset(ctypes.c_void_p(self._btf), ctypes.c_uint32(offset))
        return (name or b"").decode()

    def _type(self, type_id: int) -> _Type:
        address = self._lib.btf__type_by_id(ctypes.c_void_p(self._btf), ctypes.c_uint32(type_id))
        name_off, word, size_or_type = (ctypes.c_uint32 * 3).from_address(address)
        kind, vlen = word >> 24 & 0x1F, word & 0xFFFF
        return _Type(address, self._name(name_off), kind, vlen, bool(word >> 31), size_or_type)

    def _number(self, name: str, kind: int) -> int | None:
        found: int = self._lib.btf__find_by_name_kind(
            ctypes.c_void_p(self._btf), name.encode(), ctypes.c_uint32(kind)
        )
        return found if found > 0 else None

    def _find(self, name: str, kind: int) -> _Type | None:
        found = self._number(name, kind)
        return None if found is None else self._type(found)

    def _plain(self, type_id: int) -> _Type:
        """The type behind typedefs and qualifiers."""
        found = self._type(type_id)
        while found.kind in _MODIFIERS:
            found = self._type(found.size_or_type)
        return found

    def _members(self, struct: _Type, base: int = 0) -> Iterator[tuple[str, int, int]]:
        """(name, bit offset, bits if a bit field else 0), anonymous structs and unions opened."""
        words = (ctypes.c_uint32 * (3 * struct.vlen)).from_address(struct.address + 12)
        for i in range(struct.vlen):
            name, type_id, offset = self._name(words[3 * i]), words[3 * i + 1], words[3 * i + 2]
            bits = offset >> 24 if struct.flag else 0
            at = base + (offset & 0xFFFFFF if struct.flag else offset)
            if name:
                yield name, at, bits
            else:
                inner = self._plain(type_id)
                if inner.kind in (_STRUCT, _UNION):
                    yield from self._members(inner, at)

    def _member(self, struct: str, member: str) -> tuple[int, int] | None:
        found = self._find(struct, _STRUCT)
        if found is None:
            return None
        return next(((at, bits) for name, at, bits in self._members(found) if name == member), None)

    def offset(self, struct: str, member: str) -> int | None:
        """Byte offset of a member, or None if this kernel has no such member."""
        found = self._member(struct, member)
        return None if found is None else found[0] // 8

    def function(self, name: str) -> int | None:
        """The number of a function's type, or None if this kernel has no such function."""
        return self._number(name, _FUNC)

    def tracepoint(self, name: str) -> int | None:
        """The number of a raw tracepoint's type, or None if this kernel has no such one.

        ``typedef void (*btf_trace_NAME)(void *, args...)``, include/linux/tracepoint.h.
        """
        return self._number(f"btf_trace_{name}", _TYPEDEF)

    def size(self, struct: str) -> int | None:
        """Bytes of a struct, or None if this kernel has no such struct."""
        found = self._find(struct, _STRUCT)
        return None if found is None else found.size_or_type

    def bit_field(self, struct: str, member: str) -> Bits | None:
        """Where a bit field lies, or None if this kernel has no such bit field."""
        found = self._member(struct, member)
        if found is None or not found[1]:
            return None
        at, bits = found
        return Bits(at // 8, ((1 << bits) - 1) << at % 8)

    def enum(self, name: str) -> dict[int, str]:
        """Value → name of an enum's members; empty if this kernel has no such enum."""
        found = self._find(name, _ENUM)
        if found is None:
            return {}
        words = (ctypes.c_int32 * (2 * found.vlen)).from_address(found.address + 12)
        return {words[2 * i + 1]: self._name(words[2 * i]) for i in range(found.vlen)}

    def tracepoint_args(self, name: str) -> int | None:
        """How many arguments a raw tracepoint's program may read, None if there is no such one."""
        found = self.tracepoint(name)
        if found is None:
            return None
        pointer = self._plain(found)
        if pointer.kind != _PTR:
            return None
        prototype = self._plain(pointer.size_or_type)
        return prototype.vlen - 1 if prototype.kind == _FUNC_PROTO else None
