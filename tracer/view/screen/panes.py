# SPDX-License-Identifier: GPL-2.0-only
"""The whole screen as lines: status, filter, list, detail, hop, keys.

A width and a height in, lines out, each with what it is to be lit as. A Screen keeps what the next
drawing depends on (the open page, how far things are scrolled) and what need not be made again. It
knows no terminal and no clock: what changes with time comes in as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from tracer.completeness import LOSSES
from tracer.duration import words
from tracer.journal import Kept
from tracer.model import (
    Capture,
    Health,
    Journey,
    Sampling,
    Stepped,
    Summary,
    TopologyChange,
)
from tracer.tally import Tally
from tracer.view import counts as tables
from tracer.view.hop import hop_lines
from tracer.view.journey import block
from tracer.view.line import Line, Span, cells, clip, fill, trimmed, width_of, within
from tracer.view.look import Look
from tracer.view.row import heading, row, widths
from tracer.view.screen.browser import Browser, Listed
from tracer.view.screen.field import Field
from tracer.view.screen.keys import KEYS
from tracer.view.screen.pages import Page, map_lines

NARROWEST, LOWEST = 60, 14
"""Cells and lines. On less there is only a word about it."""
_SIDE_FROM, _SIDE = 116, 44
"""From this width on the hop's facts stand beside the waterfall, so wide."""
_LEAST_BELOW_FROM, _BELOW_FROM, _ALWAYS_BELOW_FROM = 22, 28, 44
"""From this height on a few of them stand below it while the keys are there; all; always."""
_BELOW, _BELOW_LEAST = 9, 5
_MARK = 2
_MUCH = 0.5
"""Of a buffer: worth a warning."""


class Hit(NamedTuple):
    """What a click is on."""

    what: str
    """``journey`` (a number), ``row`` (an index), ``hop`` (an index), ``time`` (nothing)."""
    number: int = 0


class Shown(NamedTuple):
    """A line of the screen."""

    line: Line
    lit: str = ""
    """``chosen``: it is what keys act on. ``beside``: chosen in a pane that has not the keys.
    ``bar``: a heading from edge to edge."""
    hit: Hit | None = None
    """What a click on it is on."""
    beside: Line = ()
    """What stands at its right edge; it is not lit."""


class Watched(Kept, Protocol):
    """Journeys, and all else that is said of a capture: a Journal, or a trace file."""

    capture: Capture | None
    change: TopologyChange | None
    sample: Sampling | None
    health: Health | None
    summary: Summary | None
    since_ns: int
    """From when the times of a list count."""

    @property
    def drops(self) -> int:
        """How many were dropped of all that came."""

    def tally(self) -> AbstractContextManager[Tally]:
        """Give the counts while the block lasts."""

    def frozen(self) -> Kept:
        """Return what there is now; it stays as it is."""


class Now(NamedTuple):
    """What changes with time."""

    elapsed_s: float = 0.0
    """Since the first probe was attached, or the file opened."""
    rate: float | None = None
    """Journeys per second."""
    running: bool = True
    """There may be more to come."""
    ends: bool = False
    """The capture was told to end, and is read to its end."""
    playing: bool = False
    note: str = ""
    """The answer to the last key."""
    field: Field | None = None
    """The filter that is being typed."""


class Parts(NamedTuple):
    """Lines of each part of the screen, from its top; status, filter and keys have one each."""

    list: int
    detail: int
    hop: int
    """Below the detail; 0 if it stands beside it, or nowhere."""
    side: int
    """Cells of what stands beside the detail; 0 if nothing does."""


