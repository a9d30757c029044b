# SPDX-License-Identifier: GPL-2.0-only
"""Reads a trace file back: line by line, never the whole of it.

A trace is foreign input. Any bytes give records or a TraceFileError that says in one sentence
which line is wrong and how; every text is made printable here, once. Members that this version
does not know are passed over. This module must not know who wants the journeys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple, NoReturn, Protocol, TypeVar

from tracer.errors import TraceFileError
from tracer.export.later_names import LaterNames
from tracer.export.members import Members, WrongError, integer, text
from tracer.export.trace import FORMAT, VERSION
from tracer.export.trace_values import Values
from tracer.model import Capture, Journey, Sampling, Summary, TopologyChange
from tracer.text import printable

LONGEST_LINE = 16 << 20
"""Bytes. A journey is some kilobytes; what is longer is not a trace."""
_T = TypeVar("_T")


_JOURNEY = b'{"type":"journey","id":"'
"""How the line of a journey begins that skbtrace wrote: what else is on it need not be looked at
to know what it is."""
_DROPPED = b'"outcome":"dropped"'
"""What is on it, and in no text of it: there the quotation marks would have backslashes."""


class Readable(Protocol):
    """What lines can be read from: a binary stream, or what is like one."""

    def readline(self, limit: int, /) -> bytes:
        """Return a line, or so many bytes of one that is longer; empty at the end."""


class Glance(NamedTuple):
    """What is told of a journey by looking at its line, without reading it."""

    id: str
    dropped: bool


class Lines:
    """Makes values of a trace's lines, one at a time. ``name``: what messages call the trace."""

    def __init__(self, name: str) -> None:
        self.name = printable(name)
        self.number = 0
        """Of the line that is being read; 0: it is not known."""
        self.values = Values()

    def members(self, line: bytes) -> Members:
        """Return the object a line is."""
        if len(line) > LONGEST_LINE:
            self.refuse(f"is longer than {LONGEST_LINE >> 20} MiB")
        try:
            members = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            self.refuse("is not JSON")
        if not isinstance(members, dict):
            self.refuse("is not a JSON object")
        return members

    def journey(self, line: bytes) -> Journey:
        """Return the journey a line is."""
        return self.understood(self.members(line), self.values.journey)

    def glance(self, line: bytes) -> Glance | None:
        """Return what the line of a journey tells at a glance; None if it is of something else."""
        if line.startswith(_JOURNEY) and (end := line.find(b'"', len(_JOURNEY))) > 0:
            journey_id = line[len(_JOURNEY) : end]
            if journey_id.isalnum() and journey_id.isascii():
                return Glance(journey_id.decode(), _DROPPED in line)
        members = self.members(line)
        if members.get("type") != "journey":
            return None
        dropped = members.get("outcome") == "dropped"
        return Glance(self.understood(members, lambda m: text(m, "id")), dropped)

    def understood(self, members: Members, read: Callable[[Members], _T]) -> _T:
        """Return what ``read`` makes of the members of this line."""
        try:
            return read(members)
        except WrongError as wrong:
            self.refuse(str(wrong))

    def refuse(self, what: str) -> NoReturn:
        """Raise what is wrong with this line."""
        line = f"line {self.number}" if self.number else "a line"
        raise TraceFileError(f"{self.name}: {line} {what}")


class TraceReader:
    """A trace on ``stream``, which messages call ``name``.

    Making one reads the header. Iterating, once, gives the journeys; after the last one
    ``summary`` is what the footer says, and ``changes`` are those of the topology so far,
    ``samplings`` those of how much is followed. Both
    raise TraceFileError at the first line that is wrong, cut off or missing; what came before it is
    good.

    ``changes``, given by who has read the trace before: namespaces whose names only became known
    after a journey are called by them in it.
    """

    capture: Capture
    summary: Summary | None = None

    def __init__(self, stream: Readable, name: str, changes: Sequence[TopologyChange] = ()) -> None:
        self._stream = stream
        self._lines = Lines(name)
        self._name = self._lines.name
        self._read = 0
        self._later = LaterNames(changes)
        self.changes: list[TopologyChange] = []
        self.samplings: list[Sampling] = []
        line = self._next()
        if not line:
            raise TraceFileError(f"{self._name} is empty, not a trace")
        try:
            members = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            self._not_a_trace()
        if not isinstance(members, dict):
            self._lines.refuse("is not a JSON object")
        self.capture = self._lines.understood(members, self._header)

    def __iter__(self) -> Iterator[Journey]:
        """Give the journeys in the order in which they ended."""
        return self.journeys()

    def journeys(self, ids: Container[str] | None = None) -> Iterator[Journey]:
        """Give the journeys, of these ids only: the others are looked at, not read."""
        lines = self._lines
        for line in self.lines():
            if ids is not None:
                seen = lines.glance(line)
                if seen is not None and seen.id not in ids:
                    continue
            yield self._later.filled(lines.journey(line))

    def lines(self) -> Iterator[bytes]:
        """Give the lines of the journeys instead, unread; all other lines are read."""
        lines, values = self._lines, self._lines.values
        while line := self._next():
            if not line.endswith(b"\n"):
                self._check_end(line)
            if line.startswith(_JOURNEY):
                self._read += 1
                yield line
                continue
            members = lines.members(line)
            kind = members.get("type")
            if kind == "journey":
                self._read += 1
                yield line
            elif kind == "topology":
                self.changes.append(lines.understood(members, values.topology))
            elif kind == "sampling":
                self.samplings.append(lines.understood(members, values.sampling))
            elif kind == "footer":
                self.summary = lines.understood(members, values.summary)
                break
            else:
                lines.refuse("is no journey, no topology, no sampling and no footer")
        if self.summary is None:
            raise TraceFileError(
                f"{self._name} has no footer: the tracer was stopped before it could finish; "
                f"its journeys ({self._read}) are whole"
            )
        if self._next():
            lines.refuse("comes after the footer: a trace ends there")
        if self.summary.journeys != self._read:
            raise TraceFileError(
                f"{self._name} holds {self._read} journeys, but its footer counts "
                f"{self.summary.journeys}: lines were added or removed"
            )

    @property
    def line_number(self) -> int:
        """Which line was read last, from 1."""
        return self._lines.number

    def _next(self) -> bytes:
        """Read one line; empty at the end of the file."""
        try:
            line = self._stream.readline(LONGEST_LINE + 1)
        except OSError as error:
            raise TraceFileError(f"cannot read {self._name}: {error.strerror or error}") from error
        if line:
            self._lines.number += 1
        return line

    def _check_end(self, line: bytes) -> None:
        """Raise if the last line of a file, which nothing ends, is not whole."""
        try:
            json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            if len(line) <= LONGEST_LINE:
                self._lines.refuse(
                    "is cut off: the tracer was stopped while it wrote it; "
                    f"the journeys before it ({self._read}) are whole"
                )
            self._lines.members(line)

    def _header(self, members: Members) -> Capture:
        if members.get("type") != "header" or members.get("format") != FORMAT:
            self._not_a_trace()
        version = integer(members, "version", least=1)
        if version > VERSION:
            raise TraceFileError(
                f"{self._name} is version {version}; this skbtrace reads traces up to {VERSION}",
                hint="show it with the skbtrace that wrote it, or a newer one",
            )
        return self._lines.values.capture(members)

    def _not_a_trace(self) -> NoReturn:
        raise TraceFileError(
            f"{self._name} is not a skbtrace trace: its first line is not a whole header",
            hint="a trace is what skbtrace -w FILE writes",
        )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
