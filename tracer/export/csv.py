# SPDX-License-Identifier: GPL-2.0-only
"""A table for spreadsheets and data frames: a row for each hop, with its journey's columns.

Comma separated, as RFC 4180 has it, with a heading. What is not known is empty. A text that
a spreadsheet would take for a formula has an apostrophe before it.
"""

from __future__ import annotations

import csv as table
import io
from collections.abc import Iterator

from tracer.export.formats import Exported
from tracer.words import change_words, socket_words, task_words, verdict_words

COLUMNS = (
    *("journey", "parent", "start_ns", "outcome", "duration_ns"),
    *("drop_reason", "drop_function"),
    *("proto", "src", "sport", "dst", "dport"),
    *("hop", "dt_ns", "took_ns", "function", "netns", "ifname", "cpu", "len", "segment"),
    *("verdict", "socket", "task", "changes"),
)
"""``start_ns`` is on the clock of the day: since 1970, UTC. ``took_ns``: until the next hop."""
_BATCH = 256
"""Journeys in a piece."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv(trace: Exported) -> Iterator[bytes]:
    """Give the pieces of the table."""
    to_realtime = trace.capture.realtime_ns - trace.capture.monotonic_ns
    out = io.StringIO(newline="")
    writer = table.writer(out)
    writer.writerow(COLUMNS)
    for number, journey in enumerate(trace, start=1):
        flow, drop, hops = journey.flow, journey.drop, journey.hops
        start = journey.start_ns + to_realtime
        ours = (
            _text(journey.id),
            _text(journey.parent),
            start,
            journey.outcome.value,
            journey.duration_ns,
            *((None, None) if drop is None else (_text(drop.reason), _text(drop.function))),
            *(_text(flow.proto), _text(flow.src), flow.sport, _text(flow.dst), flow.dport),
        )
        for at, hop in enumerate(hops):
            device = hop.device
            changes = "; ".join(" ".join(change_words(change, "->")) for change in hop.changes)
            writer.writerow(
                (
                    *ours,
                    at,
                    hop.dt_ns,
                    hops[at + 1].dt_ns - hop.dt_ns if at + 1 < len(hops) else None,
                    _text(hop.function),
                    *(
                        (None, None)
                        if device is None
                        else (_text(device.netns.name), _text(device.ifname))
                    ),
                    hop.cpu,
                    hop.len,
                    hop.segment,
                    hop.verdict and _text(verdict_words(hop.verdict)[0]),
                    hop.socket and _text(socket_words(hop.socket)),
                    hop.task and _text(task_words(hop.task)),
                    _text(changes),
                )
            )
        if not number % _BATCH:
            yield _taken(out)
    yield _taken(out)


def _text(text: str | None) -> str | None:
    return f"'{text}" if text is not None and text.startswith(_FORMULA) else text


def _taken(out: io.StringIO) -> bytes:
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text.encode()
