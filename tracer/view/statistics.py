# SPDX-License-Identifier: GPL-2.0-only
"""Statistics as a report: what there was, where its time went, what was dropped and why.

Pure: statistics in, lines out. Knows neither files nor what was typed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracer.duration import short, words
from tracer.explain import explain
from tracer.histogram import Histogram
from tracer.model import Backlog, Outcome, Stepped
from tracer.statistics import GroupKey, PlacedStep, Statistics
from tracer.tally import FlowKey
from tracer.view.counts import Counts, Row, backlog_said, flow_text, sparkline, step_of, table
from tracer.view.line import Line, Span, fill
from tracer.view.look import Look, segment_style

PARTS = (0.5, 0.9, 0.99, 0.999)
_PART_NAMES = ("p50", "p90", "p99", "p99.9", "max")
_BARS = 16


def report(
    statistics: Statistics,
    width: int,
    look: Look,
    *,
    most: int,
    counted: Sequence[Stepped] = (),
    backlog: Backlog | None = None,
) -> Iterator[Line]:
    """Give the report's lines; ``most`` rows of each table.

    ``counted``: what the kernel has counted of steps, if that is not what the journeys tell.
    ``backlog``: what it has counted of input queues.
    """
    yield from _summary(statistics, width, look)
    if backlog is not None:
        yield from fill(backlog_said(backlog), width, look.signs.cut)
    tables = [
        ("time by kind of step", _kinds(statistics, look)),
        ("steps, by time altogether", _steps(statistics, look, most)),
        (f"journeys by {statistics.by.value}", _groups(statistics, look, most)),
    ]
    if not statistics.journeys:
        tables.clear()
    if counted:
        title = "steps of every packet that was followed, counted in the kernel"
        tables.insert(2, (title, _counted(counted, look, most)))
    for title, counts in tables:
        yield ()
        yield ((title, "flow"),)
        yield from table(counts, width, look)
    if not statistics.journeys:
        return
    yield ()
    yield (("the slowest", "flow"),)
    slowest = [(f"#{look.name(each)} {words(took)}", "id") for took, each in statistics.slowest]
    for line in fill(slowest, width - 1, look.signs.cut, indent=0):
        yield ((" ", ""), *line)
    yield from _drops(statistics, width, look, most)


def _summary(statistics: Statistics, width: int, look: Look) -> Iterator[Line]:
    s = statistics
    rate = f", {s.journeys / s.seconds:.0f} a second" if s.seconds > 0 else ""
    said: list[Span] = [(f"{s.journeys} journeys", "flow")]
    said.append((f"in {words(int(s.seconds * 1e9))}{rate};", ""))
    said.append((f"{s.hops} hops, {s.bytes} bytes, {s.branches} branches of others", ""))
    yield from fill(said, width, look.signs.cut)
    outcomes: list[Span] = []
    for outcome in Outcome:
        count = s.outcomes.get(outcome, 0)
        if count:
            share = 100 * count / s.journeys
            text = f"{look.signs.outcomes[outcome]} {count} {outcome.value} ({share:.1f} %)"
            outcomes.append((text, outcome.value))
    yield from fill(outcomes, width, look.signs.cut)


def _kinds(statistics: Statistics, look: Look) -> Counts:
    kinds = statistics.kinds
    whole = sum(took.total for took in kinds.values()) or 1
    rows = [
        Row(
            kind,
            (
                (kind.value.replace("_", " "), segment_style(kind)),
                (f"{100 * took.total / whole:.1f} %", ""),
                (str(took.count), "dim"),
                *_times(took),
                (bars(took, look), segment_style(kind)),
            ),
        )
        for kind, took in sorted(kinds.items(), key=lambda item: -item[1].total)
    ]
    headings = ("kind", "time", "steps", *_PART_NAMES, "10 ns to 10 s")
    return Counts(headings, tuple(rows), (8, 6, 4), 12, frozenset(range(1, 8)))


def _steps(statistics: Statistics, look: Look, most: int) -> Counts:
    found = sorted(statistics.steps.items(), key=lambda item: -item[1].total)
    whole = sum(took.total for _, took in found) or 1
    rows = []
    for (step, device), took in found[:most]:
        style = segment_style(step.segment)
        said = f"{step.function} {look.signs.across} {step.following}"
        rows.append(
            Row(
                PlacedStep(step, device),
                (
                    (look.name(said), style),
                    look.place(device),
                    (f"{100 * took.total / whole:.1f} %", ""),
                    (str(took.count), "dim"),
                    *_times(took),
                ),
            )
        )
    headings = ("step", "at", "time", "count", *_PART_NAMES)
    return Counts(headings, tuple(rows), (7, 5, 3), 40, frozenset(range(2, 9)))


def _counted(counted: Sequence[Stepped], look: Look, most: int) -> Counts:
    found = sorted(counted, key=lambda step: -step.total_ns)
    whole = sum(step.total_ns for step in found) or 1
    rows = []
    for each in found[:most]:
        step = step_of(each)
        said = f"{step.function} {look.signs.across} {step.following}"
        rows.append(
            Row(
                step,
                (
                    (look.name(said), segment_style(step.segment)),
                    (f"{100 * each.total_ns / whole:.1f} %", ""),
                    (str(each.packets), "dim"),
                    *_times(each.took),
                ),
            )
        )
    headings = ("step", "time", "count", *_PART_NAMES)
    return Counts(headings, tuple(rows), (6, 4), 40, frozenset(range(1, 8)))


def _groups(statistics: Statistics, look: Look, most: int) -> Counts:
    found = sorted(statistics.groups.items(), key=lambda item: -item[1].journeys)
    rows = []
    for key, group in found[:most]:
        share = 100 * group.journeys / statistics.journeys
        rows.append(
            Row(
                key,
                (
                    (look.name(key_text(key, look)), "flow"),
                    (str(group.journeys), ""),
                    (f"{share:.1f} %", "dim"),
                    (str(group.dropped or ""), "dropped"),
                    *_times(group.took),
                    (f"#{look.name(group.first)}", "id"),
                ),
            )
        )
    headings = (statistics.by.value, "journeys", "share", "drops", *_PART_NAMES, "first")
    return Counts(headings, tuple(rows), (9, 7, 5, 2), 24, frozenset(range(1, 10)))


def _drops(statistics: Statistics, width: int, look: Look, most: int) -> Iterator[Line]:
    drops = sorted(statistics.drops.items(), key=lambda item: -item[1].journeys)
    if not drops:
        return
    yield ()
    yield (("drops", "flow"),)
    for place, dropped in drops[:most]:
        device = place.device
        where = "-" if device is None else device.place
        said: list[Span] = [
            (f"{look.signs.outcomes[Outcome.DROPPED]} {dropped.journeys}", "dropped"),
            (look.name(place.reason or "no reason given"), "dropped"),
        ]
        if place.function is not None:
            said.append((f"in {look.name(place.function)}", ""))
        said += [(f"at {look.name(where)},", ""), (f"last #{look.name(dropped.last.id)}", "id")]
        yield from fill(said, width, look.signs.cut)
        explanation = explain(dropped.last)
        if explanation is None:
            continue
        sentence = look.name(explanation.sentence).split()
        for line in fill([(word, "") for word in sentence], width - 2, look.signs.cut, indent=0):
            yield (("  ", ""), *line)
        if explanation.command is not None:
            command = ["try:", *look.name(explanation.command).split()]
            for line in fill([(word, "command") for word in command], width - 2, look.signs.cut):
                yield (("  ", ""), *line)


def _times(took: Histogram) -> tuple[Span, ...]:
    p50, *others = took.percentiles(*PARTS)
    return ((short(p50), ""), *((short(ns), "dim") for ns in (*others, took.largest)))


def bars(took: Histogram, look: Look) -> str:
    """Return a histogram over powers of ten, from 10 ns to 10 s, in a few signs."""
    decades = 9
    counts = [0] * _BARS
    for ns, count in took.classes():
        # The position between 10 and 10^10: by the number's digits, for that is exact.
        at = 0.0 if ns < 10 else len(str(ns)) - 2 + (ns / 10 ** (len(str(ns)) - 1) - 1) / 9
        counts[min(int(at * _BARS / decades), _BARS - 1)] += count
    return sparkline(counts, look)


def key_text(key: GroupKey, look: Look) -> str:
    """Return what a group is called."""
    if isinstance(key, FlowKey):
        return flow_text(key, look)
    if isinstance(key, str | int):
        return str(key)
    return f" {look.signs.to} ".join(key) or "-"
