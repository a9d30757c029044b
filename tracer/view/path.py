# SPDX-License-Identifier: GPL-2.0-only
"""The way a packet should take, as numbered lines: where, which function, what decided it.

Pure: a way and a width in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracer.model import Outcome
from tracer.view.line import Line, Span, cells, clip, fill, left, right, trimmed, width_of
from tracer.view.look import Look
from tracer.way import End, Way

NARROWEST = 40
_NAME_MOST = 20
_WHY_LEAST = 24
"""Cells. On less, what decided it has lines of its own."""
_GAP: Span = ("  ", "")

_OUTCOMES = {
    End.DELIVERED: Outcome.DELIVERED,
    End.LEAVES: Outcome.TRANSMITTED,
    End.STOPS: Outcome.DROPPED,
    End.UNKNOWN: Outcome.UNFINISHED,
}
"""How a way ends → the outcome that has its sign and its style."""
_BEFORE = {End.STOPS: "stops: ", End.UNKNOWN: "not known: "}
NOT_EVALUATED = "Rules that filter are not evaluated."


def listing(way: Way, look: Look, width: int) -> list[Line]:
    """Return the steps, the end and what was left out, in lines of ``width`` cells (40 or more)."""
    width = max(width, NARROWEST)
    return [trimmed(line) for line in (*_steps(way, look, width), *_end(way, look, width))]


def _steps(way: Way, look: Look, width: int) -> Iterator[tuple[Span, ...]]:
    cut = look.signs.cut
    columns = [
        (look.name(s.device.netns.name), look.name(s.device.ifname), look.name(s.function))
        for s in way.steps
    ]
    widths = [max(map(cells, column)) for column in zip(*columns, strict=True)]
    digits = len(str(len(columns)))
    for number, (step, (netns, ifname, function)) in enumerate(
        zip(way.steps, columns, strict=True), start=1
    ):
        where = (
            (right(str(number), digits, cut), "dim"),
            _GAP,
            (left(netns, min(widths[0], _NAME_MOST), cut), look.style_of(step.device.netns)),
            _GAP,
            (left(ifname, widths[1], cut), ""),
            _GAP,
            (left(function, widths[2], cut), "function"),
            _GAP,
        )
        taken = width_of(where)
        beside = width - taken >= _WHY_LEAST
        indent = taken if beside else digits + 2
        words = [(word, "dim") for word in look.name(step.why).split()]
        said = fill(words, width - indent, cut, indent=0)
        first = said.pop(0) if said and beside else ()
        yield tuple(_within((*where, *first), width, cut))
        for line in said:
            yield ((" " * indent, ""), *line)


def _end(way: Way, look: Look, width: int) -> Iterator[Line]:
    outcome = _OUTCOMES[way.end]
    said = f"{look.signs.outcomes[outcome]} {_BEFORE.get(way.end, '')}{look.name(way.said)}"
    yield from fill([(word, outcome.value) for word in said.split()], width, look.signs.cut)
    yield ((f"  {NOT_EVALUATED}", "dim"),)


def _within(spans: tuple[Span, ...], width: int, cut: str) -> Iterator[Span]:
    for text, style in spans:
        shown = clip(text, width, cut)
        width -= width_of(((shown, style),))
        yield shown, style
        if shown != text:
            return
