# SPDX-License-Identifier: GPL-2.0-only
"""Record bytes -> journeys, where most of them are alike: what was found out once is kept.

Packets of one flow that take the same way leave records that differ in a few numbers only: times,
lengths, ids, and some in their headers. The first ones are made into journeys by the correlator,
which knows what a record means; what it made of the second is the pattern of those that follow.
This module must not know what any hop or note means, but only where in a record stands what may be
different.

What things are called may change: what the correlator asked for names is asked again when anything
may be called otherwise, and where the answer is another one, the correlator does it all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from struct import Struct
from typing import Any

from tracer.correlate import PURGES, Correlator, Names
from tracer.flow import Numbers, numbers_of
from tracer.frame import cut_of
from tracer.hops import Alike, Hops
from tracer.model import Branch, Device, Flow, Frame, Hop, Journey, Netns
from tracer.wire import (
    END_MISSED,
    FIXED,
    HEADER_BYTES,
    HEADERS_AT,
    LAST,
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
_MASKS = 16
"""How many kinds of headers are told apart among packets that take the same way."""

_HOPS_AT, _BRANCHES_AT, _FRAME_AT = map(Journey._fields.index, ("hops", "branches", "frame"))
_PROBE, _VALUE, _LENGTH, _ARG = 4, 8, 16, 20  # where in a slot those stand; its time comes first
_KIND = _PROBE + 1  # of a note; or a hop's flags

_WHICH = (0, 8, 16, 24)
"""Where in a record stand id, parent, address and time."""
_NO_NUMBERS = Numbers(b"\xff" * HEADER_BYTES, ((0, "H"),), (), 0, 0)
_NONE: dict[int, Any] = {}

_new = tuple.__new__  # half the time of Journey(...)
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
    """From a record the numbers that are different in each: id, parent, address, time, then ..."""
    pick: Callable[[tuple[int, ...]], tuple[int, ...]]
    """... the time of each hop; of process_backlog's, for how long it ran ..."""
    lengths: Callable[[tuple[int, ...]], tuple[int, ...]]
    """... and the lengths."""
    calls: tuple[int, ...]
    """The hops of process_backlog."""
    branches: tuple[tuple[int, int], ...]
    """Which of the numbers is the id of what was made, and the hop that made it."""
    flow: list[object]
    """Of one of them ..."""
    hops: Sequence[Hop]
    alike: dict[int, Alike]
    """By which of ``calls`` had been running before, a bit for each."""
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
    """Less than this is no first length."""
    ending: tuple[object, ...]
    """Members of a journey between its hops and its branches ..."""
    rest: tuple[object, ...]
    """... and between these and its frame."""
    hop_missing: int = 0

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
        self._renames = names.renames
        self._ids = ids
        self._devices: dict[tuple[int, int], Device] = {}
        self._netnses: dict[int, Netns] = {}
        self.correlator = Correlator(names._replace(device=self._device, netns=self._netns), ids)
        # By the kinds of the slots what is to be compared, and by that the pattern; None if those
        # that are the same there may yet be different.
        self._patterns: dict[bytes, dict[int, dict[int, _Pattern | None]]] = {}
        self._learnt = 0
        self._masks: dict[tuple[bytes, bytes], int] = {}
        self._once: set[int] = set()
        self._changed_ns = 0

    def __len__(self) -> int:
        """How much is remembered."""
        return self._learnt + len(self._masks) + len(self._once)

    def renamed(self, at_ns: int) -> None:
        """From then on things are called otherwise than before."""
        self._changed_ns = max(self._changed_ns, at_ns)

    def take(self, data: bytes) -> Journey | None:
        """Return the journey that this record completes, if it does. DecodeError if it is none."""
        end = FIXED.size + data[SLOTS_AT] * SLOT.size if len(data) > SLOTS_AT else 0
        if not FIXED.size < end <= len(data):
            return self.correlator.take(decode(data))
        kinds = data[FIXED.size + _PROBE : end : SLOT.size]
        kinds += data[FIXED.size + _KIND : end : SLOT.size]
        number = int.from_bytes(data[:end], "little")
        for mask, patterns in self._patterns.get(kinds, _NONE).items():
            pattern = patterns.get(number & mask)
            if pattern is not None:
                journey = self._alike(pattern, data, end)
                if journey is not None:
                    return journey
        return self._first(number, kinds, data)

    def _alike(self, pattern: _Pattern, data: bytes, end: int) -> Journey | None:
        """Return one of this pattern.

        None if it is none: times are not in order (clocks of two CPUs), something is shorter than
        its headers are, or what is called otherwise now.
        """
        read = pattern.read.unpack_from(data)
        id_, parent, skb, start_ns = read[:4]
        times, running = pattern.times(read)
        lengths = pattern.lengths(read)
        size = lengths[0]
        of_headers = pattern.read_headers.unpack_from(data, HEADERS_AT)
        if (
            sorted(times) != times
            or size < pattern.least
            or 0 < of_headers[0] < pattern.numbers.says
            or start_ns <= self._changed_ns
            or (self._renames() != pattern.named and not self._is_named(pattern, start_ns))
        ):
            return None
        if pattern.hop_missing:
            self.correlator.lost["hop_missing"] += pattern.hop_missing
        flow = pattern.flow.copy()
        for at, member in zip(pattern.numbers.members, of_headers[1:]):  # noqa: B905  (takes longer)
            flow[at] = member
        hops = Hops(pattern.alike.get(running) or pattern.of(running), tuple(times), lengths)
        headers, size, ids = data[pattern.headers], size + pattern.more, self._ids
        if pattern.front:
            headers = pattern.front + headers
        carried = data[end:]
        if carried:
            begin = pattern.headers.stop - HEADERS_AT
            carried = carried[begin : begin + size - len(headers)]
        branches: tuple[Branch, ...] = ()
        if pattern.branches:
            branches = tuple([Branch(f"{ids}{read[at]}", hop) for at, hop in pattern.branches])
        front = (
            f"{ids}{id_}",
            f"{ids}{parent}" if parent else None,
            skb,
            _new(Flow, flow),
            start_ns,
            hops,
        )
        frame = _new(Frame, (headers, size, carried))
        return _new(Journey, (*front, *pattern.ending, branches, *pattern.rest, frame))

    def _is_named(self, pattern: _Pattern, at_ns: int) -> bool:
        """Whether things are called then as in this pattern."""
        device, netns, renames = self._names.device, self._names.netns, self._renames()
        is_named = all(
            device(inum, i, at_ns) == answer for inum, i, answer in pattern.devices
        ) and (all(netns(inum, at_ns) == answer for inum, answer in pattern.netnses))
        if is_named:
            pattern.named = renames
        return is_named

    def _first(self, number: int, kinds: bytes, data: bytes) -> Journey | None:
        """Make one that no pattern makes. If it is the second of its kind, there is one then."""
        named = self._renames()
        missing = self.correlator.lost["hop_missing"]
        self._devices.clear()
        self._netnses.clear()
        record = decode(data)
        journey = self.correlator.take(record)
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
        which = kinds, numbers.same
        mask = self._masks.get(which)
        if mask is None:
            if len(self._masks) >= MOST:
                self._masks.clear()
            mask = self._masks[which] = _mask(kinds, numbers)
        key = number & mask
        known = self._patterns.get(kinds, _NONE).get(mask, {})
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
            if again != journey:
                pattern = None
        self._learn(kinds, mask, key, pattern)
        return journey

    def _learn(self, kinds: bytes, mask: int, key: int, pattern: _Pattern | None) -> None:
        if self._learnt >= MOST:
            self._patterns.clear()
            self._learnt = 0
        masks = self._patterns.setdefault(kinds, {})
        if mask not in masks and len(masks) >= _MASKS:
            self._learnt -= sum(map(len, masks.values()))
            masks.clear()
        known = masks.setdefault(mask, {})
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


