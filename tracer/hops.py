# SPDX-License-Identifier: GPL-2.0-only
"""Hops that are like those of other journeys: each is made only when somebody looks at it.

Most journeys of a busy host are written and counted, and what that takes is known without them.
This module must not know how it is found out that hops are alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from operator import attrgetter
from typing import Any, overload

from tracer.model import Change, Hop

_TIME, _LENGTH, _CHANGES = map(Hop._fields.index, ("dt_ns", "len", "changes"))
_AT = {name: at for at, name in enumerate(Hop._fields)}
_GET = {name: attrgetter(name) for name in Hop._fields}


class Alike:
    """What such hops have in common: all but their times and lengths.

    So have the journeys that they are of: all but id, parent, address, start, references, frame,
    the ids of branches, and of the flow what ``model.NUMBERED`` names.
    """

    __slots__ = ("changes", "members")

    def __init__(self, hops: Iterable[Hop]) -> None:
        self.members: list[tuple[Any, ...]] = list(zip(*hops, strict=True))
        """In the order of ``Hop``, for each hop."""
        self.changes: tuple[Change, ...] = tuple(chain.from_iterable(self.members[_CHANGES]))


class Hops(Sequence[Hop]):
    """The hops of one journey. They are equal to a tuple of the same hops."""

    __slots__ = ("_made", "alike", "lengths", "times")

    def __init__(self, alike: Alike, times: tuple[int, ...], lengths: tuple[int, ...]) -> None:
        self.alike = alike
        self.times = times
        """``dt_ns`` of each ..."""
        self.lengths = lengths
        """... and ``len``."""
        self._made: tuple[Hop, ...] | None = None

    def __iter__(self) -> Iterator[Hop]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self.times)

    @overload
    def __getitem__(self, at: int) -> Hop: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Hop, ...]: ...
    def __getitem__(self, at: int | slice) -> Hop | tuple[Hop, ...]:
        return self._all()[at]

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, Hops) else other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> tuple[Hop, ...]:
        if self._made is None:
            members = [*self.alike.members]
            members[_TIME], members[_LENGTH] = self.times, self.lengths
            columns = zip(*members, strict=True)
            self._made = tuple(map(tuple.__new__, repeat(Hop), columns))
        return self._made


def count(many: Iterable[Sequence[Hop]], member: str) -> Counter[Any]:
    """Count the values of a member in the hops of many journeys. See ``each``."""
    found: Counter[Any] = Counter()
    alike: Counter[Alike] = Counter()
    for hops in many:
        if type(hops) is Hops:
            alike[hops.alike] += 1
        else:
            found.update(each(hops, member))
    for one, times in alike.items():
        for value in one.members[_AT[member]]:
            found[value] += times
    return found


def each(hops: Sequence[Hop], member: str) -> Iterable[Any]:
    """Give a member of each hop but ``dt_ns`` and ``len``. Hops that are not made are not made."""
    if type(hops) is Hops:
        return hops.alike.members[_AT[member]]
    return map(_GET[member], hops)


def changes(hops: Sequence[Hop]) -> Iterable[Change]:
    """Give what was changed about the packet, hop by hop. Hops that are not made are not made."""
    return hops.alike.changes if type(hops) is Hops else chain.from_iterable(each(hops, "changes"))


def first_len(hops: Sequence[Hop]) -> int:
    """Return ``len`` of the first hop, 0 if there is none. Hops that are not made are not made."""
    if type(hops) is Hops:
        return hops.lengths[0]
    return hops[0].len if hops else 0
