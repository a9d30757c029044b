# SPDX-License-Identifier: GPL-2.0-only
"""The thread that fills what the full-screen view shows, and what that view can have done.

It must not know what is fed, nor what a screen is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tracer.errors import SkbtraceError, TraceFileError, UsageError

if TYPE_CHECKING:
    from tracer.model import Capture, Journey, Summary, TopologyChange

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
    from tracer.export.json import json
    from tracer.export.output import write_output

    path = _free(name)
    write_output(path, json(_Listed(capture, journeys)))
    return path


class _Listed:
    """What is listed, as a trace that holds nothing else."""

    def __init__(self, capture: Capture, journeys: Iterable[Journey]) -> None:
        self.capture = capture
        self.changes: Sequence[TopologyChange] = ()
        self._journeys = journeys
        self._count = 0

    @property
    def summary(self) -> Summary:
        """See Exported."""
        from tracer.model import Summary

        return Summary(journeys=self._count)

    def __iter__(self) -> Iterator[Journey]:
        for journey in self._journeys:
            self._count += 1
            yield journey


def _free(name: str) -> str:
    """Return the name, or one like it that no file has."""
    stem, dot, ending = name.rpartition(".")
    for number in range(1, _TRIES):
        path = name if number == 1 else f"{stem}-{number}{dot}{ending}"
        if not os.path.lexists(path):
            return path
    raise TraceFileError(f"there are {_TRIES} files like {name} already")
