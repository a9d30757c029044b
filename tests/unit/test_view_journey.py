# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.golden import assert_golden
from tests.unit.journeys import (
    ABSORBED,
    ALL,
    ARP,
    C1,
    C2,
    CAPTURE,
    CLONE,
    DAMAGED,
    DROPPED,
    HOST,
    NAT,
    NFT_DROPPED,
    READ,
    REPLY,
    REQUEST,
    TCP,
    UNFINISHED,
    UNREACHABLE,
    explained,
)
from tests.unit.topologies import DOCKER
from tracer.explain import Explanation
from tracer.model import Branch, Device, Drop, Journey, Netns, Outcome, Verdict
from tracer.view.journey import NARROWEST, render
from tracer.view.line import Line, cells, text_of, width_of
from tracer.view.look import Look
from tracer.view.theme import STYLES

ASCII, UNICODE = Look(ascii=True), Look()


@pytest.fixture(autouse=True)
def _explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.view.journey.explain", explained)


def texts(journey: Journey, width: int = 80, look: Look = ASCII) -> list[str]:
    return [text_of(line) for line in render(journey, width, look)]


def hop_rows(lines: list[Line]) -> list[Line]:
    return [line for line in lines if any(style == "function" for _, style in line)]


@pytest.mark.parametrize(
    ("width", "look"),
    [
        (80, ASCII),
        (80, UNICODE),
        (120, ASCII),
        (120, UNICODE),
        (60, ASCII),
        (50, ASCII),
        (48, UNICODE),
    ],
)
def test_the_blocks_look_as_accepted(width: int, look: Look) -> None:
    blocks = ["\n".join(texts(journey, width, look)) + "\n" for journey in ALL.values()]
    kind = "ascii" if look.ascii else "unicode"
    assert_golden(f"journeys-{width}-{kind}.txt", "\n".join(blocks))


def test_the_styles_are_as_accepted() -> None:
    look = Look(netns_styles={HOST.inum: "netns0", C1.inum: "netns1", C2.inum: "netns2"})
    shown = (REQUEST, CLONE, DROPPED, UNFINISHED, NAT, NFT_DROPPED, READ, UNREACHABLE)
    lines = [line for j in shown for line in render(j, 80, look)]
    marked = ["".join(f"<{style}>{text}" for text, style in line) for line in lines]
    assert_golden("styles-80-unicode.txt", "\n".join(marked) + "\n")


def test_what_was_expected_stands_below_the_explanation() -> None:
    capture = replace(CAPTURE, topology=DOCKER)
    shown = texts(NFT_DROPPED, 80, Look(ascii=True, capture=capture))
    assert shown[: len(texts(NFT_DROPPED))] == texts(NFT_DROPPED)
    assert shown[len(texts(NFT_DROPPED)) :] == [
        "  expected net_dev_start_xmit at host/uplink next: route 0.0.0.0/0 via 10.0.2.2;",
        "  masquerade",
    ]
    unfinished = texts(UNFINISHED, 80, Look(ascii=True, capture=capture))
    assert unfinished[-1] == "  expected process_backlog at host/vethc1 next"
    assert texts(REQUEST, 80, Look(ascii=True, capture=capture)) == texts(REQUEST)
    # A trace of everything, or one that says less of its topology.
    for other in (replace(CAPTURE, topology=None), CAPTURE):
        assert texts(UNFINISHED, 80, Look(ascii=True, capture=other)) == texts(UNFINISHED)


@settings(deadline=None, max_examples=100)
@given(any_journey.journeys(), st.integers(NARROWEST, 200), st.booleans())
@example(REQUEST, 80, True)
def test_no_line_is_wider_than_the_terminal(journey: Journey, width: int, ascii: bool) -> None:
    for line in render(journey, width, Look(ascii=ascii)):
        assert width_of(line) <= width
        assert "\n" not in text_of(line)


