# SPDX-License-Identifier: GPL-2.0-only
"""Places in a compressed file from where it can be unpacked again: any part of it, quickly.

A mark is the state of the unpacking at a place, some 40 KB. One thread sets marks while it reads
the file from its beginning; any thread may ask for a part. Nothing is written anywhere, so a file
that holds a thousand times its size fills no disk. This module knows neither lines nor journeys.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from threading import Lock

from tracer.export.packed import Unpacking

BLOCK = 1 << 16
"""Bytes of the file that are read at once: some 800 KB of a trace."""
MOST = 512
"""Marks that are kept: of a longer file every second one goes, and what lies between is twice as
much. At one for each block it takes a trace of 400 MB to come to that."""
_PIECES = 16
"""Unpacked pieces that are kept, for who looks at one journey looks at those beside it, too."""


class Marks:
    """The marks of a file of which ``read`` reads so many bytes at a place."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self._lock = Lock()
        self._starts: list[int] = []
        self._marks: list[tuple[int, Unpacking]] = []
        self._apart = 1
        self._blocks = 0
        self._pieces: dict[int, bytes] = {}

    def set(self, start: int, place: int, unpacking: Unpacking) -> None:
        """Say that byte ``start`` of what is unpacked begins with the file's byte ``place``.

        To be called for each block; of a long file few are noted.
        """
        self._blocks += 1
        if (self._blocks - 1) % self._apart:
            return
        with self._lock:
            self._starts.append(start)
            self._marks.append((place, unpacking.copy()))
            if len(self._marks) > MOST:
                self._apart *= 2
                del self._starts[1::2], self._marks[1::2]

    def at(self, start: int, size: int) -> bytes:
        """Return a part that was unpacked before. Raises DamagedError, OSError."""
        with self._lock:
            found = b""
            while len(found) < size:
                at = start + len(found)
                first, piece = self._piece(at)
                if not piece:
                    break
                found += piece[at - first : at - first + size - len(found)]
            return found

    def _piece(self, at: int) -> tuple[int, bytes]:
        """Return a piece with the byte ``at`` in it, and its first one; empty if there is none."""
        for first, piece in self._pieces.items():
            if first <= at < first + len(piece):
                return first, piece
        number = bisect_right(self._starts, at) - 1
        first = self._starts[number]
        place, mark = self._marks[number]
        until = self._starts[number + 1] if number + 1 < len(self._starts) else at + 1
        unpacking = mark.copy()
        found = (at, b"")
        while data := self._read(BLOCK, place):
            place += len(data)
            for piece in unpacking.pieces(data):
                self._keep(first, piece)
                if first <= at < first + len(piece):
                    found = (first, piece)
                    until = min(until, first + (_PIECES - 1) * len(piece))
                first += len(piece)
                if found[1] and first >= until:
                    return found
        return found

    def _keep(self, first: int, piece: bytes) -> None:
        self._pieces.pop(first, None)
        self._pieces[first] = piece
        if len(self._pieces) > _PIECES:
            del self._pieces[next(iter(self._pieces))]
