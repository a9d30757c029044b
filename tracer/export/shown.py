# SPDX-License-Identifier: GPL-2.0-only
"""Which of many journeys are shown one by one, where there is no room for all of them.

A trace may hold millions; a page that a browser opens holds some thousand. A reader wants

* whole conversations, in which a reply leads to its request and a branch to its parent: so the
  first ones, without a gap;
* what went wrong: so some of every way to end badly, the rarest too, however late it came;
* what took long: so the slowest;
* that nothing of this is taken for the whole: so an even sample from begin to end.

Memory has a bound that the trace's length does not move. No chance is involved: the same trace
gives the same journeys. Pure; knows no format.
"""

from __future__ import annotations

import heapq
from collections import Counter

from tracer.model import Journey, Outcome
from tracer.tally import DropPlace, drop_place

FIRST = 1000
ALIKE = 20
"""Of what ended badly alike."""
ENDED_BADLY = 500
SLOWEST = 200
SPREAD = 300
MOST = FIRST + ENDED_BADLY + SLOWEST + SPREAD

_BAD = frozenset({Outcome.DROPPED, Outcome.DAMAGED, Outcome.UNFINISHED})


class Shown:
    """At most ``MOST`` of the journeys that were added."""

    def __init__(self) -> None:
        self.of = 0
        """So many were added."""
        self._first: list[Journey] = []
        self._bad: dict[int, Journey] = {}
        self._alike: Counter[tuple[Outcome, DropPlace]] = Counter()
        self._slowest: list[tuple[int, int, Journey]] = []
        self._spread: dict[int, Journey] = {}
        self._every = 1

    def add(self, journey: Journey) -> None:
        """Take one, if it is one of those."""
        number = self.of
        self.of += 1
        if number < FIRST:
            self._first.append(journey)
            return
        if journey.outcome in _BAD and len(self._bad) < ENDED_BADLY:
            how = (journey.outcome, drop_place(journey))
            if self._alike[how] < ALIKE:
                self._alike[how] += 1
                self._bad[number] = journey
        # Of equal ones the first stays; numbers differ, so journeys are never compared.
        slow = (journey.duration_ns, -number, journey)
        if len(self._slowest) < SLOWEST:
            heapq.heappush(self._slowest, slow)
        elif slow > self._slowest[0]:
            heapq.heapreplace(self._slowest, slow)
        if number % self._every == 0:
            self._spread[number] = journey
            if len(self._spread) > SPREAD:
                self._every *= 2
                self._spread = {n: j for n, j in self._spread.items() if n % self._every == 0}

    @property
    def all(self) -> list[Journey]:
        """The chosen ones, in the order in which they came."""
        chosen = {**self._bad, **self._spread, **{-minus: j for _, minus, j in self._slowest}}
        return [*self._first, *(chosen[number] for number in sorted(chosen))]

    def said(self, listed: int) -> str | None:
        """Return which ones they are, as a sentence; None if they are all there are."""
        if listed == self.of:
            return None
        return (
            f"Listed are {listed:,} of {self.of:,} journeys: the first {FIRST:,}, the {SLOWEST} "
            f"slowest of the others, up to {ALIKE} of each way to end badly, and an even sample "
            f"of the rest. Statistics are over all {self.of:,}."
        )
