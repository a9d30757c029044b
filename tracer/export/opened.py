# SPDX-License-Identifier: GPL-2.0-only
"""Opens a trace to be read: a file, standard input, a pipe, compressed or not.

What comes out are lines, and of a file the bytes at any place. This module does not know what is
on a line.
"""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tracer.errors import TraceFileError
from tracer.export.marks import BLOCK, Marks
from tracer.export.packed import GZIP, ZSTD, DamagedError, Unpacking
from tracer.text import printable


class Opened:
    """What stands on ``stream``, which messages call ``name``, unpacked: lines, one by one.

    Raises, where it reads, OSError; EOFError where something compressed is cut off, behind what
    is left of it; TraceFileError for zstd where this Python cannot do it.
    """

    def __init__(self, stream: BinaryIO, name: str, *, closes: bool = True) -> None:
        self.name = printable(name)
        self._closes = closes
        self._stream = stream
        self._read = getattr(stream, "read1", stream.read)  # a pipe gives what is there
        self._is_file = _is_file(stream)
        self._begin = stream.tell() if self._is_file else 0
        first = self._pread(len(ZSTD), self._begin) if self._is_file else b""
        self._marks = Marks(self._pread) if first.startswith(GZIP) else None
        self._anywhere = self._is_file and not first.startswith(ZSTD)
        self._start()

    def _start(self) -> None:
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        self._told = 0
        self._wrong: Exception | None = None
        self._pieces = self._unpacked()
        self._ended = False

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the stream, unless it is whoever's that gave it: ``closes``."""
        if self._closes:
            self._stream.close()

    @property
    def more(self) -> bool:
        """Whether a line is there already."""
        return bool(self._lines)

    @property
    def read_percent(self) -> int | None:
        """How much of the file was read; None where that cannot be known."""
        if not self._is_file:
            return None
        size = os.fstat(self._stream.fileno()).st_size
        return 100 * self._stream.tell() // size if size else None

    def fileno(self) -> int:
        """Return the descriptor, of what may be compressed."""
        return self._stream.fileno()

    def seekable(self) -> bool:
        """Say whether it can be read again: ``rewind``."""
        return self._is_file

    @property
    def anywhere(self) -> bool:
        """Whether ``at`` can be asked. A pipe has no places; zstd cannot be begun in the middle."""
        return self._anywhere

    def rewind(self) -> None:
        """Begin anew."""
        self._stream.seek(self._begin)
        if self._marks is not None:
            self._marks = Marks(self._pread)
        self._start()

    def tell(self) -> int:
        """Return where the next line begins, in bytes, unpacked."""
        return self._told

    def at(self, start: int, size: int) -> bytes:
        """Return so many bytes at a place that was read before. Any thread may ask."""
        if self._marks is not None:
            return self._marks.at(start, size)
        return self._pread(size, self._begin + start)

    def readline(self, limit: int = -1, /) -> bytes:
        """Return a line, or ``limit`` bytes (or some more) of one that is longer; empty at the end.

        What stands behind the last line break is a line, too.
        """
        while not self._lines and not self._ended:
            if 0 <= limit <= len(self._rest):
                break
            piece = self._piece()
            whole, newline, rest = piece.rpartition(b"\n")
            if newline:
                lines = bytes(self._rest + whole).split(b"\n")
                self._lines.extend([line + b"\n" for line in lines])
                self._rest = bytearray(rest)
            else:
                self._rest += rest
        if self._lines:
            line = self._lines.popleft()
        else:
            line, self._rest = bytes(self._rest), bytearray()
        if not line and self._wrong is not None:
            raise self._wrong
        self._told += len(line)
        return line

    def _piece(self) -> bytes:
        """Return the next bytes; empty at the end, of which ``_wrong`` says if it is a bad one."""
        try:
            piece = next(self._pieces, b"")
        except DamagedError as error:  # the beginning of a line is of no use
            self._wrong, self._ended = error, True
            self._rest.clear()
            return b""
        except EOFError as error:
            self._wrong, piece = error, b""
        self._ended = not piece
        return piece

    def _unpacked(self) -> Iterator[bytes]:
        unpacking, unpacked, place = Unpacking(self.name), 0, self._begin
        while data := self._block():
            if self._marks is not None:
                self._marks.set(unpacked, place, unpacking)
            place += len(data)
            for piece in unpacking.pieces(data):
                unpacked += len(piece)
                yield piece
        yield unpacking.end()

    def _block(self) -> bytes:
        return bytes(self._read(BLOCK) or b"")

    def _pread(self, size: int, place: int) -> bytes:
        return os.pread(self._stream.fileno(), size, place)


def _is_file(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # it is one in memory only
        return False


def opened(file: str) -> Opened:
    """Open a trace; ``-`` is standard input. Raises TraceFileError."""
    if file == "-":
        stream: BinaryIO = sys.stdin.buffer
        own = _is_file(stream)
        if own:  # a descriptor of its own: the view gives 0 to the keyboard
            stream = os.fdopen(os.dup(stream.fileno()), "rb", buffering=0)
        return Opened(stream, "standard input", closes=own)
    try:
        return Opened(Path(file).open("rb", buffering=0), file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise TraceFileError(f"cannot open {printable(file)}: {why}") from error
