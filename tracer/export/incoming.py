# SPDX-License-Identifier: GPL-2.0-only
"""The lines of a trace that is still being written: from a pipe, as they arrive.

It can be told whether another line waits, and nobody waits for a line longer than is wanted. This
module must not know what the lines say.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque

_PATIENCE_S = 0.2
"""How long it is waited for a line before it is asked whether to go on."""
_CHUNK = 1 << 20


class Incoming:
    """Lines from a file descriptor, of which it can be told whether one waits.

    It reads from a copy of ``fd``, which is free for something else meanwhile. ``over``: when it
    is set, nobody wants lines any more.
    """

    def __init__(self, fd: int, over: threading.Event) -> None:
        self._fd = os.dup(fd)
        self._over = over
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._ended = False

    def close(self) -> None:
        """Close its copy."""
        os.close(self._fd)

    @property
    def more(self) -> bool:
        """Whether a line is there already."""
        return bool(self._lines)

    def readline(self, limit: int = -1, /) -> bytes:
        """Return a line, or ``limit`` bytes of one that is longer; empty at the end, or if over."""
        while not self._lines and not self._ended:
            if limit >= 0 and len(self._rest) >= limit:
                break
            if self._over.is_set():
                return b""
            if select.select([self._fd], [], [], _PATIENCE_S)[0]:
                data = os.read(self._fd, _CHUNK)
                self._ended = not data
                whole, newline, rest = data.rpartition(b"\n")
                if newline:
                    self._lines.extend(line + b"\n" for line in (self._rest + whole).split(b"\n"))
                    self._rest = rest
                else:
                    self._rest += data
        if self._lines:
            return self._lines.popleft()
        line, self._rest = self._rest, b""
        return line
