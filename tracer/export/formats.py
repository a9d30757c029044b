# SPDX-License-Identifier: GPL-2.0-only
"""The table of what a trace can be exported to. A format is one file and one line in FORMATS.

An exporter is a function from what is exported to pieces of a file. It keeps what is needed to
write the next piece, not what was written: memory does not grow with the trace. A trace may end
early; what it has given until then makes a whole file. This module must not know how the file is
opened, nor how journeys are chosen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from tracer.model import Capture, Journey, Summary, TopologyChange


class Exported(Protocol):
    """What is exported: a trace, or what was chosen of one. Can be gone through once."""

    capture: Capture

    @property
    def summary(self) -> Summary | None:
        """Of the whole trace; known after the last journey, and None if the trace is cut off."""

    @property
    def changes(self) -> Sequence[TopologyChange]:
        """Those of the topology so far."""

    def __iter__(self) -> Iterator[Journey]:
        """Give the journeys in the order in which they ended."""


Exporter: TypeAlias = Callable[[Exported], Iterator[bytes]]


class Format(NamedTuple):
    """What a trace can be exported to."""

    exporter: str
    """``module:function``; imported when it is asked for."""
    text: str
    """What it is for, in half a line."""
    readable: bool = False
    """People read it as it is: it may go to a terminal."""
    single: bool = False
    """It shows one journey."""

    def load(self) -> Exporter:
        """Import the exporter."""
        module, _, name = self.exporter.partition(":")
        exporter: Exporter = getattr(importlib.import_module(module), name)
        return exporter


FORMATS = {
    "chrome": Format(
        "tracer.export.chrome:chrome", "Chrome Trace Event JSON; open it at ui.perfetto.dev"
    ),
    "pcapng": Format(
        "tracer.export.pcapng:pcapng",
        "the packets for Wireshark, as far as kept, with paths as comments",
    ),
    "html": Format("tracer.export.html:html", "a report in one file for any browser"),
    "otlp": Format("tracer.export.otlp:otlp", "OTLP JSON lines: each journey a trace of spans"),
    "csv": Format("tracer.export.csv:csv", "a table with one row for each hop", readable=True),
    "json": Format("tracer.export.json:json", "a trace again, of what was chosen", readable=True),
    "mermaid": Format(
        "tracer.export.mermaid:mermaid",
        "a sequence diagram of one journey",
        readable=True,
        single=True,
    ),
    "folded": Format(
        "tracer.export.folded:folded", "where the time goes, for flame graphs", readable=True
    ),
}
