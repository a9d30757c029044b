# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.golden import assert_golden
from tests.unit.journeys import (
    ALL,
    ARP,
    C1,
    C2,
    CLONE,
    DAMAGED,
    DROPPED,
    HOST,
    REPLY,
    REQUEST,
    TCP,
    UNFINISHED,
)
from tracer.model import Device, Drop, Journey, Netns, Outcome
from tracer.view.journey import NARROWEST, render
from tracer.view.line import Line, cells, text_of, width_of
from tracer.view.look import Look
from tracer.view.theme import STYLES

ASCII, UNICODE = Look(ascii=True), Look()


def texts(journey: Journey, width: int = 80, look: Look = ASCII) -> list[str]:
    return [text_of(line) for line in render(journey, width, look)]


def hop_rows(lines: list[Line]) -> list[Line]:
    return [line for line in lines if any(style == "function" for _, style in line)]


@pytest.mark.parametrize(
    ("width", "look"), [(80, ASCII), (80, UNICODE), (120, UNICODE), (60, ASCII), (48, UNICODE)]
)
def test_the_blocks_look_as_accepted(width: int, look: Look) -> None:
    blocks = ["\n".join(texts(journey, width, look)) + "\n" for journey in ALL.values()]
    kind = "ascii" if look.ascii else "unicode"
    assert_golden(f"journeys-{width}-{kind}.txt", "\n".join(blocks))


def test_the_styles_are_as_accepted() -> None:
    look = Look(netns_styles={HOST.inum: "netns0", C1.inum: "netns1", C2.inum: "netns2"})
    lines = [line for j in (REQUEST, CLONE, DROPPED, UNFINISHED) for line in render(j, 80, look)]
    marked = ["".join(f"<{style}>{text}" for text, style in line) for line in lines]
    assert_golden("styles-80-unicode.txt", "\n".join(marked) + "\n")


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
    at = [n for n, t in enumerate(lines) if t.strip() in {"-> #51", "-> #52"}]
    assert len(at) == 2
    assert all("skb_clone" in lines[n - 1] for n in at)


def test_a_branch_says_whose_it_is() -> None:
    assert texts(CLONE)[0].endswith("branch of #12")


@pytest.mark.parametrize(
    ("journey", "sentence"),
    [
        (REQUEST, "= delivered to icmp_rcv at c2/eth0 after 25.9 us, freed at 38.4 us"),
        (TCP, "= delivered to tcp_v4_rcv at c2/eth0 after 16.6 us, freed at 1266 us"),
        (
            REPLY,
            "= delivered to __sock_queue_rcv_skb through its branch #13 at c1/eth0 after 31.1 us",
        ),
        (ARP, "= consumed by arp_rcv at host/docker0 after 24.7 us, freed at 26.8 us"),
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
