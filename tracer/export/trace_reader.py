# SPDX-License-Identifier: GPL-2.0-only
"""Reads a trace file back: line by line, never the whole of it.

A trace is foreign input. Any bytes give records or a TraceFileError that says in one sentence
which line is wrong and how; every text is made printable here, once. Members that this version
does not know are passed over. This module must not know who wants the journeys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NoReturn, TypeVar

from tracer.errors import TraceFileError
from tracer.export.later_names import LaterNames
from tracer.export.members import Members, WrongError, integer
from tracer.export.trace import FORMAT, VERSION
from tracer.export.trace_values import Values
from tracer.model import Capture, Journey, Sampling, Summary, TopologyChange
from tracer.text import printable

LONGEST_LINE = 16 << 20
"""Bytes. A journey is some kilobytes; what is longer is not a trace."""
_T = TypeVar("_T")


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

    def __init__(self, stream: BinaryIO, name: str, changes: Sequence[TopologyChange] = ()) -> None:
        self._stream = stream
        self._name = printable(name)
        self._number = 0
        self._read = 0
        self._values = Values()
        self._later = LaterNames(changes)
        self.changes: list[TopologyChange] = []
        self.samplings: list[Sampling] = []
        members = self._next()
        if members is None:
            raise TraceFileError(f"{self._name} is empty, not a trace")
        self.capture = self._understood(members, self._header)

    def __iter__(self) -> Iterator[Journey]:
        """Give the journeys in the order in which they ended."""
        while (members := self._next()) is not None:
            kind = members.get("type")
            if kind == "journey":
                self._read += 1
                yield self._later.filled(self._understood(members, self._values.journey))
            elif kind == "topology":
                self.changes.append(self._understood(members, self._values.topology))
            elif kind == "sampling":
                self.samplings.append(self._understood(members, self._values.sampling))
            elif kind == "footer":
                self.summary = self._understood(members, self._values.summary)
                break
            else:
                self._refuse("is no journey, no topology, no sampling and no footer")
        if self.summary is None:
            raise TraceFileError(
                f"{self._name} has no footer: the tracer was stopped before it could finish; "
                f"its journeys ({self._read}) are whole"
            )
        if self._next() is not None:
            self._refuse("comes after the footer: a trace ends there")
        if self.summary.journeys != self._read:
            raise TraceFileError(
                f"{self._name} holds {self._read} journeys, but its footer counts "
                f"{self.summary.journeys}: lines were added or removed"
            )

    def _next(self) -> Members | None:
        """Read one line, which is an object; None at the end of the file."""
        try:
            line = self._stream.readline(LONGEST_LINE + 1)
        except OSError as error:
            raise TraceFileError(f"cannot read {self._name}: {error.strerror or error}") from error
        if not line:
            return None
        self._number += 1
        if len(line) > LONGEST_LINE:
            self._refuse(f"is longer than {LONGEST_LINE >> 20} MiB")
        try:
            members = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            if self._number == 1:
                self._not_a_trace()
            if not line.endswith(b"\n"):
                self._refuse(
                    "is cut off: the tracer was stopped while it wrote it; "
                    f"the journeys before it ({self._read}) are whole"
                )
            self._refuse("is not JSON")
        if not isinstance(members, dict):
            self._refuse("is not a JSON object")
        return members

    def _header(self, members: Members) -> Capture:
        if members.get("type") != "header" or members.get("format") != FORMAT:
            self._not_a_trace()
        version = integer(members, "version", least=1)
        if version > VERSION:
            raise TraceFileError(
                f"{self._name} is version {version}; this skbtrace reads traces up to {VERSION}",
                hint="show it with the skbtrace that wrote it, or a newer one",
            )
        return self._values.capture(members)

    def _understood(self, members: Members, read: Callable[[Members], _T]) -> _T:
        try:
            return read(members)
        except WrongError as wrong:
            self._refuse(str(wrong))

    def _refuse(self, what: str) -> NoReturn:
        raise TraceFileError(f"{self._name}: line {self._number} {what}")

    def _not_a_trace(self) -> NoReturn:
        raise TraceFileError(
            f"{self._name} is not a skbtrace trace: its first line is not a whole header",
            hint="a trace is what skbtrace -w FILE writes",
        )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
