# SPDX-License-Identifier: GPL-2.0-only
"""Two journeys side by side, hop by hop: where they part, and which steps took longer.

Pure: two journeys and a width in, lines out. Hops are the same if function and device are; the
devices of two containers are not, so a namespace that only one journey passes stands for the one
that the other passes at the same place of its order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from tracer.duration import short, words
from tracer.model import Hop, Journey
from tracer.view.line import Line, cells, fill, left, right, trimmed
from tracer.view.look import Look
from tracer.words import flow_words

_MUCH = 2.0
"""A step that took so many times as long is worth a word."""
_MUCH_NS = 1000


class Pair(NamedTuple):
    """Hops of the two that stand beside each other; None where only the other one has one."""

    one: int | None
    other: int | None

    @property
    def same(self) -> bool:
        """Whether both are there."""
        return self.one is not None and self.other is not None


def pairs(one: Journey, other: Journey) -> list[Pair]:
    """Return the hops of both in order, equal ones beside each other."""
    keys = [_keys(journey) for journey in (one, other)]
    found: list[Pair] = []
    matcher = SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    for kind, a, a_end, b, b_end in matcher.get_opcodes():
        if kind == "equal":
            found += [Pair(a + n, b + n) for n in range(a_end - a)]
        else:
            found += [Pair(n, None) for n in range(a, a_end)]
            found += [Pair(None, n) for n in range(b, b_end)]
    return found


def _keys(journey: Journey) -> list[tuple[str, int]]:
    """Return what each hop is compared by: its function, and the place of its namespace."""
    order: dict[int, int] = {}
    keys = []
    for hop in journey.hops:
        inum = -1 if hop.device is None else hop.device.netns.inum
        keys.append((hop.function, order.setdefault(inum, len(order))))
    return keys


def comparison(one: Journey, other: Journey, width: int, look: Look) -> list[Line]:
    """Return both flows, where they part, what took longer, and a row per hop."""
    cut = look.signs.cut
    lines: list[Line] = []
    for sign, journey in zip("AB", (one, other), strict=True):
        flow = [look.address(look.name(word)) for word in flow_words(journey.flow)]
        head = [(f"{sign} #{look.name(journey.id)}", "id"), *((word, "flow") for word in flow)]
        head.append(
            (f"{journey.outcome.value} {short(journey.duration_ns)}", journey.outcome.value)
        )
        lines += fill(head, width, cut)
    found = pairs(one, other)
    verdict = _verdict(one, other, found, look).split()
    lines += [(), *fill([(word, "") for word in verdict], width, cut, indent=0), ()]
    return [*lines, *_table(one, other, found, width, look)]


def _table(
    one: Journey, other: Journey, found: Sequence[Pair], width: int, look: Look
) -> Iterator[Line]:
    cut = look.signs.cut
    names = [_place(one, other, pair, look) for pair in found]
    size = min(max([8, *map(cells, names)]), max(width - 2 - 4 * 8, 8))
    yield trimmed(
        [("  ", ""), (left("hop", size, cut), "heading")]
        + [(right(text, 8, cut), "heading") for text in ("took A", "took B", "B - A", "times")]
    )
    first = next((n for n, pair in enumerate(found) if not pair.same), None)
    for number, (pair, name) in enumerate(zip(found, names, strict=True)):
        took = (_took(one, pair.one), _took(other, pair.other))
        sign = " " if pair.same else "A" if pair.one is not None else "B"
        style = "" if pair.same else "dropped" if number == first else "change"
        yield trimmed(
            [
                (f"{sign} ", style),
                (left(name, size, cut), style or "function"),
                *((right("" if ns is None else short(ns), 8, cut), style) for ns in took),
                *_difference(*took, cut=cut),
            ]
        )


def _difference(one: int | None, other: int | None, *, cut: str) -> Iterator[tuple[str, str]]:
    if one is None or other is None:
        return
    more = other - one
    sign = "+" if more > 0 else "-" if more < 0 else ""
    style = "change" if _is_much(one, other) else "dim"
    yield right(f"{sign}{short(abs(more))}", 8, cut), style
    if one and other:
        yield right(f"{other / one:.2f}" if other < 100 * one else ">100", 8, cut), style


def _is_much(one: int, other: int) -> bool:
    small, large = sorted((one, other))
    return large > _MUCH * small and large - small >= _MUCH_NS


def _place(one: Journey, other: Journey, pair: Pair, look: Look) -> str:
    hops = [
        journey.hops[at] for journey, at in ((one, pair.one), (other, pair.other)) if at is not None
    ]
    devices = list(dict.fromkeys(d for hop in hops if (d := _device(hop)) is not None))
    return look.name(" ".join([hops[0].function, " / ".join(devices)]).rstrip())


def _device(hop: Hop) -> str | None:
    return None if hop.device is None else hop.device.place


def _took(journey: Journey, at: int | None) -> int | None:
    if at is None or at + 1 >= len(journey.hops):
        return None
    return max(journey.hops[at + 1].dt_ns - journey.hops[at].dt_ns, 0)


def _verdict(one: Journey, other: Journey, found: Sequence[Pair], look: Look) -> str:
    """Return in a sentence or two where they part, and what took longer."""
    parts = next((n for n, pair in enumerate(found) if not pair.same), None)
    if parts is None:
        said = "The same hops in the same order."
    else:
        before = _place(one, other, found[parts - 1], look) if parts else "the beginning"
        ends = [
            "ends there" if at is None else f"goes on with {look.name(journey.hops[at].function)}"
            for journey, at in zip((one, other), _after(found, parts), strict=True)
        ]
        said = f"They part after {before}: A {ends[0]}, B {ends[1]}."
    if one.outcome is not other.outcome:
        said += f" A was {one.outcome.value}, B {other.outcome.value}."
    longest = max(
        (
            (abs(b - a), pair)
            for pair in found
            if (a := _took(one, pair.one)) is not None
            and (b := _took(other, pair.other)) is not None
        ),
        default=None,
        key=lambda each: each[0],
    )
    if longest is not None and longest[0] > 0:
        took = f"Most of the difference in time, {words(longest[0])}, is at"
        said += f" {took} {_place(one, other, longest[1], look)}."
    return said


def _after(found: Sequence[Pair], parts: int) -> tuple[int | None, int | None]:
    """Return the next hop of each from there on."""
    rest = found[parts:]
    return (
        next((pair.one for pair in rest if pair.one is not None), None),
        next((pair.other for pair in rest if pair.other is not None), None),
    )
