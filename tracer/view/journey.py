# SPDX-License-Identifier: GPL-2.0-only
"""A journey as a block of lines: who speaks to whom, over which devices, hop by hop, how it ended.

``render`` is a pure function of the journey, a width and a look: no clock, no terminal, no
state. It makes up nothing: what a journey does not hold is not shown. What a drop means is the
word of ``explain``, and where it should have gone that of ``expected``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from tracer.duration import words
from tracer.expected import missing
from tracer.explain import explain
from tracer.model import Device, Drop, Hop, Journey, Outcome, Segment
from tracer.view.line import Line, Span, fill
from tracer.view.look import Look
from tracer.view.table import Lane, lanes
from tracer.words import flow_words, socket_words, state_words, task_words

NARROWEST = 40
"""Cells. On less, lines are as for this."""

_INDENT = 2
"""Cells before what explains an outcome, as before the outcome's own further lines."""
_KERNEL_TAKES = {"icmp_rcv": "ICMP", "icmpv6_rcv": "ICMPv6", "arp_rcv": "ARP"}
"""Functions by which the kernel itself takes a packet, and what people call that part of it."""

_PLAIN = Look()


def render(journey: Journey, width: int, look: Look = _PLAIN) -> list[Line]:
    """Return the journey's lines, each at most ``width`` cells (at least ``NARROWEST``)."""
    return [lane.line for lane in block(journey, width, look)]


def block(
    journey: Journey,
    width: int,
    look: Look = _PLAIN,
    *,
    equal_steps: bool = False,
    branches: Mapping[str, Journey] | None = None,
) -> list[Lane]:
    """Return the lines of ``render``, each with the hop whose row it is: see ``table.lanes``."""
    width = max(width, NARROWEST)
    cut = look.signs.cut
    before = (_head(journey, look), _state(journey, look), _path(journey, look))
    after = [
        *fill(_outcome(journey, look), width, cut),
        *_explanation(journey, width, look),
        *_expectation(journey, width, look),
    ]
    return [
        *(Lane(line) for words in before for line in fill(words, width, cut)),
        *lanes(journey, width, look, equal_steps=equal_steps, branches=branches),
        *map(Lane, after),
    ]


def _head(journey: Journey, look: Look) -> Iterator[Span]:
    yield f"#{look.name(journey.id)} ", "id"
    flow = flow_words(journey.flow)
    if journey.hops:
        flow[-1] += ","
    for word in flow:
        yield look.name(word), "flow"
    related = list(_related(journey))
    if journey.hops:
        yield f"{journey.hops[0].len} bytes{',' if related else ''}", "size"
    for number, (said, style) in enumerate(related, start=1):
        said[-1] += "," if number < len(related) else ""
        for word in said:
            yield look.name(word), style


def _related(journey: Journey) -> Iterator[tuple[list[str], str]]:
    """What other journeys it has to do with, in words."""
    if journey.parent is not None:
        yield ["branch of", f"#{journey.parent}"], "branch"
    for kind, other, after_ns in journey.references:
        yield [kind, f"#{other},", words(after_ns), "after it"], "reference"


def _state(journey: Journey, look: Look) -> Iterator[Span]:
    if journey.state is None:
        return
    said = state_words(journey.state)
    for number, words_together in enumerate(said, start=1):
        yield look.name(words_together) + ("," if number < len(said) else ""), "state"


def _path(journey: Journey, look: Look) -> Iterator[Span]:
    for number, (device, _) in enumerate(journey.arrivals()):
        if number:
            yield look.signs.to, "path"
        yield _place(device, look), look.style_of(device.netns)


def _outcome(journey: Journey, look: Look) -> Iterator[Span]:
    outcome = journey.outcome
    yield look.signs.outcomes[outcome], outcome.value
    for words_together in _SENTENCES[outcome](journey, look):
        yield words_together, outcome.value


def _delivered(journey: Journey, look: Look) -> Iterator[str]:
    yield "delivered"
    at = next((h for h in reversed(journey.hops) if h.socket is not None), None)
    if at is not None and at.socket is not None:
        yield f"to {look.name(socket_words(at.socket))}"
        yield f"({look.name(at.function)})"
        yield from _reached_hop(journey, at, look)
        return
    if journey.proof is not None:
        yield f"to {look.name(journey.proof)}"
    yield from _reached(journey, look)


