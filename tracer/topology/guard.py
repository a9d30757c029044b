# SPDX-License-Identifier: GPL-2.0-only
"""A child that takes down what its parent cannot take down any more because it was killed.

It is forked, not started: it has to be there before the first thing is made, and takes a
millisecond. It waits for the end of its parent on a pidfd (Linux 5.3) and knows nothing of what it
is then to do.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

NAME = "lab guard"
"""What the child is called in /proc/<pid>/comm: ``pkill skbtrace`` is for its parent."""


class Guard:
    """From its making until ``end``, a child that calls ``act`` if this process ends before."""

    def __init__(self, act: Callable[[], None]) -> None:
        """Fork. Raises OSError."""
        # Before the fork: the child may come to it only when this process is gone.
        ended = os.pidfd_open(os.getpid())
        self.pid = os.fork()
        if self.pid == 0:
            _watch(ended, act)
        os.close(ended)

    def end(self) -> None:
        """End the child; ``act`` is not called any more."""
        # Where SIGCHLD is ignored, nothing is left of a child that has ended.
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _watch(ended: int, act: Callable[[], None]) -> NoReturn:
    """In the child: wait, act, and leave, whatever comes between."""
    try:
        # No end of the terminal, and no signal that is for all who run on it, is for the child.
        os.setsid()
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)
        with suppress(OSError):
            Path("/proc/self/comm").write_text(NAME)
        # Who reads what the parent writes must see its end, and the lab's lock is the parent's.
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        for number in [int(file.name) for file in Path("/proc/self/fd").iterdir()]:
            if number > 2 and number != ended:
                with suppress(OSError):  # the one they were listed with
                    os.close(number)
        select.select([ended], [], [])
        act()
    finally:
        # An error has nobody left to be told: the next start takes down what there is then.
        os._exit(0)
