# SPDX-License-Identifier: GPL-2.0-only
"""Record bytes -> journeys, where most of them are alike: what was found out once is kept.

Packets of one flow that take the same way leave records that differ in a few numbers only: times,
lengths, ids, and some in their headers. The first ones are made into journeys by the correlator,
which knows what a record means; what it made of the second is the pattern of those that follow, of
which only those numbers are read.
This module must not know what any hop or note means, but only where in a record stands what may be
different.

What things are called may change: what the correlator asked for names is asked again when anything
may be called otherwise, and where the answer is another one, the correlator does it all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any

from tracer.alike import Alike, Item, One
from tracer.correlate import PURGES, Correlator, Names
from tracer.flow import Numbers, numbers_of
from tracer.frame import cut_of
from tracer.model import Device, Hop, Journey, Netns
from tracer.wire import (
    END_MISSED,
    FIXED,
    HEADER_BYTES,
    HEADERS_AT,
    LAST,
    NOTE,
    NOTE_CLONE,
    SLOT,
    SLOTS_AT,
    HopSlot,
    Record,
    decode,
    fixed_mask,
    reader,
    slot_mask,
    there,
)

MOST = 2048
"""Patterns kept, some 5 kB each; if packets take more ways than that, it starts over."""
_VARIANTS = 16
"""What is kept of each, at most; most have two or three."""
_STRUCTS = 16
"""How many kinds of headers and notes are told apart among packets that take the same way."""

_SLOTS_FROM = FIXED.size
_PROBE, _VALUE, _LENGTH, _ARG = 4, 8, 16, 20  # where in a slot those stand; its time comes first

_WHICH = (0, 8, 16, 24)
"""Where in a record stand id, parent, address and time."""
_NO_NUMBERS = Numbers(b"\xff" * HEADER_BYTES, ((0, "H"),), (), 0, 0)
_NONE: dict[Struct, Any] = {}
_NOTHING: list[str] = []

_new = tuple.__new__  # half the time of One(...)
_Same = tuple[Any, ...]
_Asked = tuple[int, tuple[tuple[int, int, Device], ...], tuple[tuple[int, Netns], ...]]


@dataclass(slots=True)
class _Pattern:
    """What journeys that are alike have in common."""

    named: int
    """What ``Names.renames`` said before the names were asked for ..."""
    devices: tuple[tuple[int, int, Device], ...]
    """... that were asked for, with the answers ..."""
    netnses: tuple[tuple[int, Netns], ...]
    """... of namespaces."""
    read: Struct
    """From a record id, parent, address, time, and the ids of what was made ..."""
    read_times: Struct
    """... the time of each hop, in place of process_backlog's for how long it ran ..."""
    read_lengths: Struct
    """... and the lengths, but of process_backlog's: they are those of the hops that follow."""
    calls: tuple[int, ...]
    """The hops of process_backlog."""
    journey: Journey
    """One of them."""
    alike: dict[int, Alike]
    """By which of ``calls`` had been running before: a bit for each hop."""
    read_headers: Struct
    """From a record's headers what ``numbers`` says."""
    numbers: Numbers
    front: bytes
    """The frame's headers are this ..."""
    headers: slice
    """... and that of the record."""
    more: int
    """By how many bytes the frame is longer than the first length."""
    least: int
    """Less than this is no first length ..."""
    says: int
    """... nor what the headers say of it, unless that is 0."""
    hop_missing: int = 0

    def of(self, running: int) -> Alike:
        """What the hops have in common if these calls had been running before."""
        if len(self.alike) >= _VARIANTS:
            self.alike.clear()
        hops: list[Hop] = [*self.journey.hops]
        for call in self.calls:
            hops[call] = hops[call]._replace(already_running=bool(running >> call & 1))
        like = self.journey._replace(hops=tuple(hops))
        found = self.alike[running] = Alike(like, self.numbers.members, self.calls)
        return found