def parts(width: int, height: int, *, in_detail: bool, page: bool) -> Parts:
    """Return how the screen is divided."""
    body = height - 5  # status, filter, keys, the heads of list and detail
    wide = width >= _SIDE_FROM
    listed = max(3, min(6, body // 5)) if in_detail else max(4, body * 2 // 5)
    below = 0
    if not wide and not page and height >= (_LEAST_BELOW_FROM if in_detail else _ALWAYS_BELOW_FROM):
        below = _BELOW if height >= _BELOW_FROM else _BELOW_LEAST
    return Parts(listed, body - listed - below, below, _SIDE if wide and not page else 0)


class Screen:
    """Draws. What is the same as before is not made again.

    ``name``: of what is looked at; empty if a trace says that itself when it comes in.
    """

    def __init__(
        self, name: str, watched: Watched, browser: Browser, look: Look, *, live: bool
    ) -> None:
        self._name = name
        self._watched = watched
        self._browser = browser
        self.look = look
        self._live = live
        self.page: Page | None = None
        self.page_top = 0
        self.beside_map = False
        self._rows: dict[tuple[int, int], Line] = {}
        self._rows_look = look
        self._id_width = 0
        self._detail_top = 0
        self._detail_of: tuple[object, ...] = ()
        self._detail_lanes: list[tuple[Line, int | None]] = []
        self._scrubber_at: tuple[int, int] | None = None
        """Its first cell and how many it has, if it is shown."""
        self.failure = ""
        """What is wrong with the filter that is being typed."""

    # --- all of it --------------------------------------------------------------------------------

    def draw(self, width: int, height: int, now: Now) -> list[Shown]:
        """Return exactly ``height`` lines of at most ``width`` cells."""
        if width < NARROWEST or height < LOWEST:
            return self._too_small(width, height)
        divided = self.parts(width, height)
        shown = [
            Shown(self._status(width, now), "bar"),
            Shown(self._filter(width, now), hit=Hit("time")),
            *self._list(width, divided.list),
            *self._below(width, divided),
        ]
        shown += [Shown(())] * (height - 1 - len(shown))
        return [*shown[: height - 1], Shown(self._keys(width))]

    def parts(self, width: int, height: int) -> Parts:
        """Return how the screen is divided now."""
        browser = self._browser
        return parts(width, height, in_detail=browser.in_detail, page=self.page is not None)

    def _too_small(self, width: int, height: int) -> list[Shown]:
        said = f"skbtrace needs {NARROWEST} x {LOWEST}, this is {width} x {height}. q quits."
        lines = fill([(word, "") for word in said.split()], max(width, 1), "~", indent=0)
        shown = [Shown(line) for line in lines[:height]]
        return shown + [Shown(())] * (height - len(shown))

    # --- one line each ----------------------------------------------------------------------------

    def _status(self, width: int, now: Now) -> Line:
        watched, browser = self._watched, self._browser
        minutes, seconds = divmod(int(now.elapsed_s), 60)
        if self._live:
            state = "ENDING" if now.ends else "LIVE" if now.running else "ENDED"
            state = f"{state} {minutes:02}:{seconds:02}"
            if watched.capture is None or (now.running and watched.summary is not None):
                state = "STARTING"  # for the first time, or with another filter
        else:
            state = "PLAYING" if now.playing else "TRACE"
        name = self._name
        if not name and watched.capture is not None:
            topology = watched.capture.topology
            name = "this host" if topology is None else topology.name
        said: list[Span] = [(f" {self.look.name(name)}", "flow"), (f"  {state}", "")]
        if now.rate is not None and self._live:
            said.append((f"  {now.rate:.0f}/s", ""))
        said.append((f"  {watched.seen} journeys", ""))
        dropped = watched.drops
        said.append((f"  {dropped} dropped", "dropped" if dropped else ""))
        said += self._lost()
        if watched.sample is not None and watched.sample.one_in > 1:
            said.append((f"  one in {watched.sample.one_in}", "warning"))
        flags = ["FROZEN"] if browser.frozen else ["FOLLOW"] if browser.follow else []
        flag = "  ".join(flags)
        line = self._within(said, width - cells(flag) - 2)
        return (*line, (" " * (width - width_of(line) - cells(flag) - 1), ""), (flag, "flow"))

    def _lost(self) -> list[Span]:
        watched = self._watched
        lost: Mapping[str, int] | None = None
        if watched.summary is not None:
            lost = watched.summary.lost
        elif watched.health is not None:
            lost = watched.health.lost
        if lost is None:
            return []
        names = [name for name in LOSSES if lost.get(name)]
        total = sum(lost.values())
        spans: list[Span] = [(f"  {total} lost", "bad" if total else "")]
        if watched.health is not None and watched.summary is None:
            spans += self._fill(watched.health)
        if names:
            spans.append((f"  {', '.join(names)}", "bad"))
        return spans

    def _fill(self, health: Health) -> list[Span]:
        """How full is what lies between the kernel and the journeys."""
        ring, waiting = health.ring, health.waiting
        spans: list[Span] = [(f"  ring {100 * ring:.0f} %", "warning" if ring >= _MUCH else "")]
        if waiting:
            spans.append((f"  {waiting} waiting", "warning" if health.filled >= _MUCH else ""))
        return spans

    def _filter(self, width: int, now: Now) -> Line:
        browser, look = self._browser, self.look
        if now.field is not None:
            verdict: Span = ("Enter lists what it accepts, Esc leaves", "good")
            if self.failure:
                verdict = (look.name(self.failure), "bad")
            return self._typed(now.field, verdict, width)
        if now.note:
            return self._within([(f" {now.note}", "warning")], width)
        if browser.failure:
            return self._within([(f" {look.name(browser.failure)}", "bad")], width)
        wanted = browser.wanted
        said: list[str] = []
        if browser.listed is not Listed.JOURNEYS:
            return self._counted(width)
        if wanted.drops:
            said.append("drops")
        if wanted.flow is not None:
            said.append(tables.flow_text(wanted.flow, look))
        if wanted.place is not None:
            said.append(f"dropped: {wanted.place.reason or wanted.place.function}")
        if wanted.words:
            said.append(f"/ {look.name(wanted.words)}")
        self._scrubber_at = None
        if not said:
            return self._opening(width) if self._live else self._scrubber(width)
        text = f" only {', '.join(said)}: {len(browser.listing)} of {self._watched.seen}"
        done, of = browser.listing.progress
        if done < of and of - done > 64:
            text += f", {100 * done // of} % looked at"
        if browser.listing.passed_over:
            text += f", {browser.listing.passed_over} went by unlooked at"
        return self._within([(text, "change"), ("   Esc: all", "dim")], width)

    def _typed(self, field: Field, verdict: Span, width: int) -> Line:
        """The text with its cursor; beside it what is to be said of it."""
        text, at = self.look.name(field.text) + " ", field.at
        room = width // 2 - 4
        first = max(at - room, 0)
        before, here, after = text[first:at], text[at : at + 1], text[at + 1 : first + room + 1]
        line: Line = ((" / ", "key"), (before, ""), (here, "cursor"), (after, ""))
        gap = max(width // 2 - width_of(line), 1)
        return self._within([*line, (" " * gap, ""), verdict], width)

    def _counted(self, width: int) -> Line:
        """Of how many journeys the table tells."""
        if self._browser.listed is Listed.STEPS and self._counted_steps():
            said = " of every packet that was followed: counted in the kernel"
            return self._within([(said, "dim"), ("   Esc: journeys", "dim")], width)
        with self._watched.tally() as tally:
            looked_at, stand_for, forgotten = tally.journeys, tally.stand_for, tally.forgotten
        seen = self._watched.seen
        said = f" of {looked_at} journeys"
        if stand_for > looked_at:
            said += f", which stand for {stand_for}: of a flood only some are looked at"
        elif looked_at < seen:
            said += f", {100 * looked_at // seen} % of all so far"
        if forgotten:
            said += f"; {forgotten} rows gave way to others"
        return self._within([(said, "dim"), ("   Esc: journeys", "dim")], width)

    def _opening(self, width: int) -> Line:
        """What is traced, in one line."""
        capture = self._watched.capture
        if capture is None:
            return ()
        said = [f" Linux {capture.kernel}, {len(capture.attached)} probes"]
        said += [f"{option}: {typed}" for option, typed in capture.asked.items()]
        spans: list[Span] = [(", ".join(map(self.look.name, said)), "dim")]
        if capture.missing:
            names = ", ".join(dict.fromkeys(place.function for place in capture.missing))
            spans.append((self.look.name(f", not probed: {names}"), "warning"))
        return self._within(spans, width)

    def _scrubber(self, width: int) -> Line:
        """Where the chosen journey begins between the first and the last."""
        span = self.span_ns()
        journey = self._browser.journey
        if span is None or journey is None:
            return ()
        begin, end = span
        length = max(end - begin, 1)
        texts = words(max(journey.start_ns - begin, 0)), words(length)
        room = width - sum(map(cells, texts)) - 6
        if room < 10:
            return ()
        self._scrubber_at = (cells(texts[0]) + 3, room)
        at = min(max((journey.start_ns - begin) * (room - 1) // length, 0), room - 1)
        signs = self.look.signs
        return trimmed(
            [
                (f" {texts[0]}  ", "at"),
                (signs.rule * at, "rule"),
                (signs.point, "flow"),
                (signs.rule * (room - 1 - at), "rule"),
                (f"  {texts[1]}", "at"),
            ]
        )

    def time_at(self, x: int) -> int | None:
        """Return the moment at that cell of the scrubber; None if it is none."""
        span = self.span_ns()
        if span is None or self._scrubber_at is None:
            return None
        (begin, end), (first, size) = span, self._scrubber_at
        return begin + (end - begin) * min(max(x - first, 0), size - 1) // (size - 1)

    def span_ns(self) -> tuple[int, int] | None:
        """Return when the first and the last of all journeys begin; None if there is none."""
        kept = self._browser.kept
        if not kept.seen:
            return None
        numbers = (kept.earlier[0] if kept.earlier else kept.first, kept.seen - 1)
        ends = [self._browser.made(number) for number in numbers]
        if ends[0] is None or ends[1] is None:
            return None
        return ends[0].start_ns, ends[1].start_ns

    def _keys(self, width: int) -> Line:
        *others, last = [
            ((f" {key.shown.split()[0]}", "key"), (f" {key.brief} ", "dim"))
            for key in KEYS
            if key.brief
        ]
        spans: list[Span] = []
        for pair in others:
            if width_of((*spans, *pair, *last)) > width:
                break
            spans += pair
        return trimmed([*spans, *last])

    # --- the list ---------------------------------------------------------------------------------

    def _list(self, width: int, height: int) -> list[Shown]:
        browser = self._browser
        if browser.listed is not Listed.JOURNEYS:
            return self._table(width, height)
        self._note_ids()
        columns = widths(width - _MARK, self._id_width)
        head = Shown(((" " * _MARK, ""), *heading(columns, self.look)))
        listing = browser.listing
        count = len(listing)
        if not count:
            return [head, *self._nothing(width, height)]
        at = min(browser.position, count - 1)
        top = self._top(at, count, height)
        rows = [head]
        marked = {journey.id for journey in browser.marks}
        since = self._watched.since_ns
        if self._rows_look is not self.look or len(self._rows) > 4096:
            self._rows, self._rows_look = {}, self.look
        for position in range(top, min(top + height, count)):
            number = listing.number(position)
            journey = browser.made(number)
            chosen = number == browser.chosen
            lit = ("beside" if browser.in_detail else "chosen") if chosen else ""
            mark = self._mark(chosen=chosen, marked=journey is not None and journey.id in marked)
            line = self._rows.get((number, width))
            if journey is None:
                said = "cannot be read" if browser.why_not(number) else "not kept any more"
                line = ((f"({said})", "dim"),)
            elif line is None:
                line = self._rows[number, width] = row(journey, columns, self.look, since)
            rows.append(Shown((mark, *line), lit, Hit("journey", number)))
        return rows + [Shown(())] * (height + 1 - len(rows))

    def _note_ids(self) -> None:
        """Make room for ids: the latest is the longest, or nearly so."""
        journey = self._browser.made(self._browser.kept.seen - 1)
        if journey is not None and len(journey.id) + 1 > self._id_width:
            self._id_width = len(journey.id) + 1
            self._rows.clear()

    def _top(self, at: int, count: int, height: int) -> int:
        """Return the position of the first row; the chosen one is to be seen."""
        browser = self._browser
        top = browser.listing.position(browser.top) if browser.top else 0
        top = min(max(top, at - height + 1), at, max(count - height, 0))
        if browser.follow:
            top = max(count - height, 0)
        browser.top = browser.listing.number(top)
        return top

    def _mark(self, *, chosen: bool, marked: bool) -> Span:
        signs = self.look.signs
        return (signs.mark if chosen else " ") + (signs.marked if marked else " "), "id"

    def _nothing(self, width: int, height: int) -> list[Shown]:
        browser, watched = self._browser, self._watched
        if watched.capture is None:
            said = "compiling and attaching the probes ..."
            if not (self._live and self._name):
                said = "waiting for the trace to begin ..."
        elif not browser.looked_at_all:
            said = "looking for them ..."
        elif browser.wanted:
            said = "none is wanted of what came so far. Esc: all"
        elif watched.summary is not None or not self._live:
            said = "there was no packet"
        else:
            said = "waiting for the first packet ..."
        lines = [Shown(()), Shown(self._within([(f"    {said}", "dim")], width))]
        return (lines + [Shown(())] * height)[:height]

    def _table(self, width: int, height: int) -> list[Shown]:
        browser = self._browser
        foot = self._queues(width) if browser.listed is Listed.STEPS else []
        height -= len(foot)
        table = self.table()
        sizes = tables.widths(table, width - _MARK)
        browser.row = min(browser.row, max(len(table.rows) - 1, 0))
        top = min(max(0, browser.row - height // 2), max(len(table.rows) - height, 0))
        head = ((" " * _MARK, ""), *tables.heading(table, sizes, self.look))
        shown = [Shown(self._within(head, width))]
        for at in range(top, min(top + height, len(table.rows))):
            chosen = at == browser.row
            line = tables.line(table, at, sizes, self.look)
            lit = ("beside" if browser.in_detail else "chosen") if chosen else ""
            mark = self._mark(chosen=chosen, marked=False)
            shown.append(Shown(self._within((mark, *line), width), lit, Hit("row", at)))
        if not table.rows:
            shown.append(Shown((("    nothing yet", "dim"),)))
        return shown + [Shown(())] * (height + 1 - len(shown)) + foot

    def _queues(self, width: int) -> list[Shown]:
        """How many packets waited for process_backlog, if the kernel has counted it."""
        health, summary = self._watched.health, self._watched.summary
        backlog = None if health is None else health.backlog
        if summary is not None and summary.counted is not None:
            backlog = summary.counted.backlog
        if backlog is None:
            return []
        said = [span for part in tables.backlog_said(backlog) for span in ((" ", ""), part)]
        return [Shown(self._within([(" ", ""), *said], width))]

    def table(self) -> tables.Counts:
        """Return the table that is listed now."""
        if self._browser.listed is Listed.STEPS and (counted := self._counted_steps()):
            return tables.counted_steps(counted, self.look)
        make = {Listed.FLOWS: tables.flows, Listed.STEPS: tables.steps, Listed.DROPS: tables.drops}
        with self._watched.tally() as tally:
            return make[self._browser.listed](tally, self.look)

    def _counted_steps(self) -> tuple[Stepped, ...]:
        """What the kernel has counted, of a capture; of a file the journeys in it are told."""
        health, summary = self._watched.health, self._watched.summary
        if health is None or summary is None or summary.counted is None:
            return () if health is None else health.steps
        return summary.counted.steps

    # --- what stands below it ---------------------------------------------------------------------

    def _below(self, width: int, divided: Parts) -> list[Shown]:
        if self.page is not None:
            return self._page(self.page, width, divided.detail)
        browser = self._browser
        journey = browser.journey
        rule = self.look.signs.rule
        title = "" if journey is None else f" journey #{self.look.name(journey.id)} "
        scale = " equal steps " if browser.equal_steps else ""
        head = rule * 2 + title
        head += rule * max(width - cells(head) - cells(scale) - 2, 0) + scale + rule * 2
        shown = [Shown(((clip(head, width, self.look.signs.cut), "rule"),))]
        if journey is None:
            return shown
        room = width - divided.side
        lanes = self._detail(journey, room, divided.detail)
        if divided.side:
            beside = self._beside(journey, divided.side - 3, divided.detail)
            lanes += [Shown(())] * (divided.detail - len(lanes))
            axis = self.look.signs.axis
            for at, lane in enumerate(lanes):
                fact = beside[at] if at < len(beside) else ()
                fill_up = (" " * (divided.side - 3 - width_of(fact)), "")
                lanes[at] = lane._replace(beside=((f" {axis} ", "rule"), *fact, fill_up))
        shown += lanes
        if divided.hop:
            shown += [Shown(())] * (divided.detail + 1 - len(shown))
            shown += [Shown(line) for line in self._facts(journey, width, divided.hop)]
        return shown

    def _detail(self, journey: Journey, width: int, height: int) -> list[Shown]:
        browser = self._browser
        # A branch may end after its parent: it is drawn from when it is there.
        there = [b.id for b in journey.branches if browser.kept.number_of(b.id) is not None]
        key = (journey, width, browser.equal_steps, self.look, there)
        if key != self._detail_of:
            if self._detail_of[:1] != (journey,):
                self._detail_top = 0
            self._detail_of = key
            found = block(
                journey,
                width - 1,
                self.look,
                equal_steps=browser.equal_steps,
                branches=browser.branches(),
            )
            self._detail_lanes = [(lane.line, lane.hop) for lane in found]
        lanes = self._detail_lanes
        most = max(len(lanes) - height, 0)
        top = min(self._detail_top, most)
        if browser.in_detail:
            at = next((n for n, (_, hop) in enumerate(lanes) if hop == browser.hop), 0)
            top = min(max(top, at - height + 3), at, most) if browser.hop else 0
            if browser.hop == len(journey.hops) - 1:
                top = max(min(most, at), top)
        self._detail_top = top
        return [
            Shown(
                ((" ", ""), *line),
                "chosen" if browser.in_detail and hop == browser.hop else "",
                None if hop is None else Hit("hop", hop),
            )
            for line, hop in lanes[top : top + height]
        ]

    def _beside(self, journey: Journey, width: int, height: int) -> list[Line]:
        if self.beside_map and self.look.capture is not None and self.look.capture.topology:
            topology = self.look.capture.topology
            return map_lines(topology, journey, width, self.look)[:height]
        return hop_lines(journey, self._browser.hop, width, self.look)[:height]

    def _facts(self, journey: Journey, width: int, height: int) -> list[Line]:
        """The hop's facts in as many columns as there is room for."""
        rule = self.look.signs.rule * width
        lines = hop_lines(journey, self._browser.hop, (width - 4) // 2, self.look)
        rows = height - 1
        first, second = lines[:rows], lines[rows : 2 * rows]
        shown: list[Line] = [((rule, "rule"),)]
        for at, line in enumerate(first):
            gap = " " * max((width - 4) // 2 - width_of(line) + 2, 1)
            rest = second[at] if at < len(second) else ()
            shown.append(trimmed([(" ", ""), *line, *((((gap, ""), *rest)) if rest else ())]))
        return shown

    def _page(self, page: Page, width: int, height: int) -> list[Shown]:
        rule = self.look.signs.rule
        head = f"{rule * 2} {page.title} "
        head += rule * max(width - cells(head), 0)
        lines = page.lines(width - 4, self.look)
        self.page_top = min(max(self.page_top, 0), max(len(lines) - height, 0))
        visible = lines[self.page_top : self.page_top + height]
        left_over = len(lines) - self.page_top - height
        shown = [Shown(((clip(head, width, self.look.signs.cut), "rule"),))]
        shown += [Shown((("  ", ""), *line)) for line in visible]
        if left_over > 0:
            shown[-1] = Shown(((f"  {left_over + 1} more lines: PgDn", "dim"),))
        return shown

    # --- the rest ---------------------------------------------------------------------------------

    def _within(self, spans: Sequence[Span], width: int) -> Line:
        return within(spans, width, self.look.signs.cut)
