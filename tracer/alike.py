# SPDX-License-Identifier: GPL-2.0-only
"""Journeys that are like others: what they have in common, and what is one's own.

Most journeys of a busy host are written and counted, and what that takes is known without them: so
one is made only when somebody looks at it. This module must not know how it is found out that
journeys are alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple, TypeAlias, overload

from tracer.model import Branch, Change, Device, Flow, Frame, Hop, Journey, Outcome, Reference

_TIME, _LENGTH, _CHANGES = map(Hop._fields.index, ("dt_ns", "len", "changes"))


class Alike:
    """What such journeys have in common: all that ``One`` does not hold."""

    __slots__ = ("calls", "changes", "counted", "flow", "hops", "journey")

    def __init__(self, journey: Journey, counted: Sequence[int], calls: Sequence[int] = ()) -> None:
        self.journey = journey
        """One of them."""
        self.counted = counted
        """The members of its flow that are different in each; ``model.NUMBERED`` names them."""
        self.calls = calls
        """Hops that have the length of the one that follows."""
        self.flow: list[Any] = [*journey.flow]
        self.hops: list[tuple[Any, ...]] = list(zip(*journey.hops, strict=True))
        """For each member of ``Hop`` those of all hops."""
        self.changes: tuple[Change, ...] = tuple(chain.from_iterable(self.hops[_CHANGES]))


class One(NamedTuple):
    """What is one journey's own."""

    alike: Alike
    id: str
    parent: str | None
    skb: int
    start_ns: int
    times: Sequence[int]
    """``dt_ns`` of each hop ..."""
    lengths: tuple[int, ...]
    """... and ``len``, but of ``Alike.calls``."""
    counts: Sequence[int]
    """Members of the flow, as ``Alike.counted`` says."""
    headers: bytes
    """Of the frame ..."""
    len: int
    data: bytes
    branches: Sequence[str]
    """Their ids."""
    references: tuple[Reference, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """See Journey."""
        return self.alike.journey.outcome

    @property
    def duration_ns(self) -> int:
        """See Journey."""
        return self.times[-1]

    @property
    def first_device(self) -> Device | None:
        """See Journey."""
        return self.alike.journey.first_device

    def values(self) -> list[Any]:
        """Return the members of its flow."""
        values = self.alike.flow.copy()
        for at, value in zip(self.alike.counted, self.counts):  # noqa: B905  (takes longer)
            values[at] = value
        return values

    def made(self) -> Journey:
        """Return the journey."""
        like = self.alike.journey
        hops = [*self.alike.hops]
        lengths = [*self.lengths]
        for call in self.alike.calls:
            lengths.insert(call, lengths[call])
        hops[_TIME], hops[_LENGTH] = tuple(self.times), tuple(lengths)
        return like._replace(
            id=self.id,
            parent=self.parent,
            skb=self.skb,
            flow=Flow(*self.values()),
            start_ns=self.start_ns,
            hops=tuple(map(tuple.__new__, repeat(Hop), zip(*hops, strict=True))),
            branches=tuple(
                Branch(id_, b.hop) for id_, b in zip(self.branches, like.branches, strict=True)
            ),
            references=self.references,
            frame=Frame(self.headers, self.len, self.data),
        )


Item: TypeAlias = Journey | One
"""A journey, or what one can be made of."""


class Batch(Sequence[Journey]):
    """Journeys that are made when somebody looks at them."""

    __slots__ = ("_made", "items")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self._made: tuple[Journey, ...] | None = None

    def __iter__(self) -> Iterator[Journey]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, at: int) -> Journey: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Journey, ...]: ...
    def __getitem__(self, at: int | slice) -> Journey | tuple[Journey, ...]:
        return self._all()[at]

    def _all(self) -> tuple[Journey, ...]:
        if self._made is None:
            self._made = tuple(map(made, self.items))
        return self._made


def made(item: Item) -> Journey:
    """Return the journey that this is."""
    return item.made() if isinstance(item, One) else item


def items(batch: Sequence[Journey]) -> Sequence[Item]:
    """Return what these are made of, as far as they need not be made."""
    return batch.items if isinstance(batch, Batch) else batch


class Count:
    """Counts journeys; those that are alike together, and not before somebody asks."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._alike: Counter[Alike] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._hits: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many kinds wait to be counted."""
        return len(self._alike)

    def add(self, many: Sequence[Item]) -> None:
        """Count them, too."""
        alike = [item[0] for item in many if isinstance(item, One)]
        self._alike.update(alike)
        if len(self._alike) > self._most:
            self._sum_up()
        if len(alike) < len(many):
            for item in many:
                if not isinstance(item, One):
                    self._add(item, 1)

    @property
    def outcomes(self) -> dict[str, int]:
        """Outcome -> journeys."""
        self._sum_up()
        return dict(self._outcomes)

    @property
    def hits(self) -> dict[str, int]:
        """Function -> hops."""
        self._sum_up()
        return dict(self._hits)

    def _sum_up(self) -> None:
        for alike, times in self._alike.items():
            self._add(alike.journey, times)
        self._alike.clear()

    def _add(self, journey: Journey, times: int) -> None:
        self._outcomes[journey.outcome.value] += times
        for hop in journey.hops:
            self._hits[hop.function] += times


def values(item: Item) -> Sequence[Any]:
    """Return the members of its flow, in order."""
    return item.values() if isinstance(item, One) else item.flow


def changes(item: Item) -> Iterable[Change]:
    """Give what was changed about the packet, hop by hop."""
    if isinstance(item, One):
        return item.alike.changes
    return chain.from_iterable(hop.changes for hop in item.hops)


def first_len(item: Item) -> int:
    """Return ``len`` of the first hop, 0 if there is none."""
    if isinstance(item, One):
        return item.lengths[0]
    return item.hops[0].len if item.hops else 0
