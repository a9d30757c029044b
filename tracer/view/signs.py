# SPDX-License-Identifier: GPL-2.0-only
"""The signs a view draws with: one set for terminals that know Unicode, one in plain ASCII.

Every sign that stands in a bar or before an outcome is one cell wide. This module knows no colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tracer.model import Outcome, Segment


class Box(NamedTuple):
    """What boxes are drawn with."""

    top_left: str
    across: str
    top_right: str
    down: str
    out: str
    """A line to the right leaves a line down."""
    bottom_left: str
    """Also where the last line to the right leaves a line down that ends there."""
    bottom_right: str


@dataclass(frozen=True, slots=True)
class Signs:
    """One set of signs."""

    work: str
    wait: str
    socket: str
    axis: str
    """The left edge of the bars."""
    rule: str
    """Repeated across the line where the namespace changes."""
    to: str
    """Between two devices of a path."""
    across: str
    """Between two namespaces, where the packet leaves one for the other."""
    branch: str
    """Before the id of a branch that leaves."""
    below: str
    """At the left of a journey shown below its parent, once for each above it."""
    cut: str
    """Stands for text that had no room."""
    levels: str
    """From nothing to most."""
    mark: str
    """Before what is chosen in a list."""
    marked: str
    """Before what was marked."""
    point: str
    """Where something is on a line."""
    box: Box
    outcomes: dict[Outcome, str]

    def bar(self, segment: Segment | None) -> str:
        """Return the sign a segment's time is drawn with."""
        if segment is Segment.SOCKET:
            return self.socket
        return self.work if segment in {None, Segment.WORK} else self.wait


ASCII = Signs(
    work="#",
    wait=".",
    socket="~",
    axis="|",
    rule="-",
    to=">",
    across="->",
    branch="`-",
    below="|",
    cut="~",
    levels=" .:-=+*#",
    mark=">",
    marked="*",
    point="O",
    box=Box("+", "-", "+", "|", "+", "+", "+"),
    outcomes={
        Outcome.DELIVERED: "=",
        Outcome.TRANSMITTED: ">",
        Outcome.CONSUMED: "=",
        Outcome.ABSORBED: "+",
        Outcome.DROPPED: "X",
        Outcome.UNFINISHED: "?",
        Outcome.DAMAGED: "!",
    },
)

UNICODE = Signs(
    work="█",
    wait="░",
    socket="╌",
    axis="│",
    rule="─",
    to="›",
    across="→",
    branch="╰",
    below="│",
    cut="…",
    levels=" ▁▂▃▄▅▆▇█",
    mark="›",
    marked="◆",
    point="●",
    box=Box("┌", "─", "┐", "│", "├", "└", "┘"),
    outcomes={
        Outcome.DELIVERED: "✓",
        Outcome.TRANSMITTED: "→",
        Outcome.CONSUMED: "✓",
        Outcome.ABSORBED: "+",
        Outcome.DROPPED: "✗",
        Outcome.UNFINISHED: "…",
        Outcome.DAMAGED: "!",
    },
)
