# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace show`` on the whole screen: a trace file, or a trace while it comes in.

It must not know what was typed: which journeys are shown it is handed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tracer.cli.feeding import Feeding
from tracer.cli.screen import keyboard, look_at
from tracer.cli.signals import ending_signals
from tracer.errors import TraceFileError

if TYPE_CHECKING:
    from tracer.model import Capture, Journey
    from tracer.view.screen.browser import Accepts

    Choosing = Callable[[Capture], Accepts | None]
    """What says of a trace with that header which of its journeys are shown."""

_BATCH = 512
"""Lines that are handed over together at most."""


def show_file(
    stream: BinaryIO, name: str, *, color: str, ascii_only: bool, always: Choosing
) -> None:
    """Look at a trace file. Raises TraceFileError at the end if it is not whole."""
    from tracer.export.trace_index import TraceIndex

    index = TraceIndex(stream, name)
    over = threading.Event()

    def feed() -> None:
        try:
            index.scan(lambda: not over.is_set())
        except TraceFileError as error:
            feeding.failure = error
        index.count(lambda: not over.is_set())

    feeding = Feeding(feed, over.set, lambda: index.capture)
    with ending_signals() as signals:
        look_at(
            Path(name).name,
            index,
            feeding,
            live=False,
            color=color,
            ascii_only=ascii_only,
            always=always(index.header),
            signals=signals,
        )


def show_stream(
    stream: BinaryIO, name: str, *, color: str, ascii_only: bool, always: Choosing, chosen: bool
) -> None:
    """Look at a trace while it comes in. Raises as ``show_file``.

    ``chosen``: whether ``always`` leaves out any journey.
    """
    from tracer.export.incoming import Incoming
    from tracer.export.trace_reader import Lines, TraceReader
    from tracer.journal import Journal

    over = threading.Event()
    incoming = Incoming(os.dup(stream.fileno()), over)
    lines = Lines(name)
    journal = Journal(lines.journey)

    @cache
    def choosing() -> Accepts | None:
        return None if journal.capture is None else always(journal.capture)

    def wanted(journey: Journey) -> bool:
        accepts = choosing()
        return accepts is None or accepts(journey)

    def take(reader: TraceReader, batch: list[bytes]) -> None:
        journal.lines([(*g, line) for line in batch if (g := lines.glance(line)) is not None])
        for change in reader.changes[-1:]:
            journal.topology(change)
        for sampling in reader.samplings[-1:]:
            journal.sampling(sampling)

    def feed() -> None:
        try:
            reader = TraceReader(incoming, name)
        except TraceFileError:
            if over.is_set():
                return
            raise
        journal.begin(reader.capture)
        batch: list[bytes] = []
        try:
            for line in reader.lines():
                batch.append(line)
                if len(batch) == _BATCH or not incoming.more:
                    take(reader, batch)
                    batch.clear()
        except TraceFileError as error:
            if not over.is_set():
                feeding.failure = error
        take(reader, batch)
        if reader.summary is not None:
            journal.end(reader.summary)

    feeding = Feeding(feed, over.set, lambda: journal.capture)
    with keyboard(), ending_signals() as signals:
        look_at(
            "",
            journal,
            feeding,
            live=True,
            color=color,
            ascii_only=ascii_only,
            always=wanted if chosen else None,
            signals=signals,
        )
