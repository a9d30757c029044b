# SPDX-License-Identifier: GPL-2.0-only
"""The lines of a trace that is still being written: from a pipe, as they arrive.

Nobody waits for a line longer than is wanted. This module must not know what the lines say.
"""

from __future__ import annotations

import os
import select
import threading

from tracer.export.opened import Opened

_PATIENCE_S = 0.2
"""How long it is waited for a line before it is asked whether to go on."""


class Incoming(Opened):
    """Lines from a file descriptor, which ends when it is over, though more may come.

    It reads from a copy of ``fd``, which is free for something else meanwhile. ``over``: when it
    is set, nobody wants lines any more.
    """

    def __init__(self, fd: int, over: threading.Event) -> None:
        super().__init__(os.fdopen(os.dup(fd), "rb", buffering=0), "standard input")
        self._over = over

    def _block(self) -> bytes:
        while not self._over.is_set():
            if select.select([self.fileno()], [], [], _PATIENCE_S)[0]:
                return super()._block()
        return b""
