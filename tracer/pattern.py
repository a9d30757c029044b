# SPDX-License-Identifier: GPL-2.0-only
"""What the records of journeys that are alike have in common, and how one's own is read from it.

A pattern is made of one record and of what the correlator made of that. This module must not know
what any hop or note means, but only where in a record stands what may be different.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from tracer.alike import Alike, One
from tracer.correlate import PURGES
from tracer.flow import Numbers, numbers_of
from tracer.frame import cut_of
from tracer.model import Hop, Journey
from tracer.wire import (
    FIXED,
    HEADER_BYTES,
    HEADERS_AT,
    NOTE,
    NOTE_CLONE,
    SLOT,
    HopSlot,
    Record,
    fixed_mask,
    reader,
    slot_mask,
    there,
)

_VARIANTS = 16
"""Kept of a pattern at most, by which calls had been running; most have two or three."""

_VALUE, _LENGTH, _ARG = 8, 16, 20  # where in a slot those stand; its time comes first
_WHICH = (0, 8, 16, 24)
"""Where in a record stand id, parent, address and time."""
_NO_NUMBERS = Numbers(b"\xff" * HEADER_BYTES, ((0, "H"),), (), 0, 0)
_NOTHING: list[str] = []

_new = tuple.__new__  # half the time of One(...)


@dataclass(slots=True)
class Pattern:
    """What journeys that are alike have in common."""

    ids: str
    """What every id begins with."""
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
    """From a record's headers the length they tell, and numbers that are members of the flow."""
    counted: tuple[int, ...]
    """Which members of the flow those are but for the first."""
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

    def one(self, data: bytes, end: int) -> One | None:
        """Return one of this pattern. ``end``: of the slots, where what a frame carries begins.

        None if it is none: times are not in order (clocks of two CPUs), or something is shorter
        than its headers are.
        """
        id_, parent, skb, start_ns, *made = self.read.unpack_from(data)
        times = [*self.read_times.unpack_from(data)]
        lengths = self.read_lengths.unpack_from(data)
        says, *counts = self.read_headers.unpack_from(data, HEADERS_AT)
        size = lengths[0]
        running = 0
        for call in self.calls:
            now = times[call]
            began = now - times[call + 1]
            if began < times[call - 1]:  # it is not told before the packet was queued
                began = times[call - 1]
                running |= 1 << call
            times[call] = began
            times[call + 1] = now
        if sorted(times) != times or size < self.least or 0 < says < self.says:
            return None
        headers, size, ids = data[self.headers], size + self.more, self.ids
        if self.front:
            headers = self.front + headers
        carried = b""
        if len(data) > end:
            begin = end + self.headers.stop - HEADERS_AT
            carried = data[begin : begin + size - len(headers)]
        return _new(
            One,
            (
                self.alike.get(running) or self._of(running),
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

    def _of(self, running: int) -> Alike:
        """What the hops have in common if these calls had been running before."""
        if len(self.alike) >= _VARIANTS:
            self.alike.clear()
        hops: list[Hop] = [*self.journey.hops]
        for call in self.calls:
            hops[call] = hops[call]._replace(already_running=bool(running >> call & 1))
        like = self.journey._replace(hops=tuple(hops))
        found = self.alike[running] = Alike(like, self.counted, self.calls)
        return found


def numbers_in(record: Record, length: int) -> Numbers:
    """What may be different in the headers; nothing if that is not known.

    ``length``: the first of the record's.
    """
    headers = there(record.headers, record.pulled, length)
    protocol = int.from_bytes(record.protocol, "big")
    found = numbers_of(headers, record.l2_len, protocol, record.vlan_tci)
    return found or _NO_NUMBERS


def mask_of(record: Record, numbers: Numbers) -> bytes:
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


def runs(mask: bytes) -> Iterator[tuple[int, str]]:
    """Give where ones begin and how all of them are read: as numbers where that is cheaper."""
    for run in re.finditer(rb"\xff+", mask):
        size = run.end() - run.start()
        yield run.start(), {4: "I", 8: "Q"}.get(size, f"{size}s")


def pattern_of(record: Record, journey: Journey, numbers: Numbers, ids: str) -> Pattern | None:
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
    return Pattern(
        ids=ids,
        read=reader("=", [(place, "Q") for place in (*_WHICH, *made)]),
        read_times=reader("=", [(place, "I") for place in at]),
        read_lengths=reader("=", [(place, "I") for place in lengths]),
        calls=tuple(calls),
        journey=journey,
        alike={},
        read_headers=reader("!", numbers.places),
        counted=numbers.members,
        front=front,
        headers=slice(HEADERS_AT + begin, HEADERS_AT + end),
        more=more,
        says=numbers.says,
        least=max(numbers.least - record.pulled, len(front) + end - begin - more),
    )
