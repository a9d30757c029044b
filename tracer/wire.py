# SPDX-License-Identifier: GPL-2.0-only
"""Record bytes <-> typed records: the Python side of bpf/record.h.

A unit test compiles that file with the host's compiler and compares every offset with this
one. Knows neither what a probe means nor what a packet says.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tracer.errors import DecodeError

SLOTS = 16
HEADER_BYTES = 80
NO_REASON = 0xFFFFFFFF

# flags of a hop
DEQUEUED = 0x01
AGE_KNOWN = 0x02
# flags of a record
LAST = 0x01
CLONE_QUEUED = 0x02
END_MISSED = 0x04

# kinds of a note
NOTE_CLONE = 1
NOTE_DROP = 2
_NOTE = 0xFF

LOSSES = ("ring_full", "table_full", "end_missed", "clone_missed", "hop_limit")
"""The kernel program's loss counters, in the order of its ``enum lost``.

``ring_full``: records (whole journeys or chunks) for which the ring buffer had no room;
``table_full``: packets not followed because too many were followed already;
``end_missed``: journeys whose free was not seen before their address was used again;
``clone_missed``: clones whose parent could not be told;
``hop_limit``: hops of packets that passed more probes than a journey may have.
"""

FIXED = struct.Struct(f"=QQQQHBBHHBB6x{HEADER_BYTES}s")
SLOT = struct.Struct("=IBBHIIII")
RECORD_MAX = FIXED.size + SLOTS * SLOT.size


class HopSlot(NamedTuple):
    """struct skbtrace_hop: one function reached. ``dt_ns`` counts from the record's base_ns."""

    dt_ns: int
    probe: int
    flags: int
    cpu: int
    ifindex: int
    netns: int
    len: int
    arg: int


class Note(NamedTuple):
    """struct skbtrace_note: more about the hop before it."""

    kind: int
    value: int
    word: int = 0
    cpu: int = 0


class Record(NamedTuple):
    """struct skbtrace_record: a journey, or one chunk of it."""

    id: int
    parent: int
    skb: int
    base_ns: int
    chunk: int
    flags: int
    protocol: bytes
    """skb->protocol as it lies in memory: network byte order."""
    vlan_tci: int | None
    l2_len: int
    headers: bytes
    slots: tuple[HopSlot | Note, ...]


def decode(data: bytes) -> Record:
    """The record these bytes are. DecodeError if they are none."""
    if len(data) < FIXED.size:
        raise DecodeError(f"a record of {len(data)} bytes is shorter than its fixed part")
    (id_, parent, skb, base_ns, chunk, count, flags, protocol, tci, has_vlan, l2_len, headers) = (
        FIXED.unpack_from(data)
    )
    if count > SLOTS or len(data) < FIXED.size + count * SLOT.size:
        raise DecodeError(f"a record of {len(data)} bytes cannot hold {count} slots")
    end = FIXED.size + count * SLOT.size
    new = tuple.__new__  # half the time of HopSlot(...)
    slots: list[HopSlot | Note] = [
        new(HopSlot, raw)
        if raw[1] != _NOTE
        else Note(kind=raw[2], value=raw[5] << 32 | raw[4], word=raw[0], cpu=raw[3])
        for raw in SLOT.iter_unpack(data[FIXED.size : end])
    ]
    return Record(
        id_,
        parent,
        skb,
        base_ns,
        chunk,
        flags,
        struct.pack("=H", protocol),
        tci if has_vlan else None,
        l2_len,
        headers,
        tuple(slots),
    )


def encode(record: Record) -> bytes:
    """The bytes of a record, as the kernel program would send it. The inverse of decode."""
    fixed = FIXED.pack(
        record.id,
        record.parent,
        record.skb,
        record.base_ns,
        record.chunk,
        len(record.slots),
        record.flags,
        struct.unpack("=H", record.protocol)[0],
        record.vlan_tci or 0,
        record.vlan_tci is not None,
        record.l2_len,
        record.headers,
    )
    return fixed + b"".join(
        SLOT.pack(*slot)
        if isinstance(slot, HopSlot)
        else SLOT.pack(
            slot.word, _NOTE, slot.kind, slot.cpu, slot.value & 0xFFFFFFFF, slot.value >> 32, 0, 0
        )
        for slot in record.slots
    )
