# SPDX-License-Identifier: GPL-2.0-only
"""The full-screen view over a thread that fills it: a capture, a trace file, a trace coming in.

The view has the main thread, what it looks at is filled by another one. When the view is left, for
whatever reason, that one is told to end, and is waited for.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.cli import options, saying
from tracer.cli.signals import Signals, ending_signals
from tracer.errors import SkbtraceError, TraceFileError, UsageError
from tracer.export.opened import Opened

if TYPE_CHECKING:
    from tracer.export.part import Part
    from tracer.model import Capture, Journey
    from tracer.view.screen.browser import Accepts
    from tracer.view.screen.panes import Watched

    Choosing = Callable[[Capture], Accepts | None]
    """What says of a trace with that header which of its journeys are shown."""

_SWITCH_S = 0.001
"""So long a thread may compute while another one waits for its turn: keys shall not wait."""
_PATIENCE_S = 0.2
"""How long it is waited for a line before it is asked whether to go on."""
_NUMBER = 4
"""Bytes for the number of a trace."""
_BATCH = 512
"""Lines that are handed over together at most."""
_SAID_MOST = 65536
"""Bytes of what was said on standard error that are shown when the view is left."""
_TRIES = 1000
"""Names that are tried for a file."""


def has_a_screen(*, keyboard: bool = True) -> bool:
    """Say whether a full-screen view can be shown: all streams are a terminal that can do it.

    ``keyboard``: standard input is it; otherwise the process's own terminal will do.
    """
    if os.environ.get("TERM", "dumb") in {"dumb", ""}:
        return False
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    if keyboard:
        return sys.stdin.isatty()
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Feeding:
    """A thread that fills what is looked at: the deeds of the view."""

    def __init__(
        self,
        feed: Callable[[], None],
        stop: Callable[[], None],
        capture: Callable[[], Capture | None],
        to_kernel: Callable[[str], str] | None = None,
    ) -> None:
        self._capture = capture
        self._stop = stop
        self._to_kernel = to_kernel
        self.error: BaseException | None = None
        """What ended it, if it did not end by itself."""
        self.failure: SkbtraceError | None = None
        """What went wrong, although what there is can be looked at."""

        def run() -> None:
            try:
                feed()
            except BaseException as error:  # the main thread raises it again
                self.error = error

        self._thread = threading.Thread(target=run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """See Deeds."""
        self._stop()

    def wait(self) -> None:
        """Return when it has ended; raise what ended it."""
        self._thread.join()
        wrong = self.error or self.failure
        if wrong is not None:
            raise wrong

    @property
    def said(self) -> str:
        """See Deeds."""
        wrong = self.error or self.failure
        if wrong is None:
            return ""
        return wrong.message if isinstance(wrong, SkbtraceError) else str(wrong)

    @property
    def running(self) -> bool:
        """See Deeds."""
        return self._thread.is_alive()

    def save(self, journeys: Sequence[Journey], name: str) -> str:
        """See Deeds. Never over a file that is there: then another name is taken."""
        capture = self._capture()
        if capture is None:
            raise TraceFileError("there is nothing to write yet")
        return save(capture, journeys, name)

    def to_kernel(self, words: str) -> str:
        """See Deeds."""
        if self._to_kernel is None:
            raise UsageError("this is a trace: there is no kernel to hand the filter to")
        return self._to_kernel(words)


def save(capture: Capture, journeys: Sequence[Journey], name: str) -> str:
    """Write journeys as a trace into the current directory; return the file's name."""
    from tracer.export.output import open_output
    from tracer.export.trace_writer import TraceWriter
    from tracer.model import Summary

    path = _free(name)
    with closing(open_output(path)) as stream:
        writer = TraceWriter(stream, path)
        writer.begin(replace(capture, part=None))  # no file of the rotated trace it may be from
        writer.journeys(journeys)
        writer.end(
            Summary(
                journeys=len(journeys),
                hops=sum(len(journey.hops) for journey in journeys),
                outcomes=dict(Counter(journey.outcome.value for journey in journeys)),
            )
        )
    return path


def _free(name: str) -> str:
    """Return the name, or one like it that no file has."""
    stem, dot, ending = name.rpartition(".")
    for number in range(1, _TRIES):
        path = name if number == 1 else f"{stem}-{number}{dot}{ending}"
        if not os.path.lexists(path):
            return path
    raise TraceFileError(f"there are {_TRIES} files like {name} already")


