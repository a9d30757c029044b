# SPDX-License-Identifier: GPL-2.0-only
"""From the members of a trace's lines to values: the inverse of ``trace_writer``.

Members this version does not know are passed over. Raises ``members.WrongError`` for what a
line must hold and does not. This module knows neither lines nor files.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from typing import TypeVar

from tracer.export.members import (
    Members,
    WrongError,
    a_list,
    an_object,
    big,
    counts,
    hexadecimal,
    integer,
    integers,
    objects,
    octets,
    optional,
    plain,
    text,
    text_map,
    texts,
    truth,
)
from tracer.model import (
    Backlog,
    Branch,
    Capture,
    Change,
    Counted,
    Device,
    Drop,
    Ended,
    Flow,
    Forwarding,
    Frame,
    Hop,
    Journey,
    Netns,
    Outcome,
    Port,
    ProbePlace,
    Reference,
    Rewrite,
    Route,
    Sampling,
    Segment,
    Socket,
    State,
    Stepped,
    Summary,
    Task,
    Topology,
    TopologyChange,
    Verdict,
)

_USUAL_HOP = 1000
"""Bytes. What is longer is not kept: a file may hold anything."""
_REMEMBERED = 8192
"""Devices, verdicts and hops kept, so that equal ones are one object; then it starts over."""

_FLOW_TEXTS = frozenset({"proto", "src", "dst", "eth_src", "eth_dst", "tcp_flags", "arp_op"})
_STATE_TEXTS = frozenset({"ct", "csum"})
_STATE_TRUTHS = frozenset({"sk", "refdst"})
_REWRITE_MATCHES = ("to", "proto", "src", "dst", "dport", "iifname", "oifname")
_OUTCOMES = {o.value: o for o in Outcome}
_SEGMENTS = {s.value: s for s in Segment}
_Value = TypeVar("_Value")


class Values:
    """Makes values of one trace's members. Equal devices and verdicts become one object."""

    def __init__(self) -> None:
        self._devices: dict[tuple[str, int, int, str], Device] = {}
        self._verdicts: dict[Verdict, Verdict] = {}
        self._hops: dict[bytes, Hop] = {}

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
            asked=optional(members, "asked", text_map) or {},
            part=optional(members, "part", lambda m, name: integer(m, name, least=1)),
        )

    def topology(self, members: Members) -> TopologyChange:
        """Return what a line of a changed topology says."""
        topology = self._topology(an_object(members, "topology"))
        return TopologyChange(big(members, "at_ns"), topology)

    def journey(self, members: Members) -> Journey:
        """Return a journey."""
        hops = tuple([self._hop(hop) for hop in objects(members, "hops")])
        branches = optional(members, "branches", objects) or []
        references = optional(members, "references", objects) or []
        drop = optional(members, "drop", an_object)
        state = optional(members, "state", an_object)
        frame = optional(members, "frame", an_object)
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
            drop=None if drop is None else self._drop(drop),
            damage=optional(members, "damage", text),
            branches=tuple(Branch(text(b, "id"), integer(b, "hop")) for b in branches),
            state=None if state is None else _state(state),
            absorbed_into=optional(members, "absorbed_into", text),
            references=tuple(
                Reference(text(r, "kind"), text(r, "id"), integer(r, "after_ns"))
                for r in references
            ),
            frame=None if frame is None else _frame(frame),
        )
        if journey.duration_ns != integer(members, "duration_ns"):
            raise WrongError("has a duration_ns that is not its last hop's dt_ns")
        return journey

    def summary(self, members: Members) -> Summary:
        """Return what a footer says."""
        counted = optional(members, "counted", an_object)
        return Summary(
            journeys=integer(members, "journeys"),
            hops=integer(members, "hops"),
            lost=counts(members, "lost"),
            outcomes=counts(members, "outcomes"),
            hits=counts(members, "hits"),
            beside=optional(members, "beside", integer) or 0,
            silent=texts(members, "silent"),
            unloaded=optional(members, "unloaded", texts) or (),
            unselected=optional(members, "unselected", integer) or 0,
            counted=None if counted is None else self._counted(counted),
            sampled=optional(members, "sampled", _range) or (1, 1),
            passed_over=optional(members, "passed_over", counts) or {},
            untriggered=optional(members, "untriggered", integer) or 0,
        )

    def sampling(self, members: Members) -> Sampling:
        """Return how much is followed from then on."""
        return Sampling(
            big(members, "at_ns"),
            integer(members, "one_in", least=1),
            optional(members, "cpu_percent", integer),
            optional(members, "cpu_limit", integer),
        )

    def _counted(self, members: Members) -> Counted:
        backlog = optional(members, "backlog", an_object)
        return Counted(
            hits=counts(members, "hits"),
            ended=tuple([self._ended(each) for each in objects(members, "ended")]),
            steps=self._all(members, "steps", _stepped),
            backlog=None if backlog is None else _backlog(backlog),
        )

    def _ended(self, members: Members) -> Ended:
        drop = optional(members, "drop", an_object)
        return Ended(
            function=optional(members, "function", text),
            device=None if members.get("ifname") is None else self._device(members),
            branch=truth(members, "branch"),
            drop=None if drop is None else self._drop(drop),
            packets=integer(members, "packets"),
            bytes=integer(members, "bytes"),
        )

    def _hop(self, members: Members) -> Hop:
        """Return a hop. One that differs from another only in its time is not judged again."""
        dt_ns = integer(members, "dt_ns")
        del members["dt_ns"]
        # By its bytes, which tell True from 1; without references, which tell equal texts apart.
        key = marshal.dumps(members, 0)
        hop = self._hops.get(key)
        if hop is None:
            hop = self._new_hop(members)
            if len(key) <= _USUAL_HOP:
                if len(self._hops) >= _REMEMBERED:
                    self._hops.clear()
                self._hops[key] = hop
        return tuple.__new__(Hop, (hop[0], dt_ns, *hop[2:]))

    def _new_hop(self, members: Members) -> Hop:
        verdict = optional(members, "verdict", an_object)
        socket = optional(members, "socket", an_object)
        task = optional(members, "task", an_object)
        changes = optional(members, "changes", objects) or ()
        return Hop(
            function=text(members, "function"),
            dt_ns=0,
            cpu=integer(members, "cpu"),
            device=None if members.get("ifname") is None else self._device(members),
            len=integer(members, "len"),
            segment=_segment(members),
            to_cpu=optional(members, "to_cpu", integer),
            already_running=optional(members, "already_running", truth),
            verdict=None if verdict is None else self._verdict(verdict),
            socket=None if socket is None else _socket(socket),
            task=None if task is None else _task(task),
            changes=tuple([_change(c) for c in changes]),
        )

    def _drop(self, members: Members) -> Drop:
        egress = optional(members, "egress", an_object)
        return Drop(
            reason=optional(members, "reason", text),
            function=optional(members, "function", text),
            offset=integer(members, "offset"),
            state=tuple((optional(members, "state", counts) or {}).items()),
            egress=None if egress is None else self._device(egress),
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

    def _verdict(self, members: Members) -> Verdict:
        if len(self._verdicts) >= _REMEMBERED:
            self._verdicts.clear()
        verdict = Verdict(
            family=text(members, "family"),
            hook=text(members, "hook"),
            verdict=optional(members, "verdict", text),
            table=optional(members, "table", text),
            chain=optional(members, "chain", text),
            rule=optional(members, "rule", integer),
        )
        return self._verdicts.setdefault(verdict, verdict)

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
            pairs=tuple(
                (self._device(an_object(p, "one")), self._device(an_object(p, "other")))
                for p in objects(members, "pairs")
            ),
            others=self._all(members, "others", self._device),
            uplinks=self._all(members, "uplinks", self._device),
            macs=self._all(members, "macs", lambda m: (self._device(m), text(m, "mac"))),
            down=self._all(members, "down", self._device),
            states=self._all(members, "states", self._port),
            fdb=self._all(members, "fdb", self._forwarding),
            routes=self._all(members, "routes", self._route),
            rewrites=self._all(members, "rewrites", _rewrite),
            forwards=self._all(members, "forwards", _netns),
        )

    def _all(
        self, members: Members, name: str, read: Callable[[Members], _Value]
    ) -> tuple[_Value, ...]:
        """Read a list that traces of before do not have."""
        return tuple([read(each) for each in optional(members, name, objects) or ()])

    def _port(self, members: Members) -> Port:
        return Port(
            device=self._device(members),
            state=text(members, "state"),
            isolated=truth(members, "isolated"),
            hairpin=truth(members, "hairpin"),
            learning=truth(members, "learning"),
            flood=truth(members, "flood"),
            vlans=integers(members, "vlans"),
            pvid=optional(members, "pvid", integer),
        )

    def _forwarding(self, members: Members) -> Forwarding:
        return Forwarding(
            mac=text(members, "mac"),
            device=self._device(members),
            vlan=optional(members, "vlan", integer),
            local=truth(members, "local"),
        )

    def _route(self, members: Members) -> Route:
        device = optional(members, "device", an_object)
        return Route(
            netns=_netns(members),
            type=text(members, "type"),
            dst=text(members, "dst"),
            gateway=optional(members, "gateway", text),
            device=None if device is None else self._device(device),
            metric=integer(members, "metric"),
        )


