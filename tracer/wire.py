# SPDX-License-Identifier: GPL-2.0-only
"""Record bytes <-> typed records: the Python side of bpf/record.h.

A unit test compiles that file with the host's compiler and compares every offset with this
one. Knows neither what a probe means nor what a packet says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from tracer.errors import DecodeError

SLOTS = 48
HEADER_BYTES = 120
SNAPLEN_MAX = 2048
"""So many of a packet's first bytes can be kept: a whole frame of Ethernet, and some more. Each
packet that is followed takes as much of the kernel's memory as was asked for, also a short one."""
NO_REASON = 0xFFFFFFFF

# flags of a hop
DEQUEUED = 0x01
AGE_KNOWN = 0x02
# flags of a record
LAST = 0x01
CLONE_QUEUED = 0x02
END_MISSED = 0x04
FROM_QUEUE = 0x08
REFUSED = 0x10

# kinds of a note
NOTE_CLONE = 1
NOTE_DROP = 2
NOTE_STATE = 3
NOTE_IP = 4
NOTE_SRC6 = 5
NOTE_DST6 = 6
NOTE_ETH = 7
NOTE_TABLE = 8
NOTE_SOCKET = 9
NOTE_TASK = 10
NOTE_TASK_NETNS = 11
NOTE_MERGED = 12
NOTE_RULE = 13
NOTE_BACKLOG = 14
NOTE_PORT = 15
NOTE_INET = 16
NOTE_SOCK = 17
NOTE_LISTENER = 18
NOTE_EGRESS = 19
NOTE = 0xFF
"""What a note has for a probe."""

# state bits
STATE_KNOWN = 0x8000
STATE_CSUM = 0x0003
STATE_CTINFO = 0x001C
STATE_CT = 0x0020
STATE_SK = 0x0040
STATE_REFDST = 0x0080

LOSSES = ("ring_full", "table_full", "end_missed", "clone_missed", "hop_limit")
"""The kernel program's loss counters, in the order of its ``enum lost``.

``ring_full``: records (whole journeys or chunks) for which the ring buffer had no room;
``table_full``: times a packet could not be followed because too many were already; it is tried
again at the next function that it meets, so one counts several times, and may be followed late;
``end_missed``: journeys whose free was not seen before their address was used again;
``clone_missed``: clones whose parent could not be told;
``hop_limit``: hops of packets that passed more probes than a journey may have.
"""

PASSED = ("filter", "sample", "max_rate", "per_flow", "trigger")
"""What the kernel program leaves out because it was asked to, in the order of its ``enum passed``:
the last counts journeys that it did not send, the others packets that it did not follow.
"""

END = struct.Struct("=QIIIBBBx")
END_COUNT = struct.Struct("=QQ")
END_OTHER = 0xFF
"""``probe`` of the ends for which the kernel program has had no room."""

STEP_CLASSES = 1024
STEP = struct.Struct(f"=QQ{STEP_CLASSES}Q")
STEP_OTHER = (0xFF, 0xFF)
"""The probes of steps for which the kernel program has had no room."""

FIXED = struct.Struct(f"=QQQQHBBHHBBHHhIIII{HEADER_BYTES}s")
SLOT = struct.Struct("=IBBHIIII")
RECORD_MAX = FIXED.size + SLOTS * SLOT.size
"""Without what follows the slots."""
SLOTS_AT = struct.calcsize("=QQQQH")
HEADERS_AT = FIXED.size - HEADER_BYTES
_ALIKE_AT = struct.calcsize("=QQQQ")


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
    half: int = 0
    more: int = 0


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
    tc_index: int
    state: int
    """State bits; without STATE_KNOWN this and the others of the skb were not looked at."""
    pulled: int
    """Bytes of ``headers`` that lie before skb->data, and so are not in the first hop's len."""
    mark: int
    priority: int
    hash: int
    classid: int
    headers: bytes
    slots: tuple[HopSlot | Note, ...]
    data: bytes = b""
    """The packet's first bytes, where that was asked for: from where ``headers`` begin, but no more
    than there were. In chunk 0 only."""


class EndCount(NamedTuple):
    """struct skbtrace_end and skbtrace_end_count: how many packets have ended so."""

    drop_at: int
    """Address of the code that dropped them, or 0."""
    drop_reason: int
    netns: int
    ifindex: int
    probe: int
    branch: bool
    dropped: bool
    packets: int
    bytes: int


class StepCount(NamedTuple):
    """struct skbtrace_step of all CPUs: how long packets took from one probe to the next."""

    before: int
    probe: int
    longest_ns: int
    total_ns: int
    classes: tuple[tuple[int, int], ...]
    """(the least time of a class in ns, how many took as long), rising."""


