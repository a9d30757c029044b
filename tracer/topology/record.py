# SPDX-License-Identifier: GPL-2.0-only
"""What is written down about a lab: ``/run/skbtrace/<lab>.json``, and the lock beside it.

Written before anything is made and until everything is removed, so that whatever a killed
process left can be told. This module knows nothing of devices.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tracer.process import Process
from tracer.topology.spec import PREFIX

FOLDER = Path("/run/skbtrace")
_HALF = ".json.new"
"""How the name of a record ends that is being written."""


class Record(NamedTuple):
    """A lab that is being built, stands, or is being taken down."""

    owner: Process | None
    """Who is at work on it, or takes it down when it ends; None if it is to stay."""
    namespaces: tuple[str, ...]
    """Their names under /run/netns."""
    forwarding: Mapping[str, str] = {}
    """What the host's settings were before it forwarded (``forwarding.settings``)."""

    @property
    def left_behind(self) -> bool:
        """Its owner was killed."""
        return self.owner is not None and not self.owner.alive


def write(lab: str, record: Record) -> None:
    """Write the record, whole or not at all. Raises OSError."""
    new = FOLDER / f"{lab}{_HALF}"
    new.write_text(json.dumps(record._asdict()) + "\n")
    new.replace(_file(lab))


def read(lab: str) -> Record | None:
    """Return the record, or None if there is none that can be read.

    Nothing is believed that would lead to removing what no lab made.
    """
    try:
        fields = json.loads(_file(lab).read_text())
        owner = fields["owner"]
        return Record(
            Process(int(owner[0]), int(owner[1])) if owner else None,
            tuple(n for n in fields["namespaces"] if n.startswith(PREFIX) and "/" not in n),
            {str(name): str(int(value)) for name, value in fields["forwarding"].items()},
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def erase(lab: str) -> None:
    """Remove the record. Raises OSError."""
    _file(lab).unlink(missing_ok=True)


@contextmanager
def locked() -> Iterator[None]:
    """Let no other process build or take down while in the block. Raises OSError.

    What one that was killed had half written is removed: whoever else writes holds the lock.
    """
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    lock = os.open(FOLDER / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for half in FOLDER.glob(f"*{_HALF}"):
            half.unlink()
        yield
    finally:
        os.close(lock)


def _file(lab: str) -> Path:
    return FOLDER / f"{lab}.json"
