# SPDX-License-Identifier: GPL-2.0-only
"""Names of namespaces that became known while a trace was taken, put into the journeys before.

A container is called by its engine only when it runs; its first packets are earlier. Inode numbers
are used again, so a name holds for the time before only as long as the namespace was there. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracer.model import Device, Hop, Journey, Netns, Topology, TopologyChange


class LaterNames:
    """What the changes of a topology, in the order of their times, tell about journeys before."""

    def __init__(self, changes: Sequence[TopologyChange]) -> None:
        self._there = [(change.at_ns, _netnses(change.topology)) for change in changes]
        self._last_ns = self._there[-1][0] if self._there else 0

    def filled(self, journey: Journey) -> Journey:
        """Return the journey with the names that became known after it."""
        if journey.start_ns >= self._last_ns:
            return journey
        hops = tuple([self._hop(hop, journey.start_ns) for hop in journey.hops])
        return journey if hops == journey.hops else journey._replace(hops=hops)

    def _hop(self, hop: Hop, at_ns: int) -> Hop:
        if hop.device is not None and hop.device.netns.provisional:
            device = replace(hop.device, netns=self._netns(hop.device.netns, at_ns))
            hop = hop._replace(device=device)
        if hop.socket is not None and hop.socket.netns.provisional:
            socket = hop.socket._replace(netns=self._netns(hop.socket.netns, at_ns))
            hop = hop._replace(socket=socket)
        if hop.task is not None and hop.task.netns is not None and hop.task.netns.provisional:
            hop = hop._replace(task=hop.task._replace(netns=self._netns(hop.task.netns, at_ns)))
        return hop

    def _netns(self, netns: Netns, at_ns: int) -> Netns:
        for when, there in self._there:
            if when <= at_ns:
                continue
            found = there.get(netns.inum)
            if found is None:  # it was gone by then: a later one is another
                return netns
            if not found.provisional:
                return found
        return netns


def later_names(changes: Sequence[TopologyChange]) -> list[LaterNames]:
    """Return those of each capture: ``changes`` may be of several, one after the other."""
    captures: list[list[TopologyChange]] = [[]]
    for change in changes:
        if change.anew:
            captures.append([])
        else:
            captures[-1].append(change)
    return [LaterNames(own) for own in captures]


def _netnses(topology: Topology) -> dict[int, Netns]:
    devices: tuple[Device, ...] = (*topology.ports, *topology.ends, *topology.others)
    return {device.netns.inum: device.netns for device in devices}
