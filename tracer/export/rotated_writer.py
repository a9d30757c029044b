# SPDX-License-Identifier: GPL-2.0-only
"""Writes a trace into one file after the other; each of them is a whole trace by itself.

The next file is begun before a batch of journeys, never in one, and never for its own sake: while
nothing happens, no file is made. Its header says what the topology is by then, the clock pair and
the journeys' ids go on, and its footer counts what is in it and what was lost since the file
before: the sums over all files are the capture's. This module must not know where journeys come
from.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tracer.errors import TraceFileError
from tracer.export.output import Writable, open_trace, remove_output
from tracer.export.rotation import Rotation, numbered, those_there
from tracer.export.trace_writer import TraceWriter
from tracer.model import Capture, Journey, Sampling, Summary, Topology, TopologyChange
from tracer.text import printable
from tracer.totals import since


class RotatedWriter:
    """A Sink that writes ``path`` with numbers in its name, as ``rotation`` says.

    ``so_far`` gives the capture's summary up to now, with what was handed over last. Making one
    opens the first file. Raises TraceFileError as ``open_trace`` and TraceWriter do, and, unless
    ``force``, where a file is there already that could be one of these.
    """

    def __init__(
        self,
        path: str,
        rotation: Rotation,
        so_far: Callable[[], Summary],
        *,
        force: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._rotation = rotation
        self._so_far = so_far
        self._force = force
        self._clock = clock
        self._number = 0
        self._written: deque[tuple[str, os.stat_result]] = deque()
        self._before = Summary()
        self._capture: Capture | None = None
        self._topology: Topology | None = None
        self._sampling: Sampling | None = None
        self._open()
        if not force and (other := self._other()) is not None:
            self.close()
            raise TraceFileError(
                f"{printable(other)} exists already: files of another trace would be mixed with "
                "those of this one",
                hint="give -w another name, or add -f to overwrite such files",
            )

    def __enter__(self) -> RotatedWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the last file."""
        self._stream.close()

    def begin(self, capture: Capture) -> None:
        """See Sink."""
        self._capture = replace(capture, part=self._number)
        self._topology = capture.topology
        self._writer.begin(self._capture)

    def topology(self, change: TopologyChange) -> None:
        """See Sink."""
        self._topology = change.topology
        self._writer.topology(change)

    def sampling(self, now: Sampling) -> None:
        """See Sink."""
        self._sampling = now
        self._writer.sampling(now)

    def journeys(self, batch: Sequence[Journey]) -> None:
        """See Sink. Begins another file before it if it is time."""
        if self._is_due():
            self._rotate(batch)
        self._writer.journeys(batch)

    def end(self, summary: Summary) -> None:
        """See Sink."""
        self._writer.end(since(summary, self._before))

    def _other(self) -> str | None:
        """Return a file that somebody else wrote, but could be taken for one of these."""
        folder, own = Path(self._path).parent, Path(numbered(self._path, 1)).name
        with contextlib.suppress(OSError):  # perhaps it cannot be listed, but written to
            for name in those_there(self._path, [file.name for file in folder.iterdir()]):
                if name != own:
                    return str(folder / name)
        return None

    def _is_due(self) -> bool:
        size, age_s, _ = self._rotation
        if not self._writer.written:
            return False  # a file is of one journey at least
        if size is not None and self._stream.tell() >= size:
            return True
        return age_s is not None and self._clock() - self._began >= age_s

    def _rotate(self, batch: Sequence[Journey]) -> None:
        until_now = since(self._so_far(), _of(batch))
        self._writer.end(since(until_now, self._before))
        self._before = until_now
        self._stream.close()
        self._open()
        assert self._capture is not None
        self._capture = replace(self._capture, part=self._number, topology=self._topology)
        self._writer.begin(self._capture)
        if self._sampling is not None:
            self._writer.sampling(self._sampling)
        keep = self._rotation.keep
        while keep is not None and len(self._written) > keep:
            remove_output(*self._written.popleft())

    def _open(self) -> None:
        self._number += 1
        path = numbered(self._path, self._number)
        self._stream: Writable = open_trace(path, force=self._force)
        self._written.append((path, os.fstat(self._stream.fileno())))
        self._writer = TraceWriter(self._stream, path)
        self._began = self._clock()


def _of(batch: Sequence[Journey]) -> Summary:
    """Return what the capture's summary counts of these."""
    return Summary(
        journeys=len(batch),
        hops=sum(len(journey.hops) for journey in batch),
        outcomes=dict(Counter(journey.outcome.value for journey in batch)),
        hits=dict(Counter(hop.function for journey in batch for hop in journey.hops)),
    )
