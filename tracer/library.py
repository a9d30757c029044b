# SPDX-License-Identifier: GPL-2.0-only
"""Traces for programs: open one, go through its journeys, choose, count, hold it to promises.

Needs neither root nor bcc::

    from tracer.library import open_trace

    trace = open_trace("trace.json")
    for journey in trace.journeys("tcp port 443", origin="web"):
        print(journey.id, journey.outcome, journey.duration_ns)
    print(trace.statistics(by="path").took.percentiles(0.5, 0.99))

A journey is what ``tracer.model.Journey`` says; times are nanoseconds. What is read is checked:
a line that is wrong, or a file that is cut off, raises TraceFileError after the journeys before it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.errors import TraceFileError
from tracer.export.opened import opened
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.model import Capture, Journey, Summary

if TYPE_CHECKING:
    from tracer.promise import Verdict
    from tracer.statistics import Statistics

_WRITER = TraceWriter(BytesIO(), "")


class Trace:
    """A trace file, compressed or not. Can be gone through any number of times.

    Making one reads the first line. Raises TraceFileError if that is no trace's.
    """

    capture: Capture
    """Where, when and with what it was traced, and the topology at its begin."""
    summary: Summary | None = None
    """What was lost and counted; known once the journeys were gone through to the end."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with opened(str(self.path)) as stream:
            self.capture = TraceReader(stream, str(self.path)).capture

    def __iter__(self) -> Iterator[Journey]:
        """Give the journeys in the order in which they ended."""
        with opened(str(self.path)) as stream:
            reader = TraceReader(stream, str(self.path))
            yield from reader
            self.summary = reader.summary

    def journeys(
        self,
        filter: str | None = None,
        *,
        netns: str | None = None,
        origin: str | None = None,
        target: str | None = None,
        device: str | None = None,
    ) -> Iterator[Journey]:
        """Give those that are asked for.

        ``filter``: an expression of pcap-filter(7), of the packet as it was first seen; raises
        UsageError if it is none. ``netns``: the name of a namespace they pass, ``origin``: begin
        in, ``target``: end in, or were on their way to; ``device``: ``eth0`` or ``web/eth0``.
        """
        from tracer.filter import filter_of
        from tracer.selection import accepting, selection_of

        names = {"netns": netns, "origin": origin, "target": target, "device": device}
        asked = {kind: [name] for kind, name in names.items() if name is not None}
        wanted = selection_of(self.capture.topology, **asked)
        accepts = None if filter is None else accepting(filter_of(filter.split()))
        for journey in self:
            if wanted(journey) and (accepts is None or accepts(journey)):
                yield journey

    def statistics(
        self, filter: str | None = None, *, by: str = "flow", **names: str
    ) -> Statistics:
        """Return counts and percentiles of the journeys that are asked for; see ``journeys``.

        ``by``: what they are grouped by: ``flow``, ``path``, ``outcome``, ``netns`` or ``cpu``.
        ``statistics_members`` makes a dict of it.
        """
        from tracer.statistics import By, Statistics

        statistics = Statistics(By(by))
        statistics.add_all(self.journeys(filter, **names))
        return statistics

    def verdicts(self, promises: str | os.PathLike[str] | Mapping[str, Any]) -> list[Verdict]:
        """Hold it to promises: a TOML file, or one promise as ``{"from": "web", "to": "db"}``.

        Raises SkbtraceError if the file cannot be read, UsageError for what is no promise.
        """
        from tracer.promise import Judge
        from tracer.promise_file import promises_in, promises_of

        if isinstance(promises, Mapping):
            made = promises_of({"promise": [dict(promises)]})
        else:
            made = promises_in(os.fspath(promises))
        judge = Judge(made, self.capture.topology)
        with opened(str(self.path)) as stream:
            reader = TraceReader(stream, str(self.path))
            judge.add_all(reader, reader.changes)
            self.summary = reader.summary
        return judge.verdicts()


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """Open a trace file. Raises TraceFileError if it is none."""
    return Trace(path)


def journey_members(journey: Journey) -> dict[str, Any]:
    """Return a journey as the trace file has it: see ``skbtrace schema``."""
    members: dict[str, Any] = json.loads(_WRITER.line(journey))
    return members


def statistics_members(statistics: Statistics, trace: Trace) -> dict[str, Any]:
    """Return statistics as ``skbtrace stats --json`` prints them."""
    from tracer.export.statistics import members

    return members(statistics, trace.capture, trace.summary)


__all__ = [
    "Trace",
    "TraceFileError",
    "journey_members",
    "open_trace",
    "statistics_members",
]
