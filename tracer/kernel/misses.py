# SPDX-License-Identifier: GPL-2.0-only
"""Hits of kprobes that the kernel counted but did not run: what a probe program cannot see itself.

A kprobe that is hit while its CPU is inside another one is passed over (kprobe_ftrace_handler in
arch/x86/kernel/kprobes/ftrace.c): an interrupt comes in the middle of a probe's program, and what
it receives is not seen. The kernel counts that in ``struct kprobe`` (kprobes_inc_nmissed_count in
kernel/kprobes.c), but shows the count of such probes as bcc makes nowhere. It is read from the
kernel's memory, when asked: a packet pays nothing for it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

from tracer.errors import SkbtraceError
from tracer.kernel.btf import Btf

KCORE = Path("/proc/kcore")
TABLE = "kprobe_table"
"""The kernel's variable: heads of lists of struct kprobe, which hang together by ``hlist``."""

_BUCKETS = 64  # KPROBE_TABLE_SIZE, kernel/kprobes.c
_KPROBES_MAX = 65536  # a list that is changed while it is read might have no end
_MEMBERS = ("hlist", "list", "nmissed", "symbol_name")
_NAME_BYTES = 128
_POINTER = struct.Struct("=Q")


class Memory:
    """The kernel's memory, as the ELF file /proc/kcore shows it. OSError if it does not."""

    def __init__(self, path: Path = KCORE) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        header = os.pread(self._file, 64, 0)
        (offset,) = struct.unpack_from("=Q", header, 32)  # e_phoff
        size, count = struct.unpack_from("=HH", header, 54)  # e_phentsize, e_phnum
        self._segments = []
        for number in range(count):
            segment = os.pread(self._file, size, offset + number * size)
            kind, _, at, address, _, length = struct.unpack_from("=IIQQQQ", segment)
            if kind == 1:  # PT_LOAD
                self._segments.append((address, address + length, at))

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes; OSError if there is nothing."""
        for start, end, at in self._segments:
            if start <= address and address + size <= end:
                data = os.pread(self._file, size, at + address - start)
                if len(data) == size:
                    return data
        raise OSError(f"{address:#x} is not in the kernel's memory")

    def pointer(self, address: int) -> int:
        """What lies at that address."""
        value: int = _POINTER.unpack(self.read(address, _POINTER.size))[0]
        return value

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Kprobe(NamedTuple):
    """A struct kprobe, as far as it is read."""

    address: int
    following: int
    """The next one's ``hlist`` in the same list of the table, or 0."""
    child: int
    """The ``list`` of the first kprobe it stands for, if there are several at one place."""
    missed: int
    symbol: int
    """Where the name of its function is, or 0."""


class Misses:
    """Hits missed from now on. SkbtraceError if this kernel does not show them."""

    def __init__(self, btf: Btf, table: int | None) -> None:
        offsets = [btf.offset("kprobe", member) for member in _MEMBERS]
        self._offsets = [offset for offset in offsets if offset is not None]
        if table is None or len(self._offsets) < len(_MEMBERS):
            raise SkbtraceError("this kernel's table of kprobes is not known")
        self._table = table
        try:
            self._memory = Memory()
            self._before = {kprobe.address: kprobe.missed for kprobe in self._kprobes()}
        except OSError as error:
            raise SkbtraceError(f"{KCORE} cannot be read: {error}") from error

    def of(self, functions: Set[str]) -> int | None:
        """How many hits of these functions the kernel has missed; None if it cannot be read."""
        missed: dict[str, int] = {}
        try:
            for kprobe in self._kprobes():
                count = kprobe.missed - self._before.get(kprobe.address, 0)
                if not count or not kprobe.symbol:
                    continue
                name = self._memory.read(kprobe.symbol, _NAME_BYTES).split(b"\0")[0].decode()
                # A function's entry and return are two kprobes at one place: one hit, one miss.
                if name in functions:
                    missed[name] = max(count, missed.get(name, 0))
        except (OSError, UnicodeDecodeError):
            return None
        return sum(missed.values())

    def close(self) -> None:
        """Close what was opened."""
        self._memory.close()

    def _kprobes(self) -> Iterator[Kprobe]:
        hlist, several = self._offsets[:2]
        left = _KPROBES_MAX
        for bucket in range(_BUCKETS):
            node = self._memory.pointer(self._table + bucket * _POINTER.size)
            while node and (left := left - 1):
                kprobe = self._kprobe(node - hlist)
                yield kprobe
                node, child = kprobe.following, kprobe.child
                while child != kprobe.address + several and (left := left - 1):
                    one = self._kprobe(child - several)
                    yield one
                    child = one.child

    def _kprobe(self, address: int) -> Kprobe:
        memory = self._memory.read(address, max(self._offsets) + _POINTER.size)
        return Kprobe(address, *(_POINTER.unpack_from(memory, at)[0] for at in self._offsets))
