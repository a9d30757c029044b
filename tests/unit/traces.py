# SPDX-License-Identifier: GPL-2.0-only
"""Traces as bytes, plain and compressed, for tests of who reads them."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.unit.journeys import CAPTURE
from tracer.errors import TraceFileError
from tracer.export.opened import Opened
from tracer.export.packed import packing_of
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.model import Capture, Journey, Summary


def summary_of(journeys: Sequence[Journey], **more: int) -> Summary:
    return Summary(
        journeys=len(journeys),
        hops=sum(len(journey.hops) for journey in journeys),
        outcomes=dict(Counter(journey.outcome.value for journey in journeys)),
        hits=dict(Counter(hop.function for journey in journeys for hop in journey.hops)),
        lost=more,
    )


def trace_of(journeys: Sequence[Journey], capture: Capture = CAPTURE, **lost: int) -> bytes:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "trace")
    writer.begin(capture)
    writer.journeys(journeys)
    writer.end(summary_of(journeys, **lost))
    return stream.getvalue()


def gzipped(content: bytes, at_once: int = 3000) -> bytes:
    """As skbtrace compresses, which flushes after each write."""
    packing = packing_of("t.gz")
    assert packing is not None
    pieces = [content[at : at + at_once] for at in range(0, len(content), at_once)]
    return b"".join([packing.pack(piece) for piece in pieces]) + packing.finish()


def members(content: bytes, at_once: int = 3000) -> bytes:
    """As ``cat`` of many files that gzip made."""
    pieces = [content[at : at + at_once] for at in range(0, len(content), at_once)]
    return b"".join(map(gzip.compress, pieces))


def read(content: bytes, name: str = "t.json") -> tuple[list[Journey], str]:
    """The journeys, and what was wrong in the end."""
    journeys: list[Journey] = []
    try:
        for journey in TraceReader(Opened(io.BytesIO(content), name), name):
            journeys.append(journey)
    except TraceFileError as error:
        return journeys, error.message
    return journeys, ""


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)
