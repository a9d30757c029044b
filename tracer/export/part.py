# SPDX-License-Identifier: GPL-2.0-only
"""One of several traces that follow each other in a file, and what makes one trace of them.

``cat a.json b.json`` is a trace of both. Journeys of a later one are called ``2-17`` where they
were called 17, as in the live view, and their times are told on the clock of the first one: two
hosts, or two boots of one, have CLOCK_MONOTONIC in common by CLOCK_REALTIME only. The files of one
rotated trace, however, have ids and clock in common already. This module knows no lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tracer.export.members import LARGEST, WrongError
from tracer.model import Branch, Capture, Journey, Reference, Sampling, TopologyChange


@dataclass(frozen=True, slots=True)
class Part:
    """A trace in a file."""

    capture: Capture
    ids: str = ""
    """Stands before the ids of its journeys."""
    shift_ns: int = 0
    """Makes a time of it one of the first trace."""

    @property
    def differs(self) -> bool:
        """Whether its journeys have other ids or times than their lines say."""
        return bool(self.ids or self.shift_ns)

    def placed(self, journey: Journey) -> Journey:
        """Return a journey with the id and the time it has among all. Raises WrongError."""
        if not self.differs:
            return journey
        ids = self.ids
        return journey._replace(
            id=ids + journey.id,
            parent=None if journey.parent is None else ids + journey.parent,
            start_ns=self._time(journey.start_ns),
            branches=tuple([Branch(ids + b.id, b.hop) for b in journey.branches]),
            absorbed_into=None if journey.absorbed_into is None else ids + journey.absorbed_into,
            references=tuple(
                [Reference(r.kind, ids + r.id, r.after_ns) for r in journey.references]
            ),
        )

    def change(self, change: TopologyChange) -> TopologyChange:
        """Return it with the time it has among all. Raises WrongError."""
        return change._replace(at_ns=self._time(change.at_ns))

    def sampling(self, sampling: Sampling) -> Sampling:
        """Return it with the time it has among all. Raises WrongError."""
        return sampling._replace(at_ns=self._time(sampling.at_ns))

    def _time(self, at_ns: int) -> int:
        at_ns += self.shift_ns
        if not 0 <= at_ns < LARGEST:
            raise WrongError(
                "is of a time before the host of the first trace in this file was started: "
                "put the older trace first"
            )
        return at_ns


class Parts:
    """The traces of a file, in their order."""

    def __init__(self, first: Capture) -> None:
        self.all = [Part(first)]
        self._taken = 1
        """Ids may begin with this number and a dash already, or with a lower one."""
        self._runs = {_run(first): self.all[0]}
        self._numbers = {(_run(first), first.part)}

    def begin(self, capture: Capture) -> bool:
        """Take the next one in; return whether it goes on with the capture of the one before."""
        run, number = _run(capture), capture.part
        same = run == _run(self.all[-1].capture)
        known = self._runs.get(run)
        goes_on = known is not None and None not in {number, known.capture.part}
        if known is not None and goes_on and (run, number) not in self._numbers:
            part = replace(known, capture=capture)
        else:
            goes_on = False
            self._taken += 1
            first = self.all[0].capture
            shift_ns = (capture.realtime_ns - capture.monotonic_ns) - (
                first.realtime_ns - first.monotonic_ns
            )
            part = Part(capture, f"{self._taken}-", shift_ns)
            self._runs[run] = part
        self._numbers.add((run, number))
        self.all.append(part)
        return goes_on and same

    def taken(self, journey_id: str) -> None:
        """Say that a journey's id is this one: ids of other traces shall not begin like it."""
        number, dash, _ = journey_id.partition("-")
        if dash and number.isascii() and number.isdigit() and len(number) < 10:
            self._taken = max(self._taken, int(number))

    @property
    def notes(self) -> list[str]:
        """What has to be said of a file that holds several traces, in sentences without an end."""
        runs = list(dict.fromkeys(part.ids for part in self.all))
        if len(runs) == 1:
            return self._gaps()
        others = ", ".join(runs[1:4]) + (" ..." if len(runs) > 4 else "")
        kernels = list(dict.fromkeys(part.capture.kernel for part in self.all))
        told = "the header of the first one stands for all"
        if len(kernels) > 1:
            told += f", though they are of Linux {' and '.join(kernels[:4])}"
        return [
            f"holds {len(runs)} traces: ids of the later ones begin with {others}; their times are "
            f"told on the first one's clock; {told}",
            *self._gaps(),
        ]

    def _gaps(self) -> list[str]:
        """What of rotated traces lies between two files that are here, and is not."""
        gone = 0
        for run in self._runs:
            numbers = sorted(n for other, n in self._numbers if other == run and n is not None)
            gone += (numbers[-1] - numbers[0] + 1 - len(numbers)) if numbers else 0
        return [f"is a rotated trace of which {gone} files between are not here"] if gone else []


def _run(capture: Capture) -> tuple[int, int, str]:
    """What tells one capture from others: the same two clocks, read in the same nanosecond."""
    return capture.monotonic_ns, capture.realtime_ns, capture.kernel