@settings(deadline=None, max_examples=60)
@given(any_journey.journeys(), st.integers(NARROWEST, 200))
def test_every_hop_has_one_row_in_order(journey: Journey, width: int) -> None:
    rows = hop_rows(render(journey, width, UNICODE))
    assert len(rows) == len(journey.hops)
    for hop, row in zip(journey.hops, rows, strict=True):
        [shown] = [text for text, style in row if style == "function"]
        if shown != hop.function:  # longer than any of ours, or a narrow terminal
            assert len(hop.function) > 24 or width < 60
            assert shown.endswith("…")
            assert hop.function.startswith(shown[:-1])


@settings(deadline=None, max_examples=60)
@given(any_journey.journeys(), st.integers(NARROWEST, 200))
def test_ascii_means_ascii_and_every_style_has_a_look(journey: Journey, width: int) -> None:
    for line in render(journey, width, ASCII):
        assert text_of(line).isascii()
        assert {style for _, style in line} <= STYLES.keys()


@settings(deadline=None, max_examples=60)
@given(any_journey.journeys(), st.integers(60, 200))
def test_bars_never_go_back_in_time_nor_past_the_edge(journey: Journey, width: int) -> None:
    axis = UNICODE.signs.axis
    last_start = last_end = 0
    for row in hop_rows(render(journey, width, UNICODE)):
        split = [n for n, span in enumerate(row) if span == (axis, "axis")]
        if not split:
            continue  # no room for bars
        bar = "".join(text for text, _ in row[split[0] + 1 :])
        assert cells(bar) <= width
        start = len(bar) - len(bar.lstrip(" "))
        if bar.strip():
            assert start >= last_start
            assert start >= last_end - 1  # a stretch of less than a cell shares its neighbour's
            last_start, last_end = start, len(bar)


@settings(deadline=None, max_examples=60)
@given(any_journey.journeys(), st.integers(NARROWEST, 200), st.booleans())
def test_the_outcome_is_said_last_in_a_word_and_a_sign(
    journey: Journey, width: int, ascii: bool
) -> None:
    look = Look(ascii=ascii)
    lines = render(journey, width, look)
    said = [
        line
        for line in lines
        if line[0] == (look.signs.outcomes[journey.outcome], journey.outcome.value)
    ]
    assert len(said) == 1
    word = {Outcome.DROPPED: "DROP"}.get(journey.outcome, journey.outcome.value)
    after = lines[lines.index(said[0]) :]
    assert word in " ".join(text_of(line) for line in after)
    assert not hop_rows(after)


def test_a_render_is_a_function_of_its_arguments() -> None:
    assert render(REQUEST, 80, ASCII) == render(REQUEST, 80, ASCII)


def test_less_than_the_narrowest_is_taken_as_the_narrowest() -> None:
    assert texts(REQUEST, 1) == texts(REQUEST, NARROWEST)


def test_the_wait_for_the_softirq_is_told_from_the_wait_behind_others_and_from_work() -> None:
    [enqueue, dequeue] = [t for t in texts(REQUEST) if "wait" in t or "behind" in t][:2]
    assert "enqueue_to_backlog softirq wait" in enqueue
    assert enqueue.endswith(" ....")
    assert "process_backlog   behind others" in dequeue
    assert any("process_backlog already running" in t for t in texts(REQUEST))
    assert any("__sock_queue_rcv_skb socket" in t and t.endswith("~~~~~") for t in texts(CLONE))


def test_a_change_of_cpu_stands_where_it_happens() -> None:
    rows = [t for t in texts(REQUEST) if " 0>1 " in t]
    assert len(rows) == 1
    assert "enqueue_to_backlog" in rows[0]


def test_every_crossing_between_namespaces_is_a_rule() -> None:
    rules = [t for t in texts(REQUEST) if t.startswith("---- netns")]
    assert [t.rstrip("-") for t in rules] == ["---- netns c1 -> host ", "---- netns host -> c2 "]
    assert {len(t) for t in rules} == {80}


