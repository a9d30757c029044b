# SPDX-License-Identifier: GPL-2.0-only
"""The playbook: records in, journeys out. Each test is a packet's story as the kernel tells it."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_wire import RECORDS
from tracer import correlate, wire
from tracer.alike import made
from tracer.correlate import Correlator, Names
from tracer.kernel.definitions import LIVE_MAX
from tracer.model import (
    Change,
    Device,
    Drop,
    Hop,
    Journey,
    Netns,
    Outcome,
    Segment,
    Socket,
    State,
    Task,
    Verdict,
)
from tracer.probes import MISSION, PROBES
from tracer.recurring import Recurring

C1, HOST, C2 = 101, 1, 102
ETH0, VETH1, VETH2 = 2, 3, 4
NETNS = {C1: "c1", HOST: "host", C2: "c2"}
IFNAMES = {(C1, ETH0): "eth0", (HOST, VETH1): "veth1", (HOST, VETH2): "veth2", (C2, ETH0): "eth0"}
SYMBOLS = {
    0x1000: ("nf_hook_slow", 16),
    0x2000: ("ping_rcv", 8),
    0x3000: ("tcp_rcv_state_process", 8),
    0x4000: ("icmpv6_rcv", 8),
    0x5000: ("sk_stream_kill_queues", 8),
    0x6000: ("skb_release_data", 8),
    0x7000: ("tcp_v4_rcv", 8),
    0x8000: ("tcp_disconnect", 8),
}
# (address, handle) of a chain or table: family, table, chain, hook
TABLES = {
    (0x10, 4): (2, "filter", "FORWARD", 2),
    (0x20, 9): (2, "filter", "guests", None),
    (0x30, 0): (2, "nat", "", None),
}
REASONS = {2: "NOT_SPECIFIED", 3: "NO_SOCKET", 8: "NETFILTER_DROP"}
POSITION = {p.function: i for i, p in enumerate(PROBES) if p.handler != "cloned"}

# An echo request from 172.17.0.2 to 172.17.0.3, id 7, seq 1.
ETHERNET = bytes.fromhex("0242ac1100030242ac1100020800")
IP = bytes.fromhex("450000540000400040010000ac110002ac110003")
ECHO = bytes.fromhex("0800000000070001")
HEADERS = (ETHERNET + IP + ECHO).ljust(wire.HEADER_BYTES, b"\0")


def device(netns: int, ifindex: int, at_ns: int = 0) -> Device:
    """The same object each time, as topology.names gives it."""
    return _device(netns, ifindex)


@cache
def _device(netns: int, ifindex: int) -> Device:
    return Device(Netns(netns, NETNS[netns]), ifindex, IFNAMES[netns, ifindex])


def netns(inum: int, at_ns: int = 0) -> Netns:
    return _netns(inum)


@cache
def _netns(inum: int) -> Netns:
    return Netns(inum, NETNS[inum])


def names() -> Names:
    return Names(device, netns, SYMBOLS.get, REASONS.__getitem__, lambda *key: TABLES.get(key))


def correlator() -> Correlator:
    return Correlator(names())


def hop(
    function: str,
    at: int,
    netns: int = 0,
    ifindex: int = 0,
    *,
    cpu: int = 0,
    len: int = 84,
    arg: int = 0,
    flags: int = 0,
) -> wire.HopSlot:
    return wire.HopSlot(at, POSITION[function], flags, cpu, ifindex, netns, len, arg)


def dequeued(at: int, age: int, netns: int, ifindex: int, *, cpu: int = 0) -> wire.HopSlot:
    flags = wire.DEQUEUED | wire.AGE_KNOWN
    return hop("__netif_receive_skb_core", at, netns, ifindex, cpu=cpu, arg=age, flags=flags)


def record(
    *slots: wire.HopSlot | wire.Note,
    id: int = 5,
    flags: int = wire.LAST,
    chunk: int = 0,
    base_ns: int = 1000,
    parent: int = 0,
    mark: int = 0,
    state: int = 0,
) -> wire.Record:
    return wire.Record(
        id=id,
        parent=parent,
        skb=0xFFFF888000001000,
        base_ns=base_ns,
        chunk=chunk,
        flags=flags,
        protocol=b"\x08\x00",
        vlan_tci=None,
        l2_len=14,
        tc_index=0,
        state=state,
        pulled=0,
        mark=mark,
        priority=0,
        hash=0,
        classid=0,
        headers=HEADERS,
        slots=slots,
    )


def one(*records: wire.Record) -> Journey:
    taker = correlator()
    journeys = [j for r in records if (j := taker.take(r)) is not None]
    assert len(journeys) == 1
    if len(records) == 1:  # and the same from what was learnt of others
        again = Recurring(names())
        assert list(map(made, again.take([wire.encode(*records)] * 4))) == journeys * 4
    return journeys[0]


TO_THE_BRIDGE = (
    hop("veth_xmit", 0, C1, ETH0, len=98),
    hop("__dev_forward_skb", 10, C1, ETH0, len=98),
    hop("enqueue_to_backlog", 20, HOST, VETH1, arg=1),
    dequeued(60, 25, HOST, VETH1, cpu=1),
    hop("br_handle_frame", 70, HOST, VETH1, cpu=1),
    hop("br_forward", 80, HOST, VETH1, cpu=1),
)
TO_C2 = (
    hop("veth_xmit", 90, HOST, VETH2, cpu=1, len=98),
    hop("__dev_forward_skb", 100, HOST, VETH2, cpu=1, len=98),
    hop("enqueue_to_backlog", 110, C2, ETH0, cpu=1, arg=1),
    dequeued(130, 95, C2, ETH0, cpu=1),
)
TAKEN = (
    hop("icmp_rcv", 140, C2, ETH0, cpu=1, len=64),
    hop("skb_release_head_state", 150, C2, ETH0, cpu=1, len=64),
)
EXPECTED_MISSION = [*MISSION, *MISSION[:5]]


def functions(journey: Journey) -> list[str]:
    return [h.function for h in journey.hops]


def hop_at(journey: Journey, function: str, occurrence: int = 0) -> Hop:
    return [h for h in journey.hops if h.function == function][occurrence]


def test_an_echo_request_through_the_bridge_is_one_journey_that_icmp_consumed() -> None:
    journey = one(record(*TO_THE_BRIDGE, *TO_C2, *TAKEN))

    assert functions(journey) == [*EXPECTED_MISSION, "icmp_rcv", "skb_release_head_state"]
    assert (journey.outcome, journey.proof) == (Outcome.CONSUMED, "icmp_rcv")
    assert (journey.id, journey.parent, journey.drop, journey.branches) == ("5", None, None, ())
    assert (journey.start_ns, journey.duration_ns) == (1000, 150)
    assert [h.device and h.device.netns.name for h in journey.hops] == (
        ["c1"] * 2 + ["host"] * 7 + ["c2"] * 5
    )
    assert (journey.flow.proto, journey.flow.icmp_id, journey.flow.icmp_seq) == ("icmp", 7, 1)


def test_the_softirq_began_after_the_enqueue_so_the_packet_waited_for_it() -> None:
    journey = one(record(*TO_THE_BRIDGE))
    enqueue, served, core = journey.hops[2:5]

    assert (enqueue.to_cpu, enqueue.segment) == (1, Segment.SOFTIRQ_WAIT)
    assert (served.function, served.dt_ns, served.cpu) == ("process_backlog", 35, 1)
    assert (served.already_running, served.segment) == (False, Segment.BACKLOG_WAIT)
    assert (core.dt_ns, core.segment) == (60, Segment.WORK)


def test_a_call_that_was_running_already_is_not_timed_before_the_enqueue() -> None:
    journey = one(record(*TO_THE_BRIDGE, *TO_C2, *TAKEN))
    enqueue, served = (
        hop_at(journey, "enqueue_to_backlog", 1),
        hop_at(journey, "process_backlog", 1),
    )

    assert served.dt_ns == enqueue.dt_ns == 110
    assert served.already_running is True


def test_process_backlog_is_not_claimed_where_its_probe_did_not_fire() -> None:
    silent = hop("__netif_receive_skb_core", 60, HOST, VETH1, flags=wire.DEQUEUED)
    assert "process_backlog" not in functions(one(record(*TO_THE_BRIDGE[:3], silent)))


def test_the_kernels_word_on_a_drop_is_kept_with_its_place() -> None:
    journey = one(
        record(
            *TO_THE_BRIDGE,
            wire.Note(wire.NOTE_DROP, 0x1000, 8),
            hop("skb_release_head_state", 95, HOST, VETH1),
        )
    )
    assert (journey.outcome, journey.proof) == (Outcome.DROPPED, "kfree_skb")
    assert journey.drop == Drop("NETFILTER_DROP", "nf_hook_slow", 16)


def test_a_drop_in_the_protocol_is_a_drop_although_the_protocol_was_reached() -> None:
    drop = wire.Note(wire.NOTE_DROP, 0x2000, 3)
    journey = one(record(*TO_C2, TAKEN[0], drop, TAKEN[1]))
    assert journey.outcome is Outcome.DROPPED


def test_a_packet_that_ends_within_its_headers_has_no_ports() -> None:
    udp = IP[:9] + b"\x11" + IP[10:] + b"\x10\x92\x12\x67"
    for length, ports in ((34, (None, None)), (37, (None, None)), (42, (4242, 4711))):
        first = hop("veth_xmit", 0, C1, ETH0, len=length)
        short = record(first, TAKEN[1])._replace(
            headers=(ETHERNET + udp).ljust(wire.HEADER_BYTES, b"\0")
        )
        flow = one(short).flow
        assert (flow.proto, flow.src, flow.sport, flow.dport) == ("udp", "172.17.0.2", *ports)


def test_before_5_17_a_drop_has_no_reason() -> None:
    drop = wire.Note(wire.NOTE_DROP, 0x9999, wire.NO_REASON)
    journey = one(record(*TO_C2, drop, TAKEN[1]))
    assert journey.drop == Drop(None, None)


def state_of_drop(note: wire.Note) -> dict[str, int]:
    drop = wire.Note(wire.NOTE_DROP, 0x9999, wire.NO_REASON)
    journey = one(record(*TO_C2, drop, note, TAKEN[1]))
    assert journey.drop is not None
    return dict(journey.drop.state)


def test_what_was_read_at_the_drop_is_told() -> None:
    full = wire.Note(wire.NOTE_BACKLOG, 1001, word=1, more=1000)
    assert state_of_drop(full) == {"backlog_len": 1001, "netdev_max_backlog": 1000}
    assert state_of_drop(full._replace(word=0)) == {"backlog_len": 1001}
    port = wire.Note(wire.NOTE_PORT, 1 << 16, word=3)
    assert state_of_drop(port) == {"port_state": 3, "port_isolated": 1}
    inet = wire.Note(wire.NOTE_INET, 2 << 32 | 1, word=1500, more=1 << 32)
    assert state_of_drop(inet) == {
        "forwarding": 1,
        "rp_filter": 2,
        "all_forwarding": 0,
        "all_rp_filter": 1,
        "mtu": 1500,
    }
    sock = wire.Note(wire.NOTE_SOCK, 3072, word=2304)
    assert state_of_drop(sock) == {"rmem_alloc": 3072, "rcvbuf": 2304}
    listener = state_of_drop(sock._replace(more=5 << 32 | 6))
    assert listener.items() >= {"ack_backlog": 6, "max_ack_backlog": 5}.items()


def test_the_port_that_a_bridge_had_chosen_is_told_with_its_state() -> None:
    refused = wire.Note(wire.NOTE_DROP, 0x9999, wire.NO_REASON)
    egress = wire.Note(wire.NOTE_EGRESS, 1 << 16 | 1, word=4, more=HOST << 32 | VETH2)
    journey = one(record(*TO_THE_BRIDGE, refused, egress, TAKEN[1]))
    assert journey.drop is not None
    assert journey.drop.egress is not None
    assert (journey.drop.egress.netns.inum, journey.drop.egress.ifindex) == (HOST, VETH2)
    assert dict(journey.drop.state) == {
        "egress_state": 4,
        "egress_isolated": 1,
        "egress_hairpin": 1,
    }


def test_a_delivered_ping_is_not_a_drop() -> None:
    """A raw socket took a clone; the kernel frees the original as NO_SOCKET."""
    for reason in (2, 3, wire.NO_REASON):
        reply = record(
            *TO_C2,
            hop("skb_clone", 135, C2, ETH0),
            wire.Note(wire.NOTE_CLONE, 9),
            TAKEN[0],
            wire.Note(wire.NOTE_DROP, 0x2000, reason),
            TAKEN[1],
            flags=wire.LAST | wire.CLONE_QUEUED,
        )
        journey = one(reply)
        assert (journey.outcome, journey.drop) == (Outcome.DELIVERED, None)
        assert journey.proof == "__sock_queue_rcv_skb"
        ((clone, at),) = journey.branches
        assert (clone, journey.hops[at].function) == ("9", "skb_clone")


def test_tcp_frees_what_it_has_processed_as_a_drop_without_a_reason() -> None:
    taken = hop("tcp_v4_rcv", 140, C2, ETH0)
    journey = one(record(*TO_C2, taken, wire.Note(wire.NOTE_DROP, 0x3000, 2), TAKEN[1]))
    assert (journey.outcome, journey.proof) == (Outcome.DELIVERED, "tcp_v4_rcv")
    filtered = one(record(*TO_C2, taken, wire.Note(wire.NOTE_DROP, 0x3000, 8), TAKEN[1]))
    assert filtered.outcome is Outcome.DROPPED


def test_tcp_frees_what_a_connection_in_time_wait_has_taken_as_a_drop_without_a_reason() -> None:
    taken = hop("tcp_v4_rcv", 140, C2, ETH0)
    for reason, outcome in (
        (2, Outcome.DELIVERED),
        (3, Outcome.DROPPED),  # NO_SOCKET
        (wire.NO_REASON, Outcome.DROPPED),  # before 5.17 the two cannot be told apart
    ):
        freed = wire.Note(wire.NOTE_DROP, 0x7000, reason)
        assert one(record(*TO_C2, taken, freed, TAKEN[1])).outcome is outcome


@pytest.mark.parametrize(
    ("data", "outcome"), [(0, Outcome.DELIVERED), (1, Outcome.DROPPED)], ids=["a FIN", "data"]
)
def test_what_is_in_the_queue_of_a_tcp_socket_that_goes(data: int, outcome: Outcome) -> None:
    length = (40 + data).to_bytes(2, "big")
    tcp = IP[:2] + length + IP[4:9] + b"\6" + IP[10:] + bytes(12) + b"\x50\x11" + bytes(6)
    taken = hop("tcp_v4_do_rcv", 140, C2, ETH0)
    headers = (ETHERNET + tcp).ljust(wire.HEADER_BYTES, b"\0")
    for place in (0x5000, 0x8000):
        drop = wire.Note(wire.NOTE_DROP, place, 2)
        journey = one(record(*TO_C2, taken, drop, TAKEN[1])._replace(headers=headers))
        assert (journey.flow.tcp_flags, journey.outcome) == ("F.", outcome)


def test_what_gro_has_merged_is_absorbed_however_it_is_freed() -> None:
    given = hop("napi_gro_receive", 5, C2, ETH0)
    merged = hop("skb_gro_receive", 9, C2, ETH0)
    into = wire.Note(wire.NOTE_MERGED, value=7)
    drop = wire.Note(wire.NOTE_DROP, 0x6000, 2)  # with the frag_list that it hangs in
    for slots in ((given, merged, into, TAKEN[1]), (given, merged, into, drop, TAKEN[1])):
        journey = one(record(*slots))
        assert (journey.outcome, journey.absorbed_into) == (Outcome.ABSORBED, "7")
        assert (journey.proof, journey.drop) == ("skb_gro_receive", None)
    alone = one(record(given, merged, into, *TO_C2, TAKEN[0], TAKEN[1]))  # it could not, after all
    assert alone.outcome is Outcome.CONSUMED
    assert alone.absorbed_into is None


def test_icmpv6_freed_what_it_had_taken_as_a_drop_without_a_reason() -> None:
    taken = hop("icmpv6_rcv", 140, C2, ETH0)
    for reason in (2, wire.NO_REASON):
        drop = wire.Note(wire.NOTE_DROP, 0x4000, reason)
        journey = one(record(*TO_C2, taken, drop, TAKEN[1]))
        assert (journey.outcome, journey.proof) == (Outcome.CONSUMED, "icmpv6_rcv")
    elsewhere = wire.Note(wire.NOTE_DROP, 0x1000, wire.NO_REASON)
    assert one(record(*TO_C2, taken, elsewhere, TAKEN[1])).outcome is Outcome.DROPPED


def test_a_queued_clone_excuses_no_other_drop() -> None:
    filtered = wire.Note(wire.NOTE_DROP, 0x1000, 8)
    flags = wire.LAST | wire.CLONE_QUEUED
    assert one(record(*TO_C2, filtered, TAKEN[1], flags=flags)).outcome is Outcome.DROPPED


def test_a_clone_is_a_journey_with_a_parent_and_waits_in_its_socket() -> None:
    clone = one(
        record(
            hop("skb_clone", 0, C2, ETH0),
            hop("__sock_queue_rcv_skb", 5, C2, ETH0),
            hop("skb_release_head_state", 7, len=84, arg=3),
            id=9,
            parent=5,
        )
    )
    assert (clone.id, clone.parent, clone.outcome) == ("9", "5", Outcome.DELIVERED)
    assert clone.hops[1].segment is Segment.SOCKET
    assert clone.hops[2].device is None
    assert clone.duration_ns == (3 << 32) + 7  # longer than 32 bits can say


def test_a_clone_that_lay_in_a_sockets_queue_was_delivered_though_nothing_else_was_seen() -> None:
    made = hop("skb_clone", 0, C2, ETH0)
    socket = wire.Note(wire.NOTE_SOCKET, 3 << 32 | 0x300, C2, 17, 0)
    for flags, outcome in (
        (wire.LAST | wire.FROM_QUEUE, Outcome.DELIVERED),
        (wire.LAST, Outcome.CONSUMED),
    ):
        clone = one(record(made, socket, TAKEN[1], id=9, parent=5, flags=flags))
        assert (clone.outcome, clone.proof) == (outcome, "skb_release_head_state")
        assert clone.hops[0].socket is not None
        assert (clone.hops[0].socket.family, clone.hops[0].socket.type) == ("packet", "raw")


def test_arp_is_consumed_and_a_copy_nobody_wanted_too() -> None:
    arp = one(record(*TO_C2, hop("arp_rcv", 140, C2, ETH0), TAKEN[1]))
    assert (arp.outcome, arp.proof) == (Outcome.CONSUMED, "arp_rcv")
    copy = one(record(*TO_C2, TAKEN[1]))
    assert (copy.outcome, copy.proof) == (Outcome.CONSUMED, "skb_release_head_state")


def test_chunks_are_joined_on_one_time_axis() -> None:
    journey = one(
        record(*TO_THE_BRIDGE, flags=0),
        record(*TO_C2, flags=0, chunk=1, base_ns=1500),
        record(*TAKEN, chunk=2, base_ns=2000),
    )
    assert functions(journey)[:12] == EXPECTED_MISSION
    assert [h.dt_ns for h in journey.hops[7:]] == [590, 600, 610, 610, 630, 1140, 1150]
    assert journey.outcome is Outcome.CONSUMED


def test_a_missing_chunk_makes_it_damaged_never_delivered() -> None:
    journey = one(record(*TO_THE_BRIDGE, flags=0), record(*TAKEN, chunk=2, base_ns=2000))
    assert (journey.outcome, journey.proof) == (Outcome.DAMAGED, None)
    assert journey.damage == "chunk 1 of 3 was lost"


def test_a_missing_first_chunk_too() -> None:
    journey = one(record(*TAKEN, chunk=1, base_ns=2000))
    assert journey.damage == "chunk 0 of 2 was lost"


def test_an_end_that_was_not_seen_is_not_claimed() -> None:
    journey = one(record(*TO_C2, TAKEN[0], flags=wire.LAST | wire.END_MISSED))
    assert journey.outcome is Outcome.DAMAGED


def test_a_hop_that_cannot_follow_the_one_before_means_a_missed_hit() -> None:
    taker = correlator()
    taker.take(record(TO_THE_BRIDGE[0], *TO_THE_BRIDGE[2:], *TO_C2, *TAKEN))
    assert taker.lost == {"hop_missing": 1, "chunk_lost": 0}
    taker.take(record(*TO_C2[:3], *TAKEN))  # no receive after the enqueue
    assert taker.lost["hop_missing"] == 2
    taker.take(record(*TO_C2[:3], TAKEN[1]))  # dropped from the queue: nothing is missing
    taker.take(record(*TO_THE_BRIDGE, *TO_C2, *TAKEN))
    assert taker.lost["hop_missing"] == 2


def test_a_lost_chunk_is_counted_once_and_not_as_a_missed_hit() -> None:
    taker = correlator()
    taker.take(record(*TO_THE_BRIDGE[:3], flags=0))
    taker.take(record(*TAKEN, chunk=2, base_ns=2000))
    taker.take(record(*TO_THE_BRIDGE, flags=0, id=7))
    taker.finish([])
    assert taker.lost == {"hop_missing": 0, "chunk_lost": 2}


def test_what_lives_at_the_stop_is_unfinished_whatever_it_reached() -> None:
    taker = correlator()
    assert taker.take(record(*TO_THE_BRIDGE, flags=0)) is None
    (journey,) = taker.finish([record(TAKEN[0], flags=0, chunk=1, base_ns=2000)])
    assert (journey.outcome, journey.proof) == (Outcome.UNFINISHED, None)
    assert len(journey.hops) == 8
    assert journey.hops[-1].segment is None


# Netfilter: a verdict is what was seen next.

FORWARD = hop("nf_hook_slow", 75, HOST, VETH1, arg=2 | 2 << 8)
CHAIN = (hop("nft_do_chain", 76, HOST, VETH1), wire.Note(wire.NOTE_TABLE, 0x10, more=4))
DROPPED = wire.Note(wire.NOTE_DROP, 0x1000, 8)


def verdicts(journey: Journey) -> list[Verdict]:
    return [h.verdict for h in journey.hops if h.verdict is not None]


def test_a_hook_and_a_chain_that_are_passed_have_accepted() -> None:
    journey = one(record(*TO_THE_BRIDGE, FORWARD, *CHAIN, *TO_C2, *TAKEN))
    assert verdicts(journey) == [
        Verdict("ipv4", "FORWARD", "accept"),
        Verdict("ipv4", "FORWARD", "accept", "filter", "FORWARD"),
    ]


def test_a_drop_is_the_last_chains_with_the_rule_that_gave_the_verdict() -> None:
    rule = wire.Note(wire.NOTE_RULE, 7)
    journey = one(record(*TO_THE_BRIDGE, FORWARD, *CHAIN, *CHAIN, DROPPED, rule, TAKEN[1]))
    assert verdicts(journey) == [
        Verdict("ipv4", "FORWARD", "drop"),
        Verdict("ipv4", "FORWARD", "accept", "filter", "FORWARD"),
        Verdict("ipv4", "FORWARD", "drop", "filter", "FORWARD", 7),
    ]
    assert journey.outcome is Outcome.DROPPED
    policy = wire.Note(wire.NOTE_RULE, 0, word=1)
    assert verdicts(one(record(*TO_C2, FORWARD, *CHAIN, DROPPED, policy, TAKEN[1])))[1].rule == 0


def test_the_rule_may_be_in_a_chain_that_was_jumped_to() -> None:
    rule = (wire.Note(wire.NOTE_RULE, 12), wire.Note(wire.NOTE_TABLE, 0x20, more=9))
    journey = one(record(*TO_THE_BRIDGE, FORWARD, *CHAIN, DROPPED, *rule, TAKEN[1]))
    assert verdicts(journey)[-1] == Verdict("ipv4", "FORWARD", "drop", "filter", "guests", 12)


def test_a_table_of_iptables_is_asked_at_the_hook_before_it() -> None:
    nat = (hop("ipt_do_table", 76, HOST, VETH1), wire.Note(wire.NOTE_TABLE, 0x30))
    post = hop("nf_hook_slow", 75, HOST, VETH1, arg=4 | 2 << 8)
    journey = one(record(*TO_THE_BRIDGE, post, *nat, *TO_C2, *TAKEN))
    assert verdicts(journey)[-1] == Verdict("ipv4", "POST_ROUTING", "accept", "nat", "POSTROUTING")


def test_who_is_dropped_behind_a_hook_was_accepted_by_it() -> None:
    elsewhere = wire.Note(wire.NOTE_DROP, 0x2000, 3)
    journey = one(record(*TO_C2, FORWARD, TAKEN[0], elsewhere, TAKEN[1]))
    assert verdicts(journey) == [Verdict("ipv4", "FORWARD", "accept")]


def test_a_packet_that_is_freed_in_a_hook_has_no_verdict_that_is_known() -> None:
    journey = one(record(*TO_THE_BRIDGE, FORWARD, TAKEN[1]))
    assert verdicts(journey) == [Verdict("ipv4", "FORWARD", None)]
    queued = one(record(*TO_THE_BRIDGE, FORWARD, hop("nf_queue", 80, HOST, VETH1), *TO_C2))
    assert verdicts(queued)[0].verdict == "queue"


# What changes


def test_what_is_different_at_a_hop_was_changed_since_the_one_before() -> None:
    state = wire.Note(wire.NOTE_STATE, 0, 0, 0, wire.STATE_KNOWN << 32)
    journey = one(
        record(*TO_THE_BRIDGE[:3], state, *TO_THE_BRIDGE[3:], mark=7, state=wire.STATE_KNOWN | 0x40)
    )
    assert journey.state == State(mark=7, sk=True)
    changed = {h.function: h.changes for h in journey.hops if h.changes}
    assert changed == {"__dev_forward_skb": (Change("mark", 7, 0), Change("sk", True, False))}


def test_rewritten_addresses_are_told_old_and_new_and_the_journey_stays_one() -> None:
    to_outside = int.from_bytes(bytes((203, 0, 113, 1, 172, 17, 0, 3)), "little")
    rewritten = wire.Note(wire.NOTE_IP, to_outside, word=0x0700, half=4 << 8 | 63)
    journey = one(record(*TO_THE_BRIDGE, FORWARD, TO_C2[0], rewritten, *TO_C2[1:], *TAKEN))
    (changes,) = (h.changes for h in journey.hops if h.changes)
    assert changes == (Change("ttl", 64, 63), Change("src", "172.17.0.2", "203.0.113.1"))
    assert hop_at(journey, "nf_hook_slow").changes == changes
    assert journey.flow.src == "172.17.0.2"


def test_the_ethernet_addresses_are_news_where_none_were_before() -> None:
    to, sender = (
        int.from_bytes(bytes.fromhex(a), "little") for a in ("0242ac110003", "020000000001")
    )
    journey = one(record(*TO_C2[:2], wire.Note(wire.NOTE_ETH, to, more=sender), *TO_C2[2:]))
    assert journey.hops[0].changes == (Change("eth_src", "02:42:ac:11:00:02", "02:00:00:00:00:01"),)


# Whose it is


def test_a_process_sends_and_another_reads_what_a_socket_was_given() -> None:
    ping = wire.Note(wire.NOTE_TASK, int.from_bytes(b"ping\0\0\0\0", "little"), 164)
    there = wire.Note(wire.NOTE_TASK_NETNS, 0, HOST)
    udp = wire.Note(wire.NOTE_SOCKET, 2 << 32 | 17, C2, 2)
    queued = hop("__udp_enqueue_schedule_skb", 140, C2, ETH0)
    read = wire.Note(wire.NOTE_TASK, int.from_bytes(b"named\0\0\0", "little"), 7)
    journey = one(record(TO_C2[0], ping, there, *TO_C2[1:], queued, udp, TAKEN[1], read))
    assert journey.hops[0].task == Task(164, "ping", netns(HOST))
    assert journey.hops[-1].task == Task(7, "named")
    assert journey.hops[-2].socket == Socket(netns(C2), "inet", "dgram", "udp")
    assert journey.hops[-2].segment is Segment.SOCKET
    assert (journey.outcome, journey.proof) == (Outcome.DELIVERED, "__udp_enqueue_schedule_skb")


# How it ends


def test_what_a_driver_is_given_and_frees_was_transmitted() -> None:
    given = hop("net_dev_start_xmit", 140, HOST, VETH1)
    journey = one(record(*TO_THE_BRIDGE, given, TAKEN[1]))
    assert (journey.outcome, journey.proof) == (Outcome.TRANSMITTED, "net_dev_start_xmit")
    tunnelled = one(record(*TO_THE_BRIDGE, given, *TO_C2, *TAKEN))
    assert (tunnelled.outcome, tunnelled.proof) == (Outcome.CONSUMED, "icmp_rcv")


def test_a_tap_proves_something_only_of_what_goes_nowhere_else() -> None:
    seen = hop("tpacket_rcv", 135, C2, ETH0)
    assert one(record(*TO_C2, seen, *TAKEN)).proof == "icmp_rcv"
    clone = one(record(hop("skb_clone", 0, C1, ETH0), seen, TAKEN[1], parent=4))
    assert (clone.outcome, clone.proof) == (Outcome.DELIVERED, "tpacket_rcv")
    flags = wire.LAST | wire.REFUSED
    clone = one(record(hop("skb_clone", 0, C1, ETH0), seen, TAKEN[1], parent=4, flags=flags))
    assert (clone.outcome, clone.proof) == (Outcome.CONSUMED, "skb_release_head_state")


def test_what_gro_merges_is_absorbed_into_the_packet_before() -> None:
    merged = (hop("skb_gro_receive", 5, C2, ETH0), wire.Note(wire.NOTE_MERGED, 41))
    free = hop("napi_skb_free_stolen_head", 9)
    journey = one(record(hop("napi_gro_receive", 0, C2, ETH0), *merged, free))
    assert (journey.outcome, journey.absorbed_into) == (Outcome.ABSORBED, "41")
    not_after_all = one(record(*merged, *TO_C2[3:], *TAKEN))
    assert (not_after_all.outcome, not_after_all.absorbed_into) == (Outcome.CONSUMED, None)


def test_a_listener_that_counts_a_drop_has_refused_the_syn() -> None:
    taken = hop("tcp_conn_request", 140, C2, ETH0)
    assert one(record(*TO_C2, taken, TAKEN[1])).outcome is Outcome.DELIVERED
    full = wire.Note(wire.NOTE_LISTENER, 2 | 1 << 32, 1, more=5)
    journey = one(record(*TO_C2, taken, TAKEN[1], full))
    assert (journey.outcome, journey.proof) == (Outcome.DROPPED, "tcp_conn_request")
    state = (("ack_backlog", 2), ("max_ack_backlog", 1), ("syn_backlog", 5))
    assert journey.drop == Drop(None, "tcp_conn_request", 0, state)


def test_at_the_stop_chunks_without_their_last_are_damaged() -> None:
    taker = correlator()
    taker.take(record(*TO_THE_BRIDGE, flags=0))
    (journey,) = taker.finish([])
    assert journey.damage == "its last chunk was lost"
    assert taker.finish([]) == []


def test_pieces_are_kept_of_as_many_packets_as_are_followed_at_once() -> None:
    assert correlate.PARTIAL_MAX >= LIVE_MAX


def test_chunks_whose_last_never_comes_do_not_pile_up() -> None:
    taker = correlator()
    limit = correlate.PARTIAL_MAX
    given_up = [
        j
        for n in range(limit + 3)
        if (j := taker.take(record(TO_C2[0], flags=0, id=n + 1))) is not None
    ]
    assert [j.id for j in given_up] == ["1", "2", "3"]
    assert {j.outcome for j in given_up} == {Outcome.DAMAGED}


def test_a_clock_that_runs_behind_on_another_cpu_does_not_turn_time_back() -> None:
    late = hop("br_handle_frame", 55, HOST, VETH1, cpu=1)
    journey = one(record(*TO_THE_BRIDGE[:4], late))
    assert [h.dt_ns for h in journey.hops[-2:]] == [60, 60]


STORIES = (
    (record(*TO_THE_BRIDGE, *TO_C2, *TAKEN, id=2),),
    (record(*TO_THE_BRIDGE, flags=0, id=4), record(*TO_C2, *TAKEN, id=4, chunk=1, base_ns=2000)),
    (
        record(TO_C2[0], flags=0, id=6),
        record(*TO_C2, flags=0, id=6, chunk=1),
        record(*TAKEN, id=6, chunk=2),
    ),
    (record(hop("skb_clone", 0, C2, ETH0), TAKEN[1], id=8, parent=4),),
)


@given(st.randoms(use_true_random=False))
def test_how_cpus_interleave_their_packets_changes_nothing(chance: random.Random) -> None:
    """Records of one packet stay in order; those of different packets come in any order."""
    waiting = [list(story) for story in STORIES]
    taker, journeys = correlator(), []
    while waiting:
        story = chance.choice(waiting)
        journeys.append(taker.take(story.pop(0)))
        waiting = [story for story in waiting if story]
    told = {j.id: j for j in journeys if j is not None}
    assert told == {j.id: j for story in STORIES for j in [one(*story)]}


@given(st.lists(RECORDS, max_size=8))
def test_any_records_give_journeys_and_each_hop_lands_in_exactly_one(
    records: list[wire.Record],
) -> None:
    anywhere = Device(Netns(1, "host"), 1, "x")
    taker = Correlator(
        Names(lambda *_: anywhere, lambda *_: anywhere.netns, lambda _: None, str, lambda *_: None)
    )
    journeys = [j for r in records if (j := taker.take(r)) is not None] + taker.finish([])
    hops = [h for j in journeys for h in j.hops if h.function != "process_backlog"]
    serve = POSITION["process_backlog"]
    expected = sum(
        isinstance(s, wire.HopSlot) and s.probe < len(PROBES) and s.probe != serve
        for r in records
        for s in r.slots
    )
    assert len(hops) == expected
    for journey in journeys:
        times = [h.dt_ns for h in journey.hops]
        assert times == sorted(times)
