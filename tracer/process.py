# SPDX-License-Identifier: GPL-2.0-only
"""Processes of this host, none of which is mistaken for a later one with the same number.

Knows /proc and nothing of what they do.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process."""

    pid: int
    start: int
    """Clock ticks since the kernel started (field 22 of /proc/<pid>/stat)."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        try:
            state, _, start = _stat(self.pid)
        except OSError:
            return False
        return start == self.start and state != "Z"

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def this_process() -> Process:
    """Return the process this runs in."""
    return Process(os.getpid(), _stat(os.getpid())[2])


def family(pid: int) -> list[Process]:
    """Return the process of that number and all that it and its children have started.

    What has lost its parent is nobody's.
    """
    start: dict[int, int] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            number = int(entry.name)
            _, parent, start[number] = _stat(number)
            children[parent].append(number)
    members = [pid]
    for member in members:
        members += children[member]
    return [Process(member, start[member]) for member in members if member in start]


def _stat(pid: int) -> tuple[str, int, int]:
    # The second field is the command in parentheses and may hold anything, so count after it.
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])
