# SPDX-License-Identifier: GPL-2.0-only
"""The launcher's own terminal, lent to a command in a guest."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

END_KEY = b"\x1d"
"""Ctrl-], as in telnet: in raw mode every other key, Ctrl-C too, belongs to the guest."""


class Terminal:
    """Standard input and output of the launcher; raw from `take_over` until it is closed."""

    def __init__(self) -> None:
        self.input = sys.stdin.fileno()
        self._output = sys.stdout.fileno()
        self._saved: list[Any] | None = None
        self._old_handler: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._old_handler is not None:
            signal.signal(signal.SIGWINCH, self._old_handler)
        if self._saved is not None:
            # The terminal may be gone: that is one of the ways out.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.input, termios.TCSAFLUSH, self._saved)

    def size(self) -> tuple[int, int]:
        """Rows and columns; where there is no terminal, $LINES and $COLUMNS, else 24 and 80."""
        for stream in (self._output, self.input):
            # The terminal before the variables: they say how large it was when they were set.
            with contextlib.suppress(OSError):
                size = os.get_terminal_size(stream)
                if size.lines and size.columns:
                    return size.lines, size.columns
        size = shutil.get_terminal_size((80, 24))
        return size.lines, size.columns

    def take_over(self, resized: Callable[[int, int], None]) -> None:
        """Hand every key to the guest, and tell of changes of size."""
        if self._saved is not None or not os.isatty(self.input):
            return
        self._saved = termios.tcgetattr(self.input)
        tty.setraw(self.input)
        # Python delivers signals to the main thread alone.
        if threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(
                signal.SIGWINCH, lambda _number, _frame: resized(*self.size())
            )

    def read(self) -> bytes:
        """What was typed; empty at the end. The key that ends the guest ends this call too."""
        data = os.read(self.input, 1024)
        if self._saved is not None and END_KEY in data:
            raise KeyboardInterrupt
        return data

    def write(self, data: bytes) -> None:
        """Show what the guest wrote."""
        while data:
            data = data[os.write(self._output, data) :]
