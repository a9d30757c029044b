# SPDX-License-Identifier: GPL-2.0-only
"""The journeys that can be looked at: the latest ones, and of the others the most telling.

A Journal is a sink that one thread fills while another one looks into it. Journeys have numbers
in the order in which they came, from 0. The last ``most`` are kept; of those before them what was
dropped or damaged and what took unusually long, up to ``REMARKABLE_MOST``: a flood does not push
out what somebody looks for. A journey may be kept as the bytes it can be made of, until it is
wanted.

It knows nothing of views, files and kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple, Protocol

from tracer.alike import Item, items, made
from tracer.model import Capture, Health, Journey, Outcome, Sampling, Summary, TopologyChange
from tracer.tally import Tally

MOST = 20_000
REMARKABLE_MOST = 4_000
COUNTED_PER_S, LINES_COUNTED_PER_S = 4000, 1000
"""Journeys of a second that are counted in the tally; those that must be made of bytes first take
four times as long. Of a flood only one in ``LOOK_AT`` is counted."""
LOOK_AT = 16
OUTLIER_TIMES = 4
"""A journey is an outlier that took so many times as long as 99 % of all."""
_OUTLIER_LEAST = 256
"""So many must have been looked at before one can be told, and before it is told anew."""
_REMARKABLE = frozenset({Outcome.DROPPED, Outcome.DAMAGED})


class Entry(NamedTuple):
    """A journey, or what it is made of."""

    number: int
    id: str
    what: Item | bytes
    dropped: bool
    remarkable: bool


class Kept(Protocol):
    """Journeys by their numbers: a Journal, a frozen one, a file."""

    @property
    def seen(self) -> int:
        """How many there were: one more than the last one's number."""

    @property
    def first(self) -> int:
        """From this number on all are there."""

    @property
    def earlier(self) -> Sequence[int]:
        """The numbers, rising, of those before ``first`` that are still there."""

    def journey(self, number: int) -> Journey | None:
        """Return a journey; None if it is not there any more."""

    def dropped(self, number: int) -> bool:
        """Say whether it is there and was dropped."""

    def number_of(self, journey_id: str) -> int | None:
        """Return the number of the journey of that id, if it is there."""


class Store:
    """Entries by number, in bounded memory. Only one thread may call ``keep``."""

    def __init__(self, make: Callable[[bytes], Journey] | None, most: int) -> None:
        self._make = make
        self._ring: list[Entry | None] = [None] * most
        self._remarkable: dict[int, Entry] = {}
        self._numbers: dict[str, int] = {}
        self._seen = 0

    @property
    def seen(self) -> int:
        """See Kept."""
        return self._seen

    @property
    def first(self) -> int:
        """See Kept."""
        return max(0, self._seen - len(self._ring))

    @property
    def earlier(self) -> Sequence[int]:
        """See Kept."""
        return tuple(self._remarkable)

    def journey(self, number: int) -> Journey | None:
        """See Kept. Raises what making it of its bytes raises."""
        entry = self._entry(number)
        if entry is None:
            return None
        return self._made(entry.what)

    def dropped(self, number: int) -> bool:
        """See Kept."""
        entry = self._entry(number)
        return entry is not None and entry.dropped

    def number_of(self, journey_id: str) -> int | None:
        """See Kept."""
        return self._numbers.get(journey_id)

    def keep(self, journey_id: str, what: Item | bytes, *, dropped: bool, more: bool) -> None:
        """Take one in. ``more``: it is to stay longer than others, as all do that were dropped."""
        number = self._seen
        at = number % len(self._ring)
        old = self._ring[at]
        self._ring[at] = Entry(number, journey_id, what, dropped, dropped or more)
        self._numbers[journey_id] = number
        self._seen = number + 1
        if old is None:
            return
        if old.remarkable:
            self._remarkable[old.number] = old
            if len(self._remarkable) <= REMARKABLE_MOST:
                return
            old = self._remarkable.pop(next(iter(self._remarkable)))
        if self._numbers.get(old.id) == old.number:
            del self._numbers[old.id]

    def frozen(self) -> Store:
        """Return what there is now; it stays as it is."""
        copy = Store(self._make, 0)
        copy._ring = self._ring.copy()
        copy._remarkable = self._remarkable.copy()
        copy._numbers = self._numbers.copy()
        copy._seen = self._seen
        return copy

    def _made(self, what: Item | bytes) -> Journey:
        if not isinstance(what, bytes):
            return made(what)
        assert self._make is not None
        return self._make(what)

    def _entry(self, number: int) -> Entry | None:
        entry = self._ring[number % len(self._ring)]
        if entry is not None and entry.number == number:
            return entry
        return self._remarkable.get(number)


