# SPDX-License-Identifier: GPL-2.0-only
"""A trace's bytes, compressed and back: gzip, and zstd where Python's standard library has it.

What is written is chosen by the ending of a name, what is read by how the bytes begin. A file may
be several compressed ones, one after the other. This module knows neither files nor lines.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Generator, Iterator
from typing import Any, Protocol

from tracer.errors import TraceFileError, UsageError
from tracer.text import printable

PIECE = 1 << 20
"""Bytes that are unpacked at once at most, however much a file claims to hold."""
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""How a file begins that is compressed so."""

_LEVEL = 3
"""Of zlib: costs as much time as 1 (some 7 us for a journey of 14 hops) and makes a trace 12 to 14
times smaller instead of 10 to 11. Level 6 makes it 15 to 20 times smaller and costs 18 us."""
_GZIP_WINDOW = 31
"""The largest window, and gzip's header and check around the data."""
_ZSTD = "compression.zstd"
"""Part of the standard library since Python 3.14."""


class DamagedError(OSError):
    """What is compressed cannot be unpacked from here on."""


class Packing(Protocol):
    """Compresses what is written, in one go for each write."""

    def pack(self, data: bytes) -> bytes:
        """Return it compressed, so that all of it can be unpacked though nothing may follow."""

    def finish(self) -> bytes:
        """Return what stands at the end."""


class _Gzip:
    def __init__(self) -> None:
        self._one = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def pack(self, data: bytes) -> bytes:
        return self._one.compress(data) + self._one.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._one.flush()


class _Zstd:
    def __init__(self, module: Any) -> None:
        # With a check as gzip has it, so that what was damaged is noticed.
        self._one = module.ZstdCompressor(options={module.CompressionParameter.checksum_flag: 1})

    def pack(self, data: bytes) -> bytes:
        return bytes(self._one.compress(data, self._one.FLUSH_BLOCK))

    def finish(self) -> bytes:
        return bytes(self._one.flush())


def packing_of(path: str) -> Packing | None:
    """Return how a file of that name is compressed; None: not at all.

    Raises UsageError for zstd where this Python cannot do it.
    """
    if path.endswith(".gz"):
        return _Gzip()
    if not path.endswith(".zst"):
        return None
    try:
        return _Zstd(importlib.import_module(_ZSTD))
    except ImportError as error:
        plain = printable(path.removesuffix(".zst"))
        raise UsageError(
            f"{printable(path)} cannot be compressed with zstd: "
            "Python's standard library has it from 3.14 on",
            hint=f"-w {plain}.gz, or --json | zstd >{plain}.zst",
        ) from error


class Unpacking:
    """Takes a file's bytes as they come and gives those of the trace, in pieces.

    What does not begin as something compressed is given as it is.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        """What messages call the file."""
        self._plain = False
        self._packed = False
        self._held = b""
        self._gzip: Any = None
        self._zstd: Any = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Give what the next bytes of the file are made of, in pieces of at most some ``PIECE``.

        Raises DamagedError, and TraceFileError for zstd where this Python cannot do it.
        """
        data, self._held = self._held + data, b""
        while data:
            if self._plain:
                yield data
                return
            if self._gzip is None and self._zstd is None:
                if self._packed:
                    data = data.lstrip(b"\0")  # what tapes and tar put behind a file
                if not self._is_begun(data):
                    self._held = data
                    return
            elif self._gzip is not None:
                data = yield from self._gunzipped(data)
            else:
                data = yield from self._unzstd(data)

    def end(self) -> bytes:
        """Return what was held back until more would come. Raises EOFError if more had to come."""
        if self._gzip is not None or self._zstd is not None:
            raise EOFError
        if self._packed and self._held:
            raise DamagedError(0, "behind what is compressed stands something else")
        return self._held

    def copy(self) -> Unpacking:
        """Return one that goes on from here, too. Not for zstd, which cannot be copied."""
        assert self._zstd is None
        copy = Unpacking(self.name)
        copy._plain, copy._packed, copy._held = self._plain, self._packed, self._held
        copy._gzip = None if self._gzip is None else self._gzip.copy()
        return copy

    def _is_begun(self, data: bytes) -> bool:
        """Look at how something begins; False if that is not told by so few bytes."""
        if data.startswith(GZIP):
            self._gzip = zlib.decompressobj(_GZIP_WINDOW)
        elif data.startswith(ZSTD):
            self._zstd = self._zstd_module().ZstdDecompressor()
        elif any(magic.startswith(data) for magic in (GZIP, ZSTD)):
            return False
        elif self._packed:
            raise DamagedError(0, "behind what is compressed stands something else")
        else:
            self._plain = True
        self._packed = not self._plain
        return True

    def _zstd_module(self) -> Any:
        try:
            return importlib.import_module(_ZSTD)
        except ImportError as error:
            raise TraceFileError(
                f"{self.name} is compressed with zstd, which Python's standard library has from "
                "3.14 on",
                hint=f"zstd -dc {self.name} | skbtrace show -",
            ) from error

    def _gunzipped(self, data: bytes) -> Generator[bytes, None, bytes]:
        one = self._gzip
        while True:
            before = one.copy()
            try:
                piece = one.decompress(data, PIECE)
            except zlib.error:
                return (yield from self._up_to_damage(before, data))
            if piece:
                yield piece
            if one.eof:
                self._gzip = None
                return bytes(one.unused_data)
            data = one.unconsumed_tail
            if not data and len(piece) < PIECE:
                return b""

    def _up_to_damage(self, one: Any, data: bytes) -> Generator[bytes, None, bytes]:
        """Give what lies before the damage; return what stands there if it is another file.

        That follows where a tracer was killed and ``cat`` put another trace behind its own.
        """
        found = bytearray()
        for at in range(len(data)):
            try:
                found += one.decompress(data[at : at + 1])
            except zlib.error as error:
                yield bytes(found)
                if data.startswith(GZIP, at):
                    self._gzip = None
                    return data[at:]
                raise DamagedError(0, "what is compressed in it is damaged") from error
            if len(found) > PIECE:
                yield bytes(found)
                found.clear()
        raise AssertionError("it was damaged before")

    def _unzstd(self, data: bytes) -> Generator[bytes, None, bytes]:
        one = self._zstd
        while True:
            try:
                piece = one.decompress(data, PIECE)
            except self._zstd_module().ZstdError as error:
                raise DamagedError(0, "what is compressed in it is damaged") from error
            if piece:
                yield piece
            if one.eof:
                self._zstd = None
                return bytes(one.unused_data)
            if one.needs_input:
                return b""
            data = b""
