# SPDX-License-Identifier: GPL-2.0-only
"""A trace again, of the journeys that were chosen: what every command reads.

Its footer says what the whole trace's said of losses, and counts the journeys that are in it; the
others are ``unselected``. The topology's changes come before the journeys that know them.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tracer.export.formats import Exported
from tracer.export.trace_writer import TraceWriter
from tracer.model import Journey

_BATCH = 256
"""Journeys in a piece."""


def json(trace: Exported) -> Iterator[bytes]:
    """Give the pieces of the trace; of one that is cut off without a footer."""
    out = io.BytesIO()
    writer = TraceWriter(out, "the trace")
    writer.begin(replace(trace.capture, part=None))  # no file of the rotated trace it may be from
    outcomes: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    changes = 0
    batch: list[Journey] = []

    def flush() -> None:
        nonlocal changes
        for change in trace.changes[changes:]:
            writer.topology(change)
        changes = len(trace.changes)
        writer.journeys(batch)
        batch.clear()

    for journey in trace:
        batch.append(journey)
        outcomes[journey.outcome.value] += 1
        hits.update([hop.function for hop in journey.hops])
        if len(batch) >= _BATCH:
            flush()
            yield _taken(out)
    flush()
    whole = trace.summary
    if whole is not None:
        kept = outcomes.total()
        writer.end(
            replace(
                whole,
                journeys=kept,
                hops=hits.total(),
                outcomes=dict(outcomes),
                hits=dict(hits),
                unselected=whole.unselected + whole.journeys - kept,
            )
        )
    yield _taken(out)


def _taken(out: io.BytesIO) -> bytes:
    data = out.getvalue()
    out.seek(0)
    out.truncate()
    return data
