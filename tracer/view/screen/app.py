# SPDX-License-Identifier: GPL-2.0-only
"""The screen in a terminal: Textual gives keys, mouse, size and redraws; lines come from ``panes``.

Keys become moves of the browser; it is the only module of the view with a clock. It draws at most
ten times a second, and less often where drawing would take more than a quarter of a CPU: the
packets come first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Protocol

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding

from tracer.errors import SkbtraceError
from tracer.journal import Kept
from tracer.model import Journey
from tracer.selection import accepting
from tracer.tally import DropPlace, FlowKey, Step
from tracer.view.journey import render
from tracer.view.line import text_of
from tracer.view.look import Look, names_of, styles_of
from tracer.view.screen import pages
from tracer.view.screen.browser import Accepts, Browser, Listed
from tracer.view.screen.canvas import Canvas
from tracer.view.screen.field import Field
from tracer.view.screen.keys import KEYS
from tracer.view.screen.panes import Now, Screen, Shown, Watched

FRAME_S = 0.1
"""Between two drawings, at least."""
FRAME_MOST_S = 1.0
SHARE = 0.22
"""Of a CPU that drawing may take."""
LOOK_S = 0.03
"""How long what came is looked through before the next drawing."""
NOTE_S = 4.0
"""How long the answer to a key is shown."""
PATIENCE_S = 1.0
"""So long somebody waits without asking how far it is."""
_COPY_WIDTH = 100


class Deeds(Protocol):
    """What the view can have done outside of it."""

    def stop(self) -> None:
        """End the capture; said again: at once, with what waits unread."""

    @property
    def running(self) -> bool:
        """Whether the capture, or reading, still goes on."""

    @property
    def said(self) -> str:
        """What went wrong, although what there is can be looked at."""

    def save(self, journeys: Iterable[Journey], name: str) -> str:
        """Write journeys as a trace, as they are given; the name of the file.

        May be called in any thread. Raises SkbtraceError, and what ``journeys`` raises; then no
        file is left.
        """

    def to_kernel(self, words: str) -> str:
        """Trace only what this filter accepts from now on; what to say. Raises SkbtraceError."""


class Writing:
    """Journeys that a thread writes while the view goes on."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._began_s = time.monotonic()
        self.done = 0
        """How many were handed over so far."""
        self.left = False
        """Nobody wants them any more."""

    def some(self, kept: Kept, numbers: Iterable[int]) -> Iterator[Journey]:
        """Give those journeys, as far as they can be had. Raises SkbtraceError if left."""
        for number in numbers:
            if self.left:
                raise SkbtraceError("it was left unwritten")
            try:
                journey = kept.journey(number)
            except SkbtraceError:  # one that cannot be read does not keep the others
                continue
            if journey is not None:
                self.done += 1
                yield journey

    def said(self, now: float, *, ends: bool) -> str:
        """Return how far it is; a number only if it takes longer than somebody waits."""
        said = f"writing {_counted(self._total)} ..."
        if now - self._began_s > PATIENCE_S:
            said += f" {100 * self.done // max(self._total, 1)} %"
        return f"{said}; q again leaves them unwritten" if ends else said


