# SPDX-License-Identifier: GPL-2.0-only
"""The playbook: records in, journeys out. Each test is a packet's story as the kernel tells it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_wire import RECORDS
from tracer import correlate, wire
from tracer.correlate import Correlator, Names
from tracer.model import Device, Hop, Journey, Netns, Outcome, Segment
from tracer.probes import MISSION, PROBES

C1, HOST, C2 = 101, 1, 102
ETH0, VETH1, VETH2 = 2, 3, 4
NETNS = {C1: "c1", HOST: "host", C2: "c2"}
IFNAMES = {(C1, ETH0): "eth0", (HOST, VETH1): "veth1", (HOST, VETH2): "veth2", (C2, ETH0): "eth0"}
SYMBOLS = {
    0x1000: ("nf_hook_slow", 16),
    0x2000: ("ping_rcv", 8),
    0x3000: ("tcp_rcv_state_process", 8),
    0x4000: ("icmpv6_rcv", 8),
}
REASONS = {2: "NOT_SPECIFIED", 3: "NO_SOCKET", 8: "NETFILTER_DROP"}
POSITION = {p.function: i for i, p in enumerate(PROBES) if p.handler != "cloned"}

# An echo request from 172.17.0.2 to 172.17.0.3, id 7, seq 1.
ETHERNET = bytes.fromhex("0242ac1100030242ac1100020800")
IP = bytes.fromhex("450000540000400040010000ac110002ac110003")
ECHO = bytes.fromhex("0800000000070001")
HEADERS = (ETHERNET + IP + ECHO).ljust(wire.HEADER_BYTES, b"\0")


def device(netns: int, ifindex: int) -> Device:
    return Device(Netns(netns, NETNS[netns]), ifindex, IFNAMES[netns, ifindex])


def correlator() -> Correlator:
    return Correlator(Names(device, SYMBOLS.get, REASONS.__getitem__))


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
) -> wire.Record:
    return wire.Record(
        id, parent, 0xFFFF888000001000, base_ns, chunk, flags, b"\x08\x00", None, 14, HEADERS, slots
    )


def one(*records: wire.Record) -> Journey:
    taker = correlator()
    journeys = [j for r in records if (j := taker.take(r)) is not None]
    assert len(journeys) == 1
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


def test_an_echo_request_through_the_bridge_is_one_delivered_journey() -> None:
    journey = one(record(*TO_THE_BRIDGE, *TO_C2, *TAKEN))

    assert functions(journey) == [*EXPECTED_MISSION, "icmp_rcv", "skb_release_head_state"]
    assert (journey.outcome, journey.proof) == (Outcome.DELIVERED, "icmp_rcv")
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
    assert journey.drop == ("NETFILTER_DROP", "nf_hook_slow", 16)


def test_a_drop_in_the_protocol_is_a_drop_although_the_protocol_was_reached() -> None:
    drop = wire.Note(wire.NOTE_DROP, 0x2000, 3)
    journey = one(record(*TO_C2, TAKEN[0], drop, TAKEN[1]))
    assert journey.outcome is Outcome.DROPPED


def test_before_5_17_a_drop_has_no_reason() -> None:
    drop = wire.Note(wire.NOTE_DROP, 0x9999, wire.NO_REASON)
    journey = one(record(*TO_C2, drop, TAKEN[1]))
    assert journey.drop == (None, None, 0)


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


def test_icmpv6_freed_what_it_had_taken_as_a_drop_without_a_reason() -> None:
    taken = hop("icmpv6_rcv", 140, C2, ETH0)
    for reason in (2, wire.NO_REASON):
        drop = wire.Note(wire.NOTE_DROP, 0x4000, reason)
        journey = one(record(*TO_C2, taken, drop, TAKEN[1]))
        assert (journey.outcome, journey.proof) == (Outcome.DELIVERED, "icmpv6_rcv")
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
    assert journey.outcome is Outcome.DELIVERED


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
    assert taker.lost == {"probe_missed": 1, "chunk_lost": 0}
    taker.take(record(*TO_C2[:3], *TAKEN))  # no receive after the enqueue
    assert taker.lost["probe_missed"] == 2
    taker.take(record(*TO_C2[:3], TAKEN[1]))  # dropped from the queue: nothing is missing
    taker.take(record(*TO_THE_BRIDGE, *TO_C2, *TAKEN))
    assert taker.lost["probe_missed"] == 2


def test_a_lost_chunk_is_counted_once_and_not_as_a_missed_hit() -> None:
    taker = correlator()
    taker.take(record(*TO_THE_BRIDGE[:3], flags=0))
    taker.take(record(*TAKEN, chunk=2, base_ns=2000))
    taker.take(record(*TO_THE_BRIDGE, flags=0, id=7))
    taker.finish([])
    assert taker.lost == {"probe_missed": 0, "chunk_lost": 2}


def test_what_lives_at_the_stop_is_unfinished_whatever_it_reached() -> None:
    taker = correlator()
    assert taker.take(record(*TO_THE_BRIDGE, flags=0)) is None
    (journey,) = taker.finish([record(TAKEN[0], flags=0, chunk=1, base_ns=2000)])
    assert (journey.outcome, journey.proof) == (Outcome.UNFINISHED, None)
    assert len(journey.hops) == 8
    assert journey.hops[-1].segment is None


def test_at_the_stop_chunks_without_their_last_are_damaged() -> None:
    taker = correlator()
    taker.take(record(*TO_THE_BRIDGE, flags=0))
    (journey,) = taker.finish([])
    assert journey.damage == "its last chunk was lost"
    assert taker.finish([]) == []


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
    taker = Correlator(Names(lambda _n, _i: anywhere, lambda _a: None, str))
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
