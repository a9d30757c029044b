# SPDX-License-Identifier: GPL-2.0-only
"""A ring buffer of the kernel's, read where it lies: a record is copied once, and nobody is called.

Its first page holds up to where it was read, the second up to where it was written, and then come
the records, mapped twice in a row, so that none is cut in two (struct bpf_ringbuf in
kernel/bpf/ringbuf.c). Before each stand its length and two flags (include/uapi/linux/bpf.h). What
the kernel writes before a flag or a position is there when that is read: x86 neither swaps loads
nor lets a store go before an earlier load. This module must not know what a record holds.
"""

from __future__ import annotations

import mmap
import struct

_HEADER = struct.Struct("=I4x")
_BUSY, _DISCARD = 1 << 31, 1 << 30
_FIRST = mmap.PAGESIZE
"""Where the records begin, behind the page that tells how far they go."""


class Ring:
    """The ring buffer of a map of ``size`` bytes. For one thread. Raises OSError."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._size = size
        self._read = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._written = mmap.mmap(
            descriptor, mmap.PAGESIZE + 2 * size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE
        )
        # One load or store each, of eight bytes.
        self._read_up_to = memoryview(self._read).cast("Q")
        self._written_up_to = memoryview(self._written)[:8].cast("Q")

    def records(self, most: int) -> list[bytes]:
        """Return what waits, the oldest first, and no more than so many; never blocks."""
        found: list[bytes] = []
        data, last, header = self._written, self._size - 1, _HEADER.size
        at, end = self._read_up_to[0], self._written_up_to[0]
        while at < end and len(found) < most:
            begin = _FIRST + (at & last)
            (length,) = _HEADER.unpack_from(data, begin)
            begin += header
            if length < _DISCARD:
                found.append(data[begin : begin + length])
            elif length & _BUSY:
                break  # not yet written to its end
            else:
                length -= _DISCARD
            at += (header + length + 7) & -8
        self._read_up_to[0] = at
        return found

    def fill(self) -> float:
        """What part of it waits to be read, from 0 to 1."""
        return (self._written_up_to[0] - self._read_up_to[0]) / self._size

    def close(self) -> None:
        """Give it back. Harmless when called twice."""
        for view in (self._read_up_to, self._written_up_to):
            view.release()
        self._read.close()
        self._written.close()