def look_at(
    name: str,
    watched: Watched,
    feeding: Feeding,
    *,
    live: bool,
    color: str,
    ascii_only: bool,
    always: Accepts | None = None,
    signals: Signals,
) -> None:
    """Show the view until it is left; the feeding is over then. Raises what ended the feeding."""
    from tracer.topology.names import path_of
    from tracer.view.line_view import speaks_unicode
    from tracer.view.look import Look
    from tracer.view.screen.app import Timeline

    look = Look(ascii_only or not speaks_unicode(sys.stderr), path_of=path_of)
    colored = options.is_colored(color, sys.stderr)
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        with _screen_of_its_own():
            view = Timeline(name, watched, feeding, look, live=live, color=colored, always=always)
            feeding.start()
            with signals.call(view.end_soon):
                view.run()
    finally:
        sys.setswitchinterval(before)
        if feeding.running:
            feeding.stop()
    feeding.wait()
    if view.return_code:
        raise SkbtraceError("the view ended by a fault of its own, see above")


@contextmanager
def _screen_of_its_own() -> Iterator[None]:
    """Let only the view write to the terminal; what else is said on standard error comes later.

    The view writes to ``sys.__stderr__``, as Textual does. C libraries write to descriptor 2.
    """
    terminal, real = os.dup(2), sys.__stderr__
    kept = os.memfd_create("stderr")
    sys.stderr.flush()
    os.dup2(kept, 2)
    with open(terminal, "w", encoding=sys.stderr.encoding, closefd=False) as stream:
        sys.__stderr__ = stream  # type: ignore[misc]
        try:
            yield
        finally:
            sys.__stderr__ = real  # type: ignore[misc]
            os.dup2(terminal, 2)
            said = os.pread(kept, _SAID_MOST, 0)
            os.write(2, said)
            os.close(kept)
            os.close(terminal)


# --- over a trace ---------------------------------------------------------------------------------


def show_file(stream: Opened, name: str, *, color: str, ascii_only: bool, always: Choosing) -> None:
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
    with saying(lambda: index.notes), _keyboard(), ending_signals() as signals:
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
    stream: Opened, name: str, *, color: str, ascii_only: bool, always: Choosing, chosen: bool
) -> None:
    """Look at a trace while it comes in. Raises as ``show_file``.

    ``chosen``: whether ``always`` leaves out any journey.
    """
    from tracer.export.trace_reader import Lines, TraceReader
    from tracer.journal import Journal

    over = threading.Event()
    incoming = Incoming(os.dup(stream.fileno()), over)
    lines = Lines(name)
    parts: list[Part] = []
    """The traces that came, one after the other. Before a line that is kept stands its number."""
    notes: list[str] = []

    def make(kept: bytes) -> Journey:
        part = parts[int.from_bytes(kept[:_NUMBER])]
        return lines.placed(lines.journey(kept[_NUMBER:]), part)

    journal = Journal(make)

    @cache
    def choosing() -> Accepts | None:
        return None if journal.capture is None else always(journal.capture)

    def wanted(journey: Journey) -> bool:
        accepts = choosing()
        return accepts is None or accepts(journey)

    def take(reader: TraceReader, batch: list[bytes]) -> None:
        number = (len(parts) - 1).to_bytes(_NUMBER)
        ids = parts[-1].ids
        journal.lines(
            [
                (ids + glance.id, glance.dropped, number + line)
                for line in batch
                if (glance := lines.glance(line)) is not None
            ]
        )
        batch.clear()
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
        parts.append(reader.part)
        batch: list[bytes] = []
        try:
            for line in reader.lines():
                if reader.part is not parts[-1]:
                    take(reader, batch)
                    parts.append(reader.part)
                batch.append(line)
                if len(batch) == _BATCH or not incoming.more:
                    take(reader, batch)
        except TraceFileError as error:
            if not over.is_set():
                feeding.failure = error
        take(reader, batch)
        notes.extend(reader.notes)
        if reader.summary is not None:
            journal.end(reader.summary)

    feeding = Feeding(feed, over.set, lambda: journal.capture)
    with saying(lambda: notes), _keyboard(), ending_signals() as signals:
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


class Incoming(Opened):
    """Lines from a file descriptor, which ends when it is over, though more may come."""

    def __init__(self, fd: int, over: threading.Event) -> None:
        super().__init__(os.fdopen(fd, "rb", buffering=0, closefd=False), "standard input")
        self._over = over

    def _block(self) -> bytes:
        while not self._over.is_set():
            if select.select([self.fileno()], [], [], _PATIENCE_S)[0]:
                return super()._block()
        return b""


@contextmanager
def _keyboard() -> Iterator[None]:
    """Have keys come from the terminal where standard input is the trace."""
    if os.isatty(0):
        yield
        return
    kept = os.dup(0)
    tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    os.dup2(tty, 0)
    os.close(tty)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
