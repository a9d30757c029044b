# SPDX-License-Identifier: GPL-2.0-only
"""The hops of a journey as aligned rows: where, what, when, how long, and a bar.

Pure: from hops and a width to lines. Columns are as wide as this journey needs; on a narrow
terminal wordings get shorter, then the namespace's column goes (the rules still name it), then
the bars, then the rest but the function and its times. One more fact (what the packet waits
for, a verdict, the process) stands in the function's column where it has room; the others have
lines of their own below the hop. Knows nothing of outcomes or flows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tracer.duration import short
from tracer.model import Branch, Change, Hop, Journey, Netns, Outcome, Segment
from tracer.view.axis import Axis, axis_of, steps_of
from tracer.view.line import (
    Line,
    Span,
    cells,
    clip,
    fill,
    left,
    right,
    text_of,
    trimmed,
    width_of,
)
from tracer.view.look import Look, segment_style
from tracer.view.row import path
from tracer.words import change_words, socket_words, task_words, verdict_words

_NO_BARS_BELOW = 60
_WIDEST_VERDICT = 35
"""Cells. A function and its verdict that take more do not widen the column."""
_WAITS = {
    Segment.SOFTIRQ_WAIT: ("softirq wait", "softirq"),
    Segment.BACKLOG_WAIT: ("behind others", "others"),
    Segment.QDISC_WAIT: ("qdisc wait", "qdisc"),
    Segment.GRO_WAIT: ("gro wait", "gro"),
    Segment.SOCKET: ("socket", "socket"),
}
_ALREADY_RUNNING = ("already running", "running")
_HEADINGS = ("netns", "device", "function", "cpu", "at us", "took")


class Fact(NamedTuple):
    """Something to be said in the function's column, or below the hop."""

    full: str
    short: str
    style: str
    widens: bool = False
    """Whether the column is made wide enough for it."""
    below: bool = True
    """Whether it is said below the hop if the column has no room; else it is left out."""


class Row(NamedTuple):
    """One hop in words, before it is set in columns."""

    netns: str
    device: str
    function: str
    facts: tuple[Fact, ...]
    """What the column says besides the function is the first of these."""
    cpu: str
    at: str
    took: str


class Columns(NamedTuple):
    """Widths in cells; 0 is a column that is not there. ``short`` picks the shorter wording."""

    netns: int
    device: int
    function: int
    cpu: int
    at: int
    took: int
    bar: int
    short: bool


class Lane(NamedTuple):
    """A line of a table, and what it is a line of."""

    line: Line
    hop: int | None = None
    """The index of the hop whose row it is. None: it only says more of what stands above it."""
    branch: str | None = None
    """The id of the journey that leaves there."""


def table(journey: Journey, width: int, look: Look) -> list[Line]:
    """Return a heading, a row per hop, and between them namespace crossings and branches."""
    return [lane.line for lane in lanes(journey, width, look)]


def lanes(
    journey: Journey,
    width: int,
    look: Look,
    *,
    equal_steps: bool = False,
    branches: Mapping[str, Journey] | None = None,
) -> list[Lane]:
    """Return the lines of ``table``.

    ``equal_steps``: every step is as long as the others, so that short ones are seen beside long
    ones. ``branches``: id → journey; those that leave get a lane on the same axis.
    """
    hops = journey.hops
    if not hops:
        return []
    texts = [_row(journey, number, look) for number in range(len(hops))]
    columns = _columns(texts, width)
    axis = None
    if columns.bar:
        axis = (steps_of if equal_steps else axis_of)(hops, columns.bar)
    lines = [Lane(_heading(columns, axis, look))]
    room = width - _indent(columns)
    here: Netns | None = None
    for number, (hop, following) in enumerate(_pairs(hops)):
        if hop.device is not None:
            if here is not None and hop.device.netns != here:
                lines.append(Lane(_rule(here, hop.device.netns, width, look)))
            here = hop.device.netns
        bar = () if axis is None else _bar(hop, following, axis, journey.outcome, look)
        lines.append(Lane(_line(texts[number], hop, columns, bar, look), number))
        for words in _below(texts[number], hop, columns, room, look):
            for line in fill(words, room, look.signs.cut):
                lines.append(Lane(((" " * (width - room), ""), *line)))
        leaving = [
            b for b in journey.branches if b.hop == number or (following is None and b.hop > number)
        ]
        if branches is None:
            for words in _branches(leaving, look):
                for line in fill(words, room, look.signs.cut):
                    lines.append(Lane(((" " * (width - room), ""), *line)))
            continue
        for branch in leaving:
            line = _lane(journey, branch.id, branches.get(branch.id), columns, axis=axis, look=look)
            lines.append(Lane(line, branch=branch.id))
    return lines