def _flow(members: Members) -> Flow:
    values: dict[str, str | int | bool | Flow | None] = {}
    for name in Flow._fields:
        if members.get(name) is not None or name == "proto":
            if name == "about":
                values[name] = _flow(an_object(members, name))
            elif name in _FLOW_TEXTS:
                values[name] = text(members, name)
            elif name == "fragment":
                values[name] = truth(members, name)
            else:
                values[name] = integer(members, name)
    return Flow(**values)  # type: ignore[arg-type]


def _segment(members: Members) -> Segment | None:
    segment = optional(members, "segment", text)
    if segment is not None and segment not in _SEGMENTS:
        raise WrongError("has a segment this version does not know")
    return None if segment is None else _SEGMENTS[segment]


def _classes(members: Members) -> tuple[tuple[int, int], ...]:
    classes = []
    for each in a_list(members, "classes"):
        pair = integers({"classes": each}, "classes")
        if len(pair) != 2:
            raise WrongError("has something else than pairs in 'classes'")
        classes.append((pair[0], pair[1]))
    return tuple(classes)


def _backlog(members: Members) -> Backlog:
    return Backlog(integer(members, "total"), integer(members, "longest"), _classes(members))


def _stepped(members: Members) -> Stepped:
    return Stepped(
        function=optional(members, "function", text),
        following=optional(members, "following", text),
        segment=_segment(members),
        total_ns=big(members, "total_ns"),
        longest_ns=integer(members, "longest_ns"),
        classes=_classes(members),
    )


