# SPDX-License-Identifier: GPL-2.0-only
"""A journey as one row of a list: id, when, who speaks to whom, path, how long, how it ended.

Pure: a journey and the widths of the columns in, a line out. On a narrow terminal first the path
and then the time goes.
"""

from __future__ import annotations

from typing import NamedTuple

from tracer.duration import short
from tracer.model import Device, Journey, Netns
from tracer.view.line import Line, Span, clip, left, right, trimmed, width_of, within
from tracer.view.look import Look
from tracer.words import ending, flow_words

_ID, _ID_MOST, _AT, _TOTAL = 5, 12, 8, 6
_OUTCOME, _OUTCOME_MOST = 13, 30
_FLOW_LEAST = 20
_PATH_LEAST = 17


class Widths(NamedTuple):
    """Cells of each column; 0 is one that is not there."""

    id: int
    at: int
    flow: int
    path: int
    total: int
    outcome: int


def widths(width: int, id_width: int = _ID) -> Widths:
    """Return the columns for rows of ``width`` cells; ids take ``id_width`` at most, with the #."""
    number = max(_ID, min(id_width, _ID_MOST))
    outcome = max(_OUTCOME, min(_OUTCOME_MOST, width // 5))
    rest = width - number - _TOTAL - outcome - 3  # spaces between the columns
    if rest < _FLOW_LEAST:
        return Widths(number, 0, max(rest, 1), 0, _TOTAL, outcome)
    at = _AT if rest - _AT - 1 >= _FLOW_LEAST else 0
    rest -= at + 1 if at else 0
    if rest - 1 < _FLOW_LEAST + _PATH_LEAST:
        return Widths(number, at, rest, 0, _TOTAL, outcome)
    path = max(_PATH_LEAST, min((rest - 1) * 2 // 5, 60))
    return Widths(number, at, rest - 1 - path, path, _TOTAL, outcome)


def heading(columns: Widths, look: Look) -> Line:
    """Return what stands above the rows."""
    names = ("#", "t", "flow", "path", "total", "outcome")
    cut = look.signs.cut
    fields = [
        (right if name in {"#", "t", "total"} else left)(name, size, cut)
        for name, size in zip(names, columns, strict=True)
        if size
    ]
    return trimmed([(" ".join(fields), "heading")])


def row(journey: Journey, columns: Widths, look: Look, since_ns: int) -> Line:
    """Return a journey's row; times count from ``since_ns`` on the trace's clock."""
    cut = look.signs.cut
    fields: list[tuple[Span, ...]] = [((right(f"#{journey.id}", columns.id, cut), "id"),)]
    if columns.at:
        fields.append(((right(_seconds(journey.start_ns - since_ns), columns.at, cut), "at"),))
    said = look.name(" ".join(_brief(journey, look)))
    fields.append(((left(said, columns.flow, cut), "flow"),))
    if columns.path:
        fields.append(_filled(path(journey, look), columns.path, cut))
    fields.append(((right(short(journey.duration_ns), columns.total, cut), "size"),))
    outcome = journey.outcome
    sign = look.signs.outcomes[outcome]
    text = clip(f"{sign} {look.name(ending(journey))}", columns.outcome, cut)
    fields.append(((text, outcome.value),))
    spans: list[Span] = []
    for field in fields:
        spans += [(" ", ""), *field] if spans else field
    return trimmed(spans)


def path(journey: Journey, look: Look) -> list[Span]:
    """Return the namespaces and bridges it passed, in order."""
    spans: list[Span] = []
    for name, style in _places(journey, look):
        if spans:
            spans.append((f" {look.signs.to} ", "path"))
        spans.append((look.name(name), style))
    return spans


def _places(journey: Journey, look: Look) -> list[tuple[str, str]]:
    topology = None if look.capture is None else look.capture.topology
    bridge = None if topology is None else topology.bridge
    visits: list[tuple[Netns, bool]] = []
    for hop in journey.hops:
        device = hop.device
        if device is None:
            continue
        bridged = bridge is not None and _is_bridging(device, hop.function, bridge)
        if visits and visits[-1][0] == device.netns:
            visits[-1] = (device.netns, visits[-1][1] or bridged)
        else:
            visits.append((device.netns, bridged))
    return [
        (bridge.ifname if bridged and bridge is not None else netns.name, look.style_of(netns))
        for netns, bridged in visits
    ]


def _is_bridging(device: Device, function: str, bridge: Device) -> bool:
    return device == bridge or (device.netns == bridge.netns and function.startswith("br_"))


def _brief(journey: Journey, look: Look) -> list[str]:
    """Return the flow in as few words as do in a list, with names for addresses."""
    words = flow_words(journey.flow)
    if words[0] == "ARP" and "is-at" in words:
        words = words[: words.index("is-at") + 2]
    if words[1:2] == ["echo"]:
        del words[1]
    # Of an echo the sequence number tells one from the next.
    words = [word for word in words if not word.startswith("id ")]
    if journey.parent is not None:
        words.insert(0, look.signs.branch)
    return [look.address(word) for word in words]


def _seconds(ns: int) -> str:
    seconds = ns / 1e9
    return f"{seconds:.4f}" if seconds < 1000 else f"{seconds:.1f}"


def _filled(spans: list[Span], width: int, cut: str) -> tuple[Span, ...]:
    shown = within(spans, width, cut)
    return (*shown, (" " * (width - width_of(shown)), ""))
