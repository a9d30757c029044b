# SPDX-License-Identifier: GPL-2.0-only
"""What was expected of a journey, said only where it left its way or stopped early."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import (
    ALL,
    ARP,
    C1,
    C1_IP,
    C2_IP,
    C2_MAC,
    CAPTURE,
    DOCKER0,
    ETH0_C1,
    ETH0_C2,
    HOST,
    REPLY,
    REQUEST,
    TCP,
    UDP,
    UNFINISHED,
    VETHC1,
    VETHC2,
    echo,
)
from tests.unit.topologies import (
    DOCKER,
    ETH0,
    LO_C1,
    NAT,
    NET1,
    TO_OUTSIDE,
    UPLINK,
)
from tracer.expected import missing
from tracer.model import (
    Branch,
    Change,
    Device,
    Flow,
    Hop,
    Journey,
    Outcome,
    Topology,
)
from tracer.probes import PROBES
from tracer.way import Step, expected_path

ATTACHED = CAPTURE.attached
EVERY = frozenset(p.function for p in PROBES)
SEVEN = frozenset(p.function for p in PROBES if p.mission)
FREE = "skb_release_head_state"


def hops(*steps: tuple[str, Device | None]) -> tuple[Hop, ...]:
    return tuple(
        Hop(function, number * 1000, 0, device, 84, None)
        for number, (function, device) in enumerate(steps)
    )


def journey(*steps: tuple[str, Device | None], flow: Flow = REQUEST.flow) -> Journey:
    """One that was dropped after these."""
    return REQUEST._replace(
        flow=flow, hops=hops(*steps, (FREE, None)), outcome=Outcome.DROPPED, proof="kfree_skb"
    )


def said(topology: Topology, it: Journey, attached: Collection[str] = EVERY) -> str | None:
    return missing(topology, it, attached)


def cut(it: Journey, after: int, outcome: Outcome = Outcome.DROPPED) -> Journey:
    """The same journey, over after so many hops."""
    end = hops((FREE, None)) if outcome is Outcome.DROPPED else ()
    return it._replace(hops=(*it.hops[:after], *end), outcome=outcome, proof=None, branches=())


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_said_of_what_arrived(name: str) -> None:
    it = ALL[name]
    if it.outcome in {Outcome.DELIVERED, Outcome.CONSUMED, Outcome.TRANSMITTED}:
        assert said(DOCKER, it, ATTACHED) is None


@pytest.mark.parametrize(
    ("it", "after", "sentence"),
    [
        (REQUEST, 1, "expected __dev_forward_skb at c1/eth0 next: the other end is host/vethc1"),
        (REQUEST, 3, "expected process_backlog at host/vethc1 next"),
        (REQUEST, 5, "expected br_handle_frame at host/vethc1 next"),
        (
            REQUEST,
            6,
            f"expected br_forward to host/vethc2 next: forwarding entry {C2_MAC}: vethc2",
        ),
        (REQUEST, 7, "expected veth_xmit at host/vethc2 next"),
        (REQUEST, 12, "expected icmp_rcv at c2/eth0 next: c2 has 172.17.0.3"),
        (TCP, 12, "expected tcp_v4_rcv at c2/eth0 next: c2 has 172.17.0.3"),
        (UDP, 12, "expected udp_rcv at c2/eth0 next: c2 has 172.17.0.3"),
        (REPLY, 7, "expected veth_xmit at host/vethc1 next"),
    ],
)
@pytest.mark.parametrize("outcome", [Outcome.DROPPED, Outcome.UNFINISHED])
def test_what_stops_early_misses_the_next_step(
    it: Journey, after: int, sentence: str, outcome: Outcome
) -> None:
    only = SEVEN | {"icmp_rcv", "tcp_v4_rcv", "udp_rcv"}
    assert said(DOCKER, cut(it, after, outcome), only) == sentence


def test_what_has_all_its_steps_misses_none() -> None:
    assert said(DOCKER, cut(TCP, 13)) is None  # TCP itself has dropped it
    assert said(DOCKER, cut(TCP, 13, Outcome.UNFINISHED)) is None


def test_what_is_still_queued_at_the_end() -> None:
    assert said(DOCKER, UNFINISHED) == "expected process_backlog at host/vethc1 next"


def test_a_hit_that_was_missed_is_no_matter() -> None:
    gaps = REQUEST._replace(
        hops=tuple(h for n, h in enumerate(REQUEST.hops) if n not in {2, 5, 10}),
        outcome=Outcome.UNFINISHED,
    )
    assert said(DOCKER, gaps) is None


INTO_BRIDGE = (
    ("veth_xmit", ETH0_C1),
    ("__dev_forward_skb", ETH0_C1),
    ("enqueue_to_backlog", VETHC1),
    ("process_backlog", VETHC1),
    ("__netif_receive_skb_core", VETHC1),
    ("br_handle_frame", VETHC1),
    ("br_handle_frame_finish", VETHC1),
)
OUT_TO_C2 = (
    ("br_forward_finish", VETHC2),
    ("veth_xmit", VETHC2),
    ("__dev_forward_skb", VETHC2),
    ("enqueue_to_backlog", ETH0_C2),
    ("process_backlog", ETH0_C2),
    ("__netif_receive_skb_core", ETH0_C2),
)
UP_TO_HOST = (("br_pass_frame_up", VETHC1), ("__netif_receive_skb_core", DOCKER0))


def test_flooded_where_one_port_was_expected() -> None:
    flooded = journey(*INTO_BRIDGE, ("br_flood", VETHC1), *OUT_TO_C2, ("icmp_rcv", ETH0_C2))
    sentence = (
        f"expected br_forward to host/vethc2 instead of br_flood: no forwarding entry for {C2_MAC}"
    )
    arrived = flooded._replace(outcome=Outcome.CONSUMED, proof="icmp_rcv", drop=None)
    assert said(DOCKER, flooded) == sentence
    assert said(DOCKER, arrived) == sentence
    branches = (Branch("12", 7),)
    assert said(DOCKER, arrived._replace(branches=branches)) == sentence
    # Where no entry was known either, that is the way.
    assert said(replace(DOCKER, fdb=()), arrived) is None
    # And where it has learnt since, it may go by the entry.
    learnt = journey(*INTO_BRIDGE, ("br_forward", VETHC1), *OUT_TO_C2[:2])
    assert said(replace(DOCKER, fdb=()), learnt) == (
        "expected __dev_forward_skb at host/vethc2 next: the other end is c2/eth0"
    )


def test_an_expected_stop_is_said_with_what_is_in_the_way() -> None:
    blocked = replace(
        DOCKER, states=(DOCKER.states[0], DOCKER.states[1]._replace(state="blocking"))
    )
    at_the_port = journey(*INTO_BRIDGE, ("br_forward", VETHC1))
    assert said(blocked, at_the_port) == "expected to stop here: host/vethc2 is blocking"
    assert said(DOCKER, at_the_port) == "expected br_forward_finish at host/vethc2 next"
    # It is open by now: nothing is known of what has stopped it.
    assert said(blocked, journey(*INTO_BRIDGE, ("br_forward", VETHC1), *OUT_TO_C2)) is None
    outside = REQUEST.flow._replace(dst="198.51.100.7", eth_dst="02:42:ac:11:00:01")
    on_the_host = journey(*INTO_BRIDGE, *UP_TO_HOST, flow=outside)
    assert said(replace(DOCKER, forwards=()), on_the_host) == (
        "expected to stop here: ip_forward is off in host"
    )
    assert said(DOCKER, on_the_host) == (
        "expected net_dev_start_xmit at host/uplink next: route 0.0.0.0/0 via 10.0.2.2; masquerade"
    )


def test_where_it_went_instead() -> None:
    astray = journey(*INTO_BRIDGE, *UP_TO_HOST)
    assert said(DOCKER, astray) == (
        "expected br_forward to host/vethc2 instead of br_pass_frame_up at host/vethc1: "
        f"forwarding entry {C2_MAC}: vethc2"
    )


def test_what_a_branch_has_gone_on_with_is_not_missed() -> None:
    # The bridge is promiscuous: a clone is forwarded, the packet goes up, where it is for nobody.
    up = journey(*INTO_BRIDGE, ("br_forward", VETHC1), ("skb_clone", VETHC1), *UP_TO_HOST)
    assert said(DOCKER, up._replace(branches=(Branch("12", 8),))) is None
    # One for tcpdump, made before, is none of that.
    tapped = cut(REQUEST, 7)._replace(branches=(Branch("12", 4),))
    assert said(DOCKER, tapped, SEVEN) == "expected veth_xmit at host/vethc2 next"


def test_freed_and_nobody_took_it() -> None:
    freed = cut(REQUEST, 5)._replace(outcome=Outcome.CONSUMED, proof=FREE)
    assert said(DOCKER, freed, SEVEN) == "expected br_handle_frame at host/vethc1 next"
    # Cut into segments: those go on.
    assert said(DOCKER, freed._replace(branches=(Branch("12", 1),)), SEVEN) is None


def test_nothing_is_expected_of_what_is_not_probed() -> None:
    assert said(DOCKER, cut(REQUEST, 6), SEVEN - {"br_forward"}) == (
        "expected veth_xmit at host/vethc2 next"
    )
    assert said(DOCKER, cut(REQUEST, 12), SEVEN) is None


@pytest.mark.parametrize(
    "it",
    [
        cut(ARP, 5),
        cut(REQUEST, 5)._replace(parent="9"),
        cut(REQUEST, 0),
        cut(REQUEST, 5)._replace(flow=REQUEST.flow._replace(eth_dst="01:00:5e:00:00:01")),
        cut(REQUEST, 5)._replace(flow=REQUEST.flow._replace(eth_dst="nonsense")),
        cut(REQUEST, 5)._replace(flow=REQUEST.flow._replace(vlan=10)),
        cut(REQUEST, 5)._replace(flow=REQUEST.flow._replace(dst=None)),
        cut(REQUEST, 5)._replace(outcome=Outcome.DAMAGED),
        journey(("skb_clone", VETHC1)),
        journey(("br_handle_frame", VETHC1)),
        journey(("veth_xmit", None)),
    ],
)
def test_what_says_too_little_of_itself(it: Journey) -> None:
    assert said(DOCKER, it) is None


@pytest.mark.parametrize(
    "topology",
    [
        Topology("auto"),
        CAPTURE.topology,  # of a trace that says no more than who is joined with whom
        replace(DOCKER, routes=()),
        replace(DOCKER, macs=()),
    ],
)
def test_a_topology_that_says_too_little(topology: Topology) -> None:
    for after in range(14):
        assert said(topology, cut(REQUEST, after)) is None


def test_a_device_that_the_routes_do_not_tell() -> None:
    """Policy rules, or a socket that is bound to it: what comes then is not known."""
    flow = REQUEST.flow._replace(dst="198.51.100.7", eth_dst=None)
    assert said(DOCKER, journey(("nf_hook_slow", LO_C1), flow=flow)) is None
    assert said(DOCKER, journey(("nf_hook_slow", ETH0_C1), flow=flow)) == (
        "expected veth_xmit at c1/eth0 next: route 0.0.0.0/0 via 172.17.0.1"
    )


def test_first_seen_when_received() -> None:
    flow = echo(8, "198.51.100.7", C1_IP)._replace(eth_dst=None)
    came_in = journey(("napi_gro_receive", UPLINK), ("__netif_receive_skb_core", UPLINK), flow=flow)
    opened = replace(DOCKER, rewrites=())
    assert said(opened, came_in) == (
        "expected br_dev_xmit at host/docker0 next: route 172.17.0.0/16"
    )


IN_BY_UPLINK = (
    ("veth_xmit", ETH0),
    ("__dev_forward_skb", ETH0),
    ("enqueue_to_backlog", TO_OUTSIDE),
    ("process_backlog", TO_OUTSIDE),
    ("__netif_receive_skb_core", TO_OUTSIDE),
)


def test_what_nat_has_changed_is_what_was_seen() -> None:
    answer = REPLY.flow._replace(src="203.0.113.2", dst="203.0.113.1", eth_dst="02:42:cb:00:71:01")
    stuck = journey(*IN_BY_UPLINK, flow=answer)
    # It is for the router itself, unless the router gives it the address it had before.
    assert said(NAT, stuck) is None
    put_right = stuck.hops[4]._replace(changes=(Change("dst", "203.0.113.1", "192.168.0.2"),))
    seen = stuck._replace(hops=(*stuck.hops[:4], put_right, stuck.hops[5]))
    assert said(NAT, seen) == "expected br_dev_xmit at router/br0 next: route 192.168.0.0/24"
    syn = TCP.flow._replace(
        src="203.0.113.2", dst="203.0.113.1", dport=8088, tcp_flags="S", eth_dst=answer.eth_dst
    )
    assert said(NAT, journey(*IN_BY_UPLINK, flow=syn)) == (
        "expected br_dev_xmit at router/br0 next: DNAT 8088 to 192.168.0.2:80; route 192.168.0.0/24"
    )


@pytest.mark.parametrize(
    ("topology", "source", "dst", "proto", "dport"),
    [
        (DOCKER, C1, C2_IP, "icmp", None),
        (DOCKER, C1, "172.17.0.1", "icmp", None),
        (DOCKER, HOST, C1_IP, "icmp", None),
        (DOCKER, C1, "127.0.0.1", "icmp", None),
        (DOCKER, C1, "198.51.100.7", "tcp", 443),
        (NAT, NET1, "203.0.113.2", "icmp", None),
        (NAT, ETH0.netns, "203.0.113.1", "tcp", 8088),
    ],
)
def test_a_way_cut_short_misses_its_next_step_and_a_whole_one_none(
    topology: Topology, source: Device, dst: str, proto: str, dport: int | None
) -> None:
    way = expected_path(topology, source, dst, proto, dport)  # type: ignore[arg-type]
    flow = Flow(proto, "192.0.2.1", dst, dport=dport, icmp_type=8, tcp_flags="S")
    taken = [(step.function, step.device) for step in way.steps]
    for after in range(1, len(taken)):
        sentence = said(topology, journey(*taken[:after], flow=flow))
        assert sentence is not None
        assert sentence.startswith(f"expected {_named(way.steps[after])} next")
    assert said(topology, journey(*taken, flow=flow)) is None


def _named(step: Step) -> str:
    where = step.to if step.function == "br_forward" and step.to else step.device
    joined = "to" if step.function == "br_forward" else "at"
    return f"{step.function} {joined} {where.netns.name}/{where.ifname}"


@given(
    topology=any_journey.topologies | st.sampled_from([DOCKER, NAT]),
    it=any_journey.journeys() | any_journey.journeys().map(lambda j: j._replace(flow=REQUEST.flow)),
    real=st.booleans(),
    attached=st.just(EVERY) | st.just(SEVEN),
)
def test_any_journey_in_any_topology(
    topology: Topology, it: Journey, real: bool, attached: frozenset[str]
) -> None:
    if real and it.hops:  # first seen where the topology knows it
        first = it.hops[0]._replace(function="veth_xmit", device=ETH0_C1)
        it = it._replace(hops=(first, *it.hops[1:]), parent=None)
    sentence = said(topology, it, attached)
    assert sentence is None or sentence.startswith("expected ")
