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
from tracer.export.later_names import later_names
from tracer.export.members import Members, WrongError, integer, text
from tracer.export.part import Part, Parts
from tracer.export.trace import FORMAT, VERSION
from tracer.export.trace_values import Values
from tracer.model import Capture, Journey, Sampling, Summary, Topology, TopologyChange
from tracer.text import printable
from tracer.totals import total

LONGEST_LINE = 16 << 20
"""Bytes. A journey is some kilobytes; what is longer is not a trace."""
_T = TypeVar("_T")


_JOURNEY = b'{"type":"journey","id":"'
"""How the line of a journey begins that skbtrace wrote: what else is on it need not be looked at
to know what it is."""
_HEADER = b'{"type":"header","format":"skbtrace",'
"""How a header begins that skbtrace wrote; it stands in no text either."""
_JOURNEYS_END = b"]}\n"
"""How the line of a journey ends that skbtrace wrote, and no header's."""
_ID = slice(len(_JOURNEY), len(_JOURNEY) + 16)
"""Where on it the id begins."""
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

    def placed(self, journey: Journey, part: Part) -> Journey:
        """Return the journey of this line, which is of a later trace, as it is among all."""
        try:
            return part.placed(journey)
        except WrongError as wrong:
            self.refuse(str(wrong))

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
    """A trace on ``stream``, which messages call ``name``; or several of them, one after the other.

    Making one reads the header. Iterating, once, gives the journeys; after the last one
    ``summary`` is what the footer says (of several: the sums of theirs), and ``changes`` are those
    of the topology so far, ``samplings`` those of how much is followed. Both
    raise TraceFileError at the first line that is wrong, cut off or missing; what came before it is
    good. ``notes`` is then what a person has to be told of it besides.

    ``changes``, given by who has read the trace before: namespaces whose names only became known
    after a journey are called by them in it.
    """

    capture: Capture
    """Of several traces, the first one's."""
    summary: Summary | None = None

    def __init__(self, stream: Readable, name: str, changes: Sequence[TopologyChange] = ()) -> None:
        self._stream = stream
        self._lines = Lines(name)
        self._name = self._lines.name
        self._read = 0
        self._later = later_names(changes)
        self.changes: list[TopologyChange] = []
        self.samplings: list[Sampling] = []
        self.captures = 0
        """How many captures began in the traces before this one's."""
        line = self._next()
        if not line:
            raise TraceFileError(f"{self._name} is empty, not a trace")
        try:
            members = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            self._not_a_trace()
        if not isinstance(members, dict):
            self._lines.refuse("is not a JSON object")
        if not self._is_header(members):
            self._not_a_trace()
        self.capture = self._lines.understood(members, self._header)
        self._parts = Parts(self.capture)
        self._footers: list[Summary | None] = [None]
        self._before = 0
        self._miscounted: TraceFileError | None = None

    def __iter__(self) -> Iterator[Journey]:
        """Give the journeys in the order in which they ended."""
        return self.journeys()

    def journeys(self, ids: Container[str] | None = None) -> Iterator[Journey]:
        """Give the journeys, of these ids only: the others are looked at, not read."""
        lines = self._lines
        for line in self.lines():
            if ids is not None:
                seen = lines.glance(line)
                if seen is not None and self.part.ids + seen.id not in ids:
                    continue
            journey = lines.journey(line)
            if self.part.differs:
                journey = lines.placed(journey, self.part)
            if self.captures < len(self._later):
                journey = self._later[self.captures].filled(journey)
            yield journey

    @property
    def part(self) -> Part:
        """Which trace the line is of that was read last."""
        return self._parts.all[-1]

    @property
    def notes(self) -> list[str]:
        """What has to be said of it, in sentences: that it is several traces, that some lack."""
        return [f"{self._name} {note}" for note in self._parts.notes]

    def lines(self) -> Iterator[bytes]:
        """Give the lines of the journeys instead, unread; all other lines are read."""
        lines, values = self._lines, self._lines.values
        while line := self._next():
            if not line.endswith(b"\n"):
                self._check_end(line)
            if not line.endswith(_JOURNEYS_END) and _HEADER in line:
                line = line[line.rindex(_HEADER) :]  # before it a tracer was killed in its line
            ended = self._footers[-1] is not None
            if line.startswith(_JOURNEY) and not ended:
                self._read += 1
                if b"-" in line[_ID]:
                    self._parts.taken(line[_ID].decode("latin-1"))
                yield line
                continue
            members = lines.members(line)
            kind = members.get("type")
            if self._is_header(members):
                self._begin(lines.understood(members, self._header))
            elif ended:
                lines.refuse("comes after the footer: a trace ends there")
            elif kind == "journey":
                self._read += 1
                self._parts.taken(lines.understood(members, lambda m: text(m, "id")))
                yield line
            elif kind == "topology":
                change = lines.understood(members, lambda m: self.part.change(values.topology(m)))
                self.changes.append(change)
            elif kind == "sampling":
                now = lines.understood(members, lambda m: self.part.sampling(values.sampling(m)))
                self.samplings.append(now)
            elif kind == "footer":
                self._end(lines.understood(members, values.summary))
            else:
                lines.refuse("is no journey, no topology, no sampling and no footer")
        self._close()

    def _begin(self, capture: Capture) -> None:
        """Take in that another trace follows."""
        if not self._parts.begin(capture):
            part, topology = self.part, capture.topology or Topology("")
            change = TopologyChange(capture.monotonic_ns, topology, anew=True)
            self.changes.append(self._lines.understood({}, lambda _: part.change(change)))
            self.captures += 1
        self._footers.append(None)
        self._before = self._read

    def _end(self, summary: Summary) -> None:
        """Take in that a trace is over."""
        self._footers[-1] = summary
        read = self._read - self._before
        if summary.journeys != read and self._miscounted is None:
            which = f", trace {len(self._footers)} in it," if len(self._footers) > 1 else ""
            self._miscounted = TraceFileError(
                f"{self._name}{which} holds {read} journeys, but its footer counts "
                f"{summary.journeys}: lines were added or removed"
            )

    def _close(self) -> None:
        """Make one summary; raise what is wrong with the whole of it."""
        footers = [footer for footer in self._footers if footer is not None]
        lacking = len(self._footers) - len(footers)
        if lacking == 1 == len(self._footers):
            raise TraceFileError(
                f"{self._name} has no footer: the tracer was stopped before it could finish; "
                f"its journeys ({self._read}) are whole"
            )
        if lacking:
            which = ", ".join(
                str(n) for n, footer in enumerate(self._footers, start=1) if footer is None
            )
            raise TraceFileError(
                f"{self._name} holds {len(self._footers)} traces, of which some have no footer "
                f"({which}): the tracer was stopped before it could finish; "
                f"the journeys ({self._read}) are whole"
            )
        self.summary = total(footers)
        if self._miscounted is not None:
            raise self._miscounted

    @property
    def line_number(self) -> int:
        """Which line was read last, from 1."""
        return self._lines.number

    def _next(self) -> bytes:
        """Read one line; empty at the end of the file."""
        try:
            line = self._stream.readline(LONGEST_LINE + 1)
        except EOFError as error:
            raise TraceFileError(
                f"{self._name} is cut off: what is compressed in it ends too early; "
                f"the journeys before that ({self._read}) are whole"
            ) from error
        except OSError as error:
            before = f"; {self._read} journeys were read before that" if self._read else ""
            raise TraceFileError(
                f"cannot read {self._name}: {error.strerror or error}{before}"
            ) from error
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

    @staticmethod
    def _is_header(members: Members) -> bool:
        return members.get("type") == "header" and members.get("format") == FORMAT

    def _header(self, members: Members) -> Capture:
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
