# SPDX-License-Identifier: GPL-2.0-only
"""A ring buffer as the kernel leaves it: whole records in order, each once."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.kernel.ring import Ring

SIZE = 4096
BUSY, DISCARD = 1 << 31, 1 << 30


class Kernel:
    """Writes as kernel/bpf/ringbuf.c does, into a file: there the records are twice for real."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(2 * mmap.PAGESIZE + 2 * SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
            self.ring = Ring(file.fileno(), SIZE)

    def positions(self) -> tuple[int, int]:
        """Up to where it was read, and written."""
        read, written = (struct.unpack_from("=Q", self._map, at)[0] for at in (0, mmap.PAGESIZE))
        return read, written

    def begin_at(self, position: int) -> None:
        for at in (0, mmap.PAGESIZE):
            struct.pack_into("=Q", self._map, at, position)

    def reserve(self, record: bytes, flags: int = BUSY) -> int | None:
        """Where its length stands; None if there is no room."""
        read, written = self.positions()
        taken = (8 + len(record) + 7) // 8 * 8
        if written + taken - read > SIZE - 1:
            return None
        whole = struct.pack("=II", len(record) | flags, 0) + record
        for number, byte in enumerate(whole):
            for copy in (0, SIZE):
                self._map[2 * mmap.PAGESIZE + (written + number) % SIZE + copy] = byte
        struct.pack_into("=Q", self._map, mmap.PAGESIZE, written + taken)
        return written % SIZE

    def submit(self, at: int, record: bytes, flags: int = 0) -> None:
        for copy in (0, SIZE):
            struct.pack_into("=I", self._map, 2 * mmap.PAGESIZE + at + copy, len(record) | flags)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "ring")


def test_an_empty_one(kernel: Kernel) -> None:
    assert kernel.ring.records(10) == []
    assert kernel.ring.fill() == 0


def test_what_is_being_written_and_what_comes_behind_it_waits(kernel: Kernel) -> None:
    assert kernel.reserve(b"first", flags=0) == 0
    second = kernel.reserve(b"second")
    assert kernel.reserve(b"third", flags=0) is not None
    assert kernel.ring.records(10) == [b"first"]
    assert kernel.ring.records(10) == []
    assert second is not None
    kernel.submit(second, b"second")
    assert kernel.ring.records(10) == [b"second", b"third"]
    assert kernel.ring.fill() == 0


def test_what_is_discarded_is_passed_over(kernel: Kernel) -> None:
    for record, flags in ((b"a", 0), (b"no", DISCARD), (b"b", 0), (b"neither", DISCARD)):
        assert kernel.reserve(record, flags) is not None
    assert kernel.ring.records(10) == [b"a", b"b"]
    assert kernel.ring.fill() == 0


def test_no_more_than_is_asked_for(kernel: Kernel) -> None:
    for number in range(5):
        assert kernel.reserve(bytes([number]), flags=0) is not None
    assert kernel.ring.records(2) == [b"\0", b"\1"]
    assert kernel.ring.fill() == 3 * 16 / SIZE
    assert kernel.ring.records(9) == [b"\2", b"\3", b"\4"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(min_size=1, max_size=700), max_size=40), st.integers(0, 1 << 40))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], position: int
) -> None:
    """Also around its end, and after many rounds."""
    kernel = Kernel(tmp_path_factory.mktemp("ring") / "ring")
    kernel.begin_at(position // 8 * 8)
    found, lost = [], 0
    for number, record in enumerate(records):
        lost += kernel.reserve(record, flags=0) is None
        if number % 5 == 4:
            found += kernel.ring.records(100)
    found += kernel.ring.records(100)
    kept = iter(records)
    assert all(record in kept for record in found)  # in order
    assert len(found) + lost == len(records)
    assert len({*kernel.positions()}) == 1


def test_closing_twice_does_no_harm(kernel: Kernel) -> None:
    kernel.ring.close()
    kernel.ring.close()