class Recurring:
    """Makes journeys of records, in the order in which they come: see Correlator."""

    def __init__(self, names: Names, ids: str = "") -> None:
        self._names = names
        self._renames = names.renames
        self._ids = ids
        self._devices: dict[tuple[int, int], Device] = {}
        self._netnses: dict[int, Netns] = {}
        self.correlator = Correlator(names._replace(device=self._device, netns=self._netns), ids)
        # By the slots' probes what is to be compared, and by that the pattern; None if those that
        # are the same there may yet be different.
        self._patterns: dict[bytes, dict[Struct, dict[_Same, _Pattern | None]]] = {}
        self._learnt = 0
        self._structs: dict[bytes, Struct] = {}
        self._once: set[_Same] = set()
        self._changed_ns = 0
        self._named = -1
        """What ``Names.renames`` says now."""

    def __len__(self) -> int:
        """How much is remembered."""
        return self._learnt + len(self._structs) + len(self._once)

    def renamed(self, at_ns: int) -> None:
        """From then on things are called otherwise than before."""
        self._changed_ns = max(self._changed_ns, at_ns)

    def take(self, records: Iterable[bytes]) -> list[Item]:
        """Return the journeys that these records complete. DecodeError if one is none."""
        found: list[Item] = []
        known = self._patterns
        self._named = self._renames()
        for data in records:
            size = len(data)
            end = _SLOTS_FROM + data[SLOTS_AT] * SLOT.size if size > SLOTS_AT else 0
            item: Item | None = None
            if _SLOTS_FROM < end <= size:
                probes = data[_SLOTS_FROM + _PROBE : end : SLOT.size]
                for struct, patterns in known.get(probes, _NONE).items():
                    pattern = patterns.get(struct.unpack_from(data))
                    if pattern is not None:
                        item = self._alike(pattern, data, end)
                        if item is not None:
                            break
                else:
                    item = self._first(probes, data)
            else:
                item = self.correlator.take(decode(data))
            if item is not None:
                found.append(item)
        return found

    def _alike(self, pattern: _Pattern, data: bytes, end: int) -> One | None:
        """Return one of this pattern.

        None if it is none: times are not in order (clocks of two CPUs), something is shorter than
        its headers are, or what is called otherwise now.
        """
        id_, parent, skb, start_ns, *made = pattern.read.unpack_from(data)
        times = [*pattern.read_times.unpack_from(data)]
        lengths = pattern.read_lengths.unpack_from(data)
        says, *counts = pattern.read_headers.unpack_from(data, HEADERS_AT)
        size = lengths[0]
        running = 0
        for call in pattern.calls:
            now = times[call]
            began = now - times[call + 1]
            if began < times[call - 1]:  # it is not told before the packet was queued
                began = times[call - 1]
                running |= 1 << call
            times[call] = began
            times[call + 1] = now
        if (
            sorted(times) != times
            or size < pattern.least
            or 0 < says < pattern.says
            or start_ns <= self._changed_ns
            or (pattern.named != self._named and not self._is_named(pattern, start_ns))
        ):
            return None
        if pattern.hop_missing:
            self.correlator.lost["hop_missing"] += pattern.hop_missing
        headers, size, ids = data[pattern.headers], size + pattern.more, self._ids
        if pattern.front:
            headers = pattern.front + headers
        carried = b""
        if len(data) > end:
            begin = end + pattern.headers.stop - HEADERS_AT
            carried = data[begin : begin + size - len(headers)]
        return _new(
            One,
            (
                pattern.alike.get(running) or pattern.of(running),
                f"{ids}{id_}",
                f"{ids}{parent}" if parent else None,
                skb,
                start_ns,
                times,
                lengths,
                counts,
                headers,
                size,
                carried,
                [f"{ids}{each}" for each in made] if made else _NOTHING,
                (),
            ),
        )

    def _is_named(self, pattern: _Pattern, at_ns: int) -> bool:
        """Whether things are called then as in this pattern."""
        device, netns, renames = self._names.device, self._names.netns, self._renames()
        is_named = all(
            device(inum, i, at_ns) == answer for inum, i, answer in pattern.devices
        ) and (all(netns(inum, at_ns) == answer for inum, answer in pattern.netnses))
        if is_named:
            pattern.named = renames
        self._named = self._renames()  # whoever is asked for a name may find out more
        return is_named

    def _first(self, probes: bytes, data: bytes) -> Journey | None:
        """Make one that no pattern makes. If it is the second of its kind, there is one then."""
        named = self._renames()
        missing = self.correlator.lost["hop_missing"]
        self._devices.clear()
        self._netnses.clear()
        record = decode(data)
        journey = self.correlator.take(record)
        self._named = self._renames()
        missing = self.correlator.lost["hop_missing"] - missing
        first = record.slots[0] if record.slots else None
        if (
            journey is None
            or not isinstance(first, HopSlot)
            or record.chunk
            or record.flags & (LAST | END_MISSED) != LAST
            or journey.start_ns <= self._changed_ns
        ):
            return journey
        numbers = _numbers(record, first)
        struct = self._struct(_mask(record, numbers))
        key = struct.unpack_from(data)
        known = self._patterns.get(probes, _NONE).get(struct, {})
        if key in known:
            pattern = known[key]
            if pattern is None or self._is_named(pattern, journey.start_ns):
                return journey
        elif key not in self._once:
            if len(self._once) >= MOST:
                self._once.clear()
            self._once.add(key)
            return journey
        asked = (
            tuple((*of, answer) for of, answer in self._devices.items()),
            tuple(self._netnses.items()),
        )
        pattern = _pattern(record, journey, numbers, (named, *asked))
        if pattern is not None:
            again = self._alike(pattern, data, len(data) - len(record.data))
            if again is None:
                return journey  # another one will do
            pattern.hop_missing = missing
            if again.made() != journey:
                pattern = None
        self._learn(probes, struct, key, pattern)
        return journey

    def _struct(self, mask: bytes) -> Struct:
        """Return what reads the bytes that are the same: one of that mask, always the same one."""
        found = self._structs.get(mask)
        if found is None:
            if len(self._structs) >= MOST:
                self._structs.clear()
            found = self._structs[mask] = reader("=", _runs(mask))
        return found

    def _learn(self, probes: bytes, struct: Struct, key: _Same, pattern: _Pattern | None) -> None:
        if self._learnt >= MOST:
            self._patterns.clear()
            self._learnt = 0
        structs = self._patterns.setdefault(probes, {})
        if struct not in structs and len(structs) >= _STRUCTS:
            self._learnt -= sum(map(len, structs.values()))
            structs.clear()
        known = structs.setdefault(struct, {})
        self._learnt += key not in known
        known[key] = pattern
        self._once.discard(key)

    def _device(self, inum: int, ifindex: int, at_ns: int) -> Device:
        found = self._devices[inum, ifindex] = self._names.device(inum, ifindex, at_ns)
        return found

    def _netns(self, inum: int, at_ns: int) -> Netns:
        found = self._netnses[inum] = self._names.netns(inum, at_ns)
        return found


