# SPDX-License-Identifier: GPL-2.0-only
"""What many journeys have in common, as tables: flows, steps and drops of a tally.

Pure: a tally in, columns and rows out, and of those lines of a width. A row keeps the key of what
it counts, so that somebody can choose it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tracer.duration import short
from tracer.histogram import Histogram
from tracer.model import Backlog, Stepped
from tracer.tally import FlowKey, Step, Tally
from tracer.view.line import Line, Span, cells, left, right, trimmed, within
from tracer.view.look import Look, segment_style
from tracer.words import flow_words

_MOST = 500
"""Rows."""
_FIRST_LEAST = 12
_PARTS = (0.5, 0.9, 0.99)


class Row(NamedTuple):
    """A row: what it is of, and a text for each column with its style."""

    key: object
    cells: tuple[Span, ...]


class Counts(NamedTuple):
    """A table: headings and rows. The first column is to the left and takes what room is left."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    spare: tuple[int, ...]
    """The columns that go first where there is no room, in that order."""
    least: int
    """Cells that the first column wants at least."""
    numbers: frozenset[int]
    """The columns that are set to the right."""


def flows(tally: Tally, look: Look) -> Counts:
    """Return the flows, those with most journeys first."""
    found = sorted(tally.flows.items(), key=lambda item: -item[1].journeys)[:_MOST]
    rows = []
    for key, count in found:
        p50, p90, p99 = count.took.percentiles(*_PARTS)
        rows.append(
            Row(
                key,
                (
                    (look.name(flow_text(key, look)), "flow"),
                    (str(count.journeys), ""),
                    (f"{count.rate:.0f}" if count.rate >= 10 else f"{count.rate:.1f}", "dim"),
                    (str(count.dropped or ""), "dropped"),
                    (short(p50), ""),
                    (short(p90), "dim"),
                    (short(p99), "dim"),
                    (sparkline(count.recent(tally.last_ns), look), "work"),
                ),
            )
        )
    headings = ("flow", "journeys", "per s", "drops", "p50", "p90", "p99", "last 16 s")
    return Counts(headings, tuple(rows), (5, 7, 6, 2), 30, frozenset({1, 2, 3, 4, 5, 6}))


def steps(tally: Tally, look: Look) -> Counts:
    """Return the steps between two functions, those that took most time altogether first."""
    return _steps(tally.steps.items(), look)


def counted_steps(counted: Sequence[Stepped], look: Look) -> Counts:
    """Return the same of what the kernel has counted."""
    return _steps([(step_of(step), step.took) for step in counted], look)


def backlog_said(backlog: Backlog) -> list[Span]:
    """Say how many packets waited for process_backlog."""
    lengths = backlog.lengths
    p50, p99 = lengths.percentiles(0.5, 0.99)
    return [
        ("input queues", "flow"),
        (f"served {lengths.count} times;", ""),
        (f"packets that waited: p50 {p50}, p99 {p99}, at most {lengths.largest}", "dim"),
    ]


def step_of(step: Stepped) -> Step:
    """Return what a step is called in a table."""
    return Step(step.function or "others", step.following or "others", step.segment)


def _steps(steps: Collection[tuple[Step, Histogram]], look: Look) -> Counts:
    found = sorted(steps, key=lambda item: -item[1].total)[:_MOST]
    whole = sum(took.total for _, took in steps) or 1
    rows = []
    for step, took in found:
        p50, p90, p99 = took.percentiles(*_PARTS)
        kind = "work" if step.segment is None else step.segment.value.replace("_", " ")
        style = segment_style(step.segment) or "work"
        said = f"{step.function} {look.signs.across} {step.following}"
        rows.append(
            Row(
                step,
                (
                    (look.name(said), "function"),
                    (kind, style),
                    (str(took.count), ""),
                    (short(p50), ""),
                    (short(p90), ""),
                    (short(p99), ""),
                    (short(took.largest), "dim"),
                    (f"{100 * took.total / whole:.0f} %", "dim"),
                ),
            )
        )
    headings = ("step", "kind", "count", "p50", "p90", "p99", "max", "of all")
    return Counts(headings, tuple(rows), (1, 7, 4, 2), 48, frozenset({2, 3, 4, 5, 6, 7}))


def drops(tally: Tally, look: Look) -> Counts:
    """Return what was dropped, most often first."""
    found = sorted(tally.drops.items(), key=lambda item: -item[1].journeys)[:_MOST]
    rows = []
    for place, count in found:
        rows.append(
            Row(
                place,
                (
                    (look.name(place.reason or "not given"), "dropped"),
                    (look.name(place.function or "-"), "function"),
                    look.place(place.device),
                    (str(count.journeys), ""),
                    (f"#{look.name(count.last)}", "id"),
                ),
            )
        )
    headings = ("reason", "dropped by", "at", "journeys", "last")
    return Counts(headings, tuple(rows), (4, 1), 24, frozenset({3, 4}))


def flow_text(key: FlowKey, look: Look) -> str:
    """Return a flow in a few words: ``TCP web:40012 > db:5432``."""
    from tracer.model import Flow

    icmp_type = key.kind if isinstance(key.kind, int) else None
    arp_op = key.kind if isinstance(key.kind, str) else None
    words = flow_words(
        Flow(
            proto=key.proto,
            src=key.src,
            dst=key.dst,
            sport=key.sport,
            dport=key.dport,
            icmp_type=icmp_type,
            arp_op=arp_op,
        )
    )
    return " ".join(look.address(word) for word in words if word != "echo")


def sparkline(counts: Sequence[int], look: Look) -> str:
    """Return one sign for each number, the higher the more."""
    signs = look.signs.levels
    most = max(counts, default=0)
    if not most:
        return signs[0] * len(counts)
    top = len(signs) - 1
    return "".join(signs[-(-count * top // most)] for count in counts)


def heading(counts: Counts, widths: Sequence[int], look: Look) -> Line:
    """Return what stands above the rows."""
    return _set([(text, "heading") for text in counts.headings], counts, widths, look)


def line(counts: Counts, at: int, widths: Sequence[int], look: Look) -> Line:
    """Return the row of that index."""
    return _set(counts.rows[at].cells, counts, widths, look)


def table(counts: Counts, width: int, look: Look) -> list[Line]:
    """Return the heading and all rows in lines of at most ``width`` cells."""
    sizes = widths(counts, width)
    rows = [line(counts, at, sizes, look) for at in range(len(counts.rows))]
    cut = look.signs.cut
    return [within(each, width, cut) for each in (heading(counts, sizes, look), *rows)]


def widths(counts: Counts, width: int) -> tuple[int, ...]:
    """Return the cells of each column in lines of ``width``; 0 is a column that is not there."""
    sizes = [
        max([cells(head), *(cells(row.cells[at][0]) for row in counts.rows)])
        for at, head in enumerate(counts.headings)
    ]

    def rest() -> int:
        others = [size for size in sizes[1:] if size]
        return width - 1 - sum(others) - len(others)

    for at in counts.spare:
        if rest() >= min(sizes[0], counts.least):
            break
        sizes[at] = 0
    sizes[0] = max(min(sizes[0], rest()), min(_FIRST_LEAST, width))
    return tuple(sizes)


def _set(fields: Sequence[Span], counts: Counts, widths: Sequence[int], look: Look) -> Line:
    cut = look.signs.cut
    spans: list[Span] = [(" ", "")]
    for at, ((text, style), size) in enumerate(zip(fields, widths, strict=True)):
        if not size:
            continue
        if at:
            spans.append((" ", ""))
        spans.append(((right if at in counts.numbers else left)(text, size, cut), style))
    return trimmed(spans)
