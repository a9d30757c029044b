# SPDX-License-Identifier: GPL-2.0-only
"""Which journeys are wanted: by the namespaces and devices they pass, begin in and end in.

Decided over whole journeys, when nothing about them is open any more. A branch is judged by
itself, whatever became of its parent. Pure; knows neither how namespaces were named by a person
nor who wants to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tracer.filter import Filter
from tracer.frame import with_addresses
from tracer.model import Device, Journey, Netns, Outcome, Topology
from tracer.text import printable

_TAKEN = frozenset({Outcome.DELIVERED, Outcome.CONSUMED})
"""Somebody took it where it ended: it was not on its way to anywhere else."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """A set of namespaces, each by its inode number or by its name. False if there is none."""

    inums: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()

    def __contains__(self, netns: Netns) -> bool:
        return netns.inum in self.inums or netns.name in self.names

    def __bool__(self) -> bool:
        return bool(self.inums or self.names)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a journey must do to be wanted. An empty set asks for nothing; all others must hold."""

    netns: Namespaces = Namespaces()
    """Some hop's device is in one of these."""
    container: Namespaces = Namespaces()
    """Likewise: the namespaces containers are in."""
    origin: Namespaces = Namespaces()
    """It begins in one of these: the first device is there, or the process that sends it."""
    target: Namespaces = Namespaces()
    """It ends in one of these, or was on its way there and nobody took it before."""
    addresses: frozenset[str] = frozenset()
    """The IP addresses of ``target``, by which what is on its way there is known."""
    devices: frozenset[str] = frozenset()
    """Some hop is at one of these: ``vethc1``, or ``host/vethc1``."""

    def __call__(self, journey: Journey) -> bool:
        """Say whether the journey is wanted."""
        return (
            (not self.netns or _passes(journey, self.netns))
            and (not self.container or _passes(journey, self.container))
            and (not self.devices or any(self.devices & called(d) for d in _devices(journey)))
            and (not self.origin or _begins(journey, self.origin))
            and (not self.target or _ends(journey, self.target) or self._is_on_its_way(journey))
        )

    def _is_on_its_way(self, journey: Journey) -> bool:
        return journey.outcome not in _TAKEN and _destination(journey) in self.addresses


def selection_of(
    topology: Topology | None,
    *,
    netns: Iterable[str] = (),
    container: Iterable[str] = (),
    origin: Iterable[str] = (),
    target: Iterable[str] = (),
    device: Iterable[str] = (),
) -> Selection:
    """Return what names mean in a trace: its own namespaces and devices are called so."""
    to = named(target)
    return Selection(
        netns=named(netns),
        container=named(container),
        origin=named(origin),
        target=to,
        addresses=addresses_of(topology, to),
        devices=frozenset(map(printable, device)),
    )


def named(names: Iterable[str]) -> Namespaces:
    """Return the namespaces that are called so, or have these inode numbers."""
    numbers = {name.removeprefix("ns:") for name in names}
    return Namespaces(
        frozenset(int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) < 20),
        frozenset(map(printable, names)),
    )


def addresses_of(topology: Topology | None, target: Namespaces) -> frozenset[str]:
    """Return the IP addresses of some namespaces."""
    given = () if topology is None else topology.addresses
    return frozenset(a.split("/")[0] for device, a in given if device.netns in target)


def accepted(filter: Filter, journey: Journey) -> bool | None:
    """Say whether the filter accepts the packet as it was first seen; None if that is not known."""
    frame = journey.frame
    if frame is None:
        return None
    if filter.needs_addresses:
        frame = with_addresses(frame, [c for hop in journey.hops for c in hop.changes])
    return filter.accepts(frame.kept, frame.len)


def accepting(filter: Filter) -> Callable[[Journey], bool]:
    """Return what says whether the filter accepts a journey; what is not known it does not."""
    return lambda journey: bool(accepted(filter, journey))


def met(journey: Journey) -> Iterator[Netns]:
    """Give every namespace that the journey names, some of them more than once."""
    for hop in journey.hops:
        if hop.device is not None:
            yield hop.device.netns
        if hop.socket is not None:
            yield hop.socket.netns
        if hop.task is not None and hop.task.netns is not None:
            yield hop.task.netns


def called(device: Device) -> frozenset[str]:
    """Return what a person may call a device."""
    return frozenset((device.ifname, device.place))


def _devices(journey: Journey) -> set[Device]:
    return {hop.device for hop in journey.hops if hop.device is not None}


def _passes(journey: Journey, wanted: Namespaces) -> bool:
    return any(hop.device is not None and hop.device.netns in wanted for hop in journey.hops)


def _begins(journey: Journey, wanted: Namespaces) -> bool:
    first = journey.first_device
    if first is not None and first.netns in wanted:
        return True
    task = journey.hops[0].task if journey.hops else None
    return task is not None and task.netns is not None and task.netns in wanted


def _ends(journey: Journey, wanted: Namespaces) -> bool:
    for hop in reversed(journey.hops):
        # A packet socket is given a copy and the packet goes on: only where it was delivered is
        # the socket its end.
        if hop.socket is not None and journey.outcome is Outcome.DELIVERED:
            return hop.socket.netns in wanted
    last = journey.last_device
    return last is not None and last.netns in wanted


def _destination(journey: Journey) -> str | None:
    """Where its headers said it goes to in the end: NAT may have rewritten that."""
    destination = journey.flow.dst
    for hop in journey.hops:
        for change in hop.changes:
            if change.field == "dst" and isinstance(change.new, str):
                destination = change.new
    return destination
