# SPDX-License-Identifier: GPL-2.0-only
"""Promises and what became of them: told of a trace, or of a capture when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from tracer.cli import options, say

if TYPE_CHECKING:
    from tracer.model import Capture, Journey, Sampling, Summary, TopologyChange
    from tracer.promise import Promise, Verdict


class Judging:
    """A sink that holds journeys against promises."""

    def __init__(self, promises: Sequence[Promise]) -> None:
        from tracer.promise import Judge

        self._judge = Judge(promises, None)
        self.summary: Summary | None = None
        """What the capture says at its end."""

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of each promise until now."""
        return self._judge.verdicts()

    def begin(self, capture: Capture) -> None:
        """See Sink."""
        self._judge.know(capture.topology)

    def topology(self, change: TopologyChange) -> None:
        """See Sink."""
        self._judge.know(change.topology)

    def sampling(self, now: Sampling) -> None:
        """See Sink."""

    def journeys(self, batch: Sequence[Journey]) -> None:
        """See Sink."""
        self._judge.add_all(batch)

    def end(self, summary: Summary) -> None:
        """See Sink."""
        self.summary = summary


def tell(verdicts: Sequence[Verdict], stream: TextIO, *, color: str, ascii_only: bool) -> None:
    """Print what became of promises."""
    from tracer.view.line_view import speaks_unicode, terminal_width, write_lines
    from tracer.view.look import Look
    from tracer.view.promise import report

    look = Look(ascii_only or not speaks_unicode(stream))
    lines = report(verdicts, terminal_width(stream), look)
    write_lines(stream, lines, color=options.is_colored(color, stream))


def tell_losses(summary: Summary | None) -> None:
    """Say it if what was seen is not all."""
    if summary is not None and summary.lost_total:
        say(f"this trace has lost {summary.lost_total}: what was not seen may have been otherwise")
