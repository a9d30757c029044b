# SPDX-License-Identifier: GPL-2.0-only
"""Which capabilities a thread has, as the kernel tells it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

THIS = Path("/proc/thread-self")


class Sets(NamedTuple):
    """Bits of linux/capability.h."""

    permitted: int
    effective: int


def sets_of(thread: Path) -> Sets:
    """Of the thread of that folder of /proc."""
    status = (thread / "status").read_text()
    found = dict(re.findall(r"^Cap(\w+):\t(\w+)$", status, re.MULTILINE))
    return Sets(int(found["Prm"], 16), int(found["Eff"], 16))


def main_and_others(pid: int) -> tuple[Sets, list[Sets]]:
    """Of a process's threads; one that ends meanwhile is left out."""
    folder = Path(f"/proc/{pid}/task")
    main = folder / str(pid)
    others = []
    for thread in folder.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if thread != main:
                others.append(sets_of(thread))
    return sets_of(main), others
