# SPDX-License-Identifier: GPL-2.0-only
"""Journeys as families: a packet, below it its clones, copies and segments, below them theirs.

What TCP sends again stands below what it repeats: both are clones of an skb that waits in the
retransmit queue, which itself passes no function that is probed.

Pure: from journeys to journeys with a depth. Knows neither files nor lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from tracer.errors import SkbtraceError
from tracer.model import Journey

Family = list[tuple[int, Journey]]
"""A journey at depth 0 and all that descend from it, each below its parent."""


def families(read: Callable[[], Iterable[Journey]]) -> Iterator[Family]:
    """Give each journey once, below its parent if that is there too, else by itself.

    ``read`` gives the same journeys twice, in any order; an error in the first reading is left
    for the second to raise, after what could be read. Held meanwhile are the journeys that stand
    below another, whole, and of all others the ids: traffic without branches costs some hundred
    bytes per journey, however many hops it has.
    """
    ids: set[str] = set()
    branches: dict[str, list[Journey]] = {}
    seen = 0
    with suppress(SkbtraceError):
        for journey in read():
            seen += 1
            ids.add(journey.id)
            above = _above(journey)
            if above is not None:
                branches.setdefault(above, []).append(journey)
    branches = {parent: left for parent, left in branches.items() if parent in ids}
    for number, journey in enumerate(read()):
        # What was not there at the first reading (the file grows) is nobody's yet.
        if number >= seen or _above(journey) not in ids:
            yield _family(journey, branches)
    while branches:  # only where journeys are their own ancestors, as no kernel makes them
        for journey in branches.pop(next(iter(branches))):
            yield _family(journey, branches)


def _above(journey: Journey) -> str | None:
    """The id of the journey that it stands below: its parent, or the segment that it repeats."""
    if journey.parent is not None:
        return journey.parent
    return next((r.id for r in journey.references if r.kind == "repeats"), None)


def _family(head: Journey, branches: dict[str, list[Journey]]) -> Family:
    """Take a journey's descendants out of ``branches``. Not by recursion: files can be deep."""
    family: Family = []
    left = [(0, head)]
    while left:
        depth, journey = left.pop()
        family.append((depth, journey))
        left += [(depth + 1, branch) for branch in reversed(branches.pop(journey.id, []))]
    return family
