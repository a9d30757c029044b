# SPDX-License-Identifier: GPL-2.0-only
"""The playbook of exchanges: journeys in the order they end, references out."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import (
    ALL,
    C1_IP,
    C2_IP,
    CLONE,
    DAMAGED,
    DOCKER0,
    ETH0_C1,
    ETH0_C2,
    REPLY,
    REQUEST,
    TCP,
    UDP,
    echo,
    one_of,
)
from tracer.exchanges import Exchanges
from tracer.model import Change, Device, Flow, Hop, Journey, Outcome, Reference

OUTSIDE = "198.51.100.7"
UPLINK = "192.0.2.1"


def journey(
    id: str,
    flow: Flow,
    start_ns: int = 1000,
    *,
    device: Device | None = ETH0_C1,
    length: int = 66,
    changes: tuple[Change, ...] = (),
    parent: str | None = None,
) -> Journey:
    hops = (
        Hop("veth_xmit", 0, 0, device, length, None),
        Hop("ip_output", 100, 0, DOCKER0, length, None, changes=changes),
        Hop("skb_release_head_state", 200, 0, None, length, None),
    )
    return Journey(id, parent, 1, flow, start_ns, hops, Outcome.CONSUMED)


def tcp(flags: str, seq: int, ack: int | None = None, *, back: bool = False) -> Flow:
    ends = (C2_IP, C1_IP, 80, 40000) if back else (C1_IP, C2_IP, 40000, 80)
    return Flow("tcp", *ends, ip_id=7, tcp_flags=flags, tcp_seq=seq, tcp_ack=ack)


def references(*journeys: Journey) -> list[list[tuple[str, str, int]]]:
    """What each is found to refer to: as they are, as what need not be made, and by turns."""
    ways: list[list[list[tuple[str, str, int]]]] = []
    for which in ((False,), (True,), (False, True), (True, False)):
        exchanges, found = Exchanges(), []
        for each, unmade in zip(journeys, cycle(which), strict=False):
            journey = each._replace(references=())  # the stories have some already
            referred = exchanges.refer(one_of(journey) if unmade else journey)
            found.append([(r.kind, r.id, r.after_ns) for r in referred.references])
        ways.append(found)
    assert all(found == ways[0] for found in ways)
    return ways[0]


def last(*journeys: Journey) -> list[tuple[str, str, int]]:
    return references(*journeys)[-1]


# Echo


def test_a_pong_answers_its_ping() -> None:
    assert references(REQUEST, REPLY) == [[], [("answers", "11", 26_877)]]


def test_a_ping_over_ipv6_is_answered_too() -> None:
    ping = Flow("icmpv6", "fd00::2", "fd00::3", icmp_type=128, icmp_id=7, icmp_seq=1)
    pong = ping._replace(src="fd00::3", dst="fd00::2", icmp_type=129)
    assert last(journey("1", ping), journey("2", pong, 1500)) == [("answers", "1", 500)]


@pytest.mark.parametrize("other", [{"icmp_id": 8}, {"icmp_seq": 2}, {"src": "172.17.0.4"}])
def test_another_pong_is_no_answer(other: dict[str, object]) -> None:
    flow = REPLY.flow._replace(**other)  # type: ignore[arg-type]
    assert last(REQUEST, REPLY._replace(flow=flow)) == []


def test_a_host_that_pings_itself_is_answered_once() -> None:
    ping = echo(8, "127.0.0.1", "127.0.0.1")
    pong = ping._replace(icmp_type=0)
    assert references(journey("1", ping), journey("2", pong, 1100)) == [
        [],
        [("answers", "1", 100)],
    ]


def test_a_pong_that_is_seen_behind_nat_answers_the_ping_as_nat_left_it() -> None:
    ping = journey(
        "1",
        echo(8, C1_IP, OUTSIDE),
        changes=(Change("src", C1_IP, UPLINK), Change("icmp_id", 7, 1024)),
    )
    pong = journey("2", echo(0, OUTSIDE, UPLINK)._replace(icmp_id=1024), 3000)
    assert last(ping, pong) == [("answers", "1", 2000)]


def test_a_pong_that_is_seen_before_nat_answers_the_ping_as_it_began() -> None:
    ping = journey("1", echo(8, C1_IP, OUTSIDE), changes=(Change("src", C1_IP, UPLINK),))
    assert last(ping, journey("2", echo(0, OUTSIDE, C1_IP), 3000)) == [("answers", "1", 2000)]


def test_a_request_that_ends_after_its_reply_comes_too_late() -> None:
    assert references(REPLY, REQUEST) == [[], []]


def test_nothing_answers_what_began_after_it() -> None:
    assert last(REQUEST._replace(start_ns=REPLY.start_ns + 1), REPLY) == []


# TCP


def test_a_syn_ack_answers_its_syn() -> None:
    syn = journey("1", tcp("S", 99))
    answer = journey("2", tcp("S.", 5000, 100, back=True), 1400, device=ETH0_C2)
    assert last(syn, answer) == [("answers", "1", 400)]


def test_sequence_numbers_begin_again_at_two_to_the_32() -> None:
    syn = journey("1", tcp("S", 2**32 - 1))
    assert last(syn, journey("2", tcp("S.", 5000, 0, back=True))) == [("answers", "1", 0)]


def test_a_syn_ack_for_another_syn_is_no_answer() -> None:
    assert last(journey("1", tcp("S", 99)), journey("2", tcp("S.", 5000, 101, back=True))) == []


def test_a_syn_ack_answers_a_syn_whose_destination_was_rewritten() -> None:
    flow = tcp("S", 99)._replace(dst=UPLINK, dport=8088)
    rewritten = (Change("dst", UPLINK, C2_IP), Change("dport", 8088, 80))
    syn = journey("1", flow, changes=rewritten)
    assert last(syn, journey("2", tcp("S.", 5, 100, back=True))) == [("answers", "1", 0)]


def test_a_syn_sent_again_repeats_the_one_before() -> None:
    assert references(
        journey("1", tcp("S", 99)),
        journey("2", tcp("S", 99), 1_000_001_000),
        journey("3", tcp("S", 99), 3_000_001_000),
    ) == [[], [("repeats", "1", 1_000_000_000)], [("repeats", "2", 2_000_000_000)]]


def test_a_syn_ack_sent_again_repeats_and_answers() -> None:
    first = journey("2", tcp("S.", 5, 100, back=True), 1400, device=ETH0_C2)
    again = first._replace(id="3", start_ns=9000)
    assert last(journey("1", tcp("S", 99)), first, again) == [
        ("repeats", "2", 7600),
        ("answers", "1", 8000),
    ]


@pytest.mark.parametrize(
    ("flags", "length"), [("P.", 70), ("F.", 66), ("FP.", 70), (".", 1514), (".", 139)]
)
def test_data_and_fin_sent_again_repeat(flags: str, length: int) -> None:
    first = journey("1", tcp(flags, 7, 1), length=length)
    again = journey("2", tcp(flags, 7, 1), 5000, length=length)
    assert last(first, again) == [("repeats", "1", 4000)]


def test_a_large_segment_sent_again_in_smaller_ones_repeats_with_the_first_of_them() -> None:
    assert references(
        journey("1", tcp("P.", 7, 1), length=65_226),
        journey("2", tcp(".", 7, 1), 5000, length=1514),
        journey("3", tcp(".", 1455, 1), 5001, length=1514),
    ) == [[], [("repeats", "1", 4000)], []]


def test_pure_acks_have_the_same_sequence_number_and_repeat_nothing() -> None:
    ack = tcp(".", 7, 1)
    assert (
        references(
            journey("1", ack),
            journey("2", ack, 2000),
            journey("3", ack, 2500, length=138),  # all options there are
            journey("4", tcp("P.", 7, 1), 3000),  # data, after ACKs with its sequence number
            journey("5", ack, 4000),
        )
        == [[]] * 5
    )


def test_a_reset_repeats_nothing() -> None:
    assert last(journey("1", tcp("R.", 7)), journey("2", tcp("R.", 7), 2000)) == []


def test_the_same_segment_seen_on_another_device_was_not_sent_again() -> None:
    """A tunnel or a program makes another skb of it: two journeys, one segment."""
    here, there = tcp("P.", 7, 1), tcp("P.", 7, 1)
    assert references(
        journey("1", here),
        journey("2", there, 1500, device=DOCKER0),
        journey("3", here, 8000),
        journey("4", there, 8500, device=DOCKER0),
    ) == [[], [], [("repeats", "1", 7000)], []]


def test_where_no_device_is_known_nothing_repeats() -> None:
    first = journey("1", tcp("P.", 7, 1))
    first = first._replace(hops=first.hops[2:])
    assert last(first, first._replace(id="2", start_ns=5000)) == []


def test_a_segment_whose_first_device_is_known_later_has_one_place_all_the_same() -> None:
    first = journey("1", tcp("P.", 7, 1), device=None)
    assert last(first, first._replace(id="2", start_ns=5000)) == [("repeats", "1", 4000)]


def test_a_repetition_that_ends_first_is_not_what_the_first_repeats() -> None:
    again, first = journey("2", tcp("P.", 7, 1), 5000), journey("1", tcp("P.", 7, 1))
    assert references(again, first) == [[], []]


def test_another_flow_repeats_nothing() -> None:
    other = tcp("P.", 7, 1)._replace(sport=40001)
    assert last(journey("1", tcp("P.", 7, 1)), journey("2", other, 5000)) == []


# ICMP errors


def error(about: Flow | None, kind: int = 3, code: int = 3) -> Flow:
    return Flow("icmp", C2_IP, C1_IP, icmp_type=kind, icmp_code=code, about=about)


def test_port_unreachable_reports_the_datagram() -> None:
    about = UDP.flow._replace(eth_src=None, eth_dst=None)
    unreachable = journey("41", error(about), UDP.start_ns + 300, device=ETH0_C2)
    assert last(UDP, unreachable) == [("reports", "40", 300)]


def test_it_reports_this_datagram_and_not_the_one_after_it() -> None:
    after = UDP._replace(id="42", flow=UDP.flow._replace(ip_id=6))
    assert last(UDP, after, journey("41", error(UDP.flow), UDP.start_ns)) == [("reports", "40", 0)]


def test_it_reports_the_later_one_of_two_that_look_the_same() -> None:
    flow = Flow("udp", C1_IP, C2_IP, 4000, 53, ip_id=7)
    error = Flow("icmp", C2_IP, C1_IP, icmp_type=3, icmp_code=3, about=flow)
    told = last(journey("0", flow, 1000), journey("1", flow, 3000), journey("2", error, 9000))
    assert told == [("reports", "1", 6000)]


def test_time_exceeded_reports_a_ping() -> None:
    exceeded = error(echo(8, C1_IP, OUTSIDE), kind=11, code=0)
    ping = journey("1", echo(8, C1_IP, OUTSIDE))
    assert last(ping, journey("2", exceeded)) == [("reports", "1", 0)]


def test_fragmentation_needed_reports_a_segment_of_which_eight_bytes_came_back() -> None:
    about = Flow("tcp", C1_IP, C2_IP, 40000, 80, tcp_seq=7)
    segment = journey("1", tcp("P.", 7, 1), length=1514)
    assert last(segment, journey("2", error(about, code=4))) == [("reports", "1", 0)]


def test_unreachable_reports_a_syn() -> None:
    assert last(journey("1", tcp("S", 99)), journey("2", error(tcp("S", 99), code=1))) == [
        ("reports", "1", 0)
    ]


def test_an_error_from_behind_nat_reports_the_packet_as_nat_left_it() -> None:
    sent = journey("1", UDP.flow, changes=(Change("src", C1_IP, UPLINK), Change("sport", 0, 6000)))
    about = UDP.flow._replace(src=UPLINK, sport=6000)
    assert last(sent, journey("2", error(about))) == [("reports", "1", 0)]


def test_an_icmpv6_error_reports_a_datagram_by_its_ports() -> None:
    sent = Flow("udp", "fd00::2", "fd00::3", 5000, 53)
    unreachable = Flow("icmpv6", "fd00::3", "fd00::2", icmp_type=1, about=sent)
    assert last(journey("1", sent), journey("2", unreachable)) == [("reports", "1", 0)]


def test_an_error_that_carries_no_addresses_reports_nothing() -> None:
    assert last(UDP, journey("2", error(Flow("udp")))) == []
    assert last(UDP, journey("2", error(None))) == []


# Branches, order, bounds


def test_branches_take_no_part() -> None:
    assert CLONE.parent is not None
    assert last(REQUEST, CLONE) == []
    clone = journey("1", tcp("P.", 7, 1), parent="0")
    assert last(clone, journey("2", tcp("P.", 7, 1), 5000)) == []


def test_other_journeys_come_back_as_they_are() -> None:
    exchanges = Exchanges()
    for name in ("arp", "arp-flooded", "udp", "dropped", "clone"):
        assert exchanges.refer(ALL[name]) is ALL[name]


def test_references_that_are_there_stay() -> None:
    kept = Reference("answers", "0", 5)
    journeys = REQUEST, REPLY._replace(references=(kept,))
    exchanges = Exchanges()
    referred = [exchanges.refer(each) for each in journeys]
    assert [r.id for r in referred[-1].references] == ["0", REQUEST.id]


def test_the_oldest_are_forgotten() -> None:
    exchanges = Exchanges(most=4)
    for number in range(100):
        exchanges.refer(journey(str(number), tcp("P.", number, 1), number))
    assert len(exchanges) <= 8
    assert exchanges.refer(journey("a", tcp("P.", 0, 1), 1000)).references == ()
    assert [r.id for r in exchanges.refer(journey("b", tcp("P.", 99, 1), 1000)).references] == [
        "99"
    ]


def test_the_oldest_datagrams_are_forgotten_though_nobody_asked() -> None:
    exchanges = Exchanges(most=4)
    datagram = journey("0", Flow("udp", C1_IP, C2_IP, 4000, 53, ip_id=0))
    alike = one_of(datagram).alike
    for number in range(100):
        flow = datagram.flow._replace(ip_id=number)
        exchanges.refer(one_of(datagram._replace(id=str(number), flow=flow), alike))
    assert len(exchanges) <= 8
    found = []
    for number in (0, 96, 99):
        about = datagram.flow._replace(ip_id=number)
        error = Flow("icmp", C2_IP, C1_IP, icmp_type=3, icmp_code=3, about=about)
        found.append([r.id for r in exchanges.refer(journey("e", error, 1000)).references])
    assert found == [[], ["96"], ["99"]]


def test_a_flood_of_data_does_not_push_out_what_was_asked() -> None:
    exchanges = Exchanges(most=4)
    exchanges.refer(REQUEST)
    for number in range(100):
        exchanges.refer(journey(str(number), tcp("P.", number, 1), number))
    assert exchanges.refer(REPLY).references != ()


@given(st.lists(any_journey.journeys(), max_size=12))
def test_any_journeys_are_referred_to_earlier_ones_only(journeys: list[Journey]) -> None:
    exchanges = Exchanges(most=4)
    seen: dict[str, list[int]] = {}
    for each in journeys:
        referred = exchanges.refer(each)
        assert referred._replace(references=each.references) == each
        for reference in referred.references[len(each.references) :]:
            assert each.start_ns - reference.after_ns in seen[reference.id]
            assert reference.after_ns >= 0
        seen.setdefault(each.id, []).append(each.start_ns)
    assert len(exchanges) <= 16


def test_what_comes_out_of_the_docker0_lab() -> None:
    stories = (REQUEST, REPLY, CLONE, UDP, TCP, DAMAGED)
    found = {j.id: r for j, r in zip(stories, references(*stories), strict=True) if r}
    assert found == {
        REPLY.id: [("answers", REQUEST.id, 26_877)],
        DAMAGED.id: [("repeats", TCP.id, 310_000_000)],
    }
