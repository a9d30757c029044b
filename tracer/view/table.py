# SPDX-License-Identifier: GPL-2.0-only
"""The hops of a journey as aligned rows: where, what, when, how long, and a bar.

Pure: from hops and a width to lines. Columns are as wide as this journey needs; on a narrow
terminal wordings get shorter, then the namespace's column goes (the rules still name it), then
the bars, then the rest but the function and its times. Knows nothing of outcomes or flows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tracer.model import Branch, Hop, Journey, Netns, Outcome, Segment
from tracer.view.axis import Axis, axis_of
from tracer.view.duration import short
from tracer.view.line import Line, Span, cells, clip, left, right, trimmed, width_of
from tracer.view.look import Look

_NO_BARS_BELOW = 60
_WAITS = {
    Segment.SOFTIRQ_WAIT: ("softirq wait", "softirq"),
    Segment.BACKLOG_WAIT: ("behind others", "others"),
    Segment.SOCKET: ("socket", "socket"),
}
_ALREADY_RUNNING = ("already running", "running")
_HEADINGS = ("netns", "device", "function", "cpu", "at us", "took")
_STYLES = {
    Segment.WORK: "work",
    Segment.SOFTIRQ_WAIT: "wait",
    Segment.BACKLOG_WAIT: "wait",
    Segment.SOCKET: "socket",
}


class Row(NamedTuple):
    """One hop in words, before it is set in columns."""

    netns: str
    device: str
    function: str
    wait: tuple[str, str]
    """What it waits for, in full and short; empty if it works."""
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


def table(journey: Journey, width: int, look: Look) -> list[Line]:
    """Return a heading, a row per hop, and between them namespace crossings and branches."""
    hops = journey.hops
    if not hops:
        return []
    texts = [_row(hop, following, look) for hop, following in _pairs(hops)]
    columns = _columns(texts, width)
    axis = axis_of(hops, columns.bar) if columns.bar else None
    lines = [_heading(columns, axis, look)]
    here: Netns | None = None
    for number, (hop, following) in enumerate(_pairs(hops)):
        if hop.device is not None:
            if here is not None and hop.device.netns != here:
                lines.append(_rule(here, hop.device.netns, width, look))
            here = hop.device.netns
        bar = () if axis is None else _bar(hop, following, axis, journey.outcome, look)
        lines.append(_line(texts[number], hop, columns, bar, look))
        leaving = [
            b for b in journey.branches if b.hop == number or (following is None and b.hop > number)
        ]
        lines += [_branch(b, columns, width, look) for b in leaving]
    return lines


def _pairs(hops: Sequence[Hop]) -> Iterator[tuple[Hop, Hop | None]]:
    return zip(hops, (*hops[1:], None), strict=True)


def _row(hop: Hop, following: Hop | None, look: Look) -> Row:
    cpu = str(hop.cpu)
    if following is not None and following.cpu != hop.cpu:
        cpu += f">{following.cpu}"
    wait = _WAITS.get(hop.segment, ("", "")) if hop.segment is not None else ("", "")
    return Row(
        netns="-" if hop.device is None else look.name(hop.device.netns.name),
        device="-" if hop.device is None else look.name(hop.device.ifname),
        function=look.name(hop.function),
        wait=_ALREADY_RUNNING if hop.already_running and wait[0] else wait,
        cpu=cpu,
        at=short(hop.dt_ns),
        took="" if following is None else short(max(0, following.dt_ns - hop.dt_ns)),
    )


def _columns(texts: Sequence[Row], width: int) -> Columns:
    """Return the best columns that fit: the first of a list from roomy to bare."""
    netns = min(16, max(5, *(cells(t.netns) for t in texts)))
    device = min(16, max(6, *(cells(t.device) for t in texts)))
    cpu = max(3, *(len(t.cpu) for t in texts))
    at = max(5, *(len(t.at) for t in texts))
    took = max(4, *(len(t.took) for t in texts))
    full, brief = (
        max(8, *(cells(t.function) + len(t.wait[n]) + bool(t.wait[n]) for t in texts))
        for n in (0, 1)
    )
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
    style = "" if hop.segment is None else _STYLES[hop.segment]
    cut = look.signs.cut
    fields = [
        [(left(row.netns, columns.netns, cut), netns)],
        [(left(row.device, columns.device, cut), netns)],
        _function(row, columns, style, cut),
        [(right(row.cpu, columns.cpu, cut), "cpu")],
        [(right(row.at, columns.at, cut), "at")],
        [(right(row.took, columns.took, cut), style)],
    ]
    return trimmed([*_set(fields, columns), *bar])


def _function(row: Row, columns: Columns, style: str, cut: str) -> list[Span]:
    """Set the function and, at the right of the same column, what the packet waits for."""
    wait = row.wait[columns.short]
    if columns.function < cells(row.function) + 1 + len(wait):
        wait = ""
    name = clip(row.function, columns.function, cut)
    rest = columns.function - cells(name)
    return [(name, "function"), (wait.rjust(rest), style)]


def _bar(hop: Hop, following: Hop | None, axis: Axis, end: Outcome, look: Look) -> list[Span]:
    signs = look.signs
    spans: list[Span] = [(" ", ""), (signs.axis, "axis")]
    if following is None:
        return [*spans, (" " * axis.cell(hop.dt_ns), ""), (signs.outcomes[end], end.value)]
    first, size = axis.stretch(hop.dt_ns, following.dt_ns)
    style = "" if hop.segment is None else _STYLES[hop.segment]
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


def _branch(branch: Branch, columns: Columns, width: int, look: Look) -> Line:
    before = sum(n + 1 for n in columns[:2] if n) + 3
    text = f"{look.signs.branch} #{look.name(branch.id)}"
    return ((" " * before, ""), (clip(text, width - before, look.signs.cut), "branch"))
