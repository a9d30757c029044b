# SPDX-License-Identifier: GPL-2.0-only
"""Record bytes -> journeys, where most of them are alike: what was found out once is kept.

Packets that take the same way leave records that differ in times, lengths and ids and in what their
headers say, and in nothing else. The first ones are made into journeys by the correlator, which
knows what a record means; what it made of the second is the pattern of those that follow. This
module must not know what any hop or note means, but only where in a record stands what may be
different.

What things are called may change: what the correlator asked for names is asked again each time, and
where the answer is another one, the correlator does it all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import itemgetter
from struct import Struct, calcsize
from typing import Any, NamedTuple

from tracer.correlate import PURGES, Correlator, Names
from tracer.flow import flow_of
from tracer.frame import frame_of
from tracer.hops import Alike, Hops
from tracer.model import Branch, Device, Flow, Hop, Journey, Netns
from tracer.wire import (
    END_MISSED,
    FIXED,
    LAST,
    NOTE,
    NOTE_CLONE,
    SLOT,
    HopSlot,
    Record,
    decode,
    slot_mask,
    there,
)

MOST = 2048
"""Patterns kept, some 5 kB each; if packets take more ways than that, it starts over."""
_VARIANTS = 16
"""What is kept of each, at most; most have two or three."""

_HOPS_AT, _BRANCHES_AT, _FRAME_AT = map(Journey._fields.index, ("hops", "branches", "frame"))
_VALUE, _LENGTH, _ARG = 8, 16, 20  # where in a slot those stand; its time comes first
_PROBE = 4  # where in a slot that stands, and the kind of a note or a hop's flags behind it

_new = tuple.__new__  # half the time of Journey(...)
_Asked = tuple[tuple[tuple[int, int, Device], ...], tuple[tuple[int, Netns], ...]]


class _Pattern(NamedTuple):
    """What journeys that are alike have in common."""

    read: Struct
    """From a record's slots, the numbers that are different in each ..."""
    pick: Callable[[tuple[int, ...]], tuple[int, ...]]
    """... of these the time of each hop; of process_backlog's, for how long it ran ..."""
    lengths: Callable[[tuple[int, ...]], tuple[int, ...]]
    """... and the lengths."""
    calls: tuple[int, ...]
    """The hops of process_backlog."""
    devices: tuple[tuple[int, int, Device], ...]
    """What was asked for names, and the answers ..."""
    netnses: tuple[tuple[int, Netns], ...]
    """... of namespaces."""
    branches: tuple[tuple[int, int], ...]
    """Which of the numbers is the id of what was made, and the hop that made it."""
    hops: Sequence[Hop]
    alike: dict[int, Alike]
    """By which of ``calls`` had been running before, a bit for each."""
    ending: tuple[object, ...]
    """Members of a journey between its hops and its branches ..."""
    more: tuple[object, ...]
    """... and between these and its frame."""
    hop_missing: int

    def times(self, numbers: tuple[int, ...]) -> tuple[list[int], int]:
        """When each hop was, since the first one, and which calls had been running before."""
        times = list(self.pick(numbers))
        running = 0
        for bit, call in enumerate(self.calls):
            began = times[call + 1] - times[call]
            if began < times[call - 1]:  # it is not told before the packet was queued
                began = times[call - 1]
                running |= 1 << bit
            times[call] = began
        return times, running

    def of(self, running: int) -> Alike:
        """What the hops have in common if these calls had been running before."""
        if len(self.alike) >= _VARIANTS:
            self.alike.clear()
        hops = list(self.hops)
        for bit, call in enumerate(self.calls):
            hops[call] = hops[call]._replace(already_running=bool(running >> bit & 1))
        found = self.alike[running] = Alike(hops)
        return found


