# SPDX-License-Identifier: GPL-2.0-only
"""What tests export: some journeys as if a trace held them, and a trace of a real host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.journeys import ALL, CAPTURE, SUMMARY
from tracer.export.formats import FORMATS
from tracer.export.trace_reader import TraceReader
from tracer.model import Capture, Journey, Summary, TopologyChange

REAL = Path(__file__).parents[1] / "data" / "nat.json"
"""45 journeys through the lab nat on Linux 6.1: ARP, pings and UDP, with the packets' headers."""
NAMES = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a,b\"c'd;e",
    "=cmd|' /C calc'!A0",
    "end\\n  participant x",
    "#59; -->> -x",
    "{{7*7}} ${7*7} `id`",
)
"""Names as people with ill will give them; no control characters, which ``printable`` has taken."""


@dataclass
class Given:
    """Journeys that are exported."""

    journeys: Sequence[Journey] = tuple(ALL.values())
    capture: Capture = CAPTURE
    summary: Summary | None = SUMMARY
    changes: list[TopologyChange] = field(default_factory=list)

    def __iter__(self) -> Iterator[Journey]:
        return iter(self.journeys)


def exported(name: str, given: Given | None = None) -> bytes:
    """Return the whole file."""
    return b"".join(FORMATS[name].load()(given or Given()))


def exported_real(name: str) -> bytes:
    """Return the whole file of the real trace."""
    with REAL.open("rb") as stream:
        return b"".join(FORMATS[name].load()(TraceReader(stream, "nat.json")))


def real() -> list[Journey]:
    """Return the journeys of the real trace."""
    with REAL.open("rb") as stream:
        return list(TraceReader(stream, "nat.json"))