def _lane(
    journey: Journey,
    branch_id: str,
    branch: Journey | None,
    columns: Columns,
    *,
    axis: Axis | None,
    look: Look,
) -> Line:
    """Return the line of a branch: where it went, how it ended, and when, beside its parent."""
    signs = look.signs
    indent = sum(size + 1 for size in columns[:2] if size) + 1
    room = sum(size + 1 for size in columns[:6] if size) - indent
    ids = f"{signs.branch} #{look.name(branch_id)}"
    if branch is None:
        return trimmed([(" " * indent, ""), (clip(ids, room, signs.cut), "branch")])
    took = f" {branch.outcome.value} {short(branch.duration_ns)}"
    where = " " + text_of(tuple(path(branch, look)))
    text = left(ids + where, max(room - cells(took), 0), signs.cut) + took
    spans: list[Span] = [(" " * indent, ""), (left(text, room, signs.cut), "branch")]
    if axis is None:
        return trimmed(spans)
    begin = min(max(branch.start_ns - journey.start_ns, 0), axis.total_ns)
    end = min(max(branch.start_ns - journey.start_ns + branch.duration_ns, begin), axis.total_ns)
    first, size = axis.stretch(begin, end)
    bar = signs.below * max(size - 1, 0)
    outcome = branch.outcome
    return trimmed(
        [
            *spans,
            (" ", ""),
            (signs.axis, "axis"),
            (" " * first + bar, "branch"),
            (signs.outcomes[outcome], outcome.value),
        ]
    )


def _pairs(hops: Sequence[Hop]) -> Iterator[tuple[Hop, Hop | None]]:
    return zip(hops, (*hops[1:], None), strict=True)


def _row(journey: Journey, number: int, look: Look) -> Row:
    hop, *rest = journey.hops[number : number + 2]
    following = rest[0] if rest else None
    cpu = str(hop.cpu)
    if following is not None and following.cpu != hop.cpu:
        cpu += f">{following.cpu}"
    return Row(
        netns="-" if hop.device is None else look.name(hop.device.netns.name),
        device="-" if hop.device is None else look.name(hop.device.ifname),
        function=look.name(hop.function),
        facts=tuple(_facts(journey, number, look)),
        cpu=cpu,
        at=short(hop.dt_ns),
        took="" if following is None else short(max(0, following.dt_ns - hop.dt_ns)),
    )


def _facts(journey: Journey, number: int, look: Look) -> Iterator[Fact]:
    hop = journey.hops[number]
    if hop.segment is not None and hop.segment in _WAITS:
        full, brief = _ALREADY_RUNNING if hop.already_running else _WAITS[hop.segment]
        yield Fact(full, brief, segment_style(hop.segment), widens=True, below=False)
    if hop.verdict is not None:
        full, brief = map(look.name, verdict_words(hop.verdict))
        widens = cells(look.name(hop.function)) + 1 + cells(brief) <= _WIDEST_VERDICT
        style = "dropped" if hop.verdict.verdict == "drop" else "verdict"
        yield Fact(full, brief, style, widens=widens)
    if hop.task is not None:
        task = look.name(f"{_deed(journey, number)} {task_words(hop.task)}")
        yield Fact(task, task, "task")


def _deed(journey: Journey, number: int) -> str:
    """Return what a process did to be named at this hop."""
    if number == 0:
        return "sent by"
    if number < len(journey.hops) - 1:
        return "by"
    return "read by" if journey.outcome is Outcome.DELIVERED else "freed by"


def _columns(texts: Sequence[Row], width: int) -> Columns:
    """Return the best columns that fit: the first of a list from roomy to bare."""
    netns = min(16, max(5, *(cells(t.netns) for t in texts)))
    device = min(16, max(6, *(cells(t.device) for t in texts)))
    cpu = max(3, *(len(t.cpu) for t in texts))
    at = max(5, *(len(t.at) for t in texts))
    took = max(4, *(len(t.took) for t in texts))
    full, brief = (max(8, *(_function_and_fact(t, brief=n) for t in texts)) for n in (False, True))
    wanted = (
        Columns(netns, device, full, cpu, at, took, 16, short=False),
        Columns(netns, device, brief, cpu, at, took, 14, short=True),
        Columns(min(8, netns), device, brief, cpu, at, took, 12, short=True),
        Columns(0, device, brief, cpu, at, took, 10, short=True),
        Columns(0, min(8, device), brief, cpu, at, took, 8, short=True),
        Columns(netns, device, full, cpu, at, took, 0, short=False),
        Columns(netns, device, brief, cpu, at, took, 0, short=True),
        Columns(0, device, brief, cpu, at, took, 0, short=True),
        Columns(0, min(8, device), brief, cpu, at, took, 0, short=True),
        Columns(0, 0, brief, cpu, at, took, 0, short=True),
        Columns(0, 0, brief, 0, at, took, 0, short=True),
    )
    for columns in wanted:
        spare = width - _taken(columns)
        if spare >= 0 and not (columns.bar and width < _NO_BARS_BELOW):
            return columns._replace(bar=columns.bar + spare) if columns.bar else columns
    bare = wanted[-1]
    return bare._replace(function=max(1, bare.function + width - _taken(bare)))


def _function_and_fact(row: Row, *, brief: bool) -> int:
    """Cells this row asks for in the function's column."""
    fact = row.facts[0] if row.facts and row.facts[0].widens else None
    beside = 0 if fact is None else 1 + cells(fact.short if brief else fact.full)
    return cells(row.function) + beside