class Timeline(App[None]):
    """The view. ``always``: journeys that it does not accept are never listed."""

    TITLE = "skbtrace"
    ENABLE_COMMAND_PALETTE = False
    CSS = "Screen { background: ansi_default; }"
    BINDINGS: ClassVar = [
        # Ctrl-C also while a filter is typed; Tab is not for Textual's own order of widgets.
        Binding(one, key.action, show=False, priority=one in {"ctrl+c", "tab"})
        for key in KEYS
        for one in key.keys.split(",")
    ]

    def __init__(
        self,
        name: str,
        watched: Watched,
        deeds: Deeds,
        look: Look,
        *,
        live: bool,
        color: bool,
        always: Accepts | None = None,
    ) -> None:
        super().__init__(ansi_color=True)
        self._watched = watched
        self._deeds = deeds
        self._live = live
        self.browser = Browser(watched, always=always, follow=live)
        self.screen_lines = Screen(name, watched, self.browser, look, live=live)
        self.canvas = Canvas(self._lines, color=color)
        self.field = Field()
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self._seen: tuple[float, int] = (0.0, 0)
        self._rate: float | None = None
        self._note: tuple[str, float] = ("", 0.0)
        self._ends = False
        self._told_to_end = False
        self._said = ""
        self._writing: Writing | None = None
        self._playing: tuple[float, int] | None = None
        """When replaying began, and at which moment of the trace."""
        self._cpu_s = 0.0

    def compose(self) -> ComposeResult:
        """Give the widgets."""
        yield self.canvas

    def on_mount(self) -> None:
        """Begin to draw."""
        self.canvas.focus()
        self._cpu_s = time.thread_time()
        self._frame()

    # --- drawing ----------------------------------------------------------------------------------

    def end_soon(self) -> None:
        """Do as if ``q`` was pressed. May be called by a signal's handler."""
        self._told_to_end = True

    def _frame(self) -> None:
        began = time.monotonic()
        if self._told_to_end:
            self._told_to_end = False
            self._end()
        left = self._ends and self._writing is None
        if not self._deeds.running and (left or self._watched.capture is None):
            self.exit()  # it was left, or has failed before there was anything to see
            return
        self._note_changes(began)
        self._look()
        self._replay(began)
        if self._said != self._deeds.said:  # once: it shall not hide the filter for good
            self._said = self.browser.failure = self._deeds.said
        self.canvas.redraw()
        # What keys and drawing took of this thread since the last frame.
        cpu = time.thread_time()
        used, self._cpu_s = cpu - self._cpu_s, cpu
        self.set_timer(min(max(FRAME_S, used / SHARE), FRAME_MOST_S), self._frame)

    def _note_changes(self, now: float) -> None:
        watched, lines = self._watched, self.screen_lines
        capture, change = watched.capture, watched.change
        if capture is not None:
            if self._began_s is None:
                self._began_s = now
                self._seen = (now, watched.seen)
            topology = capture.topology if change is None else change.topology
            known = lines.look.capture
            if known is None or known.topology is not topology:
                from dataclasses import replace

                lines.look = replace(
                    lines.look,
                    capture=replace(capture, topology=topology),
                    names=names_of(topology),
                    netns_styles=styles_of(topology),
                )
        if not self._deeds.running and self._ended_s is None:
            self._ended_s = now
        then, count = self._seen
        if now - then >= 1.0:
            self._rate = (watched.seen - count) / (now - then)
            self._seen = (now, watched.seen)

    def _lines(self, width: int, height: int) -> list[Shown]:
        now = time.monotonic()
        until = now if self._ended_s is None else self._ended_s
        note, note_until = self._note
        if now >= note_until:
            note = "" if self._writing is None else self._writing.said(now, ends=self._ends)
        return self.screen_lines.draw(
            width,
            height,
            Now(
                elapsed_s=0.0 if self._began_s is None else until - self._began_s,
                rate=self._rate if self._deeds.running else None,
                running=self._deeds.running,
                ends=self._ends,
                playing=self._playing is not None,
                note=note,
                field=self.field if self.field.open else None,
            ),
        )

    def _show(self) -> None:
        """Draw the answer to a key, without waiting for the next frame."""
        self._look()
        self.canvas.redraw()

    def _look(self) -> None:
        """Take note of what came, but not for long."""
        deadline = time.monotonic() + LOOK_S
        self.browser.look(lambda: time.monotonic() > deadline)

    def say(self, text: str) -> None:
        """Show the answer to a key for a while."""
        self._note = (text, time.monotonic() + NOTE_S)
        self.canvas.redraw()

    # --- keys -------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a filter is typed, ``on_key`` has all keys but Ctrl-C."""
        if self.field.open:
            return action == "quit"
        return super().check_action(action, parameters)

    def on_key(self, event: events.Key) -> None:
        """Type."""
        if not self.field.open:
            return
        event.stop()
        event.prevent_default()  # what the key is bound to
        if event.key == "enter":
            self._submit()
        elif event.key == "escape":
            self.field.open = False
        elif event.is_printable and event.character is not None:
            self.field.insert(event.character)
        else:
            self.field.key(event.key)
        self.screen_lines.failure = self._filter_of(self.field.text)[1] if self.field.open else ""
        self._show()

    def on_paste(self, event: events.Paste) -> None:
        """Type what was pasted."""
        if self.field.open:
            self.field.insert(event.text)
            self.screen_lines.failure = self._filter_of(self.field.text)[1]
            self._show()

    def action_help(self) -> None:
        """Show the keys."""
        self._turn_to(pages.help_page())

    def action_move(self, by: int) -> None:
        """Move the choice in the pane that has the keys."""
        if self.screen_lines.page is not None:
            self.screen_lines.page_top = max(self.screen_lines.page_top + by, 0)
        elif self.browser.in_detail:
            self.browser.step(by)
        else:
            self._look()  # the last one is the last of now
            self.browser.move(by)
        self._show()

    def action_page(self, by: int) -> None:
        """Move by what fits on the screen."""
        divided = self.screen_lines.parts(*self.canvas.size)
        of_detail = self.screen_lines.page is not None or self.browser.in_detail
        self.action_move(by * max((divided.detail if of_detail else divided.list) - 1, 1))

    def action_first(self) -> None:
        """Go to the first."""
        self.action_move(-(1 << 40))

    def action_last(self) -> None:
        """Go to the last."""
        self.action_move(1 << 40)

    def action_enter(self) -> None:
        """Go into what is chosen."""
        browser = self.browser
        if browser.listed is Listed.JOURNEYS:
            if browser.journey is not None:
                browser.in_detail = True
                browser.follow = False
        else:
            rows = self.screen_lines.table().rows
            if browser.row < len(rows):
                key = rows[browser.row].key
                if isinstance(key, FlowKey):
                    browser.want(browser.wanted._replace(flow=key, place=None))
                elif isinstance(key, DropPlace):
                    browser.want(browser.wanted._replace(place=key, flow=None))
                elif isinstance(key, Step):
                    self._turn_to(pages.function_page(key.function))
        self._show()

    def action_other_pane(self) -> None:
        """Give the keys to the other pane."""
        if self.browser.in_detail:
            self.browser.in_detail = False
        elif self.browser.journey is not None:
            self.browser.in_detail = True
            self.browser.follow = False
        self._show()

    def action_leave(self) -> None:
        """Leave what was entered last."""
        browser, lines = self.browser, self.screen_lines
        if lines.page is not None:
            lines.page = None
        elif browser.in_detail:
            browser.in_detail = False
        elif browser.listed is not Listed.JOURNEYS:
            browser.turn_to(browser.listed)
        elif browser.wanted:
            browser.want(type(browser.wanted)())
        self._show()

    def action_drops(self) -> None:
        """List drops only, or all again."""
        wanted = self.browser.wanted
        self.browser.want(wanted._replace(drops=not wanted.drops))
        self._show()

    def action_flows(self) -> None:
        """List flows, or journeys again."""
        self._list(Listed.FLOWS)

    def action_steps(self) -> None:
        """List steps, or journeys again."""
        self._list(Listed.STEPS)

    def action_places(self) -> None:
        """List drops by reason and place, or journeys again."""
        self._list(Listed.DROPS)

    def action_freeze(self) -> None:
        """Freeze what is shown, or go on."""
        self.browser.freeze(self._watched.frozen)
        self._show()

    def action_follow(self) -> None:
        """Follow the latest journey, or stay."""
        self.browser.follow = not self.browser.follow and not self.browser.frozen
        if self.browser.follow:
            self.browser.in_detail = False
        self._show()

    def action_scale(self) -> None:
        """Draw in proportion to time, or all steps alike."""
        self.browser.equal_steps = not self.browser.equal_steps
        self._show()

    def action_map(self) -> None:
        """Show the map: beside the detail where there is room, else instead of it."""
        lines = self.screen_lines
        page = pages.map_page(lines.look, self.browser.journey)
        if page is None:
            self.say("there is no topology in this trace")
        elif lines.parts(*self.canvas.size).side:
            lines.beside_map = not lines.beside_map
        else:
            self._turn_to(page)
        self._show()

    def action_explain(self) -> None:
        """Say what the function of the chosen hop is."""
        journey, hop = self.browser.journey, self.browser.hop
        if journey is not None and hop < len(journey.hops):
            self._turn_to(pages.function_page(journey.hops[hop].function))

    def action_branch(self) -> None:
        """Go to the branch that leaves at the chosen hop (or the first one), or to the parent."""
        browser = self.browser
        journey = browser.journey
        if journey is None:
            return
        here = [b.id for b in journey.branches if b.hop == browser.hop or not browser.in_detail]
        every = here or [branch.id for branch in journey.branches]
        to = every[0] if every else journey.parent
        if to is None:
            self.say("no branch leaves this journey, and it is none itself")
        elif not browser.open(to):
            self.say(f"#{to} is not kept any more")
        self._show()

    def action_mark(self) -> None:
        """Mark the chosen journey."""
        self.browser.mark()
        if len(self.browser.marks) == 2:
            self.say("two are marked: c compares them")
        self._show()

    def action_compare(self) -> None:
        """Compare two journeys."""
        marks, journey = self.browser.marks, self.browser.journey
        if len(marks) == 1 and journey is not None and journey.id != marks[0].id:
            marks = [*marks, journey]
        if len(marks) < 2:
            self.say("mark a journey with m, choose another one, then c")
            return
        self._turn_to(pages.compare_page(*marks))

    def action_export(self) -> None:
        """Write the chosen journey and its branches."""
        family = self.browser.family()
        if family:
            # A trace may hold ids that name another directory.
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in family[0].id)
            self.say(self._saved(family, f"journey-{name}.json", lambda: len(family), len(family)))

    def action_write(self) -> None:
        """Write everything that is listed. Meanwhile the view goes on."""
        if self._writing is not None:
            return  # how far it is, is said already
        browser = self.browser
        listing = browser.listing
        numbers = [listing.number(position) for position in range(len(listing))]
        kept = browser.kept if browser.frozen else self._watched.frozen()
        writing = self._writing = Writing(len(numbers))

        def write() -> None:
            said = "nothing was written, by a fault of the view"
            try:
                journeys = writing.some(kept, numbers)
                said = self._saved(journeys, "journeys.json", lambda: writing.done, len(numbers))
            finally:
                self.call_from_thread(self._written, said)

        threading.Thread(target=write, name="write", daemon=True).start()
        self._show()

    def _written(self, said: str) -> None:
        self._writing = None
        self.say(said)

    def action_copy(self) -> None:
        """Copy the chosen journey as text, by way of the terminal (OSC 52)."""
        journey = self.browser.journey
        if journey is None:
            return
        lines = render(journey, _COPY_WIDTH, self.screen_lines.look)
        self.copy_to_clipboard("\n".join(map(text_of, lines)) + "\n")
        self.say(f"#{journey.id} copied, if this terminal lets programs do that")

    def action_scrub(self, part: float) -> None:
        """Go so great a part of the whole time on."""
        span, journey = self.screen_lines.span_ns(), self.browser.journey
        if span is not None and journey is not None:
            before = self.browser.chosen
            self._go_to(journey.start_ns + int((span[1] - span[0]) * part))
            if self.browser.chosen == before:
                self.action_move(1 if part > 0 else -1)

    def action_play(self) -> None:
        """Replay from the chosen journey on, or stop."""
        journey = self.browser.journey
        if self._live:
            self.say("it is live: F follows, p freezes")
        elif self._playing is not None or journey is None:
            self._playing = None
        else:
            self._playing = (time.monotonic(), journey.start_ns)

    async def action_quit(self) -> None:
        """End the capture, then the view."""
        self._end()

    # --- the filter -------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Let a filter be typed."""
        self.screen_lines.failure = ""
        self.field.begin(self.browser.wanted.words)
        self._show()

    def action_to_kernel(self) -> None:
        """Hand the filter to the kernel."""
        words = self.browser.wanted.words
        try:
            self.say(self._deeds.to_kernel(words))
        except SkbtraceError as error:
            self.say(error.message)

    def _submit(self) -> None:
        """List what the filter accepts; what is no filter stays to be mended."""
        accepts, failure = self._filter_of(self.field.text)
        if not failure:
            words = self.field.keep()
            self.browser.want(self.browser.wanted._replace(filter=accepts, words=words))

    def _filter_of(self, typed: str) -> tuple[Accepts | None, str]:
        """Return what the words accept, and what is wrong with them."""
        from tracer.filter import filter_of

        words = typed.split()
        if not words:
            return None, ""
        try:
            return accepting(filter_of(words)), ""
        except SkbtraceError as error:
            return None, _in_one_line(error.message)

    # --- the mouse --------------------------------------------------------------------------------

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked."""
        y = int(event.screen_y)
        if y >= len(self.canvas.shown):
            return
        hit, browser = self.canvas.shown[y].hit, self.browser
        if hit is None:
            return
        if hit.what == "journey":
            browser.in_detail = False
            browser.choose(hit.number)
        elif hit.what == "row":
            again = browser.row == hit.number
            browser.row = hit.number
            if again:
                self.action_enter()
        elif hit.what == "hop":
            browser.in_detail, browser.follow, browser.hop = True, False, hit.number
        else:
            moment = self.screen_lines.time_at(int(event.screen_x))
            if moment is not None:
                self._go_to(moment)
        self._show()

    def on_mouse_scroll_down(self) -> None:
        """Go three on."""
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        """Go three back."""
        self.action_move(-3)

    # --- what they have in common -----------------------------------------------------------------

    def _list(self, listed: Listed) -> None:
        self.screen_lines.page = None
        self.browser.turn_to(listed)
        self._show()

    def _turn_to(self, page: pages.Page) -> None:
        lines = self.screen_lines
        before = lines.page
        lines.page = None if before is not None and before.title == page.title else page
        lines.page_top = 0
        self._show()

    def _saved(
        self, journeys: Iterable[Journey], name: str, done: Callable[[], int], total: int
    ) -> str:
        """Write them; return what is to be said of it. Not only Textual's thread calls it."""
        try:
            path = self._deeds.save(journeys, name)
        except SkbtraceError as error:
            return error.message
        except OSError as error:
            return f"nothing was written: {error.strerror or error}"
        count = done()
        of = f"{count} of " if count < total else ""
        return f"{of}{_counted(total)} written to {path}"

    def _go_to(self, at_ns: int) -> None:
        """Choose the last journey of the list that began before that moment."""
        browser = self.browser
        listing = browser.listing
        low, high = 0, len(listing)
        while low < high:
            middle = (low + high) // 2
            journey = browser.made(listing.number(middle))
            if journey is None or journey.start_ns <= at_ns:
                low = middle + 1
            else:
                high = middle
        if len(listing):
            browser.choose(listing.number(max(low - 1, 0)))
        self._show()

    def _replay(self, now: float) -> None:
        if self._playing is None:
            return
        began, start_ns = self._playing
        at_ns = start_ns + int((now - began) * 1e9)
        span = self.screen_lines.span_ns()
        self._go_to(at_ns)
        if span is None or at_ns >= span[1]:
            self._playing = None

    def _end(self) -> None:
        if self._ends and self._writing is not None:
            self._writing.left = True
        self._ends = True
        if self._deeds.running:
            self._deeds.stop()
            self._show()
        elif self._writing is None:
            self.exit()


def _counted(journeys: int) -> str:
    return f"{journeys} journey{'' if journeys == 1 else 's'}"


def _in_one_line(message: str) -> str:
    """Return what is wrong with a filter, with the word that the mark below it stands under."""
    what, *rest = message.splitlines()
    if len(rest) < 2:
        return what
    expression, mark = rest[0], rest[1]
    begin = mark.find("^")
    word = expression[begin : begin + mark.count("^")].strip()
    return f"{what}: {word}" if word else what