def _mask(kinds: bytes, numbers: Numbers) -> int:
    """Ones for what is the same in records that are alike."""
    mask = bytearray(fixed_mask(numbers.same))
    slots = len(kinds) // 2
    for probe, kind in zip(kinds[:slots], kinds[slots:], strict=True):
        mask += slot_mask(probe, kind)
    if numbers is _NO_NUMBERS:
        at = FIXED.size + _LENGTH  # it tells how much there is of the headers
        mask[at : at + 4] = b"\xff" * 4
    return int.from_bytes(mask, "little")


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
            at.append(first + _ARG)
            lengths.append(first + _LENGTH)
        at.append(first)
        lengths.append(first + _LENGTH)
    if len(at) != len(hops) or len(at) < 2 or len(made) != len(journey.branches):
        return None
    link = (record.l2_len, record.protocol, record.vlan_tci)
    front, begin, end = cut_of(record.headers, *link)
    more = record.pulled + len(front) - begin
    places = [*_WHICH, *sorted({*at, *lengths, *made})]
    nth = {place: n for n, place in enumerate(places)}
    return _Pattern(
        *asked,
        read=reader("=", [(place, "Q" if place in (*_WHICH, *made) else "I") for place in places]),
        pick=itemgetter(*[nth[place] for place in at]),
        lengths=itemgetter(*[nth[place] for place in lengths]),
        calls=tuple(calls),
        branches=tuple(
            (nth[place], b.hop) for place, b in zip(made, journey.branches, strict=True)
        ),
        flow=[*journey.flow],
        hops=hops,
        alike={},
        read_headers=reader("!", numbers.places),
        numbers=numbers,
        front=front,
        headers=slice(HEADERS_AT + begin, HEADERS_AT + end),
        more=more,
        ending=journey[_HOPS_AT + 1 : _BRANCHES_AT],
        rest=journey[_BRANCHES_AT + 1 : _FRAME_AT],
        least=max(numbers.least - record.pulled, len(front) + end - begin - more),
    )
