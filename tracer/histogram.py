# SPDX-License-Identifier: GPL-2.0-only
"""How long something took, many times over: counts in classes, from which percentiles are read.

The classes are log-linear: each power of two is cut into 32, so that the middle of a class differs
from any value in it by at most 1/64, 1.6 %. Values below 64 have a class each. What is kept grows
with how far the values lie apart, not with how many there are. Pure; knows no units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_BITS = 6
"""Of a value that are kept, the first of them a one."""
ERROR = 1 / 64
"""By how much a percentile differs from the value it stands for, at most; as a part of that."""


class Histogram:
    """Counts of whole numbers from 0 up."""

    __slots__ = ("_counts", "count", "largest", "total")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.total = 0
        self.largest = 0

    @classmethod
    def of(cls, counts: Iterable[tuple[int, int]], total: int, largest: int) -> Histogram:
        """Make one of what somebody else has counted: any value of each class, and how many."""
        histogram = cls()
        for value, times in counts:
            histogram.add(value, times)
        histogram.total, histogram.largest = total, largest
        return histogram

    def add(self, value: int, times: int = 1) -> None:
        """Count a value; so many times, if it stands for others."""
        shift = value.bit_length() - _BITS
        self._counts[value if shift <= 0 else (shift << _BITS) + (value >> shift)] += times
        self.count += times
        self.total += value * times
        self.largest = max(self.largest, value)

    def include(self, other: Histogram) -> None:
        """Count all that another one has counted."""
        self._counts.update(other._counts)
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def classes(self) -> list[tuple[int, int]]:
        """Return the middle of each class that something is in, rising, and how much is."""
        return [(_middle(number), count) for number, count in sorted(self._counts.items())]

    def counts(self) -> list[tuple[int, int]]:
        """Return the least value of each class that something is in, rising, and how much is."""
        return [(_least(number), count) for number, count in sorted(self._counts.items())]

    def percentiles(self, *parts: float) -> list[int]:
        """Return, for each part (in rising order, 0.5 is the median), the value it lies at.

        That is the smallest value such that this part of all is not above it (the nearest rank);
        0 where nothing was counted.
        """
        found: list[int] = []
        classes = sorted(self._counts.items())
        at, below = 0, 0
        for part in parts:
            rank = max(1, -int(-part * self.count // 1))
            while at < len(classes) and below + classes[at][1] < rank:
                below += classes[at][1]
                at += 1
            found.append(min(_middle(classes[at][0]), self.largest) if at < len(classes) else 0)
        return found


def _least(number: int) -> int:
    """Return the least value of a class."""
    shift = number >> _BITS
    return (number - (shift << _BITS)) << shift


def _middle(number: int) -> int:
    """Return the middle of a class."""
    return _least(number) + (1 << (number >> _BITS) >> 1)
