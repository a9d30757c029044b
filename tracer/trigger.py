# SPDX-License-Identifier: GPL-2.0-only
"""``--trigger``: which journeys are kept, by how they ended.

The kernel program holds back what it can tell for sure; the rest is decided over whole journeys.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tracer.duration import nanoseconds
from tracer.errors import UsageError
from tracer.model import Journey, Outcome
from tracer.text import printable

_LATENCY = "latency>"
_TOLD_BY_THE_KERNEL = frozenset({Outcome.DROPPED, Outcome.UNFINISHED, Outcome.DAMAGED})
"""The first it sees happen, and nothing that it has seen the end of is one of the others."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a journey must be to be kept: any of these."""

    outcomes: frozenset[Outcome] = frozenset()
    slower_ns: int | None = None
    """From the first hop to the last it took longer than this."""

    def __call__(self, journey: Journey) -> bool:
        """Say whether the journey is kept."""
        return journey.outcome in self.outcomes or (
            self.slower_ns is not None and journey.duration_ns > self.slower_ns
        )

    @property
    def of_the_kernel(self) -> bool:
        """Whether the kernel program can tell at a journey's end that it is not to be kept."""
        return self.outcomes <= _TOLD_BY_THE_KERNEL


def trigger_of(typed: Iterable[str]) -> Trigger | None:
    """Return what was typed, each ``drop``, ``latency>500us`` or an outcome; None if nothing was.

    Raises UsageError for what is none of these.
    """
    outcomes: set[Outcome] = set()
    slower: list[int] = []
    for words in typed:
        together = words.replace(" ", "")
        time_ns = nanoseconds(together.removeprefix(_LATENCY))
        if together.startswith(_LATENCY) and time_ns is not None:
            slower.append(time_ns)
        elif words == "drop":
            outcomes.add(Outcome.DROPPED)
        elif words in {*Outcome}:
            outcomes.add(Outcome(words))
        else:
            raise UsageError(
                f"--trigger {printable(words)} is neither drop, nor latency>TIME, nor an outcome "
                f"({', '.join(Outcome)})",
                hint="sudo skbtrace --topology docker0 --trigger 'latency>500us'",
            )
    if not outcomes and not slower:
        return None
    return Trigger(frozenset(outcomes), min(slower) if slower else None)