class Recurring:
    """Makes journeys of records, in the order in which they come: see Correlator."""

    def __init__(self, names: Names, ids: str = "") -> None:
        self._names = names
        self._ids = ids
        self._devices: dict[tuple[int, int], Device] = {}
        self._netnses: dict[int, Netns] = {}
        self.correlator = Correlator(names._replace(device=self._device, netns=self._netns), ids)
        self._masks: dict[bytes, int] = {}
        self._once: set[Hashable] = set()
        self._patterns: dict[Hashable, _Pattern | None] = {}
        self._changed_ns = 0

    def __len__(self) -> int:
        """How much is remembered."""
        return len(self._masks) + len(self._once) + len(self._patterns)

    def renamed(self, at_ns: int) -> None:
        """From then on things are called otherwise than before."""
        self._changed_ns = max(self._changed_ns, at_ns)

    def take(self, data: bytes) -> Journey | None:
        """Return the journey that this record completes, if it does. DecodeError if it is none."""
        if len(data) < FIXED.size + SLOT.size or data[FIXED.size + _PROBE] == NOTE:
            return self._make(data)
        fixed = FIXED.unpack_from(data)
        chunk, slots, flags = fixed[4:7]
        end = FIXED.size + slots * SLOT.size
        if chunk or flags & (LAST | END_MISSED) != LAST or not slots or len(data) < end:
            return self._make(data)
        probes = data[FIXED.size + _PROBE : end : SLOT.size]
        kinds = probes + data[FIXED.size + _PROBE + 1 : end : SLOT.size]  # of notes; or flags
        mask = self._masks.get(kinds)
        if mask is None:
            mask = self._remember_mask(kinds, slots)
        length = SLOT.unpack_from(data, FIXED.size)[6]
        protocol, tci, has_vlan, l2_len = fixed[7:11]
        headers = there(fixed[-1], fixed[13], length)
        swapped = (protocol & 0xFF) << 8 | protocol >> 8
        flow = flow_of(headers, l2_len, swapped, tci if has_vlan else None)
        key = (
            int.from_bytes(data[FIXED.size : end], "little") & mask,
            kinds,
            flags,
            fixed[11:13],  # the state at first sight
            fixed[14:18],
            # what else notes of changes are compared with: TTL and hop limit stand here
            headers[l2_len + 7 : l2_len + 9],
            flow[:7],
            flow.icmp_id,
        )
        try:
            pattern = self._patterns[key]
        except KeyError:
            return self._first(key, data)
        start_ns = fixed[3]
        if pattern is None or start_ns <= self._changed_ns:
            return self._make(data)
        if self._is_renamed(pattern, start_ns):
            del self._patterns[key]  # to be learnt again
            return self._make(data)
        return self._alike(pattern, fixed, data, end, flow) or self._make(data)

    def _is_renamed(self, pattern: _Pattern, at_ns: int) -> bool:
        device, netns = self._names.device, self._names.netns
        for inum, ifindex, answer in pattern.devices:
            if device(inum, ifindex, at_ns) is not answer:
                return True
        return any(netns(inum, at_ns) is not named for inum, named in pattern.netnses)

    def _alike(
        self, pattern: _Pattern, fixed: tuple[Any, ...], data: bytes, end: int, flow: Flow
    ) -> Journey | None:
        """Return one of this pattern. None if its times are not in order: clocks of two CPUs."""
        id_, parent, skb, start_ns = fixed[:4]
        numbers = pattern.read.unpack_from(data, FIXED.size)
        times, running = pattern.times(numbers)
        if sorted(times) != times:
            return None
        if pattern.hop_missing:
            self.correlator.lost["hop_missing"] += pattern.hop_missing
        alike = pattern.alike.get(running) or pattern.of(running)
        lengths = pattern.lengths(numbers)
        hops = Hops(alike, tuple(times), lengths)
        ids = self._ids
        branches: tuple[Branch, ...] = ()
        if pattern.branches:
            branches = tuple([Branch(f"{ids}{numbers[at]}", hop) for at, hop in pattern.branches])
        protocol, tci, has_vlan, l2_len = fixed[7:11]
        frame = frame_of(
            fixed[-1],
            l2_len,
            protocol.to_bytes(2, "little"),
            tci if has_vlan else None,
            pulled=fixed[13],
            size=lengths[0],
            data=data[end:],
        )
        front = (f"{ids}{id_}", f"{ids}{parent}" if parent else None, skb, flow, start_ns, hops)
        return _new(Journey, (*front, *pattern.ending, branches, *pattern.more, frame))

    def _make(self, data: bytes) -> Journey | None:
        self._devices.clear()
        self._netnses.clear()
        return self.correlator.take(decode(data))

    def _first(self, key: Hashable, data: bytes) -> Journey | None:
        """Make one of which no pattern is known; if it is the second of its kind, keep that."""
        missing = self.correlator.lost["hop_missing"]
        journey = self._make(data)
        missing = self.correlator.lost["hop_missing"] - missing
        if key in self._once and journey is not None and journey.start_ns > self._changed_ns:
            self._learn(key, data, journey, missing)
        elif len(self._once) < MOST:
            self._once.add(key)
        else:
            self._once.clear()
        return journey

    def _learn(self, key: Hashable, data: bytes, journey: Journey, hop_missing: int) -> None:
        record = decode(data)
        asked = (
            tuple((*of, answer) for of, answer in self._devices.items()),
            tuple(self._netnses.items()),
        )
        pattern = _pattern(record, journey, asked, hop_missing)
        if pattern is not None:
            times, _ = pattern.times(pattern.read.unpack_from(data, FIXED.size))
            if sorted(times) != times:
                return  # another one will do
            if times != [hop.dt_ns for hop in journey.hops]:
                pattern = None
        if len(self._patterns) >= MOST:
            self._patterns.clear()
        self._patterns[key] = pattern
        self._once.remove(key)

    def _remember_mask(self, kinds: bytes, slots: int) -> int:
        if len(self._masks) >= MOST:
            self._masks.clear()
        mask = b"".join(
            slot_mask(probe, kind) for probe, kind in zip(kinds[:slots], kinds[slots:], strict=True)
        )
        found = self._masks[kinds] = int.from_bytes(mask, "little")
        return found

    def _device(self, inum: int, ifindex: int, at_ns: int) -> Device:
        found = self._devices[inum, ifindex] = self._names.device(inum, ifindex, at_ns)
        return found

    def _netns(self, inum: int, at_ns: int) -> Netns:
        found = self._netnses[inum] = self._names.netns(inum, at_ns)
        return found