def test_a_hop_without_device_is_no_crossing() -> None:
    assert not any(t.startswith("----") for t in texts(CLONE))


def test_two_namespaces_of_one_name_are_still_two() -> None:
    twin = Device(Netns(1, "c1"), 2, "eth0")
    hops = (REQUEST.hops[0], REQUEST.hops[1]._replace(device=twin))
    assert any("netns c1 -> c1" in t for t in texts(REQUEST._replace(hops=hops)))


def test_branches_stand_below_the_hop_where_they_left() -> None:
    lines = texts(ARP)
    at = [n for n, t in enumerate(lines) if t.strip() in {"`- #51", "`- #52"}]
    assert len(at) == 2
    assert all("skb_clone" in lines[n - 1] for n in at)


def test_a_branch_says_whose_it_is() -> None:
    assert texts(CLONE)[0].endswith("branch of #12")


@pytest.mark.parametrize(
    ("journey", "sentence"),
    [
        (REQUEST, "= consumed by ICMP (icmp_rcv) at c2/eth0 after 25.9 us, freed at 38.4 us"),
        (TCP, "= delivered to tcp_v4_rcv at c2/eth0 after 16.6 us, freed at 1266 us"),
        (
            REPLY,
            "= delivered to __sock_queue_rcv_skb through its branch #13 at c1/eth0 after 31.1 us",
        ),
        (ARP, "= consumed by ARP (arp_rcv) at host/docker0 after 24.7 us, freed at 26.8 us"),
        (
            ARP._replace(proof="br_handle_frame"),
            "= consumed by br_handle_frame at host/vethc1 after 5.5 us, freed at 26.8 us",
        ),
        (NAT, "> transmitted by host/uplink after 31.0 us, freed at 40.2 us"),
        (
            NAT._replace(proof="dev_hard_start_xmit"),
            "> transmitted at host/uplink after 40.2 us",
        ),
        (ABSORBED, "+ absorbed into #20 at host/uplink after 6.1 us"),
        (
            ABSORBED._replace(absorbed_into=None),
            "+ absorbed into a packet that is not followed, at host/uplink after 6.1 us",
        ),
        (
            READ._replace(hops=(*READ.hops[:-1], READ.hops[-1]._replace(task=None))),
            "= delivered to udp socket in c2 (__sock_queue_rcv_skb) at c2/eth0 after 14.9 us, "
            "freed at 37.1 us",
        ),
        (
            ARP._replace(proof="skb_release_head_state"),
            "= consumed: freed, not dropped, at host/docker0 after 26.8 us",
        ),
        (
            DROPPED,
            "X DROP NETFILTER_DROP in nf_hook_slow+0xa5 at host/docker0 after 11.7 us",
        ),
        (
            DROPPED._replace(drop=Drop(None, None)),
            "X DROP at host/docker0 after 11.7 us",
        ),
        (
            UNFINISHED,
            "? unfinished: last seen in enqueue_to_backlog at host/vethc1 after 2.8 us",
        ),
        (DAMAGED, "! damaged: chunk 1 missing"),
        (DAMAGED._replace(hops=(), damage=None), "! damaged: part of it was lost"),
    ],
)
def test_how_it_ended_in_words(journey: Journey, sentence: str) -> None:
    lines = texts(journey, 120)
    assert lines[-1] == sentence


def test_a_datagram_that_is_read_names_socket_process_and_queue() -> None:
    assert " ".join(t.strip() for t in texts(READ)[-2:]) == (
        "= delivered to udp socket in c2 (__sock_queue_rcv_skb) at c2/eth0 after 14.9 us, "
        "read by socat[177] at 37.1 us, 22.2 us in its queue"
    )


def test_what_is_not_as_usual_at_the_start_is_one_line() -> None:
    assert texts(READ, 120)[1] == "mark 0x7, priority 3, tc_index 1"
    assert texts(REQUEST)[1].startswith("c1/eth0 >")  # looked at, and as usual
    assert texts(TCP)[1].startswith("c1/eth0 >")  # not looked at


