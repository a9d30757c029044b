# SPDX-License-Identifier: GPL-2.0-only
"""What was expected of a journey instead of what became of it, as a sentence.

A journey that was dropped, is unfinished, was freed though nobody took it, or was flooded, is held
against the way that it should have taken through the topology (``way``) from where it was first
seen. Nothing is said of a journey that went where it should, nor where the topology does not tell
where that is: the packet is one of many receivers, a branch of another, or an older trace's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tracer.model import Flow, Hop, Journey, Netns, Outcome, Topology
from tracer.way import FUNCTIONS, End, Step, Walk, Way


def missing(topology: Topology, journey: Journey, attached: Collection[str]) -> str | None:
    """Say what was expected, in one line; None if nothing else was, or if that is not known.

    ``attached``: the functions that are probed. Others cannot be expected.
    """
    stuck = _is_stuck(journey)
    flooded = any(hop.function == "br_flood" for hop in journey.hops)
    way = _way_of(topology, journey) if stuck or flooded else None
    if way is None:
        return None
    seen = _Seen([step for step in way.steps if step.function in attached], journey.hops)
    if seen.flooded is not None:
        nothing = f"no forwarding entry for {seen.flooded.mac}"
        return f"expected {_words(seen.flooded)} instead of br_flood: {nothing}"
    if not stuck or any(branch.hop >= seen.last for branch in journey.branches):
        return None  # a branch has gone on
    if seen.next is not None:
        why = f": {seen.next.why}" if seen.next.why else ""
        return f"expected {_words(seen.next)} {seen.instead}{why}"
    stops = way.end is End.STOPS and seen.strayed is None
    return f"expected to stop here: {way.said}" if stops else None


def _is_stuck(journey: Journey) -> bool:
    """Whether it came to no good end, as far as was seen."""
    if journey.outcome is Outcome.CONSUMED and journey.hops:
        return journey.proof == journey.hops[-1].function and not journey.branches
    return journey.outcome in {Outcome.DROPPED, Outcome.UNFINISHED}


def _words(step: Step) -> str:
    if step.function == "br_forward" and step.to is not None:
        return f"br_forward to {step.to.place}"
    return f"{step.function} at {step.device.place}"


class _Seen:
    """What hops there were of the steps.

    One that was passed over is no matter if a later one was seen: its hit may have been missed.
    """

    def __init__(self, steps: Sequence[Step], hops: Sequence[Hop]) -> None:
        self.last = -1
        """The last hop that is a step."""
        self.strayed: Hop | None = None
        """The first hop after it that is none, but could be one of another way."""
        self.flooded: Step | None = None
        """The step out of one port, where it was flooded to all."""
        left = list(steps)
        known = {(step.function, step.device) for step in steps}
        for number, hop in enumerate(hops):
            at = next((n for n, step in enumerate(left) if _is_at(step, hop)), None)
            if at is not None:
                del left[: at + 1]
                self.last, self.strayed = number, None
            elif hop.function in FUNCTIONS and (hop.function, hop.device) not in known:
                self.strayed = self.strayed or hop
                if hop.function == "br_flood" and left and left[0].function == "br_forward":
                    self.flooded = left[0]
        self.next = left[0] if left else None
        """The step that is missing."""

    @property
    def instead(self) -> str:
        """What came in place of the next step."""
        if self.strayed is None:
            return "next"
        device = self.strayed.device
        where = "" if device is None else f" at {device.place}"
        return f"instead of {self.strayed.function}{where}"


def _is_at(step: Step, hop: Hop) -> bool:
    # The bridge may have learnt the address since, and need not flood.
    learnt = step.function == "br_flood" and hop.function == "br_forward"
    return step.device == hop.device and (step.function == hop.function or learnt)


# The way it should have taken -------------------------------------------------------------------

_SENDING = frozenset({"veth_xmit", "br_dev_xmit", "net_dev_start_xmit"})
_TO_BE_SENT = frozenset(
    {"nf_hook_slow", "ip_output", "ip6_output", "__dev_queue_xmit", "loopback_xmit"}
)
_RECEIVING = frozenset({"__netif_receive_skb_core", "enqueue_to_backlog", "napi_gro_receive"})
_GROUP = 1
"""The bit of an Ethernet address's first byte that says: for many."""


def _way_of(topology: Topology, journey: Journey) -> Way | None:
    """The way from where it was first seen, or None if that cannot be told."""
    first = journey.hops[0] if journey.hops else None
    device, flow = None if first is None else first.device, journey.flow
    known = bool(topology.macs and topology.routes)
    if first is None or device is None or journey.parent is not None or not known:
        return None
    if flow.dst is None or flow.proto == "arp" or flow.vlan is not None or _is_for_many(flow):
        return None
    walk = Walk(
        topology,
        flow.dst,
        flow.proto,
        flow.dport,
        src=flow.src,
        opens=_opens(flow),
        rewritten=_rewritten(journey),
    )
    if first.function in _RECEIVING:
        way = walk.way(lambda: walk.received(device, flow.eth_dst))
    elif first.function in _SENDING and flow.eth_dst is not None:
        way = walk.way(lambda: walk.transmitted(device, mac=flow.eth_dst))
    elif first.function in _SENDING | _TO_BE_SENT:
        way = walk.way(lambda: walk.sent(device.netns))
    else:
        return None
    # It may be sent by a device that the routes do not tell: they are not all there is.
    return way if not way.steps or way.steps[0].device == device else None


def _is_for_many(flow: Flow) -> bool:
    try:
        return bool(int((flow.eth_dst or "00")[:2], 16) & _GROUP)
    except ValueError:
        return True


def _opens(flow: Flow) -> bool:
    """Whether it is surely a connection's first packet: only then NAT's rules are asked."""
    if flow.proto == "tcp":
        flags = flow.tcp_flags or ""
        return "S" in flags and "." not in flags
    return (flow.proto, flow.icmp_type) in {("icmp", 8), ("icmpv6", 128)}


def _rewritten(journey: Journey) -> dict[Netns, tuple[str | None, int | None]]:
    """Namespace → destination and port that it was seen to be given there."""
    found: dict[Netns, tuple[str | None, int | None]] = {}
    for hop in journey.hops:
        if hop.device is None or not hop.changes:
            continue
        dst, dport = found.get(hop.device.netns, (None, None))
        for field, _, new in hop.changes:
            if field == "dst" and isinstance(new, str):
                dst = new
            elif field == "dport" and isinstance(new, int):
                dport = new
        if dst is not None or dport is not None:
            found[hop.device.netns] = (dst, dport)
    return found
