# SPDX-License-Identifier: GPL-2.0-only
"""The time axis of a journey: which cells of a bar a stretch of time takes.

Proportional, with one exception: a packet may lie in a socket's queue for a thousand times as
long as it travelled. Where that last wait is the greater part, it gets a few cells at the
end, and the way there has the rest. Or all steps are drawn alike. Pure arithmetic on
nanoseconds; knows no signs and styles.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tracer.model import Hop, Segment

_TAIL = 5
"""Cells for a socket wait that would dwarf the rest."""


class Axis(NamedTuple):
    """A scale from nanoseconds to cells, with another scale after ``break_ns``."""

    width: int
    total_ns: int
    break_ns: int
    break_cell: int
    steps: tuple[int, ...] = ()
    """The times at which steps begin; if any are given, each step has as many cells as others."""

    def cell(self, ns: int) -> int:
        """Return the cell in which a moment lies; the end lies in the last one."""
        if self.steps:
            return min(self._step(ns) * self.width // (len(self.steps) - 1 or 1), self.width - 1)
        if ns < self.break_ns:
            return min(ns * self.break_cell // self.break_ns, self.width - 1)
        rest_ns, rest = self.total_ns - self.break_ns, self.width - self.break_cell
        if rest_ns <= 0:
            return self.width - 1 if self.total_ns else 0
        return min(self.break_cell + (ns - self.break_ns) * rest // rest_ns, self.width - 1)

    def _step(self, ns: int) -> int:
        return max(0, bisect_right(self.steps, ns) - 1)

    def stretch(self, from_ns: int, to_ns: int) -> tuple[int, int]:
        """Return first cell and number of cells of a stretch: at least one if it took time."""
        first = self.cell(from_ns)
        if to_ns <= from_ns:
            return first, 0
        if to_ns >= self.total_ns:
            return first, self.width - first
        return first, max(1, self.cell(to_ns) - first)


def axis_of(hops: Sequence[Hop], width: int) -> Axis:
    """Return the axis for a journey's hops on ``width`` cells, at least 1."""
    total = hops[-1].dt_ns if hops else 0
    arrived = total
    for hop in reversed(hops[:-1]):
        if hop.segment is not Segment.SOCKET:
            break
        arrived = hop.dt_ns
    if width > 2 * _TAIL and 0 < arrived < total - arrived:
        return Axis(width, total, arrived, width - _TAIL)
    return Axis(width, total, total, width)


def steps_of(hops: Sequence[Hop], width: int) -> Axis:
    """Return the axis on which every step takes as many cells, however long it took."""
    total = hops[-1].dt_ns if hops else 0
    return Axis(width, total, total, width, tuple(sorted({hop.dt_ns for hop in hops})))
