# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace show`` on the whole screen: a trace file, or a trace while it comes in.

It must not know what was typed: which journeys are shown it is handed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.cli import saying
from tracer.cli.feeding import Feeding
from tracer.cli.screen import keyboard, look_at
from tracer.cli.signals import ending_signals
from tracer.errors import TraceFileError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.export.incoming import Incoming
    from tracer.export.kept_lines import KeptLines
    from tracer.export.opened import Opened
    from tracer.journal import Journal
    from tracer.model import Capture, Journey
    from tracer.view.screen.browser import Accepts

    Choosing = Callable[[Capture], Accepts | None]
    """What says of a trace with that header which of its journeys are shown."""

_BATCH = 512
"""Lines that are handed over together at most."""


def show_file(
    stream: Opened, name: str, *, color: str, ascii_only: bool, always: Choosing | None = None
) -> None:
    """Look at a trace file. Raises TraceFileError at the end if it is not whole.

    ``always``: chooses which journeys are listed; None lists all.
    """
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
    with saying(lambda: index.notes), keyboard(), ending_signals() as signals:
        look_at(
            printable(Path(name).name),
            index,
            feeding,
            live=False,
            color=color,
            ascii_only=ascii_only,
            always=None if always is None else always(index.header),
            signals=signals,
        )


def show_stream(
    stream: Opened, name: str, *, color: str, ascii_only: bool, always: Choosing | None = None
) -> None:
    """Look at a trace while it comes in. As ``show_file`` else."""
    from tracer.export.incoming import Incoming
    from tracer.export.kept_lines import KeptLines
    from tracer.journal import Journal

    over = threading.Event()
    kept = KeptLines(name)
    journal = Journal(kept.journey)
    incoming = Incoming(stream.fileno(), over)  # before ``keyboard`` puts the terminal there

    def feed() -> None:
        with closing(incoming):
            try:
                take_in(incoming, name, journal, kept)
            except TraceFileError as error:
                if not over.is_set():  # what is left unread is not missing
                    feeding.failure = error

    feeding = Feeding(feed, over.set, lambda: journal.capture)
    with saying(lambda: kept.notes), keyboard(), ending_signals() as signals:
        look_at(
            "",
            journal,
            feeding,
            live=True,
            color=color,
            ascii_only=ascii_only,
            always=None if always is None else _when_begun(always, journal),
            signals=signals,
        )


def _when_begun(always: Choosing, journal: Journal) -> Accepts:
    """Return what chooses journeys; it is made of the header, once there is one."""

    @cache
    def choosing() -> Accepts | None:
        return None if journal.capture is None else always(journal.capture)

    def accepts(journey: Journey) -> bool:
        wanted = choosing()
        return wanted is None or wanted(journey)

    return accepts


def take_in(incoming: Incoming, name: str, journal: Journal, kept: KeptLines) -> None:
    """Read a trace into a journal as it comes in, to its end.

    Raises TraceFileError as TraceReader does; what came before the line that is wrong is kept.
    """
    from tracer.export.trace_reader import TraceReader

    reader = TraceReader(incoming, name)
    part = reader.part
    kept.begin(part)
    journal.begin(reader.capture)
    waiting: list[tuple[str, bool, bytes]] = []

    def hand_over() -> None:
        # First, for a line that is wrong shall not be met again when the rest is handed over.
        batch, waiting[:] = waiting[:], []
        journal.lines(batch)
        for change in reader.changes[-1:]:
            journal.topology(change)
        for sampling in reader.samplings[-1:]:
            journal.sampling(sampling)

    try:
        for line in reader.lines():
            if reader.part is not part:
                part = reader.part
                kept.begin(part)
            known = kept.line(line, reader.line_number)
            if known is not None:
                waiting.append(known)
            if len(waiting) >= _BATCH or not incoming.more:
                hand_over()
    finally:
        hand_over()
        if reader.summary is not None:
            journal.end(reader.summary)
        kept.notes = reader.notes
