# SPDX-License-Identifier: GPL-2.0-only
"""What many journeys have in common: flows, how long each step takes, what was dropped where.

Journeys in, counts out, in bounded memory: of flows, steps and drops that are too many the ones
longest unseen give way, and ``forgotten`` says how many. A journey may stand for others that were
not looked at (``times``); then the counts are estimates. Pure; knows no clock and no words.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from tracer.histogram import Histogram
from tracer.model import Device, Journey, Outcome, Segment

FLOWS_MOST = 4096
STEPS_MOST = 4096
DROPS_MOST = 1024
SECONDS = 16
"""How long a flow's recent past is, for a sparkline."""
_SECOND_NS = 1_000_000_000

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class FlowKey(NamedTuple):
    """Who speaks to whom, as the packet was first seen; ports are None where there are none."""

    proto: str
    src: str | None
    sport: int | None
    dst: str | None
    dport: int | None
    kind: int | str | None = None
    """Of ICMP the type, of ARP the operation."""


class Step(NamedTuple):
    """From one probed function to the next."""

    function: str
    following: str
    segment: Segment | None


class DropPlace(NamedTuple):
    """What was dropped alike: for that reason, by that function, at that device."""

    reason: str | None
    function: str | None
    device: Device | None


class FlowCount:
    """What is known of a flow."""

    __slots__ = ("_recent", "bytes", "dropped", "first_ns", "journeys", "last_ns", "took")

    def __init__(self, first_ns: int) -> None:
        self.journeys = 0
        self.bytes = 0
        self.dropped = 0
        self.first_ns = self.last_ns = first_ns
        self.took = Histogram()
        self._recent: deque[list[int]] = deque(maxlen=SECONDS)

    def add(self, journey: Journey, times: int) -> None:
        """Count a journey of this flow."""
        self.journeys += times
        if journey.hops:
            self.bytes += journey.hops[0].len * times
        if journey.outcome is Outcome.DROPPED:
            self.dropped += times
        start = journey.start_ns
        self.first_ns = min(self.first_ns, start)
        self.last_ns = max(self.last_ns, start)
        self.took.add(journey.duration_ns, times)
        second, recent = start // _SECOND_NS, self._recent
        if recent and recent[-1][0] == second:
            recent[-1][1] += times
        elif not recent or recent[-1][0] < second:
            recent.append([second, times])

    def recent(self, now_ns: int) -> list[int]:
        """Return how many there were in each of the last seconds, the one of ``now_ns`` last."""
        last = now_ns // _SECOND_NS
        counts = {second: count for second, count in self._recent}  # noqa: C416 (they are lists)
        return [counts.get(second, 0) for second in range(last - SECONDS + 1, last + 1)]

    @property
    def rate(self) -> float:
        """Journeys per second over its life; 0 where it is too short to tell."""
        life = self.last_ns - self.first_ns
        return (self.journeys - 1) * _SECOND_NS / life if life > 0 else 0.0


class DropCount:
    """How often something was dropped alike, and the id of the last such journey."""

    __slots__ = ("journeys", "last")

    def __init__(self, last: str) -> None:
        self.journeys = 0
        self.last = last


class _Bounded(OrderedDict[_Key, _Value], Generic[_Key, _Value]):
    """At most so many values; the one that was longest not asked for gives way."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.forgotten = 0

    def of(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """Return the key's value, a new one if there is none."""
        value = self.get(key)
        if value is None:
            if len(self) >= self._most:
                self.popitem(last=False)
                self.forgotten += 1
            value = self[key] = make()
        else:
            self.move_to_end(key)
        return value


class Tally:
    """Counts of the journeys that were added."""

    def __init__(self) -> None:
        self.journeys = 0
        """Looked at."""
        self.stand_for = 0
        """So many they stand for."""
        self.took = Histogram()
        self.last_ns = 0
        """When the last one began."""
        self.flows: _Bounded[FlowKey, FlowCount] = _Bounded(FLOWS_MOST)
        self.steps: _Bounded[Step, Histogram] = _Bounded(STEPS_MOST)
        self.drops: _Bounded[DropPlace, DropCount] = _Bounded(DROPS_MOST)

    @property
    def forgotten(self) -> int:
        """Flows, steps and drops that gave way to others."""
        return self.flows.forgotten + self.steps.forgotten + self.drops.forgotten

    def add(self, journey: Journey, times: int = 1) -> None:
        """Count a journey that stands for so many."""
        self.journeys += 1
        self.stand_for += times
        start = journey.start_ns
        self.last_ns = max(self.last_ns, start)
        hops = journey.hops
        if hops:
            self.took.add(hops[-1].dt_ns, times)
        self.flows.of(flow_key(journey), lambda: FlowCount(start)).add(journey, times)
        steps = self.steps
        before = None
        for hop in hops:
            if before is not None:
                key = Step(before.function, hop.function, before.segment)
                took = hop.dt_ns - before.dt_ns
                steps.of(key, Histogram).add(max(took, 0), times)
            before = hop
        if journey.outcome is Outcome.DROPPED:
            drops = self.drops.of(drop_place(journey), lambda: DropCount(journey.id))
            drops.journeys += times
            drops.last = journey.id


def flow_key(journey: Journey) -> FlowKey:
    """Return to which flow a journey belongs."""
    flow = journey.flow
    kind = flow.icmp_type if flow.icmp_type is not None else flow.arp_op
    return FlowKey(flow.proto, flow.src, flow.sport, flow.dst, flow.dport, kind)


def drop_place(journey: Journey) -> DropPlace:
    """Return with which others a dropped journey is counted."""
    device = journey.last_device
    if journey.drop is None:
        return DropPlace(None, None, device)
    return DropPlace(journey.drop.reason, journey.drop.function, device)