class Journal(Store):
    """See above. ``make``: makes a journey of the bytes given to ``lines``."""

    def __init__(
        self,
        make: Callable[[bytes], Journey] | None = None,
        most: int = MOST,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(make, most)
        self._clock = clock
        self._last_s = clock()
        self._per_s = float(COUNTED_PER_S if make is None else LINES_COUNTED_PER_S)
        self._may_count = self._per_s
        self._lock = Lock()
        self._tally = Tally()
        self._outlier_ns = 0
        self._outlier_at = _OUTLIER_LEAST
        self.drops = 0
        """How many were dropped of all that came."""
        self.since_ns = 0
        """When the first capture began."""
        self.capture: Capture | None = None
        self.change: TopologyChange | None = None
        self.sample: Sampling | None = None
        self.health: Health | None = None
        self.summary: Summary | None = None

    def begin(self, capture: Capture) -> None:
        """See Sink. May be called again: then another capture follows, into the same journal."""
        self.capture = capture
        self.since_ns = self.since_ns or capture.monotonic_ns
        self.summary = self.change = None

    def topology(self, change: TopologyChange) -> None:
        """See Sink."""
        self.change = change

    def sampling(self, now: Sampling) -> None:
        """See Sink."""
        self.sample = now

    def journeys(self, batch: Sequence[Journey]) -> None:
        """See Sink."""
        self._take([(i.id, i.outcome is Outcome.DROPPED, i) for i in items(batch)])

    def lines(self, batch: Sequence[tuple[str, bool, bytes]]) -> None:
        """Take in journeys as the bytes they are made of: id, whether it was dropped, bytes.

        Raises what making one raises; those before it are kept.
        """
        self._take(batch)

    def end(self, summary: Summary) -> None:
        """See Sink."""
        self.summary = summary

    @contextmanager
    def tally(self) -> Iterator[Tally]:
        """Give the counts; they do not change as long as the block lasts, so it must be short."""
        with self._lock:
            yield self._tally

    def _take(self, batch: Sequence[tuple[str, bool, Item | bytes]]) -> None:
        times = self._times(len(batch))
        with self._lock:
            for journey_id, dropped, what in batch:
                known: Item | None = None if isinstance(what, bytes) else what
                if self._seen % times == 0:
                    known = journey = self._made(what)
                    self._count(journey, times)
                more = known is not None and (
                    known.outcome in _REMARKABLE or self._is_outlier(known)
                )
                self.drops += dropped
                self.keep(journey_id, what, dropped=dropped, more=more)

    def _times(self, journeys: int) -> int:
        """Return how many journeys one of these is to stand for."""
        now = self._clock()
        earned = (now - self._last_s) * self._per_s
        self._may_count = min(self._may_count + earned, 2 * self._per_s)
        self._last_s = now
        times = 1 if journeys <= self._may_count else LOOK_AT
        self._may_count = max(self._may_count - journeys / times, 0.0)
        return times

    def _count(self, journey: Journey, times: int) -> None:
        tally = self._tally
        tally.add(journey, times)
        if tally.journeys >= self._outlier_at:
            self._outlier_at = tally.journeys + max(_OUTLIER_LEAST, tally.journeys // 8)
            self._outlier_ns = OUTLIER_TIMES * tally.took.percentiles(0.99)[0]

    def _is_outlier(self, item: Item) -> bool:
        return 0 < self._outlier_ns < item.duration_ns

    def frozen(self) -> Store:
        """See Store."""
        with self._lock:
            return super().frozen()