def decode_step(before: int, probe: int, rows: Sequence[bytes]) -> StepCount:
    """What the rows of a pair of probes say, one for each CPU."""
    # As one number each: none of the counters in it ever overflows into the next.
    added = sum(int.from_bytes(row[8:], "little") for row in rows)
    _, total_ns, *counts = STEP.unpack(bytes(8) + added.to_bytes(STEP.size - 8, "little"))
    longest = max((int.from_bytes(row[:8], "little") for row in rows), default=0)
    classes = tuple((step_least(n), count) for n, count in enumerate(counts) if count)
    return StepCount(before, probe, longest, total_ns, classes)


def step_least(number: int) -> int:
    """The least time of a class by its number: the inverse of step_class in bpf/steps.h."""
    shift = max((number >> 5) - 1, 0)
    return (number - (shift << 5)) << shift


def decode_end(key: bytes, count: bytes) -> EndCount:
    """What an entry of the map ``ends`` says."""
    at, reason, netns, ifindex, probe, branch, dropped = END.unpack(key)
    packets, octets = END_COUNT.unpack(count)
    return EndCount(at, reason, netns, ifindex, probe, bool(branch), bool(dropped), packets, octets)


def decode(data: bytes) -> Record:
    """The record these bytes are. DecodeError if they are none."""
    if len(data) < FIXED.size:
        raise DecodeError(f"a record of {len(data)} bytes is shorter than its fixed part")
    fixed = FIXED.unpack_from(data)
    id_, parent, skb, base_ns, chunk, count, flags, protocol, tci, has_vlan = fixed[:10]
    if count > SLOTS or len(data) < FIXED.size + count * SLOT.size:
        raise DecodeError(f"a record of {len(data)} bytes cannot hold {count} slots")
    end = FIXED.size + count * SLOT.size
    new = tuple.__new__  # half the time of HopSlot(...)
    slots: list[HopSlot | Note] = [
        new(HopSlot, raw)
        if raw[1] != NOTE
        else Note(raw[2], raw[5] << 32 | raw[4], raw[0], raw[3], raw[7] << 32 | raw[6])
        for raw in SLOT.iter_unpack(data[FIXED.size : end])
    ]
    told = (id_, parent, skb, base_ns, chunk, flags, struct.pack("=H", protocol))
    return Record._make((*told, tci if has_vlan else None, *fixed[10:], tuple(slots), data[end:]))


def there(headers: bytes, pulled: int, length: int) -> bytes:
    """Return the headers without what lies behind the end of a packet of this skb->len."""
    size = pulled + length
    return headers if size >= len(headers) else headers[: max(size, 0)]


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
        record.tc_index,
        record.state,
        record.pulled,
        record.mark,
        record.priority,
        record.hash,
        record.classid,
        record.headers,
    )
    return (
        fixed
        + b"".join(
            SLOT.pack(*slot)
            if isinstance(slot, HopSlot)
            else SLOT.pack(slot.word, NOTE, slot.kind, slot.half, *_halves(slot.value, slot.more))
            for slot in record.slots
        )
        + record.data
    )


def fixed_mask(headers: bytes) -> bytes:
    """Return ones for the bytes of the fixed part that are the same for packets that are alike.

    Not id, parent, address and time. ``headers``: ones for those of the headers.
    """
    return (
        bytes(_ALIKE_AT) + b"\xff" * (HEADERS_AT - _ALIKE_AT) + headers.ljust(HEADER_BYTES, b"\0")
    )


def slot_mask(probe: int, kind: int) -> bytes:
    """Return ones for the bytes of a slot that are the same for packets that take the same way.

    Not a hop's time and length, nor its ``arg`` if that is a time, nor the id of what was made of
    the packet. ``kind``: of a note, or a hop's flags.
    """
    if probe != NOTE:
        arg = (b"\0" if kind & AGE_KNOWN else b"\xff") * 4
        return b"\0" * 4 + b"\xff" * 12 + b"\0" * 4 + arg
    return b"\xff" * 8 + (b"\0" if kind == NOTE_CLONE else b"\xff") * 8 + b"\xff" * 8


def as_sent(record: bytes, data: bytes) -> bytes:
    """Return a record that has room for all slots as the kernel program would send it."""
    return record[: FIXED.size + record[SLOTS_AT] * SLOT.size] + data


_struct = lru_cache(1024)(struct.Struct)


def reader(order: str, places: Iterable[tuple[int, str]]) -> struct.Struct:
    """Return what reads the numbers at these places, each in its way, in that byte order.

    It is always the same one for the same places.
    """
    code = order
    for place, letter in places:
        code += f"{place - struct.calcsize(code)}x{letter}"
    return _struct(code)


def _halves(*values: int) -> list[int]:
    return [half for value in values for half in (value & 0xFFFFFFFF, value >> 32)]
