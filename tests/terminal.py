# SPDX-License-Identifier: GPL-2.0-only
"""A terminal of a given size with a program in it: what it shows, and what is left of it after."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyte

PATIENCE_S = 120.0
_ENTER, _LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """Runs ``command`` as the leader of a session whose terminal this is.

    The modes of the terminal are those of a shell's before; ``modes`` are those of now.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        width: int = 100,
        height: int = 30,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        """All that came from the program."""
        self.status: int | None = None
        sized, tell = os.pipe()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.close(tell)
                os.read(sized, 1)
                os.chdir(cwd or Path.cwd())
                given = {"TERM": "xterm-256color", "LANG": "C.UTF-8", **(env or {})}
                os.execvpe(command[0], list(command), {**os.environ, **given})
            finally:
                os._exit(127)
        self.resize(width, height)
        self.modes_before = self.modes()
        os.close(sized)
        os.close(tell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size."""
        self._screen.resize(height, width)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def modes(self) -> list[Any]:
        """How the terminal treats what is typed and written."""
        return termios.tcgetattr(self._fd)

    @property
    def is_clean(self) -> bool:
        """The other screen is left, the cursor is shown, keys are a shell's again."""
        after = self.written.rsplit(_ENTER, 1)[-1]
        cursor = self.written.rfind(b"\x1b[?25h") > self.written.rfind(b"\x1b[?25l")
        return _LEAVE in after and cursor and self.modes() == self.modes_before

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        os.kill(self.pid, number)

    def until(self, holds: Callable[[], object], seconds: float = PATIENCE_S) -> float:
        """Read what the program writes until it holds; how long that took, seconds."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > seconds:
                raise AssertionError("it did not come. The screen:\n" + self.text)
            self._read(0.02)
        return time.monotonic() - began

    def rest(self, seconds: float) -> None:
        """Only read what the program writes, so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(min(left, 0.02))

    def shows(self, text: str, seconds: float = PATIENCE_S) -> float:
        """Wait until the screen shows a text."""
        return self.until(lambda: text in self.text, seconds)

    def answer(self, keys: str, token: bytes, seconds: float = PATIENCE_S) -> float:
        """Press keys and wait until the program writes that; how long it took, seconds.

        What is written meanwhile is not drawn: drawing it would take longer than the program does.
        """
        fresh = b""
        began = time.monotonic()
        self.type(keys)
        while token not in fresh:
            if time.monotonic() - began > seconds:
                raise AssertionError(f"{token!r} was not written. The screen:\n" + self.text)
            if select.select([self._fd], [], [], 0.1)[0]:
                fresh += os.read(self._fd, 65536)
        took = time.monotonic() - began
        self.written += fresh
        self._stream.feed(fresh)
        return took

    def ends(self, seconds: float = PATIENCE_S) -> int:
        """Wait for the end of the program; its status, as a shell tells it."""

        def ended() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.status = 128 - code if code < 0 else code
            return bool(pid)

        self.until(ended, seconds)
        self._read(0.2)
        assert self.status is not None
        return self.status

    def _read(self, seconds: float) -> None:
        while select.select([self._fd], [], [], seconds)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # nobody has the other end any more
                data = b""
            if not data:
                time.sleep(seconds)
                return
            self.written += data
            self._stream.feed(data)
