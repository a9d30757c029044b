# SPDX-License-Identifier: GPL-2.0-only
"""The thread that fills what the full-screen view shows, and what that view can have done.

It must not know what is fed, nor what a screen is.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tracer.errors import SkbtraceError, TraceFileError, UsageError

if TYPE_CHECKING:
    from tracer.export.trace_writer import TraceWriter
    from tracer.model import Capture, Journey

_BATCH = 256
"""Journeys that are written together: there may be more than memory has room for."""
_TRIES = 1000
"""Names that are tried for a file."""


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

    def save(self, journeys: Iterable[Journey], name: str) -> str:
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


def save(capture: Capture, journeys: Iterable[Journey], name: str) -> str:
    """Write journeys as a trace into the current directory; return the file's name.

    Raises TraceFileError if it cannot be written, and what ``journeys`` raises; in either case
    no file is left.
    """
    from tracer.export.output import open_output
    from tracer.export.trace_writer import TraceWriter

    path = _free(name)
    with closing(open_output(path)) as stream:
        try:
            _write(TraceWriter(stream, path), capture, iter(journeys))
        except BaseException as error:
            _take_away(path, stream)
            why = error.__cause__
            if isinstance(error, TraceFileError) and isinstance(why, OSError):
                said = f"cannot write {path}: {why.strerror or why}; nothing is left of it"
                raise TraceFileError(said) from why
            raise
    return path


def _write(writer: TraceWriter, capture: Capture, journeys: Iterator[Journey]) -> None:
    from tracer.model import Summary

    count = hops = 0
    outcomes: Counter[str] = Counter()
    writer.begin(replace(capture, part=None))  # no file of the rotated trace it may be from
    while batch := list(islice(journeys, _BATCH)):
        writer.journeys(batch)
        count += len(batch)
        hops += sum(len(journey.hops) for journey in batch)
        outcomes.update(journey.outcome.value for journey in batch)
    writer.end(Summary(journeys=count, hops=hops, outcomes=dict(outcomes)))


def _take_away(path: str, stream: BinaryIO) -> None:
    """Take away the file that the stream writes, if it still has that name."""
    with suppress(OSError):
        if os.path.samestat(os.lstat(path), os.fstat(stream.fileno())):
            Path(path).unlink()


def _free(name: str) -> str:
    """Return the name, or one like it that no file has."""
    stem, dot, ending = name.rpartition(".")
    for number in range(1, _TRIES):
        path = name if number == 1 else f"{stem}-{number}{dot}{ending}"
        if not os.path.lexists(path):
            return path
    raise TraceFileError(f"there are {_TRIES} files like {name} already")
