# SPDX-License-Identifier: GPL-2.0-only
"""Record bytes -> journeys, where most of them are alike: what was found out once is kept.

Packets of one flow that take the same way leave records that differ in a few numbers only: times,
lengths, ids, and some in their headers. The first ones are made into journeys by the correlator,
which knows what a record means; what it made of the second is the pattern of those that follow, of
which only those numbers are read.

What things are called may change: what the correlator asked for names is asked again when anything
may be called otherwise, and where the answer is another one, the correlator does it all.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Any

from tracer.alike import Item
from tracer.correlate import Correlator, Names
from tracer.model import Device, Journey, Netns
from tracer.pattern import Pattern, mask_of, numbers_in, pattern_of, runs
from tracer.wire import END_MISSED, FIXED, LAST, SLOT, SLOTS_AT, HopSlot, decode, reader

MOST = 2048
"""Patterns kept, some 10 kB each; if packets take more ways than that, it starts over."""
_CHANGES = 256
"""Times from which on things were called otherwise; more than names are remembered for."""
_STRUCTS = 16
"""How many kinds of headers and notes are told apart among packets that take the same way."""

_SLOTS_FROM, _PROBE = FIXED.size, 4  # where in a record its slots stand, and in each its probe
_NONE: dict[Struct, Any] = {}

_Same = tuple[Any, ...]


@dataclass(slots=True)
class _Kind:
    """Journeys that are alike, as long as things are called so."""

    pattern: Pattern
    named: tuple[int, int]
    """What ``Names.renames`` said before the names were asked for, and since when they hold ..."""
    devices: tuple[tuple[int, int, Device], ...]
    """... that were asked for, with the answers ..."""
    netnses: tuple[tuple[int, Netns], ...]
    """... of namespaces."""
    hop_missing: int
    """How many losses each tells of."""


class Recurring:
    """Makes journeys of records, in the order in which they come: see Correlator."""

    def __init__(self, names: Names, ids: str = "") -> None:
        self._names = names
        self._renames = names.renames
        self._ids = ids
        self._devices: dict[tuple[int, int], Device] = {}
        self._netnses: dict[int, Netns] = {}
        self.correlator = Correlator(names._replace(device=self._device, netns=self._netns), ids)
        # By the slots' probes what is to be compared, and by that their kind; None if those that
        # are the same there may yet be different.
        self._kinds: dict[bytes, dict[Struct, dict[_Same, _Kind | None]]] = {}
        self._learnt = 0
        self._structs: dict[bytes, Struct] = {}
        self._once: set[_Same] = set()
        self._changes = [0]
        """When things came to be called otherwise, in order."""
        self._named = (-1, 0)
        """What ``Names.renames`` says now, and the last of those."""

    def __len__(self) -> int:
        """How much is remembered."""
        return self._learnt + len(self._structs) + len(self._once)

    def renamed(self, at_ns: int) -> None:
        """From then on things are called otherwise than before."""
        insort(self._changes, at_ns)
        del self._changes[1:-_CHANGES]

    def take(self, records: Iterable[bytes]) -> list[Item]:
        """Return the journeys that these records complete. DecodeError if one is none."""
        found: list[Item] = []
        known, lost = self._kinds, self.correlator.lost
        changed_ns = self._changes[-1]
        self._look()
        for data in records:
            size = len(data)
            end = _SLOTS_FROM + data[SLOTS_AT] * SLOT.size if size > SLOTS_AT else 0
            item: Item | None = None
            if _SLOTS_FROM < end <= size:
                probes = data[_SLOTS_FROM + _PROBE : end : SLOT.size]
                for struct, kinds in known.get(probes, _NONE).items():
                    kind = kinds.get(struct.unpack_from(data))
                    if kind is not None:
                        one = kind.pattern.one(data, end)
                        if one is not None and (
                            (one.start_ns >= changed_ns and kind.named == self._named)
                            or self._is_named(kind, one)
                        ):
                            if kind.hop_missing:
                                lost["hop_missing"] += kind.hop_missing
                            item = one
                            break
                else:
                    item = self._first(probes, data)
            else:
                item = self.correlator.take(decode(data))
            if item is not None:
                found.append(item)
        return found

    def _look(self) -> None:
        """See whether anything is called otherwise: whoever is asked for a name may find it out."""
        self._named = (self._renames(), self._changes[-1])

    def _since(self, item: Item) -> int | None:
        """Return since when things were called as during that; None if some came to be meanwhile.

        Where containers come and go, what waits in the ring buffer is from before the last change.
        """
        begin = item.start_ns
        at = bisect_right(self._changes, begin)
        over = bisect_right(self._changes, begin + item.duration_ns, at)
        return self._changes[at - 1] if over == at else None

    def _is_named(self, kind: _Kind, item: Item) -> bool:
        """Whether things were called then as in those."""
        since = self._since(item)
        if since is None:
            return False
        renames, at_ns = self._renames(), item.start_ns
        if kind.named == (renames, since):
            return True
        device, netns = self._names.device, self._names.netns
        is_named = all(device(inum, i, at_ns) == answer for inum, i, answer in kind.devices) and (
            all(netns(inum, at_ns) == answer for inum, answer in kind.netnses)
        )
        if is_named:
            kind.named = renames, since
        self._look()
        return is_named

    def _first(self, probes: bytes, data: bytes) -> Journey | None:
        """Make one of which no pattern is known. If it is the second of its kind, one is then."""
        renames = self._renames()
        missing = self.correlator.lost["hop_missing"]
        self._devices.clear()
        self._netnses.clear()
        record = decode(data)
        journey = self.correlator.take(record)
        self._look()
        missing = self.correlator.lost["hop_missing"] - missing
        first = record.slots[0] if record.slots else None
        if (
            journey is None
            or not isinstance(first, HopSlot)
            or record.chunk
            or record.flags & (LAST | END_MISSED) != LAST
            or (since := self._since(journey)) is None
        ):
            return journey
        numbers = numbers_in(record, first.len)
        struct = self._struct(mask_of(record, numbers))
        key = struct.unpack_from(data)
        known = self._kinds.get(probes, _NONE).get(struct, {})
        if key in known:
            kind = known[key]
            if kind is None or self._is_named(kind, journey):
                return journey
        elif key not in self._once:
            if len(self._once) >= MOST:
                self._once.clear()
            self._once.add(key)
            return journey
        kind = None
        pattern = pattern_of(record, journey, numbers, self._ids)
        if pattern is not None:
            one = pattern.one(data, len(data) - len(record.data))
            if one is None:
                return journey  # another one will do
            if one.made() == journey:
                devices = tuple((*of, answer) for of, answer in self._devices.items())
                kind = _Kind(
                    pattern, (renames, since), devices, tuple(self._netnses.items()), missing
                )
        self._learn(probes, struct, key, kind)
        return journey

    def _struct(self, mask: bytes) -> Struct:
        """Return what reads the bytes that are the same: one of that mask, always the same one."""
        found = self._structs.get(mask)
        if found is None:
            if len(self._structs) >= MOST:
                self._structs.clear()
            found = self._structs[mask] = reader("=", runs(mask))
        return found

    def _learn(self, probes: bytes, struct: Struct, key: _Same, kind: _Kind | None) -> None:
        if self._learnt >= MOST:
            self._kinds.clear()
            self._learnt = 0
        structs = self._kinds.setdefault(probes, {})
        if struct not in structs and len(structs) >= _STRUCTS:
            self._learnt -= sum(map(len, structs.values()))
            structs.clear()
        known = structs.setdefault(struct, {})
        self._learnt += key not in known
        known[key] = kind
        self._once.discard(key)

    def _device(self, inum: int, ifindex: int, at_ns: int) -> Device:
        found = self._devices[inum, ifindex] = self._names.device(inum, ifindex, at_ns)
        return found

    def _netns(self, inum: int, at_ns: int) -> Netns:
        found = self._netnses[inum] = self._names.netns(inum, at_ns)
        return found
