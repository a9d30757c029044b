# SPDX-License-Identifier: GPL-2.0-only
"""Every key, pressed in the real application without a terminal."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace

import pytest
from textual.pilot import Pilot

from tests.unit.golden import assert_golden
from tests.unit.journeys import CLONE, DROPPED, REPLY, REQUEST, TCP, explained
from tests.unit.screens import filled, look
from tracer.errors import SkbtraceError, TraceFileError, UsageError
from tracer.journal import Journal
from tracer.model import Journey
from tracer.view.line import text_of
from tracer.view.screen import app
from tracer.view.screen.app import Timeline
from tracer.view.screen.browser import Browser, Listed
from tracer.view.screen.keys import KEYS

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.view.journey.explain", explained)


class Notebook:
    """Deeds that are only noted down."""

    def __init__(self) -> None:
        self.running = True
        self.said = ""
        self.stopped = 0
        self.saved: list[tuple[list[str], str]] = []
        self.handed: list[str] = []
        self.refuses: SkbtraceError | None = None
        self.may_go_on = threading.Event()
        """Whether a journey may be written."""
        self.may_go_on.set()

    def stop(self) -> None:
        self.stopped += 1

    def save(self, journeys: Iterable[Journey], name: str) -> str:
        if self.refuses:
            raise self.refuses
        ids = []
        for journey in journeys:
            self.may_go_on.wait()
            ids.append(journey.id)
        self.saved.append((ids, name))
        return name

    def to_kernel(self, words: str) -> str:
        if self.refuses:
            raise self.refuses
        self.handed.append(words)
        return "handed over"


class Copying(Timeline):
    """Keeps what it gives the terminal."""

    copied = ""
    suspended = False
    said_in: threading.Thread | None = None

    def say(self, text: str) -> None:
        self.said_in = threading.current_thread()
        super().say(text)

    def copy_to_clipboard(self, text: str) -> None:
        self.copied = text

    def action_suspend_process(self) -> None:
        self.suspended = True


class View:
    """The application with a journal, in the hands of a pilot."""

    def __init__(self, *, live: bool = True) -> None:
        self.deeds = Notebook()
        self.journal = filled()
        self.app = Copying("docker0", self.journal, self.deeds, look(), live=live, color=True)
        self.pilot: Pilot[None]

    @property
    def browser(self) -> Browser:
        return self.app.browser

    def listed(self) -> str:
        return self.app.browser.listed

    def typing(self) -> bool:
        return self.app.field.open

    def lines(self) -> list[str]:
        return [text_of((*shown.line, *shown.beside)) for shown in self.app.canvas.shown]

    def chosen(self) -> str:
        journey = self.app.browser.journey
        assert journey is not None
        return journey.id

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what the next frames bring."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, "it did not come"
            await self.pilot.pause(0.05)

    async def ended(self) -> None:
        end = time.monotonic() + PATIENCE_S
        while self.app.is_running:
            assert time.monotonic() < end, "it goes on"
            await asyncio.sleep(0.05)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()
        self.app.canvas.redraw()


def walk(
    steps: Callable[[View], Awaitable[None]],
    *,
    live: bool = True,
    size: tuple[int, int] = (100, 30),
) -> View:
    """Start the application, take the steps, end it."""
    view = View(live=live)

    async def run() -> None:
        async with view.app.run_test(size=size) as pilot:
            view.pilot = pilot
            await pilot.pause()
            await steps(view)
            view.deeds.running = False

    asyncio.run(run())
    return view


TRIED: dict[str, Callable[[View], Awaitable[None]]] = {}


def key(*names: str) -> Callable[[Callable[[View], Awaitable[None]]], None]:
    """A walk that tries these keys."""

    def keep(steps: Callable[[View], Awaitable[None]]) -> None:
        for name in names:
            TRIED[name] = steps

    return keep


LIVE = 45
"""Journeys in the journal."""


@key("question_mark", "escape")
async def _help(view: View) -> None:
    await view.press("question_mark")
    assert any("this help" in line for line in view.lines())
    await view.press("pagedown", "pagedown", "pagedown")
    assert any("quit; again" in line for line in view.lines())
    await view.press("escape")
    assert not any("quit; again" in line for line in view.lines())


@key("j", "k", "down", "up")
async def _move(view: View) -> None:
    last = view.browser.chosen
    assert last == LIVE - 1  # it follows
    await view.press("k", "up", "up", "j")
    assert view.browser.chosen == last - 2
    assert not view.browser.follow
    await view.press("down", "j", "j", "j", "j")
    assert view.browser.chosen == last


@key("g", "G", "home", "end", "pagedown", "pageup", "ctrl+f", "ctrl+b")
async def _far(view: View) -> None:
    await view.press("g")
    assert view.browser.chosen == 0
    await view.press("pagedown")
    page = view.browser.chosen
    assert page is not None
    assert page > 3
    await view.press("pageup")
    assert view.browser.chosen == 0
    await view.press("ctrl+f")
    assert view.browser.chosen == page
    await view.press("ctrl+b", "G")
    assert view.browser.chosen == LIVE - 1
    await view.press("home")
    assert view.browser.chosen == 0
    await view.press("end")
    assert view.browser.chosen == LIVE - 1


@key("enter", "tab")
async def _detail(view: View) -> None:
    await view.press("g", "enter", "j", "j")
    assert (view.browser.in_detail, view.browser.hop, view.browser.chosen) == (True, 2, 0)
    assert any("hop 3 of" in line for line in view.lines())
    await view.press("G")
    assert view.browser.hop == len(REQUEST.hops) - 1
    await view.press("tab", "j")
    assert (view.browser.in_detail, view.browser.chosen) == (False, 1)
    await view.press("tab")
    assert view.browser.in_detail
    await view.press("escape")
    assert not view.browser.in_detail


@key("d")
async def _drops(view: View) -> None:
    await view.press("d")
    assert len(view.browser.listing) == 6
    assert "only drops: 6 of 45" in view.lines()[1]
    await view.press("d")
    assert len(view.browser.listing) == LIVE


@key("a")
async def _flows(view: View) -> None:
    await view.press("a", "j")
    assert view.listed() == Listed.FLOWS
    assert "flow" in view.lines()[2]
    await view.press("enter")
    assert view.listed() == Listed.JOURNEYS
    assert 0 < len(view.browser.listing) < LIVE
    await view.press("escape")
    assert len(view.browser.listing) == LIVE
    await view.press("a", "a")
    assert view.listed() == Listed.JOURNEYS


@key("l")
async def _steps(view: View) -> None:
    await view.press("l")
    assert "step" in view.lines()[2]
    await view.press("enter")
    assert any("layer" in line for line in view.lines())
    await view.press("escape", "escape")
    assert view.listed() == Listed.JOURNEYS


@key("x")
async def _places(view: View) -> None:
    await view.press("x", "enter")
    assert {j.drop.function for j in _listed(view) if j.drop is not None} == {"nf_hook_slow"}


@key("p")
async def _freeze(view: View) -> None:
    await view.press("p")
    assert "FROZEN" in view.lines()[0]
    view.journal.journeys([TCP._replace(id="late")])
    await view.press("G")
    assert view.chosen() != "late"
    assert "46 journeys" in view.lines()[0]  # the capture goes on
    await view.press("p", "G")
    assert view.chosen() == "late"


@key("F", "f")
async def _follow(view: View) -> None:
    await view.press("g")
    assert "FOLLOW" not in view.lines()[0]
    await view.press("F")
    view.journal.journeys([TCP._replace(id="late")])
    await view.until(lambda: view.chosen() == "late")
    assert "FOLLOW" in view.lines()[0]
    await view.press("f")
    assert "FOLLOW" not in view.lines()[0]


@key("s")
async def _scale(view: View) -> None:
    await view.press("s")
    assert any("equal steps" in line for line in view.lines())
    await view.press("s")
    assert not any("equal steps" in line for line in view.lines())


@key("o")
async def _map(view: View) -> None:
    await view.press("o")
    assert any("the way of" in line for line in view.lines())
    await view.press("o")
    assert not any("the way of" in line for line in view.lines())
    await view.pilot.resize_terminal(140, 40)
    await view.press("o")
    assert any("┌ host" in line for line in view.lines())
    assert not any("the way of" in line for line in view.lines())


@key("i")
async def _explain(view: View) -> None:
    await view.press("g", "i")
    assert any("veth_xmit" in line for line in view.lines())
    assert any("layer" in line for line in view.lines())


@key("b")
async def _branch(view: View) -> None:
    assert view.browser.open(REPLY.id)
    await view.press("b")
    assert view.chosen() == CLONE.id
    await view.press("b")
    assert view.chosen() == REPLY.id
    assert view.browser.open(TCP.id)
    await view.press("b")
    assert "no branch" in view.lines()[1]


@key("m", "c")
async def _compare(view: View) -> None:
    await view.press("c")
    assert "mark a journey" in view.lines()[1]
    view.browser.open(TCP.id)
    await view.press("m")
    assert any("◆" in line for line in view.lines())
    view.browser.open(DROPPED.id)
    await view.press("c")
    assert any("They part after br_handle_frame" in line for line in view.lines())
    await view.press("escape", "m", "c")
    assert [journey.id for journey in view.browser.marks] == [TCP.id, DROPPED.id]
    assert any("They part after" in line for line in view.lines())
    await view.press("escape", "m")
    assert [journey.id for journey in view.browser.marks] == [TCP.id]


@key("e")
async def _export(view: View) -> None:
    view.browser.open(REPLY.id)
    await view.press("e")
    assert view.deeds.saved == [([REPLY.id, CLONE.id], f"journey-{REPLY.id}.json")]
    assert "2 journeys written to" in view.lines()[1]
    view.deeds.refuses = TraceFileError("cannot create it: read-only file system")
    await view.press("e")
    assert "read-only" in view.lines()[1]


@key("w")
async def _write(view: View) -> None:
    await view.press("d", "w")
    await view.until(lambda: bool(view.deeds.saved))
    (ids, name) = view.deeds.saved[0]
    assert (len(ids), name) == (6, "journeys.json")
    await view.until(lambda: "6 journeys written to journeys.json" in view.lines()[1])
    assert view.app.said_in is threading.current_thread()  # Textual's, not the one that wrote
    view.deeds.refuses = TraceFileError("cannot write it: No space left on device")
    await view.press("w")
    await view.until(lambda: "No space left" in view.lines()[1])


@key("y")
async def _copy(view: View) -> None:
    view.browser.open(DROPPED.id)
    await view.press("y")
    assert view.app.copied.startswith(f"#{DROPPED.id} ")
    assert "DROP NETFILTER_DROP" in view.app.copied


@key("slash", "K")
async def _filter(view: View) -> None:
    await view.press("slash", *"tcp prot 80")
    assert view.lines()[1].startswith(" / tcp prot 80 ")
    assert view.lines()[1].endswith("the filter cannot be understood: prot")
    await view.press("enter")
    assert view.typing()  # it stays until it is right
    await view.press(*["backspace"] * 7, *"port", "enter")
    assert view.typing()
    await view.press(*["backspace"] * 5, "enter")
    assert not view.typing()
    assert view.browser.wanted.words == "tcp"
    assert not view.browser.in_detail  # Enter has ended the filter and nothing else
    assert {journey.flow.proto for journey in _listed(view)} <= {"tcp"}
    await view.press("K")
    assert view.deeds.handed == ["tcp"]
    assert "handed over" in view.lines()[1]
    view.deeds.refuses = UsageError("not while a trace is written")
    await view.press("K")
    assert "not while" in view.lines()[1]
    await view.press("slash", *["backspace"] * 3, *"icmp", "enter", "slash")
    await view.press("up", "up")
    assert view.app.field.text == "tcp"
    await view.press("down")
    assert view.app.field.text == "icmp"
    await view.press("escape")
    assert (view.browser.wanted.words, view.typing()) == ("icmp", False)
    await view.press("escape")
    assert not view.browser.wanted


@key("q", "ctrl+c")
async def _quit(view: View) -> None:
    await view.press("slash", *"tcp", "ctrl+c")  # also while something is typed
    assert view.deeds.stopped == 1
    assert "ENDING" in view.lines()[0]
    await view.press("escape", "q")
    assert view.deeds.stopped == 2
    view.deeds.running = False
    await view.ended()
    assert view.app.return_code == 0


@key("ctrl+z")
async def _suspend(view: View) -> None:
    await view.press("ctrl+z")
    assert view.app.suspended


@key(
    "left_square_bracket",
    "right_square_bracket",
    "left_curly_bracket",
    "right_curly_bracket",
    "space",
)
async def _live_has_no_replay(view: View) -> None:
    await view.press("space")
    assert "it is live" in view.lines()[1]


@pytest.mark.parametrize("name", sorted({one for k in KEYS for one in k.keys.split(",")}))
def test_every_key_does_what_the_help_says(name: str) -> None:
    assert name in TRIED, f"nothing tries {name}"
    walk(TRIED[name])


def test_a_trace_is_gone_through_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic()]  # it lasts 75 ms, which a busy machine may take to draw once
    monkeypatch.setattr(
        app, "time", SimpleNamespace(monotonic=lambda: now[0], thread_time=time.thread_time)
    )

    async def steps(view: View) -> None:
        assert view.browser.chosen == 0
        await view.press("right_curly_bracket")
        tenth = view.browser.chosen
        assert tenth is not None
        assert 3 <= tenth <= 6
        await view.press(*["right_square_bracket"] * 5)
        assert view.browser.chosen > tenth
        await view.press("left_curly_bracket")
        assert view.browser.chosen < tenth + 3
        await view.press(*["left_square_bracket"] * 20)
        assert view.browser.chosen == 0
        await view.press("space")
        assert "PLAYING" in view.lines()[0]
        now[0] += 0.02
        await view.until(lambda: view.browser.chosen != 0)
        assert view.browser.chosen is not None
        assert view.browser.chosen < LIVE - 1
        assert "PLAYING" in view.lines()[0]
        now[0] += 0.06
        await view.until(lambda: "PLAYING" not in view.lines()[0])
        assert view.browser.chosen == LIVE - 1

    walk(steps, live=False)


def test_the_mouse_chooses_rows_hops_and_moments() -> None:
    async def steps(view: View) -> None:
        await view.pilot.click(offset=(10, 4))
        assert view.browser.chosen == 1
        hops = [y for y, shown in enumerate(view.app.canvas.shown) if shown.hit is not None]
        at = view.app.canvas.shown[hops[-1]].hit
        assert at is not None
        await view.pilot.click(offset=(10, hops[-1]))
        assert (view.browser.in_detail, view.browser.hop) == (True, at.number)
        await view.pilot.click(offset=(99, 1))
        assert view.browser.chosen == LIVE - 1
        await view.press("a")
        await view.pilot.click(offset=(10, 5))
        assert view.browser.row == 2
        await view.pilot.click(offset=(10, 5))
        assert view.browser.wanted.flow is not None

    walk(steps, live=False)


def test_another_size_is_drawn_at_once() -> None:
    async def steps(view: View) -> None:
        for size in ((80, 24), (40, 10), (300, 80), (100, 30)):
            await view.pilot.resize_terminal(*size)
            await view.until(lambda: len(view.lines()) == size[1])  # noqa: B023 (it is now)
        assert "journeys" in view.lines()[0]

    walk(steps)


def test_what_goes_wrong_while_reading_is_said_and_the_rest_stays() -> None:
    async def steps(view: View) -> None:
        view.deeds.said = "trace.json: line 7 is cut off"
        await view.until(lambda: view.lines()[1] == " trace.json: line 7 is cut off")
        assert view.chosen()
        await view.pilot.pause(0.3)
        assert "cut off" in view.lines()[1]
        await view.press("k")
        await view.until(lambda: "cut off" not in view.lines()[1])

    walk(steps)


def test_how_far_writing_is_is_said_and_it_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.view.screen.app.PATIENCE_S", 0.0)

    async def steps(view: View) -> None:
        view.deeds.may_go_on.clear()
        await view.press("w")
        assert "writing 45 journeys ... " in view.lines()[1]
        await view.press("w", "k")  # the view goes on; it is not written twice
        view.deeds.running = False
        await view.press("q")
        await view.until(lambda: "2 %; q again leaves them unwritten" in view.lines()[1])
        assert view.app.is_running
        await view.press("q")
        view.deeds.may_go_on.set()
        await view.ended()
        assert view.app.return_code == 0
        assert not view.deeds.saved

    walk(steps)


def test_the_id_of_a_foreign_trace_names_no_other_directory() -> None:
    async def steps(view: View) -> None:
        view.journal.journeys([TCP._replace(id="/../../x y")])
        view.browser.open("/../../x y")
        await view.press("e")
        assert view.deeds.saved == [(["/../../x y"], "journey-_______x_y.json")]

    walk(steps)


def test_letters_that_are_keys_elsewhere_belong_to_the_filter() -> None:
    every = "".join(key for each in KEYS for key in each.keys.split(",") if len(key) == 1)

    async def steps(view: View) -> None:
        chosen = view.browser.chosen
        await view.press("slash", *every, "tab", "ctrl+z", "question_mark", "space", "slash")
        assert view.app.field.text == f"{every}? /"
        assert not view.app.suspended
        await view.press("escape")
        assert (view.browser.chosen, view.deeds.stopped) == (chosen, 0)

    walk(steps)


def test_without_a_packet_keys_do_no_harm() -> None:
    view = View()
    journal = Journal()
    view.app = Copying("docker0", journal, view.deeds, look(), live=True, color=False)

    async def run() -> None:
        async with view.app.run_test(size=(80, 24)) as pilot:
            view.pilot = pilot
            for each in KEYS:
                if each.action not in {"quit", "suspend_process", "filter"}:
                    await view.press(each.keys.split(",")[0])
            view.deeds.running = False

    asyncio.run(run())


@pytest.mark.parametrize(
    "keys", [["enter", "G"], ["a"], ["d"], ["m", "k", "m", "c"], ["o"]], ids=lambda keys: keys[-1]
)
def test_it_is_drawn_in_colours_as_accepted(keys: list[str]) -> None:
    """What each line is lit as and in which style: the whole picture without a font."""

    async def steps(view: View) -> None:
        view.browser.open(DROPPED.id)
        await view.press(*keys)
        marked = [
            f"[{shown.lit}]"
            + "".join(f"<{style}>{text}" for text, style in (*shown.line, *shown.beside))
            for shown in view.app.canvas.shown
        ]
        assert_golden(f"screen-styles-{keys[-1]}-100.txt", "\n".join(marked) + "\n")

    walk(steps)


def _listed(view: View) -> list[Journey]:
    listing = view.browser.listing
    found = [view.browser.made(listing.number(at)) for at in range(len(listing))]
    return [journey for journey in found if journey is not None]