def test_what_changed_stands_below_the_hop_that_changed_it() -> None:
    lines = texts(NAT, 120)
    at = next(n for n, t in enumerate(lines) if "198.51.100.1" in t)
    assert "nft_do_chain" in lines[at - 1]
    assert lines[at].strip() == "src 172.17.0.2 -> 198.51.100.1, sport 51234 -> 1027"


def test_a_verdict_stands_beside_its_function_or_below_it() -> None:
    lines = texts(NFT_DROPPED)
    assert any("nf_hook_slow        FORWARD accept " in t for t in lines)
    at = next(n for n, t in enumerate(lines) if t.strip() == "ipv4 filter/FORWARD DROP rule 4")
    assert "nft_do_chain" in lines[at - 1]


def test_a_name_of_many_words_does_not_take_the_room_of_the_bars() -> None:
    verdict = Verdict("inet", "FORWARD", "accept", "firewalld", "filter_FWD_policies_pre")
    hops = tuple(h._replace(verdict=verdict if n == 6 else None) for n, h in enumerate(NAT.hops))
    lines = texts(NAT._replace(hops=hops))
    assert any(t.strip() == "inet firewalld/filter_FWD_policies_pre accept" for t in lines)
    assert any("|" in t for t in lines)


def test_many_branches_of_one_hop_share_its_lines() -> None:
    branches = tuple(Branch(str(100 + n), 6) for n in range(45))
    lines = [t for t in texts(REQUEST._replace(branches=branches)) if "#1" in t[1:]]
    assert lines[0].strip().startswith("`- #100, #101, ")
    assert len(lines) < 6


def test_other_journeys_are_named_in_the_head() -> None:
    assert texts(REPLY, 120)[0].endswith("98 bytes, answers #11, 26.9 us after it")
    both = CLONE._replace(references=UNREACHABLE.references)
    assert texts(both, 120)[0].endswith("branch of #12, reports #40, 31.0 us after it")


def test_a_drop_is_followed_by_what_it_means() -> None:
    lines = texts(NFT_DROPPED, 120)
    at = next(n for n, t in enumerate(lines) if t.startswith("X DROP NETFILTER_DROP"))
    assert lines[at + 1].startswith("  Rule 4 of chain FORWARD")
    assert lines[at + 2] == "  Forwarding is on for docker0; its MTU is 1500."
    assert lines[at + 3].startswith("  try: nsenter ")
    delivered = NFT_DROPPED._replace(outcome=Outcome.DELIVERED)
    assert "Rule 4" not in "\n".join(texts(delivered, 120))


def test_a_drop_may_have_nothing_more_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tracer.view.journey.explain", lambda _: Explanation("So it is.", None, None)
    )
    assert texts(DROPPED, 120)[-1] == "  So it is."
    monkeypatch.setattr("tracer.view.journey.explain", lambda _: None)
    assert texts(DROPPED, 120)[-1].startswith("X DROP")


def test_color_is_never_the_only_sign() -> None:
    """Two journeys that differ in outcome alone differ in text."""
    ends = {texts(REQUEST._replace(outcome=outcome))[-1] for outcome in Outcome}
    assert len(ends) == len(Outcome)


def test_markup_in_a_name_is_just_a_name() -> None:
    device = Device(HOST, 9, "[red]x[/]")
    hop = REQUEST.hops[0]._replace(device=device)
    assert "host/[red]x[/]" in texts(REQUEST._replace(hops=(hop,)))[1]


def test_columns_line_up() -> None:
    lines = render(REQUEST, 80, ASCII)
    edges = {text_of(line).index("|") for line in lines if ("|", "axis") in line}
    assert len(edges) == 1


def test_more_room_goes_to_the_bars() -> None:
    def longest(width: int) -> int:
        return max(t.count("#") for t in texts(REQUEST, width))

    assert longest(60) < longest(80) < longest(120)