def _numbers(record: Record, first: HopSlot) -> Numbers:
    """What may be different in the headers. Nothing, if that is not known."""
    headers = there(record.headers, record.pulled, first.len)
    protocol = int.from_bytes(record.protocol, "big")
    found = numbers_of(headers, record.l2_len, protocol, record.vlan_tci)
    return found or _NO_NUMBERS


def _mask(record: Record, numbers: Numbers) -> bytes:
    """Ones for what is the same in records that are alike."""
    mask = bytearray(fixed_mask(numbers.same))
    for slot in record.slots:
        if isinstance(slot, HopSlot):
            mask += slot_mask(slot.probe, slot.flags)
        else:
            mask += slot_mask(NOTE, slot.kind)
    if numbers is _NO_NUMBERS:
        at = FIXED.size + _LENGTH  # it tells how much there is of the headers
        mask[at : at + 4] = b"\xff" * 4
    return bytes(mask)


def _runs(mask: bytes) -> Iterator[tuple[int, str]]:
    """Give where ones begin and how all of them are read: as numbers where that is cheaper."""
    for run in re.finditer(rb"\xff+", mask):
        size = run.end() - run.start()
        yield run.start(), {4: "I", 8: "Q"}.get(size, f"{size}s")


def _pattern(
    record: Record,
    journey: Journey,
    numbers: Numbers,
    asked: _Asked,
) -> _Pattern | None:
    """What others like this one have in common with it; None if more may be different."""
    if journey.drop is not None and journey.drop.function in PURGES:
        return None  # of what TCP purges, whether it carried data is not in the key
    hops = journey.hops
    at: list[int] = []
    lengths: list[int] = []
    calls: list[int] = []
    made: list[int] = []
    for number, slot in enumerate(record.slots):
        first = FIXED.size + number * SLOT.size
        if not isinstance(slot, HopSlot):
            made += [first + _VALUE] if slot.kind == NOTE_CLONE else []
            continue
        if len(at) < len(hops) and hops[len(at)].already_running is not None:
            calls.append(len(at))  # a call of process_backlog, told by the hop that follows
            at += [first, first + _ARG]
        else:
            at.append(first)
        lengths.append(first + _LENGTH)
    if len(at) != len(hops) or len(at) < 2 or len(made) != len(journey.branches):
        return None
    link = (record.l2_len, record.protocol, record.vlan_tci)
    front, begin, end = cut_of(record.headers, *link)
    more = record.pulled + len(front) - begin
    return _Pattern(
        *asked,
        read=reader("=", [(place, "Q") for place in (*_WHICH, *made)]),
        read_times=reader("=", [(place, "I") for place in at]),
        read_lengths=reader("=", [(place, "I") for place in lengths]),
        calls=tuple(calls),
        journey=journey,
        alike={},
        read_headers=reader("!", numbers.places),
        numbers=numbers,
        front=front,
        headers=slice(HEADERS_AT + begin, HEADERS_AT + end),
        more=more,
        says=numbers.says,
        least=max(numbers.least - record.pulled, len(front) + end - begin - more),
    )
