# SPDX-License-Identifier: GPL-2.0-only
"""Packets made of others: clones, copies, segments; and packets that become one again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest

from tests.kernel import branches
from tests.kernel.branches import (
    C3,
    C3_IP,
    DATA,
    FRAMES,
    GRO_PORT,
    GSO_PORT,
    NOBODY,
    PINGS,
    UNWANTED,
)
from tests.kernel.conftest import C1, C1_IP, KERNEL, Trace, path_of, sh, skbtrace
from tests.kernel.test_docker0 import through
from tracer.model import Hop, Journey, Outcome
from tracer.probes import FREES, PROBES, Handler

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

MAKERS = {probe.function for probe in PROBES if probe.handler is Handler.CLONE}
ETHERNET, HEADERS = 14, 20 + 32  # IP, and TCP with time stamps
MSS = 1448
NAPI = KERNEL >= (5, 13)  # since then veth has GRO without XDP: commit d3256efd8e8b
AT_DRIVER = frozenset({"veth_xmit", "__dev_forward_skb", "__dev_queue_xmit", "__skb_gso_segment"})
AT_TRANSPORT = frozenset(
    {"tcp_v4_rcv", "tcp_v4_do_rcv", "tcp_add_backlog", "tcp_conn_request", "icmp_rcv"}
)


class Traced(Trace):
    """The trace of everything that branches.py does, and how its journeys hang together."""

    def __init__(self, path: Path, told: dict[str, int]) -> None:
        super().__init__(path)
        self.told = told
        self.by_id = {j.id: j for j in self.journeys}
        self.children: dict[str, list[Journey]] = {}
        for journey in self.journeys:
            if journey.branches:
                self.children[journey.id] = [self.by_id[b.id] for b in journey.branches]

    def pings(self, number: int, icmp_type: int) -> list[Journey]:
        """Requests (8) or replies (0) of the ping that was started as number ``number``."""
        found = [j for j in self.journeys if j.flow.icmp_type == icmp_type and j.parent is None]
        ids = dict.fromkeys(j.flow.icmp_id for j in sorted(found, key=lambda j: j.start_ns))
        wanted = list(ids)[number]
        return [j for j in found if j.flow.icmp_id == wanted]

    def tcp(self, port: int) -> list[Journey]:
        """Everything c1 sent to that port, in the order in which it began."""
        found = [j for j in self.journeys if j.flow.src == C1_IP and j.flow.dport == port]
        return sorted(found, key=lambda j: j.start_ns)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, lab: None) -> Iterator[Traced]:
    """One capture of it all, with a third container on the bridge."""
    folder = tmp_path_factory.mktemp("branches")
    sh(
        f"ip netns add {C3}; ip link add vethc3 type veth peer name eth0 netns {C3};"
        f"ip netns exec {C3} sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1;"
        "sysctl -qw net.ipv6.conf.vethc3.disable_ipv6=1;"
        f"ip link set vethc3 master docker0 up; ip -n {C3} link set eth0 up;"
        f"ip -n {C3} addr add {C3_IP}/16 dev eth0;"
        f"until ip netns exec {C1} ping -q -c 1 -W 1 {C3_IP}; do :; done"
    )
    try:
        skbtrace(
            *("--topology", "auto", "--layers", "all", "-q", "-w", str(folder / "trace.json")),
            *("--", sys.executable, "-m", "tests.kernel.branches", str(folder / "told.json")),
        )
        yield Traced(folder / "trace.json", json.loads((folder / "told.json").read_text()))
    finally:
        sh(f"ip netns del {C3}")


def test_nothing_is_lost_and_all_but_what_waits_has_ended(traced: Traced) -> None:
    assert not any(traced.summary.lost.values()), traced.summary.lost
    assert {j.outcome for j in traced.journeys} <= {*Outcome} - {Outcome.DAMAGED}
    assert not [j for j in traced.journeys if j.outcome is Outcome.UNFINISHED]


def test_every_child_hangs_on_the_hop_that_made_it_and_on_no_other(traced: Traced) -> None:
    linked = Counter(branch.id for j in traced.journeys for branch in j.branches)
    assert set(linked.values()) == {1}
    assert set(linked) == {j.id for j in traced.journeys if j.parent is not None}
    for parent in traced.journeys:
        for branch in parent.branches:
            child, made = traced.by_id[branch.id], parent.hops[branch.hop]
            assert child.parent == parent.id
            assert made.function == child.hops[0].function
            assert made.function in MAKERS
            assert parent.start_ns + made.dt_ns == child.start_ns
            assert made.cpu == child.hops[0].cpu
            assert made.device == child.hops[0].device


def test_makers_are_met_at_the_beginning_of_a_child_or_at_a_branch_only(traced: Traced) -> None:
    for journey in traced.journeys:
        at = {n for n, hop in enumerate(journey.hops) if hop.function in MAKERS}
        begins = {0} if journey.parent else set()
        assert at == begins | {branch.hop for branch in journey.branches}


# --- flood copies ---------------------------------------------------------------------------------


def takers(traced: Traced, journey: Journey) -> list[str]:
    """Where a frame and all its copies came to their ends."""
    ends = [j.hops[-2] for j in (journey, *traced.children.get(journey.id, []))]
    assert {hop.function for hop in ends} == {"__netif_receive_skb_core"}
    return sorted(f"{h.device.netns.name}/{h.device.ifname}" for h in ends if h.device)


def frames(traced: Traced, eth_dst: str, first: str) -> list[Journey]:
    """Frames that nobody takes, by where they went and where they began."""
    found = traced.of(f"{branches.ETHERTYPE:#06x}", eth_dst=eth_dst)
    return [j for j in found if path_of(j)[0] == first]


def test_a_broadcast_is_copied_to_every_port_and_goes_up_itself(traced: Traced) -> None:
    found = frames(traced, "ff:ff:ff:ff:ff:ff", "__dev_queue_xmit c1/eth0")
    assert len(found) == FRAMES
    for journey in found:
        assert takers(traced, journey) == ["branches-c3/eth0", "c2/eth0", "host/docker0"]
        assert path_of(journey)[-7:-1] == [
            "br_handle_frame_finish host/vethc1",
            "br_flood host/vethc1",
            "skb_clone host/vethc1",
            "skb_clone host/vethc1",
            "br_pass_frame_up host/vethc1",
            "__netif_receive_skb_core host/docker0",
        ]
        for child in traced.children[journey.id]:
            assert path_of(child)[:2][0] == "skb_clone host/vethc1"
            assert [h.function for h in child.hops].count("veth_xmit") == 1


def test_an_address_nobody_has_is_copied_to_all_ports_but_one(traced: Traced) -> None:
    found = frames(traced, NOBODY, "__dev_queue_xmit c1/eth0")
    assert len(found) == FRAMES
    for journey in found:
        assert takers(traced, journey) == ["branches-c3/eth0", "c2/eth0"]
        assert len(journey.branches) == 1


def test_the_bridge_itself_floods_to_its_three_ports(traced: Traced) -> None:
    found = frames(traced, "ff:ff:ff:ff:ff:ff", "__dev_queue_xmit host/docker0")
    assert len(found) == FRAMES
    for journey in found:
        assert takers(traced, journey) == ["branches-c3/eth0", "c1/eth0", "c2/eth0"]
        assert len(journey.branches) == 2


# --- clones and copies ----------------------------------------------------------------------------


def functions(journey: Journey) -> list[str]:
    return [hop.function for hop in journey.hops]


def test_every_raw_socket_gets_a_clone_of_its_own(traced: Traced) -> None:
    replies = traced.pings(0, 0)
    assert len(replies) == PINGS
    for reply in replies:
        clones = traced.children[reply.id]
        assert len(clones) == 3
        for clone in clones:
            assert functions(clone)[:2] == ["skb_clone", "__sock_queue_rcv_skb"]
            assert clone.hops[1].socket is not None
            assert (clone.hops[1].socket.type, clone.hops[1].socket.proto) == ("raw", "icmp")
        ends = Counter(clone.outcome for clone in clones)
        assert ends == {Outcome.DELIVERED: 2, Outcome.DROPPED: 1}
        (unread,) = (c for c in clones if c.outcome is Outcome.DROPPED)
        assert unread.drop is not None  # its socket was closed with it
        assert unread.drop.function == "inet_sock_destruct"
        readers = {c.hops[-1].task.comm for c in clones if c.hops[-1].task}
        assert "ping" in readers
        assert reply.outcome is Outcome.DELIVERED


def test_a_packet_socket_gets_a_clone_on_transmit_and_on_receive(traced: Traced) -> None:
    requests, replies = traced.pings(1, 8), traced.pings(1, 0)
    assert len(requests) == len(replies) == PINGS
    assert traced.told["tap"] == 2 * PINGS
    for request in requests:
        (clone,) = traced.children[request.id]
        assert functions(clone)[:2] == ["skb_clone", "packet_rcv"]
        assert (clone.outcome, clone.proof) == (Outcome.DELIVERED, "packet_rcv")
        assert clone.hops[1].socket is not None
        assert clone.hops[1].socket.family == "packet"
        before = functions(request)[: request.branches[0].hop]
        assert before[-1] == "__dev_queue_xmit"  # after netfilter and the queue, before the driver
        assert "veth_xmit" not in before
    for reply in replies:
        tapped, taken = traced.children[reply.id]
        at = reply.branches[0].hop
        assert functions(reply)[at - 2 : at + 1] == [
            "__netif_receive_skb_core",
            "packet_rcv",
            "skb_clone",
        ]
        assert functions(tapped) == ["skb_clone", "skb_release_head_state"]
        assert tapped.outcome is Outcome.DELIVERED
        assert tapped.hops[0].socket is not None
        assert tapped.hops[0].socket.family == "packet"
        assert functions(taken)[1] == "__sock_queue_rcv_skb"


def test_tcpdump_copies_bytes_so_only_transmit_needs_a_clone(traced: Traced) -> None:
    requests, replies = traced.pings(2, 8), traced.pings(2, 0)
    assert traced.told["tcpdump"] == len(requests) + len(replies) == 2 * PINGS
    for request in requests:
        (clone,) = traced.children[request.id]
        assert functions(clone)[:2] == ["skb_clone", "tpacket_rcv"]
        assert (clone.outcome, clone.proof) == (Outcome.DELIVERED, "tpacket_rcv")
    for reply in replies:
        assert functions(reply).count("tpacket_rcv") == 1
        (clone,) = traced.children[reply.id]  # ping's
        assert functions(clone)[1] == "__sock_queue_rcv_skb"


def test_what_the_filter_of_tcpdump_refuses_is_not_delivered_to_it(traced: Traced) -> None:
    unwanted = [j for j in traced.journeys if j.flow.icmp_id == UNWANTED and j.parent is None]
    requests = [j for j in unwanted if j.flow.icmp_type == 8]
    assert len(requests) == PINGS
    for request in requests:
        (clone,) = traced.children[request.id]
        assert functions(clone)[:2] == ["skb_clone", "tpacket_rcv"]
        assert (clone.outcome, clone.proof) == (Outcome.CONSUMED, functions(clone)[-1])


def test_a_copy_made_by_nftables_is_a_packet_of_its_own(traced: Traced) -> None:
    requests = traced.pings(3, 8)
    assert len(requests) == PINGS
    for request in requests:
        (copy,) = traced.children[request.id]
        assert functions(request)[request.branches[0].hop - 1] in ("nf_hook_slow", "nft_do_chain")
        assert path_of(copy)[0] == "__pskb_copy_fclone c1/eth0"
        assert "veth_xmit host/vethc2" in path_of(copy)  # c2 was not meant: it will not have it
        assert copy.outcome is Outcome.DROPPED
        assert "veth_xmit host/vethc3" in path_of(request)
        assert (request.outcome, request.proof) == (Outcome.CONSUMED, "icmp_rcv")


def test_a_mirrored_packet_goes_out_of_another_port_and_on_its_way(traced: Traced) -> None:
    requests = traced.pings(4, 8)
    assert len(requests) == PINGS
    for request in requests:
        (copy,) = traced.children[request.id]
        assert path_of(copy)[:3] == [
            "skb_clone host/vethc1",
            "__dev_queue_xmit host/vethc3",
            "veth_xmit host/vethc3",
        ]
        assert copy.outcome is Outcome.DROPPED  # its Ethernet address is c2's
        assert "icmp_rcv c2/eth0" in path_of(request)


def test_a_qdisc_that_changes_bytes_copies_what_tcp_keeps_a_clone_of(traced: Traced) -> None:
    sent = traced.tcp(branches.COPY_PORT)
    copied = [j for j in sent if "skb_copy" in functions(j) and j.parent is None]
    assert copied
    for journey in copied:
        (copy,) = traced.children[journey.id]
        assert functions(journey)[-2:] == ["skb_copy", "skb_release_head_state"]
        assert journey.outcome is Outcome.CONSUMED
        assert path_of(copy)[:2] == ["skb_copy c1/eth0", "veth_xmit c1/eth0"]
    whole = [j for j in sent if j.flow.tcp_seq == copied[0].flow.tcp_seq and j not in copied]
    assert any(j.outcome is Outcome.DELIVERED for j in whole)


# --- segments -------------------------------------------------------------------------------------


def payload(journey: Journey) -> int:
    """Bytes of data of a TCP packet when it was first seen."""
    return network_length(journey.hops[0]) - HEADERS


def network_length(hop: Hop) -> int:
    """Length from the IP header on, by where in the stack the function is."""
    if hop.function in AT_DRIVER:
        return hop.len - ETHERNET
    return hop.len + 20 if hop.function in AT_TRANSPORT else hop.len


def check_lengths(journey: Journey) -> None:
    """The packet is as long at every hop as at the first, but for what waits for a busy process:
    TCP appends to it what comes next.
    """
    hops = [*journey.hops]
    if "tcp_add_backlog" in functions(journey):
        at = functions(journey).index("tcp_add_backlog")
        assert all(hop.len >= hops[at].len for hop in hops[at:])
        del hops[at + 1 :]
    lengths = {network_length(h) for h in hops if h.function not in FREES | {"skb_clone"}}
    assert len(lengths) == 1, (lengths, journey)


def check_stream(parts: list[Journey], expected: int) -> None:
    """Together they are so many bytes, each once and none missing."""
    first = min(j.flow.tcp_seq or 0 for j in parts)
    at = first
    for journey in sorted(parts, key=lambda j: j.flow.tcp_seq or 0):
        assert journey.flow.tcp_seq == at
        at += payload(journey)
    assert at - first == expected


def data_of(traced: Traced, port: int) -> tuple[list[Journey], list[Journey]]:
    """What TCP sent with data in it, and what arrived at c2's end of it.

    On a slow host TCP may send something again although it has arrived, or the end of it: that is
    left out, so much of it as TCP itself has counted.
    """
    data = [j for j in traced.tcp(port) if not {"S", "F"} & {*(j.flow.tcp_flags or "")}]
    data = sorted((j for j in data if payload(j)), key=lambda j: j.start_ns)
    again, segments, reached = set(), 0, 0
    for journey in data:
        seq = journey.flow.tcp_seq or 0
        if journey.parent is None:
            if seq < reached:
                again.add(journey.id)
                segments += ceil(payload(journey) / MSS)
            reached = max(reached, seq + payload(journey))
    assert segments <= traced.told[str(port)]
    sent = [j for j in data if not {j.id, j.parent} & again]
    return [j for j in sent if j.parent is None], [
        j for j in sent if "__skb_gso_segment" not in functions(j)[1:]
    ]


def test_what_a_device_cannot_segment_is_cut_in_front_of_it(traced: Traced) -> None:
    whole, arrived = data_of(traced, GSO_PORT)
    check_stream(whole, DATA)
    check_stream(arrived, DATA)
    cut = [j for j in whole if j.branches]
    assert cut
    for parent in cut:
        assert path_of(parent)[-2] == "__skb_gso_segment host/vethc2"
        assert (parent.outcome, parent.drop) == (Outcome.CONSUMED, None)
        segments = traced.children[parent.id]
        assert all(payload(s) == MSS for s in segments[:-1])
        assert 0 < payload(segments[-1]) <= MSS
        assert sum(payload(s) for s in segments) == payload(parent)
        at = parent.flow.tcp_seq or 0
        for segment in segments:
            assert segment.flow.tcp_seq == at
            at += payload(segment)
    for journey in whole + arrived:
        check_lengths(journey)


def test_each_segment_has_a_whole_journey(traced: Traced) -> None:
    _, arrived = data_of(traced, GSO_PORT)
    segments = [j for j in arrived if j.parent is not None]
    assert len(segments) >= DATA // MSS // 2
    for segment in segments:
        assert path_of(segment)[:8] == [
            "__skb_gso_segment host/vethc2",
            *through("", "", "vethc2", "c2")[7:],
            "ip_rcv_core c2/eth0",
            "ip_local_deliver c2/eth0",
        ]
        assert segment.outcome is Outcome.DELIVERED


# --- GRO ------------------------------------------------------------------------------------------


@pytest.mark.skipif(NAPI, reason="this kernel has GRO on veth")
def test_without_gro_on_veth_segments_wait_in_the_input_queue(traced: Traced) -> None:
    _, arrived = data_of(traced, GRO_PORT)
    check_stream(arrived, DATA)
    assert {j.outcome for j in arrived} == {Outcome.DELIVERED}
    assert all("enqueue_to_backlog c2/eth0" in path_of(j) for j in arrived)
    assert not [j for j in traced.journeys if j.outcome is Outcome.ABSORBED]


@pytest.mark.skipif(not NAPI, reason="no GRO on veth without XDP")
class TestGro:
    def test_a_packet_passes_napi_and_no_input_queue(self, traced: Traced) -> None:
        whole, arrived = data_of(traced, GRO_PORT)
        check_stream(whole, DATA)
        check_stream(arrived, DATA)
        for journey in arrived:
            path = path_of(journey)
            at = path.index("veth_xmit host/vethc2")
            assert path[at : at + 3] == [
                "veth_xmit host/vethc2",
                "__dev_forward_skb host/vethc2",
                "napi_gro_receive c2/eth0",
            ]
            then = path[at + 3]
            assert then in ("skb_gro_receive c2/eth0", "__netif_receive_skb_core c2/eth0")

    def test_what_is_merged_is_absorbed_and_makes_another_longer(self, traced: Traced) -> None:
        _, arrived = data_of(traced, GRO_PORT)
        merged: dict[str, list[Journey]] = {}
        for journey in arrived:
            if journey.outcome is Outcome.ABSORBED:
                assert journey.proof == "skb_gro_receive"
                assert functions(journey)[-1] in FREES
                assert journey.absorbed_into is not None
                merged.setdefault(journey.absorbed_into, []).append(journey)
            else:
                assert journey.outcome is Outcome.DELIVERED, journey
        assert sum(map(len, merged.values())) > DATA // MSS // 2
        for journey in arrived:
            if journey.outcome is Outcome.ABSORBED:
                continue
            parts = merged.pop(journey.id, [])
            (received,) = (
                h
                for h in journey.hops
                if h.function == "__netif_receive_skb_core"
                and h.device
                and h.device.netns.name == "c2"
            )
            assert received.len == network_length(journey.hops[0]) + sum(map(payload, parts))
            at = (journey.flow.tcp_seq or 0) + payload(journey)
            for part in sorted(parts, key=lambda j: j.flow.tcp_seq or 0):
                assert part.flow.tcp_seq == at  # they were merged in order, without a gap
                at += payload(part)
        assert not merged  # none was absorbed into a packet that is not there
