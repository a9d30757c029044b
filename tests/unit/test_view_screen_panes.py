# SPDX-License-Identifier: GPL-2.0-only
"""Whole screens as text at fixed sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.golden import assert_golden
from tests.unit.journeys import CAPTURE, CLONE, DROPPED, REPLY, explained
from tests.unit.screens import NOW, filled, journeys, screen, text
from tracer.journal import Journal
from tracer.model import Backlog, Counted, Journey, Segment, Stepped, Summary
from tracer.view.line import text_of, width_of
from tracer.view.screen import pages
from tracer.view.screen.browser import Browser, Listed, Wanted
from tracer.view.screen.field import Field
from tracer.view.screen.keys import KEYS
from tracer.view.screen.panes import LOWEST, NARROWEST, Now, Screen, parts
from tracer.view.theme import LIT, STYLES


@pytest.fixture(autouse=True)
def _explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.view.journey.explain", explained)


def nothing(_browser: Browser, _screen: Screen) -> None:
    """The screen as it comes up."""


def at_a_drop(browser: Browser, _screen: Screen) -> None:
    assert browser.open(DROPPED.id)


def in_detail(browser: Browser, _screen: Screen) -> None:
    assert browser.open(DROPPED.id)
    browser.in_detail = True
    browser.step(99)


def at_a_branch(browser: Browser, _screen: Screen) -> None:
    assert browser.open(REPLY.id)
    browser.in_detail = True
    browser.equal_steps = True
    browser.step(12)


def flows(browser: Browser, _screen: Screen) -> None:
    browser.turn_to(Listed.FLOWS)


def steps(browser: Browser, _screen: Screen) -> None:
    browser.turn_to(Listed.STEPS)
    browser.move(2)


def drops(browser: Browser, _screen: Screen) -> None:
    browser.turn_to(Listed.DROPS)


def drops_only(browser: Browser, _screen: Screen) -> None:
    browser.want(Wanted(drops=True))


def filtered(browser: Browser, _screen: Screen) -> None:
    browser.want(Wanted(filter=lambda j: j.flow.proto == "tcp", words="tcp and port 443"))


def none_left(browser: Browser, _screen: Screen) -> None:
    browser.want(Wanted(filter=lambda _: False, words="udp"))


def marked(browser: Browser, screen: Screen) -> None:
    for journey_id in (REPLY.id, DROPPED.id):
        assert browser.open(journey_id)
        browser.mark()
    screen.page = pages.compare_page(*browser.marks)


def help_page(_browser: Browser, screen: Screen) -> None:
    screen.page = pages.help_page()


def map_page(browser: Browser, screen: Screen) -> None:
    assert browser.open(REPLY.id)
    screen.page = pages.map_page(screen.look, browser.journey)


def map_beside(browser: Browser, screen: Screen) -> None:
    assert browser.open(REPLY.id)
    screen.beside_map = True


def function_page(_browser: Browser, screen: Screen) -> None:
    screen.page = pages.function_page("enqueue_to_backlog")


STATES: list[Callable[[Browser, Screen], None]] = [
    nothing,
    at_a_drop,
    in_detail,
    at_a_branch,
    flows,
    steps,
    drops,
    drops_only,
    filtered,
    none_left,
    marked,
    help_page,
    map_page,
    function_page,
]


def drawn(
    state: Callable[[Browser, Screen], None], *, live: bool = True, ascii: bool = False
) -> Screen:
    journal = filled(ended=not live)
    browser = Browser(journal, follow=live)
    made = screen(journal, browser, live=live, ascii=ascii)
    browser.look(lambda: False)
    state(browser, made)
    browser.look(lambda: False)
    return made


@pytest.mark.parametrize("state", STATES)
def test_the_screen_looks_as_accepted(state: Callable[[Browser, Screen], None]) -> None:
    assert_golden(f"screen-{state.__name__}-80.txt", text(drawn(state), 80, 24))


@pytest.mark.parametrize("state", [in_detail, map_beside])
def test_a_large_screen_has_the_facts_beside(state: Callable[[Browser, Screen], None]) -> None:
    assert_golden(f"screen-{state.__name__}-132.txt", text(drawn(state), 132, 40))


def test_a_trace_has_a_scrubber() -> None:
    shown = text(drawn(at_a_drop, live=False), 100, 46, Now())
    assert_golden("screen-trace-100.txt", shown)


def test_in_ascii_nothing_else_is_drawn() -> None:
    for state in STATES:
        assert text(drawn(state, ascii=True), 90, 30).isascii()
    assert_golden("screen-ascii-80.txt", text(drawn(at_a_branch, ascii=True), 80, 24))


@pytest.mark.parametrize("state", [*STATES, map_beside])
@pytest.mark.parametrize("size", [(60, 14), (61, 15), (80, 24), (99, 27), (116, 20), (300, 90)])
def test_it_fits_every_size(
    state: Callable[[Browser, Screen], None], size: tuple[int, int]
) -> None:
    width, height = size
    for live in (True, False):
        lines = drawn(state, live=live).draw(width, height, NOW)
        assert len(lines) == height
        assert all(width_of((*shown.line, *shown.beside)) <= width for shown in lines)
        assert {style for shown in lines for _, style in shown.line} <= STYLES.keys()
        assert {shown.lit for shown in lines} <= LIT.keys()


@pytest.mark.parametrize("size", [(40, 10), (59, 50), (200, 13), (1, 1), (10, 3)])
def test_too_small_a_terminal_is_told_so(size: tuple[int, int]) -> None:
    lines = drawn(nothing).draw(*size, NOW)
    assert len(lines) == size[1]
    assert all(width_of(shown.line) <= size[0] for shown in lines)
    said = " ".join(text_of(shown.line) for shown in lines)
    if size[0] * size[1] > 100:
        assert " ".join(said.split()) == (
            f"skbtrace needs {NARROWEST} x {LOWEST}, this is {size[0]} x {size[1]}. q quits."
        )


def test_the_parts_fill_the_screen() -> None:
    for width in (60, 80, 116, 200):
        for height in range(LOWEST, 100):
            for in_detail in (True, False):
                for page in (True, False):
                    divided = parts(width, height, in_detail=in_detail, page=page)
                    assert divided.list + divided.detail + divided.hop + 5 == height
                    assert min(divided.list, divided.detail) >= 3


def test_before_the_first_packet_it_says_what_it_waits_for() -> None:
    journal = Journal()
    browser = Browser(journal)
    made = screen(journal, browser)
    assert "compiling and attaching the probes" in text(made, 80, 24)
    assert "STARTING" in text(made, 80, 24)
    journal.begin(CAPTURE)
    assert "waiting for the first packet" in text(made, 80, 24)


def test_a_branch_is_drawn_when_it_ends_after_its_parent() -> None:
    parent = next(journey for journey in journeys(1) if journey.id == REPLY.id)
    journal = Journal()
    journal.begin(CAPTURE)
    journal.journeys([parent])
    browser = Browser(journal, follow=False)
    made = screen(journal, browser)
    browser.look(lambda: False)
    before = text(made, 100, 60)
    assert text(made, 100, 60) == before
    journal.journeys([CLONE])
    after = text(made, 100, 60)
    assert len(after) > len(before)
    assert f"#{CLONE.id} " in after.split("journey #")[1]


def test_steps_are_those_that_the_kernel_has_counted() -> None:
    """While a capture lasts; of a file, the journeys in it are told."""
    journal = filled()
    browser = Browser(journal)
    browser.turn_to(Listed.STEPS)
    drawn = screen(journal, browser)
    assert "of every packet" not in text(drawn, 100, 30)
    step = Stepped("ip_rcv", "tcp_v4_rcv", Segment.WORK, 9_000, 5_000, ((4_000, 1), (5_000, 1)))
    assert journal.health is not None
    backlog = Backlog(9, 5, ((2, 2), (5, 1)))
    journal.health = journal.health._replace(steps=(step,), backlog=backlog)
    shown = text(drawn, 100, 30)
    assert " input queues served 3 times; packets that waited: p50 2, p99 5, at most 5" in shown
    assert "of every packet that was followed: counted in the kernel" in shown
    assert [line for line in shown.splitlines() if "ip_rcv" in line and " 2 " in line]
    journal.end(Summary(counted=Counted(steps=(step._replace(function="br_forward"),))))
    assert "br_forward" in text(drawn, 100, 30)


def test_losses_are_named_where_they_are_counted() -> None:
    made = drawn(nothing)
    status, opening, *_ = text(made, 120, 24).splitlines()
    assert "3 lost  ring 12 %  900 waiting  probe_missed" in status
    assert f"Linux {CAPTURE.kernel}" in opening
    assert "not probed" in opening


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Now(ends=True), "ENDING"),
        (Now(), "LIVE 00:00"),
        (Now(elapsed_s=61.0), "LIVE 01:01"),
    ],
)
def test_the_state_is_said(now: Now, said: str) -> None:
    assert said in text(drawn(nothing), 80, 24, now).splitlines()[0]


def test_the_answer_to_a_key_and_what_is_wrong_with_a_filter_have_a_line() -> None:
    made = drawn(nothing)
    assert text(made, 80, 24, Now(note="3 journeys written")).splitlines()[1] == (
        " 3 journeys written"
    )
    field = Field()
    field.begin("tcp prot 80")
    made.failure = "syntax error at 'prot'"
    line = text(made, 80, 24, Now(field=field)).splitlines()[1]
    assert line == f" / {'tcp prot 80':37}syntax error at 'prot'"
    made.failure = ""
    assert "Enter lists what it accepts" in text(made, 80, 24, Now(field=field)).splitlines()[1]
    field.begin("x" * 200 + "end")
    line = text(made, 80, 24, Now(field=field)).splitlines()[1]
    assert "xend  Enter" in line


def test_every_key_has_an_action_and_no_key_has_two() -> None:
    keys = [key for each in KEYS for key in each.keys.split(",")]
    assert len(keys) == len(set(keys))
    assert all(key.text and key.shown for key in KEYS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(any_journey.journeys(), min_size=1, max_size=4),
    st.integers(NARROWEST, 150),
    st.integers(LOWEST, 50),
    st.integers(0, 12),
)
def test_any_journey_can_be_shown(found: list[Journey], width: int, height: int, hop: int) -> None:
    journal = Journal()
    journal.begin(CAPTURE)
    journal.journeys(found)
    browser = Browser(journal)
    made = screen(journal, browser)
    browser.look(lambda: False)
    for listed in Listed:
        browser.listed = listed
        browser.in_detail = not browser.in_detail
        browser.step(hop)
        lines = made.draw(width, height, NOW)
        assert len(lines) == height
        assert all(width_of((*shown.line, *shown.beside)) <= width for shown in lines)
    made.page = pages.compare_page(found[0], found[-1])
    assert all(width_of(shown.line) <= width for shown in made.draw(width, height, NOW))
