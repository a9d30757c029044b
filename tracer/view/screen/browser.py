# SPDX-License-Identifier: GPL-2.0-only
"""What somebody looks at: which journeys are listed, which one is chosen, at which hop.

State and moves, without a terminal, without colours and without a clock of its own. What is
listed is looked through in slices, so that a flood or a large file never keeps a key waiting.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from tracer.errors import SkbtraceError
from tracer.journal import Kept
from tracer.model import Journey
from tracer.tally import DropPlace, FlowKey, drop_place, flow_key

Accepts = Callable[[Journey], bool]
_SLICE = 32
"""Journeys that are looked at before the clock is asked again."""
_REMEMBERED = 512
"""Journeys that need not be made again."""
_BEHIND_MOST = 10_000
"""Journeys that may wait to be looked at before some are passed over."""


class Listed(StrEnum):
    """What the list is of."""

    JOURNEYS = "journeys"
    FLOWS = "flows"
    STEPS = "steps"
    DROPS = "drops"


class Wanted(NamedTuple):
    """Which journeys are to be listed: what is None does not matter, all else must hold."""

    drops: bool = False
    flow: FlowKey | None = None
    place: DropPlace | None = None
    filter: Accepts | None = None
    words: str = ""
    """The filter, as it was typed."""

    @property
    def by_content(self) -> Accepts | None:
        """What must be asked of the journey itself; None if nothing."""
        flow, place, accepts = self.flow, self.place, self.filter
        if flow is None and place is None and accepts is None:
            return None

        def holds(journey: Journey) -> bool:
            return (
                (flow is None or flow_key(journey) == flow)
                and (place is None or drop_place(journey) == place)
                and (accepts is None or accepts(journey))
            )

        return holds

    def __bool__(self) -> bool:
        """Say whether anything is asked for."""
        return self.drops or self.by_content is not None


class Listing:
    """The numbers, rising, of the journeys that are listed."""

    def __init__(self, kept: Kept, wanted: Wanted, always: Accepts | None = None) -> None:
        self._kept = kept
        self._drops = wanted.drops or wanted.place is not None
        self._holds = _both(always, wanted.by_content)
        self._plain = not self._drops and self._holds is None
        self._found: list[int] = []
        self._earlier: Sequence[int] = ()
        self._first = 0
        self._seen = 0
        self._next = 0
        self._old = [] if self._plain else [n for n in kept.earlier if n < kept.first]
        self.passed_over = 0
        """Journeys that went by before there was time to look at them."""
        self.failure = ""
        """Why one could not be looked at; it is not listed."""

    def look(self, enough: Callable[[], bool]) -> bool:
        """Look at what came until that is enough. Return whether all was looked at."""
        kept = self._kept
        if self._plain:
            first, self._seen = kept.first, kept.seen
            if first != self._first:
                self._first = first
                self._earlier = [n for n in kept.earlier if n < first]
            return True
        found = self._found
        while self._old:
            part, self._old = self._old[:_SLICE], self._old[_SLICE:]
            found += [number for number in part if self._is_wanted(number)]
            if enough():
                return False
        gone = max(kept.first, kept.seen - _BEHIND_MOST if kept.first else 0)
        if self._next < gone:
            self.passed_over += gone - self._next if self._next else 0
            self._next = gone
        if found and found[0] < kept.first:
            self._forget()
        while self._next < kept.seen:
            until = min(self._next + _SLICE, kept.seen)
            found += [n for n in range(self._next, until) if self._is_wanted(n)]
            self._next = until
            if enough():
                return False
        return True

    def __len__(self) -> int:
        """How many are listed."""
        if self._plain:
            return len(self._earlier) + self._seen - self._first
        return len(self._found)

    def number(self, position: int) -> int:
        """Return the number of the journey at that position, from 0."""
        if not self._plain:
            return self._found[position]
        if position < len(self._earlier):
            return self._earlier[position]
        return self._first + position - len(self._earlier)

    def position(self, number: int) -> int:
        """Return where that journey stands, or would stand."""
        if not self._plain:
            return bisect_left(self._found, number)
        if number < self._first:
            return bisect_left(self._earlier, number)
        return len(self._earlier) + min(number, self._seen) - self._first

    @property
    def progress(self) -> tuple[int, int]:
        """How many were looked at, and of how many."""
        return (self._seen, self._seen) if self._plain else (self._next, self._kept.seen)

    def _is_wanted(self, number: int) -> bool:
        if self._drops and not self._kept.dropped(number):
            return False
        if self._holds is None:
            return True
        try:
            journey = self._kept.journey(number)
        except SkbtraceError as error:
            self.failure = error.message
            return False
        return journey is not None and self._holds(journey)

    def _forget(self) -> None:
        """Take out what is not kept any more."""
        first = self._kept.first
        cut = bisect_left(self._found, first)
        there = set(self._kept.earlier)
        self._found[:cut] = [number for number in self._found[:cut] if number in there]


class Browser:
    """What is looked at. ``always``: journeys it does not accept are never listed."""

    def __init__(self, kept: Kept, *, always: Accepts | None = None, follow: bool = True) -> None:
        self._live = kept
        self.kept = kept
        self._always = always
        self.wanted = Wanted()
        self.listing = Listing(kept, self.wanted, always)
        self.listed = Listed.JOURNEYS
        self.follow = follow
        self.frozen = False
        self.looked_at_all = True
        self.row = 0
        """Of flows, steps or drops: the one that is chosen."""
        self.top = 0
        """The number of the journey in the first row, or the index of the first row."""
        self.chosen: int | None = None
        """The number of the journey that is chosen."""
        self.journey: Journey | None = None
        """That one. It stays when it is not kept any more."""
        self.hop = 0
        self.equal_steps = False
        self.in_detail = False
        self.marks: list[Journey] = []
        self.failure = ""
        """What went wrong last, until a journey is chosen, or which are listed."""
        self._made: dict[int, Journey | str] = {}
        """Journeys, or why they cannot be made."""

    # --- what comes -------------------------------------------------------------------------------

    def look(self, enough: Callable[[], bool]) -> None:
        """Take note of what came, until that is enough."""
        self.looked_at_all = self.listing.look(enough)
        if self.listed is Listed.JOURNEYS and self.follow and len(self.listing):
            self.choose(self.listing.number(len(self.listing) - 1), follow=True)
        elif self.chosen is None and len(self.listing):
            self.choose(self.listing.number(0), follow=self.follow)
        if self.listing.failure:
            self.failure, self.listing.failure = self.listing.failure, ""

    def made(self, number: int) -> Journey | None:
        """Return the journey of that number; None if it is gone, or wrong in the file."""
        found = self._made.get(number)
        if found is None:
            try:
                found = self.kept.journey(number)
            except SkbtraceError as error:
                found = self.failure = error.message
            if found is not None:
                while len(self._made) >= _REMEMBERED:
                    del self._made[next(iter(self._made))]
                self._made[number] = found
        return None if isinstance(found, str) else found

    def why_not(self, number: int) -> str:
        """Return why ``made`` could not make the journey of that number; empty if it is gone."""
        found = self._made.get(number)
        return found if isinstance(found, str) else ""

    # --- which are listed -------------------------------------------------------------------------

    def want(self, wanted: Wanted) -> None:
        """List these journeys from now on. The chosen one stays chosen if it is among them."""
        self.wanted = wanted
        self.listing = Listing(self.kept, wanted, self._always)
        self.looked_at_all = False
        self.listed = Listed.JOURNEYS
        self.failure = ""

    def turn_to(self, listed: Listed) -> None:
        """List something else; what is listed already: journeys again."""
        self.listed = Listed.JOURNEYS if listed is self.listed else listed
        self.row = 0
        self.in_detail = False

    def freeze(self, frozen: Callable[[], Kept]) -> None:
        """Keep what there is now, or go on with what came since."""
        self.frozen = not self.frozen
        self.kept = frozen() if self.frozen else self._live
        self.follow = self.follow and not self.frozen
        self.want(self.wanted)

    # --- which one is chosen ----------------------------------------------------------------------

    def choose(self, number: int, *, follow: bool = False) -> None:
        """Choose the journey of that number, also if it cannot be read: keys must get past it."""
        self.follow = follow
        if not follow:
            self.failure = ""
        if number == self.chosen and self.journey is not None:
            return
        journey = self.made(number)
        wrong = self.why_not(number)
        if journey is None and not wrong:
            return
        if wrong:
            self.failure = wrong
        self.chosen, self.journey, self.hop = number, journey, 0
        self.in_detail = self.in_detail and journey is not None

    def move(self, rows: int) -> None:
        """Choose what stands so many rows further down."""
        if self.listed is not Listed.JOURNEYS:
            self.row = max(self.row + rows, 0)
            return
        count = len(self.listing)
        if not count:
            return
        self.choose(self.listing.number(min(max(self.position + rows, 0), count - 1)))

    @property
    def position(self) -> int:
        """Where the chosen journey stands in the list, or would stand."""
        return 0 if self.chosen is None else self.listing.position(self.chosen)

    def open(self, journey_id: str) -> bool:
        """Choose the journey of that id, listed or not. Return False if it is not there."""
        number = self.kept.number_of(journey_id)
        if number is None or self.made(number) is None:
            return False
        self.choose(number)
        return True

    def step(self, hops: int) -> None:
        """Go so many hops on in the chosen journey."""
        if self.journey is not None and self.journey.hops:
            self.hop = min(max(self.hop + hops, 0), len(self.journey.hops) - 1)

    def branches(self) -> dict[str, Journey]:
        """Return the journeys that left the chosen one, as far as they are there."""
        found: dict[str, Journey] = {}
        if self.journey is not None:
            for branch in self.journey.branches:
                number = self.kept.number_of(branch.id)
                journey = None if number is None else self.made(number)
                if journey is not None:
                    found[branch.id] = journey
        return found

    def family(self) -> list[Journey]:
        """Return the chosen journey and all that descend from it, as far as they are there."""
        found: dict[str, Journey] = {}
        left = [] if self.journey is None else [self.journey]
        while left:
            journey = left.pop()
            if journey.id in found:
                continue
            found[journey.id] = journey
            numbers = [self.kept.number_of(branch.id) for branch in reversed(journey.branches)]
            left += [j for n in numbers if n is not None and (j := self.made(n)) is not None]
        return [*found.values()]

    def mark(self) -> None:
        """Mark the chosen journey, or take its mark away. Of more than two the oldest goes."""
        journey = self.journey
        if journey is None:
            return
        if any(each.id == journey.id for each in self.marks):
            self.marks = [each for each in self.marks if each.id != journey.id]
        else:
            self.marks = [*self.marks, journey][-2:]


def _both(one: Accepts | None, other: Accepts | None) -> Accepts | None:
    if one is None or other is None:
        return one or other
    return lambda journey: one(journey) and other(journey)
