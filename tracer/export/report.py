# SPDX-License-Identifier: GPL-2.0-only
"""What a report of a trace holds, as the members of a JSON object: what ``report.js`` draws.

What has words elsewhere in the house comes in words; what is drawn comes as numbers. Names that
come again and again (functions, devices) stand in tables, of which journeys hold the position.
Times are nanoseconds, a journey's since the first one's. Knows no HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tracer.bridge import is_forwarding, nat, state_words, ways
from tracer.completeness import Remark, Weight, remarks
from tracer.expected import missing
from tracer.explain import Explanation, explain
from tracer.export.formats import Exported
from tracer.export.shown import Shown
from tracer.export.statistics import members
from tracer.histogram import Histogram
from tracer.model import Capture, Device, Flow, Hop, Journey, Outcome, Segment, Summary, Topology
from tracer.probes import PROBES
from tracer.statistics import Statistics
from tracer.tally import FlowKey
from tracer.words import (
    change_words,
    ending,
    flow_words,
    socket_words,
    task_words,
    verdict_words,
)
from tracer.words import (
    state_words as packet_words,
)

HOPS_MOST = 1000
"""Shown of a journey. Those of a real one are some dozens; a foreign file may hold anything."""
ROWS_MOST = 60
"""Of each table of statistics."""
TOPOLOGIES_MOST = 24
"""Shown: those after the last changes."""
BARS = 18
"""Of a histogram: two for each power of ten, from 10 ns to 10 s."""

Members = dict[str, Any]
_SEGMENTS = tuple(Segment)


def report(trace: Exported) -> tuple[Members, Iterator[Members]]:
    """Go through the trace; return the report and, apart, the journeys that it lists."""
    statistics, shown = Statistics(), Shown()
    for journey in trace:
        statistics.add(journey)
        shown.add(journey)
    since_ns = statistics.first_ns or 0
    tables = Tables(trace.capture, since_ns)
    listed = shown.all
    known = {journey.id for journey in listed}
    # So that every row of the table of drops has an example; that is a few at most.
    drops = sorted(statistics.drops.values(), key=lambda dropped: -dropped.journeys)[:ROWS_MOST]
    listed += [dropped.last for dropped in drops if dropped.last.id not in known]
    listed.sort(key=lambda journey: journey.start_ns)
    journeys = [tables.journey(journey) for journey in listed]
    found = {
        "capture": _capture(trace.capture, since_ns),
        "completeness": _completeness(trace.capture, trace.summary),
        "statistics": _statistics(statistics, trace.capture, trace.summary),
        "topologies": list(_topologies(trace, tables)),
        "changes": len(trace.changes),
        "shown": shown.said(len(listed)),
        **tables.members(),
    }
    return found, iter(journeys)


class Tables:
    """Makes members of journeys and keeps what they have in common."""

    def __init__(self, capture: Capture, since_ns: int) -> None:
        self._capture = capture
        self._since_ns = since_ns
        self._functions: dict[str, int] = {}
        self._devices: dict[Device, int] = {}

    def members(self) -> Members:
        """Return the tables, once all journeys are made."""
        texts: dict[str, str] = {}
        for probe in PROBES:
            texts.setdefault(probe.function, probe.text)  # a return comes later in the table
        return {
            "functions": [{"name": f, "text": texts.get(f)} for f in self._functions],
            "devices": [
                {"netns": d.netns.name, "inum": d.netns.inum, "ifname": d.ifname, "n": d.ifindex}
                for d in self._devices
            ],
            "segments": [segment.value for segment in _SEGMENTS],
        }

    def device(self, device: Device | None) -> int:
        """Return the position of a device; -1 for none."""
        if device is None:
            return -1
        return self._devices.setdefault(device, len(self._devices))

    def since(self, at_ns: int) -> int:
        """Return a time as the report has it."""
        return at_ns - self._since_ns

    def journey(self, j: Journey) -> Members:
        """Return a journey."""
        explained = explain(j)
        topology = self._capture.topology
        expected = None if topology is None else missing(topology, j, self._capture.attached)
        always = {
            "id": j.id,
            "at": self.since(j.start_ns),
            "took": j.duration_ns,
            "outcome": j.outcome.value,
            "ending": ending(j),
            "said": _said(j),
            "flow": " ".join(flow_words(j.flow)),
            "skb": f"{j.skb:#x}",
            "hops": [self._hop(hop) for hop in j.hops[:HOPS_MOST]],
        }
        return always | _there(
            {
                "size": j.hops[0].len if j.hops else None,
                "state": None if j.state is None else packet_words(j.state),
                "parent": j.parent,
                "absorbed": j.absorbed_into,
                "references": [list(reference) for reference in j.references],
                "branches": [[branch.id, branch.hop] for branch in j.branches],
                "explained": None if explained is None else _explained(explained),
                "expected": expected,
                "more": max(len(j.hops) - HOPS_MOST, 0) or None,
            }
        )

    def _hop(self, hop: Hop) -> list[object]:
        function = self._functions.setdefault(hop.function, len(self._functions))
        segment = -1 if hop.segment is None else _SEGMENTS.index(hop.segment)
        members = [function, hop.dt_ns, hop.cpu, self.device(hop.device), hop.len, segment]
        beside = _there(
            {
                "verdict": None if hop.verdict is None else list(verdict_words(hop.verdict)),
                "socket": None if hop.socket is None else socket_words(hop.socket),
                "task": None if hop.task is None else task_words(hop.task),
                "to_cpu": hop.to_cpu,
                "running": hop.already_running or None,
                "changes": [" ".join(change_words(change, "→")) for change in hop.changes],
            }
        )
        return [*members, beside] if beside else [*members]


def _said(j: Journey) -> str:
    """How it ended, as a sentence without its sign."""
    match j.outcome:
        case Outcome.DROPPED:
            drop = j.drop
            by = "" if drop is None or drop.function is None else f" in {drop.function}"
            return f"{ending(j)}{by}{f'+{drop.offset:#x}' if by and drop else ''}{_at(j)}"
        case Outcome.DELIVERED | Outcome.CONSUMED | Outcome.TRANSMITTED:
            return f"{j.outcome.value}{_proven(j)}"
        case Outcome.ABSORBED:
            return "absorbed by GRO" + ("" if j.absorbed_into else " into one that is not followed")
        case Outcome.UNFINISHED:
            seen = f" in {j.hops[-1].function}" if j.hops else ""
            return f"unfinished: last seen{seen}{_at(j)}"
        case Outcome.DAMAGED:
            return f"damaged: {j.damage or 'part of it was lost'}"


def _proven(j: Journey) -> str:
    """By what and where it came to a good end, and who has read it."""
    proof = next((hop for hop in reversed(j.hops) if hop.function == j.proof), None)
    by = "" if j.proof is None else f" ({j.proof})"
    if j.outcome is not Outcome.DELIVERED:
        return f"{by}{_at(j, proof)}"
    to = next((hop for hop in reversed(j.hops) if hop.socket is not None), None)
    if to is not None and to.socket is not None:
        proof, by = to, f" to {socket_words(to.socket)} ({to.function})"
    reader = j.hops[-1].task if len(j.hops) > 1 else None
    read = "" if reader is None else f", read by {task_words(reader)}"
    return f"{by}{_at(j, proof)}{read}"


def _at(j: Journey, hop: Hop | None = None) -> str:
    """Where that was; where it was seen last, if that is not known."""
    device = j.last_device if hop is None or hop.device is None else hop.device
    return "" if device is None else f" at {device.place}"


def _explained(explanation: Explanation) -> Members:
    return _there(explanation._asdict())


def _there(members: Mapping[str, object]) -> Members:
    """Leave out what says nothing."""
    return {name: value for name, value in members.items() if value not in (None, [], "")}


# --- the whole ------------------------------------------------------------------------------------


def _capture(capture: Capture, since_ns: int) -> Members:
    topology = capture.topology
    began_ns = capture.realtime_ns + since_ns - capture.monotonic_ns if since_ns else None
    return {
        "name": "this host" if topology is None else topology.name,
        "built": None if topology is None else topology.built,
        "tool": capture.tool,
        "kernel": capture.kernel,
        "machine": capture.machine,
        "cpus": capture.cpus,
        "attached": len(capture.attached),
        "missing": [[place.function, place.why_missing] for place in capture.missing],
        "asked": [[option, words] for option, words in capture.asked.items()],
        "started": _when(capture.realtime_ns),
        "first": None if began_ns is None else _when(began_ns),
    }


def _when(realtime_ns: int) -> str:
    """Return a point of time in words; nothing sensible for one that no calendar has."""
    try:
        at = datetime.fromtimestamp(realtime_ns / 1e9, UTC)
    except (OverflowError, OSError, ValueError):
        return "at an unknown time"
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _completeness(capture: Capture, summary: Summary | None) -> Members:
    if summary is None:
        cut = "The trace was cut off: what was lost is not known, and journeys may be missing."
        said = [Remark(Weight.BAD, cut)]
    else:
        said = list(remarks(capture, summary))
        for count, why in (
            (summary.unselected, "not selected"),
            (summary.untriggered, "not triggered"),
        ):
            if count:
                said.append(Remark(Weight.PLAIN, f"{count} journeys are not here: {why}"))
    return {
        "whole": summary is not None,
        "lost": None if summary is None else summary.lost_total,
        "nothing_lost": not any(remark.weight is Weight.BAD for remark in said),
        "remarks": [[remark.weight.value, remark.said] for remark in said],
    }


def _statistics(statistics: Statistics, capture: Capture, summary: Summary | None) -> Members:
    found: Members = members(statistics, capture, summary)
    del found["capture"]
    # In the order of ``members``: by what is most.
    steps = sorted(statistics.steps.values(), key=lambda took: -took.total)
    drops = sorted(statistics.drops.values(), key=lambda dropped: -dropped.journeys)
    groups = sorted(statistics.groups.items(), key=lambda item: -item[1].journeys)
    found["steps_total_ns"] = sum(took.total for took in steps)
    more_said: tuple[tuple[str, list[Members]], ...] = (
        ("steps", [{"bars": bars(took)} for took in steps[:ROWS_MOST]]),
        ("drops", [{"explained": _why(dropped.last)} for dropped in drops[:ROWS_MOST]]),
        ("groups", [{"said": _flow(key)} for key, _ in groups[:ROWS_MOST]]),
    )
    for name, beside in more_said:
        rows: list[Members] = found[name]
        found[f"{name}_of"] = len(rows)
        found[name] = [{**row, **more} for row, more in zip(rows, beside, strict=False)]
    for kind, took in statistics.kinds.items():
        found["kinds"][kind.value]["bars"] = bars(took)
    found["took"]["bars"] = bars(statistics.took)
    return found


def _why(journey: Journey) -> Members | None:
    explanation = explain(journey)
    return None if explanation is None else _explained(explanation)


def _flow(key: object) -> str:
    assert isinstance(key, FlowKey)
    kind = key.kind
    flow = Flow(key.proto, key.src, key.dst, key.sport, key.dport)
    if isinstance(kind, int):
        return " ".join(flow_words(flow._replace(icmp_type=kind)))
    return " ".join(flow_words(flow._replace(arp_op=kind)))


def bars(took: Histogram) -> list[int]:
    """Return how many there are in each half of a power of ten, from 10 ns to 10 s."""
    counts = [0] * BARS
    for ns, count in took.classes():
        digits = len(str(ns))
        half = ns * ns >= 10 ** (2 * digits - 1)  # at or above the middle, 3.16 times the power
        counts[min(max(2 * (digits - 2) + half, 0), BARS - 1)] += count
    return counts


# --- who is connected to whom ---------------------------------------------------------------------


def _topologies(trace: Exported, tables: Tables) -> Iterator[Members]:
    """Give each topology that there was, with when it began; the first has always been."""
    changes = list(trace.changes)
    if trace.capture.topology is not None and len(changes) < TOPOLOGIES_MOST:
        yield {"from": None, **_topology(trace.capture.topology, tables)}
    for change in changes[-TOPOLOGIES_MOST:]:
        yield {"from": tables.since(change.at_ns), **_topology(change.topology, tables)}


def _topology(topology: Topology, tables: Tables) -> Members:
    bridge = topology.bridge
    states = {port.device: port for port in topology.states}
    addresses: dict[Device, list[str]] = {}
    for device, address in topology.addresses:
        addresses.setdefault(device, []).append(address)
    ports, lead = frozenset(topology.ports), ways(topology)
    every = dict.fromkeys((*topology.own, *topology.uplinks))
    devices = []
    for device in every:
        words = state_words(states.get(device), is_down=device in topology.down)
        role = "bridge" if device == bridge else "port" if device in ports else ""
        devices.append(
            _there(
                {
                    "device": tables.device(device),
                    "role": role,
                    "unusual": words,
                    "addresses": _told(addresses.get(device, ())),
                    "way": lead.get(device),
                }
            )
        )
    return {"name": topology.name, "devices": devices} | _there(
        {
            "pairs": [
                [tables.device(one), tables.device(other)]
                for one, other in topology.pairs
                if one in every and other in every
            ],
            "nat": list(nat(topology, "→")),
            "refused": None
            if is_forwarding(topology) or bridge is None
            else f"IPv4 is not forwarded in {bridge.netns.name}",
        }
    )


def _told(addresses: Iterable[str]) -> list[str]:
    """Those worth telling: every device has a link-local one."""
    every = list(addresses)
    known = [address for address in every if not address.startswith("fe80:")] or every
    return sorted(known, key=lambda address: ":" in address)