def _beside(row: Row, columns: Columns) -> tuple[str, str]:
    """Return what stands beside the function, and its style; empty if there is no room."""
    if row.facts:
        fact = row.facts[0]
        text = fact.short if columns.short else fact.full
        if cells(row.function) + 1 + cells(text) <= columns.function:
            return text, fact.style
    return "", ""


def _taken(columns: Columns) -> int:
    """Cells of a whole row: an indent, the columns with a space between, the edge of the bars."""
    there = [n for n in columns[:7] if n]
    return 1 + sum(there) + len(there) - 1 + (1 if columns.bar else 0)


def _set(fields: Sequence[Sequence[Span]], columns: Columns) -> list[Span]:
    """Put the six text columns beside each other; a field fills its column exactly."""
    spans: list[Span] = []
    for field, size in zip(fields, columns[:6], strict=True):
        if size:
            spans += [(" ", ""), *field]
    return spans


def _heading(columns: Columns, axis: Axis | None, look: Look) -> Line:
    cut = look.signs.cut
    fields = [
        [((left if n < 3 else right)(text, columns[n], cut), "heading")]
        for n, text in enumerate(_HEADINGS)
    ]
    spans = _set(fields, columns)
    if axis is not None:
        last = short(axis.break_ns)
        scale = "0" + last.rjust(axis.break_cell - 1) if axis.break_cell > len(last) + 1 else "0"
        spans += [(" ", ""), (look.signs.axis, "axis"), (scale, "heading")]
    return trimmed(spans)


def _line(row: Row, hop: Hop, columns: Columns, bar: Sequence[Span], look: Look) -> Line:
    netns = "unknown" if hop.device is None else look.style_of(hop.device.netns)
    style = segment_style(hop.segment)
    cut = look.signs.cut
    fields = [
        [(left(row.netns, columns.netns, cut), netns)],
        [(left(row.device, columns.device, cut), netns)],
        _function(row, columns, cut),
        [(right(row.cpu, columns.cpu, cut), "cpu")],
        [(right(row.at, columns.at, cut), "at")],
        [(right(row.took, columns.took, cut), style)],
    ]
    return trimmed([*_set(fields, columns), *bar])


def _function(row: Row, columns: Columns, cut: str) -> list[Span]:
    """Set the function and, at the right of the same column, the first of its facts."""
    fact, style = _beside(row, columns)
    name = clip(row.function, columns.function, cut)
    rest = columns.function - cells(name) - cells(fact)
    return [(name, "function"), (" " * rest + fact, style)]


def _bar(hop: Hop, following: Hop | None, axis: Axis, end: Outcome, look: Look) -> list[Span]:
    signs = look.signs
    spans: list[Span] = [(" ", ""), (signs.axis, "axis")]
    if following is None:
        return [*spans, (" " * axis.cell(hop.dt_ns), ""), (signs.outcomes[end], end.value)]
    first, size = axis.stretch(hop.dt_ns, following.dt_ns)
    style = segment_style(hop.segment)
    return [*spans, (" " * first, ""), (signs.bar(hop.segment) * size, style)]


def _rule(before: Netns, after: Netns, width: int, look: Look) -> Line:
    signs = look.signs
    room = (width - 20) // 2
    spans: Line = (
        (signs.rule * 4 + " netns ", "rule"),
        (clip(look.name(before.name), room, signs.cut), look.style_of(before)),
        (f" {signs.across} ", "rule"),
        (clip(look.name(after.name), room, signs.cut), look.style_of(after)),
        (" ", "rule"),
    )
    return (*spans, (signs.rule * (width - width_of(spans)), "rule"))


def _below(row: Row, hop: Hop, columns: Columns, room: int, look: Look) -> Iterator[list[Span]]:
    """Give what is said below a hop, in words; each is for a line of its own, or some."""
    beside = 1 if _beside(row, columns)[0] else 0
    for fact in row.facts[beside:]:
        if fact.below:
            yield [(word, fact.style) for word in fact.full.split()]
    to = look.signs.across
    if hop.socket is not None:
        yield [(word, "socket") for word in (to, *look.name(socket_words(hop.socket)).split())]
    if hop.changes:
        yield [(look.name(word), "change") for word in _changes(hop.changes, room, to)]


def _changes(changes: Sequence[Change], room: int, to: str) -> Iterator[str]:
    """Give each change as one word, that it may not be broken, or as four if it has to be."""
    for number, change in enumerate(changes, start=1):
        words = change_words(change, to)
        if number < len(changes):
            words[-1] += ","
        whole = " ".join(words)
        yield from [whole] if cells(whole) <= room else words


def _branches(leaving: Sequence[Branch], look: Look) -> Iterator[list[Span]]:
    ids = [f"#{look.name(branch.id)}" for branch in leaving]
    if ids:
        ids[0] = f"{look.signs.branch} {ids[0]}"
        yield [(word, "branch") for word in (*(f"{i}," for i in ids[:-1]), ids[-1])]


def _indent(columns: Columns) -> int:
    """Cells before what stands below a hop: a little to the right of its function."""
    return sum(n + 1 for n in columns[:2] if n) + 3
