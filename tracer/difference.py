# SPDX-License-Identifier: GPL-2.0-only
"""What is different between two captures: paths, drops, the time of steps, the way of a flow.

Two sets of journeys in, differences out. Whether a step takes longer is judged by the test of Mann
and Whitney on the classes of its histograms, ties corrected: it asks whether a time of the one is
larger than one of the other more often than not, and assumes nothing about how times are
distributed. Of all steps together, one is called different by chance in one of a hundred
comparisons at most (Holm's correction), if times that follow each other do not depend on each
other; where they do (a burst, a queue), more often. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tracer.histogram import Histogram
from tracer.model import Hop, Journey
from tracer.statistics import By, Path, PlacedStep, Statistics
from tracer.tally import DropPlace, FlowKey, flow_key

ALPHA = 0.01
"""How often chance may call any step different."""
LEAST = 20
"""Times on each side below which a step is not judged."""
EFFECT = 0.55
"""A step counts as slower if a time of the second capture is larger than one of the first with at
least this probability: with many samples also what matters to nobody is certain."""
_FLOWS_MOST = 100_000

Way = tuple[tuple[str, str], ...]
"""Functions and devices, in order."""


class Side:
    """One of the two captures."""

    def __init__(self) -> None:
        self.statistics = Statistics(By.PATH)
        self.ways: dict[FlowKey, Counter[Way]] = {}
        """How often a flow's journeys took which way. Branches are told apart by their own."""
        self._known: dict[Way, Way] = {}

    def add_all(self, journeys: Iterable[Journey]) -> None:
        """Take journeys in."""
        for journey in journeys:
            self.statistics.add(journey)
            if journey.parent is None:
                self._add_way(journey)

    def _add_way(self, journey: Journey) -> None:
        key = flow_key(journey)
        # A client takes another port each time: it is the same service that it speaks to.
        if key.sport is not None and key.dport is not None:
            key = key._replace(sport=None) if key.sport > key.dport else key._replace(dport=None)
        ways = self.ways.get(key)
        if ways is None:
            if len(self.ways) >= _FLOWS_MOST:
                return
            ways = self.ways[key] = Counter()
        way = tuple((hop.function, _place(hop)) for hop in journey.hops)
        ways[self._known.setdefault(way, way)] += 1


class SlowerStep(NamedTuple):
    """A step that takes longer in one of the captures, and how sure that is."""

    placed: PlacedStep
    counts: tuple[int, int]
    medians_ns: tuple[int, int]
    probability: float
    """That a time of the second capture is larger than one of the first."""
    p_value: float
    """How probable so great a difference is by chance, after Holm's correction."""

    @property
    def slower(self) -> bool:
        """Whether the second one is slower; else it is faster."""
        return self.probability > 0.5


class Parting(NamedTuple):
    """A flow whose usual way is another one."""

    flow: FlowKey
    after: tuple[str, str] | None
    """The last hop that both have; None if they differ from the first one on."""
    goes_on: tuple[tuple[str, str] | None, tuple[str, str] | None]
    """What comes next on each side; None if it ends there."""


class Differences(NamedTuple):
    """All of them. Empty means: none was found."""

    paths: tuple[tuple[Path, int, int], ...]
    """Those that only one side has, and how many journeys took them."""
    drops: tuple[tuple[DropPlace, int, int], ...]
    steps: tuple[SlowerStep, ...]
    partings: tuple[Parting, ...]
    judged: int = 0
    """So many steps had enough samples to be compared."""

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self.paths or self.drops or self.steps or self.partings)


def differences(one: Side, other: Side) -> Differences:
    """Compare two captures."""
    a, b = one.statistics, other.statistics
    paths = []
    for path in {**a.groups, **b.groups}:
        counts = [side.groups[path].journeys if path in side.groups else 0 for side in (a, b)]
        if isinstance(path, tuple) and not isinstance(path, FlowKey) and not all(counts):
            paths.append((path, counts[0], counts[1]))
    drops = [
        (place, _dropped(a, place), _dropped(b, place))
        for place in {**a.drops, **b.drops}
        if (place in a.drops) != (place in b.drops)
    ]
    steps, judged = _steps(a, b)
    return Differences(
        tuple(sorted(paths, key=lambda each: -(each[1] + each[2]))),
        tuple(sorted(drops, key=lambda each: -(each[1] + each[2]))),
        steps,
        tuple(_partings(one, other)),
        judged,
    )


def mann_whitney(one: Histogram, other: Histogram) -> tuple[float, float]:
    """Return the probability that a value of ``other`` is larger (a tie counts half), and p.

    The p-value is two-sided, by the normal approximation with ties corrected; 1 where all values
    are alike.
    """
    a, b = dict(one.classes()), dict(other.classes())
    n, m = one.count, other.count
    total = n + m
    below, larger, ties = 0, 0.0, 0
    for value in sorted({**a, **b}):
        mine, theirs = a.get(value, 0), b.get(value, 0)
        larger += theirs * (below + mine / 2)
        below += mine
        tied = mine + theirs
        ties += tied**3 - tied
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    probability = larger / (n * m)
    if variance <= 0:
        return probability, 1.0
    z = abs(larger - n * m / 2) / math.sqrt(variance)
    return probability, math.erfc(z / math.sqrt(2))


def _steps(a: Statistics, b: Statistics) -> tuple[tuple[SlowerStep, ...], int]:
    judged = [
        (placed, took, b.steps[placed])
        for placed, took in a.steps.items()
        if placed in b.steps and took.count >= LEAST and b.steps[placed].count >= LEAST
    ]
    tested = sorted(
        ((*mann_whitney(took, there), placed, took, there) for placed, took, there in judged),
        key=lambda each: each[1],
    )
    found: list[SlowerStep] = []
    least = 0.0
    for rank, (probability, p_value, placed, took, there) in enumerate(tested):
        least = max(least, min(1.0, p_value * (len(tested) - rank)))  # Holm: never below the last
        if least > ALPHA:
            break
        if max(probability, 1 - probability) >= EFFECT:
            medians = (took.percentiles(0.5)[0], there.percentiles(0.5)[0])
            counts = (took.count, there.count)
            found.append(SlowerStep(placed, counts, medians, probability, least))
    return tuple(sorted(found, key=_weight, reverse=True)), len(judged)


def _weight(step: SlowerStep) -> int:
    """By how much time it changed altogether, roughly."""
    return abs(step.medians_ns[1] - step.medians_ns[0]) * min(step.counts)


def _partings(one: Side, other: Side) -> Iterable[Parting]:
    for flow, ways in one.ways.items():
        there = other.ways.get(flow)
        if there is None:
            continue
        # A way that the other side knows as well is not another one.
        mine, theirs = ways.most_common(1)[0][0], there.most_common(1)[0][0]
        if mine == theirs or mine in there or theirs in ways:
            continue
        at = next((n for n, (x, y) in enumerate(zip(mine, theirs, strict=False)) if x != y), None)
        if at is None:
            at = min(len(mine), len(theirs))
        goes_on = (
            mine[at] if at < len(mine) else None,
            theirs[at] if at < len(theirs) else None,
        )
        yield Parting(flow, mine[at - 1] if at else None, goes_on)


def _dropped(statistics: Statistics, place: DropPlace) -> int:
    dropped = statistics.drops.get(place)
    return 0 if dropped is None else dropped.journeys


def _place(hop: Hop) -> str:
    return "-" if hop.device is None else hop.device.place
