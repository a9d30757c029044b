# SPDX-License-Identifier: GPL-2.0-only
"""How much of the traffic is followed: what was asked for, and what a ceiling makes of it.

The kernel program does it, at the first sight of a packet. No I/O; the clocks are given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tracer.model import Sampling

LOOK_S = 1.0
"""How often the ceiling is looked at."""
ONE_IN_MAX = 1 << 20
"""No harder than this."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What was asked for; a packet is followed if none of these speaks against it."""

    one_in: int = 1
    """One packet in so many, at random."""
    max_rate: int | None = None
    """So many packets a second."""
    per_flow: int | None = None
    """So many packets a second of each flow: addresses, protocol and ports, both directions."""
    cpu_percent: int | None = None
    """More of a CPU than this, and ``one_in`` is raised until it is less."""

    @property
    def samples(self) -> bool:
        """Whether ``one_in`` is, or may become, more than 1."""
        return self.one_in > 1 or self.cpu_percent is not None

    @property
    def takes_all(self) -> bool:
        """Whether nothing was asked for."""
        return not self.samples and self.max_rate is None and self.per_flow is None


EVERYTHING = Limits()


class Ceiling:
    """Watches this process's CPU time, and says how much harder to sample: one packet in how many.

    That is doubled while the traffic takes more than ``limits.cpu_percent`` of a CPU, and halved
    again down to what was asked for when it takes less than half of that.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        used_ns: Callable[[], int] = time.process_time_ns,
    ) -> None:
        self._asked = limits.one_in
        self._percent = limits.cpu_percent
        self._clock_ns = clock_ns
        self._used_ns = used_ns
        self._one_in = limits.one_in
        self._before = (clock_ns(), used_ns(), 0, 0)

    def look(self, arrived: int, made: int) -> Sampling | None:
        """Return what is to be sampled from now on if that is something else; call it often.

        ``arrived``: records from the kernel so far; ``made``: how many of them are journeys by now.
        What arrives faster than it is made into journeys would take more than the process uses, and
        what was left from before says nothing about what arrives now.
        """
        if self._percent is None:
            return None
        now = self._clock_ns()
        then, used_then, arrived_then, made_then = self._before
        if now - then < LOOK_S * 1e9:
            return None
        used = self._used_ns()
        self._before = (now, used, arrived, made)
        share = 100 * (used - used_then) / (now - then)
        done = made - made_then
        takes = share * (arrived - arrived_then) / done if done else share
        one_in = self._one_in
        if takes > self._percent:
            while one_in < ONE_IN_MAX and takes * self._one_in / one_in > self._percent:
                one_in *= 2
        elif max(share, takes) < self._percent / 2:
            one_in = max(one_in // 2, self._asked)
        if one_in == self._one_in:
            return None
        self._one_in = one_in
        return Sampling(now, one_in, round(takes), self._percent)
