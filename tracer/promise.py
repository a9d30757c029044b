# SPDX-License-Identifier: GPL-2.0-only
"""Promises about a network, and which of them the journeys of a trace break.

A promise says of some journeys (where they begin and end, what they are) how they should go: their
path, what they must and must not pass, how they end, how long they take, how many there are. What
breaks it is a Breach: what was expected, what was seen, in which journey, at which hop it went
wrong. Pure; knows no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from tracer.duration import words
from tracer.filter import Filter
from tracer.histogram import Histogram
from tracer.model import Hop, Journey, Outcome, Topology, TopologyChange
from tracer.selection import Namespaces, Selection, accepted

GOOD = frozenset({Outcome.DELIVERED, Outcome.CONSUMED, Outcome.TRANSMITTED, Outcome.ABSORBED})
REWRITTEN = ("src", "dst", "sport", "dport")
"""What NAT changes, and a promise may speak of."""


@dataclass(frozen=True, slots=True)
class Promise:
    """How some journeys should go. What is empty or None is not promised."""

    name: str
    origin: str | None = None
    """The namespace they begin in; key ``from``."""
    target: str | None = None
    """The namespace they end in or were on their way to; key ``to``."""
    filter: Filter | None = None
    at_least: int = 1
    at_most: int | None = None
    path: tuple[str, ...] = ()
    """``netns/ifname`` of each device in order; ``*`` in one stands for any letters, and alone for
    any devices, or none."""
    passes: tuple[str, ...] = ()
    avoids: tuple[str, ...] = ()
    """Functions, or ``netns/ifname``."""
    outcomes: frozenset[Outcome] = GOOD
    rewrites: Mapping[str, str] = field(default_factory=dict)
    """``src``, ``dst``, ``sport``, ``dport`` → what it is rewritten to; key ``nat``."""
    within_ns: int | None = None
    p99_ns: int | None = None


class Breach(NamedTuple):
    """A promise that was not kept."""

    expected: str
    seen: str
    journey: str | None = None
    """The id of the first one that breaks it so."""
    at: str | None = None
    """The hop at which it went wrong."""
    journeys: int = 1
    """So many break it in the same way."""


class Verdict(NamedTuple):
    """What became of a promise."""

    promise: Promise
    journeys: int
    """So many it is about."""
    breaches: tuple[Breach, ...]

    @property
    def kept(self) -> bool:
        """Whether nothing breaks it."""
        return not self.breaches


class Judge:
    """Takes journeys, then gives a verdict on each promise."""

    def __init__(self, promises: Iterable[Promise], topology: Topology | None) -> None:
        self._cases = [_Case(promise) for promise in promises]
        self.know(topology)

    def know(self, topology: Topology | None) -> None:
        """Take in whose the addresses are, by which what is on its way is known."""
        found: dict[str, set[str]] = {}
        for device, address in () if topology is None else topology.addresses:
            found.setdefault(device.netns.name, set()).add(address.split("/")[0])
        for case in self._cases:
            case.know(found)

    def add_all(self, journeys: Iterable[Journey], changes: Sequence[TopologyChange] = ()) -> None:
        """Look at journeys. A branch is judged by its parent.

        ``changes``: those of the topology, which may become more while journeys are given.
        """
        known = 0
        for journey in journeys:
            for change in changes[known:]:
                self.know(change.topology)
            known = len(changes)
            if journey.parent is None:
                for case in self._cases:
                    case.add(journey)

    def verdicts(self) -> list[Verdict]:
        """Return what became of each."""
        return [case.verdict() for case in self._cases]


class _Case:
    def __init__(self, promise: Promise) -> None:
        self._promise = promise
        self._selection = Selection(target=_named(promise.target))
        self._journeys = 0
        self._took = Histogram()
        self._breaches: dict[tuple[str, str], Breach] = {}

    def know(self, addresses: Mapping[str, AbstractSet[str]]) -> None:
        known = self._selection.addresses
        more = addresses.get(self._promise.target or "", frozenset())
        self._selection = replace(self._selection, addresses=known | more)

    def add(self, journey: Journey) -> None:
        promise = self._promise
        # Not, as for --from, the namespace of the process that sends it: one process may make
        # all the traffic of a test.
        if promise.origin is not None and _origin(journey) != promise.origin:
            return
        if not self._selection(journey):
            return
        if promise.filter is not None and not accepted(promise.filter, journey):
            return
        self._journeys += 1
        self._took.add(journey.duration_ns)
        for breach in _breaches(promise, journey):
            key = (breach.expected, breach.seen)
            known = self._breaches.setdefault(key, breach._replace(journeys=0))
            self._breaches[key] = known._replace(journeys=known.journeys + 1)

    def verdict(self) -> Verdict:
        promise, count = self._promise, self._journeys
        found = list(self._breaches.values())
        if count < promise.at_least:
            found.insert(0, Breach(f"at least {_journeys(promise.at_least)}", _journeys(count)))
        if promise.at_most is not None and count > promise.at_most:
            found.append(Breach(f"at most {_journeys(promise.at_most)}", _journeys(count)))
        if promise.p99_ns is not None and count:
            (p99,) = self._took.percentiles(0.99)
            if p99 > promise.p99_ns:
                found.append(
                    Breach(f"99 % within {words(promise.p99_ns)}", f"99 % within {words(p99)}")
                )
        return Verdict(promise, count, tuple(found))


def _breaches(promise: Promise, journey: Journey) -> Iterator[Breach]:
    hops = journey.hops
    if promise.path:
        yield from _path(promise.path, journey)
    places = [(hop, {hop.function, _place(hop)}) for hop in hops]
    for wanted in promise.passes:
        if not any(wanted in names for _, names in places):
            yield Breach(f"passes {wanted}", "it does not", journey.id)
    for unwanted in promise.avoids:
        at = next((hop for hop, names in places if unwanted in names), None)
        if at is not None:
            yield Breach(f"avoids {unwanted}", "it passes it", journey.id, _hop(at))
    if journey.outcome not in promise.outcomes:
        seen = journey.outcome.value
        if journey.drop is not None:
            seen += (
                f": {journey.drop.reason or 'no reason given'} in {journey.drop.function or '?'}"
            )
        expected = " or ".join(sorted(outcome.value for outcome in promise.outcomes))
        yield Breach(expected, seen, journey.id, _hop(hops[-1]) if hops else None)
    changed = {c.field: str(c.new) for hop in hops for c in hop.changes if c.field in REWRITTEN}
    for name, to in promise.rewrites.items():
        if changed.get(name) != to:
            now = changed.get(name)
            seen = "it is not rewritten" if now is None else f"{name} becomes {now}"
            yield Breach(f"{name} becomes {to}", seen, journey.id)
    if promise.within_ns is not None and journey.duration_ns > promise.within_ns:
        # Not how long each took: they break it in the same way.
        longest = max(range(len(hops) - 1), key=lambda n: hops[n + 1].dt_ns - hops[n].dt_ns)
        yield Breach(
            f"within {words(promise.within_ns)}", "it takes longer", journey.id, _hop(hops[longest])
        )


def _path(wanted: tuple[str, ...], journey: Journey) -> Iterator[Breach]:
    seen = [(device.place, hop) for device, hop in journey.arrivals()]
    matched = _matched(wanted, [place for place, _ in seen])
    if matched is None:
        return
    at = seen[matched][1] if matched < len(seen) else (seen[-1][1] if seen else None)
    yield Breach(
        f"path {' > '.join(wanted)}",
        f"path {' > '.join(place for place, _ in seen) or 'without a device'}",
        journey.id,
        None if at is None else _hop(at),
    )


def _matched(wanted: tuple[str, ...], seen: list[str]) -> int | None:
    """Return None if the path is as wanted, else how many of its devices are."""
    # The states that the pattern can be in: how much of it is used up.
    states, furthest = _skip({0}, wanted), 0
    for number, place in enumerate(seen):
        after = {
            s if wanted[s] == "*" else s + 1
            for s in states
            if s < len(wanted) and fnmatchcase(place, wanted[s])
        }
        if not after:
            return number
        states, furthest = _skip(after, wanted), number + 1
    return None if len(wanted) in states else furthest


def _skip(states: set[int], wanted: tuple[str, ...]) -> set[int]:
    found = set(states)
    for state in states:
        at = state
        while at < len(wanted) and wanted[at] == "*":
            at += 1
            found.add(at)
    return found


def _named(name: str | None) -> Namespaces:
    return Namespaces() if name is None else Namespaces(names=frozenset({name}))


def _place(hop: Hop) -> str:
    return "-" if hop.device is None else hop.device.place


def _origin(journey: Journey) -> str | None:
    device = journey.first_device
    return None if device is None else device.netns.name


def _hop(hop: Hop) -> str:
    return hop.function if hop.device is None else f"{hop.function} at {_place(hop)}"


def _journeys(count: int) -> str:
    return f"{count} journey{'' if count == 1 else 's'}"