def _range(members: Members, name: str) -> tuple[int, int]:
    found = integers(members, name)
    if len(found) != 2 or not 1 <= found[0] <= found[1]:
        raise WrongError(f"has no range in {name!r}")
    return found[0], found[1]


def _state(members: Members) -> State:
    values: dict[str, str | int | bool] = {}
    for name in State._fields:
        if members.get(name) is not None:
            if name in _STATE_TEXTS:
                values[name] = text(members, name)
            elif name in _STATE_TRUTHS:
                values[name] = truth(members, name)
            else:
                values[name] = integer(members, name)
    return State(**values)  # type: ignore[arg-type]


def _frame(members: Members) -> Frame:
    data = octets(members, "data") if members.get("data") is not None else b""
    return Frame(octets(members, "headers"), integer(members, "len"), data)


def _socket(members: Members) -> Socket:
    return Socket(
        netns=_netns(members),
        family=text(members, "family"),
        type=text(members, "type"),
        proto=text(members, "proto"),
    )


def _task(members: Members) -> Task:
    return Task(
        pid=integer(members, "pid"),
        comm=text(members, "comm"),
        netns=None if members.get("netns") is None else _netns(members),
    )


def _rewrite(members: Members) -> Rewrite:
    return Rewrite(
        netns=_netns(members),
        hook=text(members, "hook"),
        kind=text(members, "kind"),
        rule=text(members, "rule"),
        **{name: optional(members, name, text) for name in _REWRITE_MATCHES},
    )


def _netns(members: Members) -> Netns:
    return Netns(integer(members, "netns_inum"), text(members, "netns"))


def _change(members: Members) -> Change:
    return Change(text(members, "field"), plain(members, "old"), plain(members, "new"))
