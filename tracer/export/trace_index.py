# SPDX-License-Identifier: GPL-2.0-only
"""A trace file to be looked into at any place: where each journey's line is, read when wanted.

One thread goes through the file (``scan``) and notes where lines are, then again to count what
journeys have in common (``count``); another one may look meanwhile at what was found so far. A
journey takes some twenty bytes here besides its id, however long its line is. This module must
not know who looks.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

from tracer.export.later_names import later_names
from tracer.export.opened import Opened
from tracer.export.part import Part
from tracer.export.trace_reader import Lines, TraceReader
from tracer.model import Capture, Health, Journey, Sampling, Summary, TopologyChange
from tracer.tally import Tally

_AT_ONCE_S, _REST_S = 0.002, 0.004
"""Counting rests, for whoever looks meanwhile has to share Python's one lock with it."""


class TraceIndex:
    """The journeys of a file by number (see ``journal.Kept``), and what else it says.

    Making one reads the header and raises TraceFileError as TraceReader does.
    """

    def __init__(self, stream: Opened, name: str) -> None:
        assert stream.anywhere
        self._stream = stream
        self._name = name
        self._reader = TraceReader(stream, name)
        self._starts = array("Q")
        self._lengths = array("L")
        self._dropped = bytearray()
        self._by_id: dict[str, int] = {}
        self._others: list[int] = []
        """Before which journeys stand lines of something else."""
        self._parts: list[tuple[Part, int]] = []
        """The traces of the file, and how many captures began before each."""
        self._part_starts: list[int] = []
        """The number of the first journey of each."""
        self._lines = Lines(name)
        self._later = later_names(())
        self._lock = Lock()
        self._tally = Tally()
        self.drops = 0
        self.header = self._reader.capture
        self.since_ns = self.header.monotonic_ns
        self.capture: Capture | None = self.header
        self.change: TopologyChange | None = None
        self.sample: Sampling | None = None
        self.health: Health | None = None
        self.summary: Summary | None = None

    # --- one thread -------------------------------------------------------------------------------

    def scan(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """Find every journey, until told not to go on. Raises what TraceReader raises.

        What was found before that can be looked at.
        """
        reader, stream, lines = self._reader, self._stream, Lines(self._name)
        for line in reader.lines():
            lines.number = reader.line_number
            glance = lines.glance(line)
            if glance is None or not go_on():
                return
            number = len(self._dropped)
            part = reader.part
            if not self._parts or self._parts[-1][0] is not part:
                self._part_starts.append(number)
                self._parts.append((part, reader.captures))
            self._others += [number] * (lines.number - 2 - number - len(self._others))
            self._by_id[part.ids + glance.id] = number
            self._starts.append(stream.tell() - len(line))
            self._lengths.append(len(line))
            self.drops += glance.dropped
            self._dropped.append(glance.dropped)  # last: it is what ``seen`` counts
        self._later = later_names(reader.changes)
        self.summary = reader.summary

    def count(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """Count what the journeys that were found have in common, until told not to go on."""
        lines = Lines(self._name)
        rest_at = time.monotonic() + _AT_ONCE_S
        for number in range(self.seen):
            if not go_on():
                return
            if time.monotonic() > rest_at:
                time.sleep(_REST_S)
                rest_at = time.monotonic() + _AT_ONCE_S
            journey = self._journey(number, lines)
            with self._lock:
                self._tally.add(journey)

    # --- any thread -------------------------------------------------------------------------------

    @property
    def seen(self) -> int:
        """See Kept."""
        return len(self._dropped)

    @property
    def first(self) -> int:
        """See Kept."""
        return 0

    @property
    def earlier(self) -> Sequence[int]:
        """See Kept."""
        return ()

    def journey(self, number: int) -> Journey | None:
        """See Kept. Raises TraceFileError where the line is wrong."""
        if not 0 <= number < self.seen:
            return None
        return self._journey(number, self._lines)

    def dropped(self, number: int) -> bool:
        """See Kept."""
        return number < self.seen and bool(self._dropped[number])

    def number_of(self, journey_id: str) -> int | None:
        """See Kept."""
        return self._by_id.get(journey_id)

    @property
    def notes(self) -> list[str]:
        """See TraceReader."""
        return self._reader.notes

    @contextmanager
    def tally(self) -> Iterator[Tally]:
        """Give the counts; they do not change as long as the block lasts."""
        with self._lock:
            yield self._tally

    def frozen(self) -> TraceIndex:
        """Return this: a file that is read does not change."""
        return self

    def _journey(self, number: int, lines: Lines) -> Journey:
        lines.number = number + 2 + bisect_right(self._others, number)
        try:
            line = self._stream.at(self._starts[number], self._lengths[number])
        except OSError as error:
            lines.refuse(f"cannot be read: {error.strerror or error}")
        part, captures = self._parts[bisect_right(self._part_starts, number) - 1]
        journey = lines.placed(lines.journey(line), part)
        later = self._later
        return later[captures].filled(journey) if captures < len(later) else journey
