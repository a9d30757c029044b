# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.any_journey import names
from tests.unit.journeys import ARP, C1, C2, CLONE, REQUEST, TCP, UDP
from tracer.duration import short, words
from tracer.model import Change, Flow, Outcome, Segment, Socket, State, Task, Verdict
from tracer.view.axis import axis_of
from tracer.view.line import cells, clip, fill, left, right, text_of, trimmed, width_of
from tracer.view.signs import ASCII, UNICODE
from tracer.words import (
    change_words,
    flow_words,
    socket_words,
    state_words,
    task_words,
    verdict_words,
)


@pytest.mark.parametrize(
    ("ns", "shown", "said"),
    [
        (0, "0.0", "0.0 us"),
        (900, "0.9", "0.9 us"),
        (38_400, "38.4", "38.4 us"),
        (99_949, "99.9", "99.9 us"),
        (99_950, "100", "100 us"),
        (1_234_000, "1234", "1234 us"),
        (9_999_499, "9999", "9999 us"),
        (9_999_500, "10.0ms", "10.0 ms"),
        (99_950_000, "100ms", "100 ms"),
        (999_499_999, "999ms", "999 ms"),
        (999_500_000, "1.00s", "1.00 s"),
        (9_994_999_999, "9.99s", "9.99 s"),
        (12_300_000_000, "12.3s", "12.3 s"),
        (3_600_000_000_000, "3600s", "3600 s"),
    ],
)
def test_times_have_the_digits_they_are_worth(ns: int, shown: str, said: str) -> None:
    assert short(ns) == shown
    assert words(ns) == said


@settings(deadline=None)
@given(st.integers(0, 10**13), st.integers(0, 10**13))
def test_a_longer_time_never_looks_shorter(one: int, other: int) -> None:
    def value(ns: int) -> float:
        number, unit = words(ns).split()
        return float(number) * {"us": 1e3, "ms": 1e6, "s": 1e9}[unit]

    low, high = sorted((one, other))
    assert value(low) <= value(high)
    assert len(short(high)) <= 6


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (REQUEST.flow, "ICMP echo request 172.17.0.2 > 172.17.0.3 id 7 seq 1"),
        (TCP.flow, "TCP P. 172.17.0.2:40012 > 172.17.0.3:8080"),
        (UDP.flow, "UDP 172.17.0.2:39201 > 172.17.0.3:9000"),
        (ARP.flow, "ARP who-has 172.17.0.3 tell 172.17.0.2"),
        (
            Flow("arp", "10.0.0.1", "10.0.0.2", eth_src="02:00:00:00:00:01", arp_op="reply"),
            "ARP reply 10.0.0.1 is-at 02:00:00:00:00:01 to 10.0.0.2",
        ),
        (Flow("arp", arp_op="9"), "ARP 9 ? > ?"),
        (Flow("tcp", "::1", "fe80::2", 1, 2, tcp_flags="S"), "TCP S [::1]:1 > [fe80::2]:2"),
        (
            Flow("icmpv6", "fe80::1", "ff02::1:ff00:2", icmp_type=135, icmp_code=0),
            "ICMPv6 neighbor solicitation fe80::1 > ff02::1:ff00:2",
        ),
        (
            Flow("icmp", "10.0.0.1", "10.0.0.2", icmp_type=3, icmp_code=3),
            "ICMP unreachable code 3 10.0.0.1 > 10.0.0.2",
        ),
        (Flow("icmp", "10.0.0.1", "10.0.0.2", icmp_type=77), "ICMP type 77 10.0.0.1 > 10.0.0.2"),
        (
            Flow("udp", "10.0.0.1", "10.0.0.2", ip_id=9, fragment=True),
            "UDP 10.0.0.1 > 10.0.0.2 fragment of 9",
        ),
        (Flow("ipv4-89", "10.0.0.1", "224.0.0.5", vlan=12), "ipv4-89 10.0.0.1 > 224.0.0.5 vlan 12"),
        (
            Flow("0x88cc", "02:00:00:00:00:01", "01:80:c2:00:00:0e"),
            "0x88cc 02:00:00:00:00:01 > 01:80:c2:00:00:0e",
        ),
        (Flow("ipv6"), "ipv6 ? > ?"),
    ],
)
def test_flows_in_the_words_of_the_field(flow: Flow, said: str) -> None:
    assert " ".join(flow_words(flow)) == said


def test_waiting_is_drawn_light_and_work_dark() -> None:
    for signs in (ASCII, UNICODE):
        drawn = {segment: signs.bar(segment) for segment in Segment}
        assert drawn.pop(Segment.WORK) == signs.work == signs.bar(None)
        assert drawn.pop(Segment.SOCKET) == signs.socket
        assert set(drawn.values()) == {signs.wait}
        assert signs.outcomes.keys() == set(Outcome)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Verdict("ipv4", "FORWARD"), ("ipv4 FORWARD", "FORWARD")),
        (Verdict("ipv6", "LOCAL_IN", "drop"), ("ipv6 LOCAL_IN DROP", "LOCAL_IN DROP")),
        (Verdict("bridge", "FORWARD", "accept"), ("bridge FORWARD accept", "br FORWARD accept")),
        (Verdict("arp", "IN", "queue"), ("arp IN queue", "arp IN queue")),
        (
            Verdict("ipv4", "FORWARD", "stolen", "filter"),
            ("ipv4 filter stolen", "filter stolen"),
        ),
        (
            Verdict("inet", "FORWARD", "drop", "t", "c", 4),
            ("inet t/c DROP rule 4", "inet t/c DROP rule 4"),
        ),
    ],
)
def test_verdicts_in_words(verdict: Verdict, said: tuple[str, str]) -> None:
    assert verdict_words(verdict) == said


