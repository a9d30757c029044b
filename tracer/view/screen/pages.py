# SPDX-License-Identifier: GPL-2.0-only
"""The pages that stand where the detail stands: keys, a function, the map, two journeys compared.

Pure: what a page is of comes in when it is opened; a width and how things are called come in each
time it is drawn, for names become known while it is open. It must not know where a page is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tracer.model import Journey, Topology
from tracer.view.compare import comparison
from tracer.view.hop import function_lines
from tracer.view.line import Line, cells, fill, left
from tracer.view.look import Look
from tracer.view.screen.keys import KEYS
from tracer.view.topo import drawing


class Page(NamedTuple):
    """A text that stands where the detail stands."""

    title: str
    lines: Callable[[int, Look], list[Line]]
    """Width in cells, how things are called → lines."""


def help_page() -> Page:
    """Return what the keys do."""

    def lines(width: int, _: Look) -> list[Line]:
        size = max(cells(key.shown) for key in KEYS) + 2
        found: list[Line] = []
        for key in KEYS:
            text = fill([(w, "") for w in key.text.split()], max(width - size, 8), "~", indent=0)
            for number, line in enumerate(text):
                first = key.shown if not number else ""
                found.append(((left(first, size, "~"), "key"), *line))
        return found

    return Page("keys", lines)


def function_page(function: str) -> Page:
    """Return what that function is."""
    return Page(function, lambda width, look: function_lines(function, width, look))


def map_page(look: Look, journey: Journey | None) -> Page | None:
    """Return the topology with the way of that packet; None if there is no topology."""
    if look.capture is None or look.capture.topology is None:
        return None
    topology = look.capture.topology
    title = topology.name if journey is None else f"{topology.name}, the way of #{journey.id}"
    return Page(title, lambda width, look: map_lines(topology, journey, width, look))


def map_lines(topology: Topology, journey: Journey | None, width: int, look: Look) -> list[Line]:
    """Return the drawing of the topology and on it where the packet came."""
    passed = [] if journey is None else [device for device, _ in journey.arrivals()]
    return drawing(topology, look, width, passed)


def compare_page(one: Journey, other: Journey) -> Page:
    """Return both journeys side by side."""
    title = f"compare #{one.id} and #{other.id}"
    return Page(title, lambda width, look: comparison(one, other, width, look))
