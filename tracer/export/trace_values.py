# SPDX-License-Identifier: GPL-2.0-only
"""From the members of a trace's lines to values: the inverse of ``trace_writer``.

Members this version does not know are passed over. Raises ``members.WrongError`` for what a
line must hold and does not. This module knows neither lines nor files.
"""

from __future__ import annotations

from tracer.export.members import (
    Members,
    WrongError,
    an_object,
    big,
    counts,
    hexadecimal,
    integer,
    objects,
    optional,
    text,
    text_map,
    texts,
    truth,
)
from tracer.model import (
    Branch,
    Capture,
    Device,
    Drop,
    Flow,
    Hop,
    Journey,
    Netns,
    Outcome,
    ProbePlace,
    Segment,
    Summary,
    Topology,
)

_REMEMBERED = 8192
"""Devices kept, so that equal ones are one object; then it starts over."""

_FLOW_TEXTS = frozenset({"proto", "src", "dst", "eth_src", "eth_dst", "tcp_flags", "arp_op"})
_OUTCOMES = {o.value: o for o in Outcome}
_SEGMENTS = {s.value: s for s in Segment}


class Values:
    """Makes values of one trace's members. Equal devices become one object."""

    def __init__(self) -> None:
        self._devices: dict[tuple[str, int, int, str], Device] = {}

    def capture(self, members: Members) -> Capture:
        """Return what a header says."""
        clock = an_object(members, "clock")
        probes = an_object(members, "probes")
        symbols = text_map(probes, "symbols")
        why = text_map(probes, "why_missing")
        topology = optional(members, "topology", an_object)
        return Capture(
            kernel=text(members, "kernel"),
            machine=text(members, "machine"),
            probes=(
                *(ProbePlace(f, symbols.get(f, f)) for f in texts(probes, "attached")),
                *(ProbePlace(f, None, why.get(f)) for f in texts(probes, "missing")),
            ),
            monotonic_ns=big(clock, "monotonic_ns"),
            realtime_ns=big(clock, "realtime_ns"),
            topology=None if topology is None else self._topology(topology),
            tool=text(members, "tool"),
            cpus=integer(members, "cpus"),
        )

    def journey(self, members: Members) -> Journey:
        """Return a journey."""
        hops = tuple([self._hop(hop) for hop in objects(members, "hops")])
        branches = objects(members, "branches") if "branches" in members else []
        drop = optional(members, "drop", an_object)
        outcome = _OUTCOMES.get(text(members, "outcome"))
        if outcome is None:
            raise WrongError("has an outcome this version does not know")
        journey = Journey(
            id=text(members, "id"),
            parent=optional(members, "parent", text),
            skb=hexadecimal(members, "skb"),
            flow=_flow(an_object(members, "flow")),
            start_ns=big(members, "start_ns"),
            hops=hops,
            outcome=outcome,
            proof=optional(members, "proof", text),
            drop=None if drop is None else _drop(drop),
            damage=optional(members, "damage", text),
            branches=tuple(Branch(text(b, "id"), integer(b, "hop")) for b in branches),
        )
        if journey.duration_ns != integer(members, "duration_ns"):
            raise WrongError("has a duration_ns that is not its last hop's dt_ns")
        return journey

    def summary(self, members: Members) -> Summary:
        """Return what a footer says."""
        return Summary(
            journeys=integer(members, "journeys"),
            hops=integer(members, "hops"),
            lost=counts(members, "lost"),
            outcomes=counts(members, "outcomes"),
            hits=counts(members, "hits"),
            silent=texts(members, "silent"),
        )

    def _hop(self, members: Members) -> Hop:
        segment = optional(members, "segment", text)
        if segment is not None and segment not in _SEGMENTS:
            raise WrongError("has a segment this version does not know")
        return Hop(
            function=text(members, "function"),
            dt_ns=integer(members, "dt_ns"),
            cpu=integer(members, "cpu"),
            device=None if members.get("ifname") is None else self._device(members),
            len=integer(members, "len"),
            segment=None if segment is None else _SEGMENTS[segment],
            to_cpu=optional(members, "to_cpu", integer),
            already_running=optional(members, "already_running", truth),
        )

    def _device(self, members: Members) -> Device:
        netns, ifname = text(members, "netns"), text(members, "ifname")
        inum, ifindex = integer(members, "netns_inum"), integer(members, "ifindex")
        known = self._devices.get((netns, inum, ifindex, ifname))
        if known is None:
            if len(self._devices) >= _REMEMBERED:
                self._devices.clear()
            known = Device(Netns(inum, netns), ifindex, ifname)
            self._devices[netns, inum, ifindex, ifname] = known
        return known

    def _topology(self, members: Members) -> Topology:
        bridge = optional(members, "bridge", an_object)
        return Topology(
            name=text(members, "name"),
            built=truth(members, "built"),
            bridge=None if bridge is None else self._device(bridge),
            ports=tuple(self._device(d) for d in objects(members, "ports")),
            ends=tuple(self._device(d) for d in objects(members, "ends")),
            addresses=tuple(
                (self._device(a), text(a, "address")) for a in objects(members, "addresses")
            ),
        )


def _flow(members: Members) -> Flow:
    values: dict[str, str | int | bool | None] = {}
    for name in Flow._fields:
        if members.get(name) is not None or name == "proto":
            if name in _FLOW_TEXTS:
                values[name] = text(members, name)
            elif name == "fragment":
                values[name] = truth(members, name)
            else:
                values[name] = integer(members, name)
    return Flow(**values)  # type: ignore[arg-type]


def _drop(members: Members) -> Drop:
    return Drop(
        reason=optional(members, "reason", text),
        function=optional(members, "function", text),
        offset=integer(members, "offset"),
    )