@pytest.mark.parametrize(
    ("socket", "said"),
    [
        (Socket(C2, "inet", "dgram", "udp"), "udp socket in c2"),
        (Socket(C2, "inet6", "stream", "tcp"), "tcp socket in c2"),
        (Socket(C1, "inet", "raw", "icmp"), "raw icmp socket in c1"),
        (Socket(C1, "inet", "raw", "89"), "raw protocol 89 socket in c1"),
        (Socket(C1, "packet", "raw", "768"), "packet socket in c1"),
    ],
)
def test_sockets_in_words(socket: Socket, said: str) -> None:
    assert socket_words(socket) == said


def test_processes_in_words() -> None:
    assert task_words(Task(164, "ping")) == "ping[164]"
    assert task_words(Task(164, "ping", C1)) == "ping[164] in c1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change("mark", 7, 0), "mark 0x7 > 0"),
        (Change("priority", 3, 0), "priority 3 > 0"),
        (Change("classid", 0x10_0001, None), "classid 0x100001 > -"),
        (Change("ct", None, "new"), "ct - > new"),
        (Change("refdst", True, False), "refdst yes > no"),
        (Change("dport", 8088, 80), "dport 8088 > 80"),
    ],
)
def test_changes_in_words(change: Change, said: str) -> None:
    assert " ".join(change_words(change, ">")) == said


def test_only_what_is_not_as_usual_is_said_of_a_state() -> None:
    assert state_words(State()) == []
    assert state_words(State(mark=16, ct="new", csum="partial", sk=True)) == [
        "mark 0x10",
        "ct new",
    ]


def test_the_axis_is_proportional() -> None:
    axis = axis_of(REQUEST.hops, 384)
    assert [axis.cell(h.dt_ns) for h in REQUEST.hops[:4]] == [0, 9, 28, 110]
    assert axis.stretch(2_800, 11_000) == (28, 82)
    assert axis.cell(38_400) == 383


def test_a_long_socket_wait_does_not_dwarf_the_way_there() -> None:
    axis = axis_of(CLONE.hops, 25)
    assert axis.stretch(0, 2_100) == (0, 20)
    assert axis.stretch(2_100, 5_031_200) == (20, 5)


def test_no_time_takes_no_cells_and_a_little_takes_one() -> None:
    axis = axis_of(REQUEST.hops, 17)
    assert axis.stretch(20_800, 20_800)[1] == 0
    assert axis.stretch(11_000, 11_001)[1] == 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=12), st.integers(1, 200), st.booleans())
def test_stretches_follow_each_other_within_the_axis(
    steps: list[int], width: int, to_socket: bool
) -> None:
    hops, now = [], 0
    for step in steps:
        now += step
        hops.append((CLONE if to_socket else REQUEST).hops[1]._replace(dt_ns=now))
    axis = axis_of(hops, width)
    before = 0
    for hop, following in pairwise(hops):
        first, size = axis.stretch(hop.dt_ns, following.dt_ns)
        assert before <= first
        assert first + size <= width
        assert (size > 0) == (following.dt_ns > hop.dt_ns)
        before = first
    assert 0 <= axis.cell(now) < width


@settings(deadline=None)
@given(names, st.integers(0, 30))
def test_columns_are_exactly_as_wide_as_asked(name: str, width: int) -> None:
    assert cells(left(name, width, "…")) == width
    assert cells(right(name, width, "…")) == width
    assert cells(clip(name, width, "…")) <= width
    if cells(name) <= width:
        assert clip(name, width, "…") == name


def test_wide_characters_count_as_two_cells() -> None:
    assert cells("日本") == 4
    assert clip("日本語", 4, "…") == "日…"
    assert left("日本", 5, "…") == "日本 "


@settings(deadline=None)
@given(st.lists(st.tuples(names, st.just("")), max_size=12), st.integers(5, 60))
def test_filling_keeps_every_word_and_the_width(words: list[tuple[str, str]], width: int) -> None:
    lines = fill(words, width, "~")
    assert all(width_of(line) <= width for line in lines)
    if all(cells(word) <= width - 2 for word, _ in words):
        joined = " ".join(
            text_of(line).removeprefix("  " if n else "") for n, line in enumerate(lines)
        )
        assert joined == " ".join(word for word, _ in words)


def test_a_trimmed_line_has_no_blanks_at_its_end() -> None:
    assert trimmed([("a ", "x"), ("", "y"), (" b  ", "z"), ("   ", "")]) == (
        ("a ", "x"),
        (" b", "z"),
    )
    assert trimmed([("  ", "")]) == ()
