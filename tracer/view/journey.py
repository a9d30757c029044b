# SPDX-License-Identifier: GPL-2.0-only
"""A journey as a block of lines: who speaks to whom, over which devices, hop by hop, how it ended.

``render`` is a pure function of the journey, a width and a look: no clock, no terminal, no
state. It makes up nothing: what a journey does not hold is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracer.model import Device, Drop, Journey, Outcome
from tracer.view.duration import words
from tracer.view.flow import flow_words
from tracer.view.line import Line, Span, fill
from tracer.view.look import Look
from tracer.view.table import table

NARROWEST = 40
"""Cells. On less, lines are as for this."""

_PLAIN = Look()


def render(journey: Journey, width: int, look: Look = _PLAIN) -> list[Line]:
    """Return the journey's lines, each at most ``width`` cells (at least ``NARROWEST``)."""
    width = max(width, NARROWEST)
    cut = look.signs.cut
    return [
        *fill(_head(journey, look), width, cut),
        *fill(_path(journey, look), width, cut),
        *table(journey, width, look),
        *fill(_outcome(journey, look), width, cut),
    ]


def _head(journey: Journey, look: Look) -> Iterator[Span]:
    yield f"#{look.name(journey.id)} ", "id"
    said = flow_words(journey.flow)
    if journey.hops:
        said[-1] += ","
    for word in said:
        yield look.name(word), "flow"
    if journey.hops:
        comma = "," if journey.parent is not None else ""
        yield f"{journey.hops[0].len} bytes{comma}", "size"
    if journey.parent is not None:
        yield f"branch of #{look.name(journey.parent)}", "branch"


def _path(journey: Journey, look: Look) -> Iterator[Span]:
    last: Device | None = None
    for hop in journey.hops:
        if hop.device is None or hop.device == last:
            continue
        if last is not None:
            yield look.signs.to, "path"
        last = hop.device
        yield _place(last, look), look.style_of(last.netns)


def _outcome(journey: Journey, look: Look) -> Iterator[Span]:
    outcome = journey.outcome
    yield look.signs.outcomes[outcome], outcome.value
    for words_together in _SENTENCES[outcome](journey, look):
        yield words_together, outcome.value


def _delivered(journey: Journey, look: Look) -> Iterator[str]:
    yield "delivered"
    if journey.proof is not None:
        yield f"to {look.name(journey.proof)}"
    yield from _reached(journey, look)


def _consumed(journey: Journey, look: Look) -> Iterator[str]:
    if journey.hops and journey.proof == journey.hops[-1].function:
        yield "consumed: freed, not dropped,"
        yield from _where_and_when(journey, look)
        return
    yield "consumed"
    if journey.proof is not None:
        yield f"by {look.name(journey.proof)}"
    yield from _reached(journey, look)


def _reached(journey: Journey, look: Look) -> Iterator[str]:
    """Where and when the packet reached what proves its outcome, and when it was freed."""
    hop = next((h for h in reversed(journey.hops) if h.function == journey.proof), None)
    if hop is None:
        if journey.proof is not None and journey.branches:
            yield f"through its {'branch' if len(journey.branches) == 1 else 'branches'}"
            yield ", ".join(f"#{look.name(b.id)}" for b in journey.branches)
        yield from _where_and_when(journey, look)
        return
    if hop.device is not None:
        yield f"at {_place(hop.device, look)}"
    yield f"after {words(hop.dt_ns)},"
    yield f"freed at {words(journey.duration_ns)}"


def _dropped(journey: Journey, look: Look) -> Iterator[str]:
    drop = journey.drop or Drop(None, None)
    yield "DROP"
    if drop.reason is not None:
        yield look.name(drop.reason)
    if drop.function is not None:
        yield f"in {look.name(drop.function)}+{drop.offset:#x}"
    yield from _where_and_when(journey, look)


def _unfinished(journey: Journey, look: Look) -> Iterator[str]:
    yield "unfinished: last seen"
    if journey.hops:
        yield f"in {look.name(journey.hops[-1].function)}"
    yield from _where_and_when(journey, look)


def _damaged(journey: Journey, look: Look) -> Iterator[str]:
    yield "damaged:"
    yield look.name(journey.damage) if journey.damage is not None else "part of it was lost"


_SENTENCES = {
    Outcome.DELIVERED: _delivered,
    Outcome.CONSUMED: _consumed,
    Outcome.DROPPED: _dropped,
    Outcome.UNFINISHED: _unfinished,
    Outcome.DAMAGED: _damaged,
}


def _where_and_when(journey: Journey, look: Look) -> Iterator[str]:
    device = _last_device(journey)
    if device is not None:
        yield f"at {_place(device, look)}"
    yield f"after {words(journey.duration_ns)}"


def _last_device(journey: Journey) -> Device | None:
    return next((h.device for h in reversed(journey.hops) if h.device is not None), None)


def _place(device: Device, look: Look) -> str:
    return look.name(f"{device.netns.name}/{device.ifname}")
