# SPDX-License-Identifier: GPL-2.0-only
"""A Sink takes a capture: its beginning, each journey, its end. Views and exporters are sinks.

A sink knows nothing of where journeys come from: a kernel, a file, a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tracer.model import Capture, Journey, Sampling, Summary, TopologyChange


class Sink(Protocol):
    """Where journeys go: begin is called once, journeys any number of times, end once."""

    def begin(self, capture: Capture) -> None:
        """Every probe is attached; journeys may follow."""

    def topology(self, change: TopologyChange) -> None:
        """The topology is another now; what ended before may have been handed over already."""

    def sampling(self, now: Sampling) -> None:
        """Fewer or more packets are followed from now on."""

    def journeys(self, batch: Sequence[Journey]) -> None:
        """Some finished journeys, in the order in which they ended."""

    def end(self, summary: Summary) -> None:
        """No journey follows. Flush."""


class Tee:
    """Hands everything to several sinks, in order."""

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = sinks

    def begin(self, capture: Capture) -> None:
        """See Sink."""
        for sink in self.sinks:
            sink.begin(capture)

    def topology(self, change: TopologyChange) -> None:
        """See Sink."""
        for sink in self.sinks:
            sink.topology(change)

    def sampling(self, now: Sampling) -> None:
        """See Sink."""
        for sink in self.sinks:
            sink.sampling(now)

    def journeys(self, batch: Sequence[Journey]) -> None:
        """See Sink."""
        for sink in self.sinks:
            sink.journeys(batch)

    def end(self, summary: Summary) -> None:
        """See Sink."""
        for sink in self.sinks:
            sink.end(summary)