def _pattern(record: Record, journey: Journey, asked: _Asked, hop_missing: int) -> _Pattern | None:
    """What others like this one have in common with it; None if more may be different."""
    if journey.drop is not None and journey.drop.function in PURGES:
        return None  # whether TCP carried data is not in the key
    hops = journey.hops
    at: list[int] = []
    lengths: list[int] = []
    calls: list[int] = []
    made: list[int] = []
    for number, slot in enumerate(record.slots):
        first = number * SLOT.size
        if not isinstance(slot, HopSlot):
            made += [first + _VALUE] if slot.kind == NOTE_CLONE else []
            continue
        if len(at) < len(hops) and hops[len(at)].already_running is not None:
            calls.append(len(at))  # a call of process_backlog, told by the hop that follows
            at.append(first + _ARG)
            lengths.append(first + _LENGTH)
        at.append(first)
        lengths.append(first + _LENGTH)
    if len(at) != len(hops) or len(at) < 2 or len(made) != len(journey.branches):
        return None
    places = sorted({*at, *lengths, *made})
    nth = {place: n for n, place in enumerate(places)}
    return _Pattern(
        _reader(places, made),
        itemgetter(*[nth[place] for place in at]),
        itemgetter(*[nth[place] for place in lengths]),
        tuple(calls),
        *asked,
        tuple((nth[place], b.hop) for place, b in zip(made, journey.branches, strict=True)),
        hops,
        {},
        journey[_HOPS_AT + 1 : _BRANCHES_AT],
        journey[_BRANCHES_AT + 1 : _FRAME_AT],
        hop_missing,
    )


def _reader(places: Sequence[int], long: Sequence[int]) -> Struct:
    """What reads the numbers at these places, of 64 bits at those and of 32 elsewhere."""
    code, end = "=", 0
    for place in places:
        code += f"{place - end}x{'Q' if place in long else 'I'}"
        end = calcsize(code)
    return Struct(code)
