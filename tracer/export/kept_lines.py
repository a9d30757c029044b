# SPDX-License-Identifier: GPL-2.0-only
"""Lines of journeys that are kept as they came, to be read when somebody looks at them.

This module must not know where they are kept, nor how they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracer.export.trace_reader import Lines

if TYPE_CHECKING:
    from tracer.export.part import Part
    from tracer.model import Journey

_NUMBER = 4
"""Bytes for the number of a trace."""


class KeptLines:
    """The lines of a stream, each with the number of its trace before it: several may come."""

    def __init__(self, name: str) -> None:
        self._lines = Lines(name)
        self._later = Lines(name)  # when they are looked at, nobody knows their numbers any more
        self._parts: list[Part] = []
        self.notes: list[str] = []
        """What has to be said of the stream, in sentences; see ``TraceReader.notes``."""

    def begin(self, part: Part) -> None:
        """The next lines are of this trace."""
        self._parts.append(part)

    def line(self, line: bytes, number: int) -> tuple[str, bool, bytes] | None:
        """Return a journey's id, whether it was dropped, and what is kept of it."""
        self._lines.number = number
        glance = self._lines.glance(line)
        if glance is None:
            return None
        part = len(self._parts) - 1
        return self._parts[part].ids + glance.id, glance.dropped, part.to_bytes(_NUMBER) + line

    def journey(self, kept: bytes) -> Journey:
        """Return the journey of a kept line."""
        part = self._parts[int.from_bytes(kept[:_NUMBER])]
        return self._later.placed(self._later.journey(kept[_NUMBER:]), part)
