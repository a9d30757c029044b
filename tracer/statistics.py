# SPDX-License-Identifier: GPL-2.0-only
"""Where the time of many journeys goes, and what became of them: the report of a trace.

Journeys in, counts out. What was counted is exact, percentiles are those of ``histogram``. Memory
grows with how different the journeys are, not with how many. Pure; knows no files and no words.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from tracer.histogram import Histogram
from tracer.model import Device, Hop, Journey, Outcome, Segment
from tracer.tally import DropPlace, FlowKey, Step, drop_place, flow_key

OUTLIERS = 10
_FOUND_MOST = 65536


class By(StrEnum):
    """What journeys can be grouped by."""

    FLOW = "flow"
    PATH = "path"
    OUTCOME = "outcome"
    NETNS = "netns"
    """The namespace where it begins."""
    CPU = "cpu"
    """The CPU on which it begins."""


class PlacedStep(NamedTuple):
    """From one probed function to the next, at a device."""

    step: Step
    device: Device | None


Path = tuple[str, ...]
"""The namespaces and devices that were passed, in order: ``c1/eth0``, ``host/vethc1`` ..."""
GroupKey = FlowKey | Path | str | int


class Group:
    """Journeys that are alike in something."""

    __slots__ = ("bytes", "dropped", "first", "journeys", "took")

    def __init__(self, first: str) -> None:
        self.first = first
        """The id of the first one."""
        self.journeys = 0
        self.bytes = 0
        self.dropped = 0
        self.took = Histogram()

    def add(self, journey: Journey) -> None:
        """Count one."""
        self.journeys += 1
        if journey.hops:
            self.bytes += journey.hops[0].len
            self.took.add(journey.hops[-1].dt_ns)
        if journey.outcome is Outcome.DROPPED:
            self.dropped += 1


class Dropped:
    """What was dropped alike: how often, and the last of them."""

    __slots__ = ("journeys", "last")

    def __init__(self, last: Journey) -> None:
        self.journeys = 0
        self.last = last


class Statistics:
    """Counts of the journeys that were added, in groups ``by`` something."""

    def __init__(self, by: By = By.FLOW) -> None:
        self.by = by
        self.journeys = 0
        self.hops = 0
        self.bytes = 0
        self.branches = 0
        """Of the journeys those that left another one: clones, copies, segments."""
        self.outcomes: Counter[Outcome] = Counter()
        self.first_ns: int | None = None
        """When the first one began; on the trace's clock."""
        self.last_ns = 0
        self.took = Histogram()
        self.groups: dict[GroupKey, Group] = {}
        self.steps: dict[PlacedStep, Histogram] = {}
        self.drops: dict[DropPlace, Dropped] = {}
        self._slowest: list[tuple[int, str]] = []
        # By what is at hand of two hops, whose values are few: hashing them costs more than the
        # rest. The device is kept, so that its number does not become another one's.
        self._found: dict[tuple[str, str, int, int], tuple[Device | None, Histogram]] = {}

    def add_all(self, journeys: Iterable[Journey]) -> None:
        """Count journeys."""
        for journey in journeys:
            self.add(journey)

    def add(self, journey: Journey) -> None:
        """Count a journey."""
        hops = journey.hops
        start = journey.start_ns
        self.journeys += 1
        self.hops += len(hops)
        self.branches += journey.parent is not None
        self.outcomes[journey.outcome] += 1
        self.first_ns = start if self.first_ns is None else min(self.first_ns, start)
        self.last_ns = max(self.last_ns, start)
        group = self.groups.get(key := self._key(journey))
        if group is None:
            group = self.groups[key] = Group(journey.id)
        group.add(journey)
        if journey.outcome is Outcome.DROPPED:
            place = drop_place(journey)
            dropped = self.drops.setdefault(place, Dropped(journey))
            dropped.journeys += 1
            dropped.last = journey
        if not hops:
            return
        self.bytes += hops[0].len
        took = hops[-1].dt_ns
        self.took.add(took)
        if len(self._slowest) < OUTLIERS:
            heapq.heappush(self._slowest, (took, journey.id))
        elif took > self._slowest[0][0]:
            heapq.heapreplace(self._slowest, (took, journey.id))
        self._add_steps(hops)

    @property
    def slowest(self) -> list[tuple[int, str]]:
        """The journeys that took longest, the longest first: (ns, id)."""
        return sorted(self._slowest, key=lambda each: (-each[0], each[1]))

    @property
    def seconds(self) -> float:
        """From the first journey's begin to the last one's."""
        return 0.0 if self.first_ns is None else (self.last_ns - self.first_ns) / 1e9

    @property
    def kinds(self) -> dict[Segment, Histogram]:
        """How long the steps of each kind took: work, and each way of waiting."""
        kinds: dict[Segment, Histogram] = {}
        for placed, took in self.steps.items():
            if placed.step.segment is not None:
                kinds.setdefault(placed.step.segment, Histogram()).include(took)
        return kinds

    def _add_steps(self, hops: Sequence[Hop]) -> None:
        found = self._found
        before = hops[0]
        for hop in hops[1:]:
            key = (before.function, hop.function, id(before.segment), id(before.device))
            known = found.get(key)
            if known is None:
                if len(found) >= _FOUND_MOST:
                    found.clear()
                placed = PlacedStep(
                    Step(before.function, hop.function, before.segment), before.device
                )
                histogram = self.steps.setdefault(placed, Histogram())
                known = found[key] = (before.device, histogram)
            known[1].add(max(hop.dt_ns - before.dt_ns, 0))
            before = hop

    def _key(self, journey: Journey) -> GroupKey:
        by = self.by
        if by is By.FLOW:
            return flow_key(journey)
        if by is By.PATH:
            return path_of(journey)
        if by is By.OUTCOME:
            return journey.outcome.value
        if by is By.CPU:
            return journey.hops[0].cpu if journey.hops else -1
        first = journey.first_device
        return "-" if first is None else first.netns.name


def path_of(journey: Journey) -> Path:
    """Return the devices that a journey passed, each as ``netns/ifname``."""
    return tuple(device.place for device, _ in journey.arrivals())