def _transmitted(journey: Journey, look: Look) -> Iterator[str]:
    yield "transmitted"
    at = _proof_hop(journey)
    if at is None:
        yield from _where_and_when(journey, look)
        return
    if at.device is not None:
        yield f"by {_place(at.device, look)}"
    yield f"after {words(at.dt_ns)},"
    yield f"freed at {words(journey.duration_ns)}"


def _absorbed(journey: Journey, look: Look) -> Iterator[str]:
    yield "absorbed into"
    if journey.absorbed_into is None:
        yield "a packet that is not followed,"
    else:
        yield f"#{look.name(journey.absorbed_into)}"
    yield from _where_and_when(journey, look)


def _consumed(journey: Journey, look: Look) -> Iterator[str]:
    if journey.hops and journey.proof == journey.hops[-1].function:
        yield "consumed: freed, not dropped,"
        yield from _where_and_when(journey, look)
        return
    yield "consumed"
    if journey.proof is not None:
        proof, part = look.name(journey.proof), _KERNEL_TAKES.get(journey.proof)
        yield f"by {proof}" if part is None else f"by {part} ({proof})"
    yield from _reached(journey, look)


def _reached(journey: Journey, look: Look) -> Iterator[str]:
    """Where and when the packet reached what proves its outcome, and when it was freed."""
    hop = _proof_hop(journey)
    if hop is None:
        if journey.proof is not None and journey.branches:
            yield f"through its {'branch' if len(journey.branches) == 1 else 'branches'}"
            *others, last = [f"#{look.name(b.id)}" for b in journey.branches]
            yield from (f"{other}," for other in others)
            yield last
        yield from _where_and_when(journey, look)
        return
    yield from _reached_hop(journey, hop, look)


def _reached_hop(journey: Journey, hop: Hop, look: Look) -> Iterator[str]:
    if hop.device is not None:
        yield f"at {_place(hop.device, look)}"
    yield f"after {words(hop.dt_ns)},"
    last, queued_ns = journey.hops[-1], _in_socket_ns(journey)
    read = last is not hop and last.task is not None and journey.outcome is Outcome.DELIVERED
    if read and last.task is not None:
        yield f"read by {look.name(task_words(last.task))}"
        yield f"at {words(last.dt_ns)}{',' if queued_ns else ''}"
        if queued_ns:
            yield f"{words(queued_ns)} in its queue"
    else:
        yield f"freed at {words(last.dt_ns)}"


def _in_socket_ns(journey: Journey) -> int:
    """How long it lay in a socket's queue."""
    return sum(
        following.dt_ns - hop.dt_ns
        for hop, following in pairwise(journey.hops)
        if hop.segment is Segment.SOCKET
    )


def _proof_hop(journey: Journey) -> Hop | None:
    return next((h for h in reversed(journey.hops) if h.function == journey.proof), None)


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
    Outcome.TRANSMITTED: _transmitted,
    Outcome.CONSUMED: _consumed,
    Outcome.ABSORBED: _absorbed,
    Outcome.DROPPED: _dropped,
    Outcome.UNFINISHED: _unfinished,
    Outcome.DAMAGED: _damaged,
}


def _explanation(journey: Journey, width: int, look: Look) -> list[Line]:
    """What the drop means, what was read at that moment, what to type next."""
    if journey.outcome is not Outcome.DROPPED:
        return []
    explanation = explain(journey) if look.path_of is None else explain(journey, look.path_of)
    lines: list[Line] = []
    if explanation is None:
        return lines
    room, cut = width - _INDENT, look.signs.cut
    for text, style in ((explanation.sentence, ""), (explanation.state or "", "state")):
        lines += fill([(word, style) for word in look.name(text).split()], room, cut, indent=0)
    if explanation.command is not None:
        command = ["try:", *look.name(explanation.command).split()]
        lines += fill([(word, "command") for word in command], room, cut)
    return [((" " * _INDENT, ""), *line) for line in lines]


def _expectation(journey: Journey, width: int, look: Look) -> list[Line]:
    """What should have come next, where it should have gone on."""
    capture = look.capture
    if capture is None or capture.topology is None:
        return []
    said = missing(capture.topology, journey, capture.attached)
    if said is None:
        return []
    words = [(word, "") for word in look.name(said).split()]
    lines = fill(words, width - _INDENT, look.signs.cut, indent=0)
    return [((" " * _INDENT, ""), *line) for line in lines]


def _where_and_when(journey: Journey, look: Look) -> Iterator[str]:
    device = journey.last_device
    if device is not None:
        yield f"at {_place(device, look)}"
    yield f"after {words(journey.duration_ns)}"


def _place(device: Device, look: Look) -> str:
    return look.name(device.place)
