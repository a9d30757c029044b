# SPDX-License-Identifier: GPL-2.0-only
"""What is different about a packet: from the kernel's notes to old and new values.

A note holds what is true now; what was true before comes from the record's fixed part, from its
headers and from earlier notes. Pure; knows neither hops nor names.
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_ntop

from tracer.model import Change, Flow, State
from tracer.wire import (
    NOTE_DST6,
    NOTE_ETH,
    NOTE_IP,
    NOTE_SRC6,
    NOTE_STATE,
    STATE_CSUM,
    STATE_CT,
    STATE_CTINFO,
    STATE_KNOWN,
    STATE_REFDST,
    STATE_SK,
    Note,
    Record,
)

KINDS = frozenset({NOTE_STATE, NOTE_IP, NOTE_SRC6, NOTE_DST6, NOTE_ETH})
"""Kinds of notes that ``Seen.changes`` takes."""

# enum ip_conntrack_info, include/uapi/linux/netfilter/nf_conntrack_common.h
_CTINFO = {
    0: "established",
    1: "related",
    2: "new",
    3: "established_reply",
    4: "related_reply",
    7: "untracked",
}
# CHECKSUM_NONE ..., include/linux/skbuff.h
_CSUM = ("none", "unnecessary", "complete", "partial")
_PORTS = frozenset({"tcp", "udp", "ipv4-132", "ipv6-132"})
_HEADER_FIELDS = ("src", "dst", "sport", "dport", "icmp_id", "eth_src", "eth_dst")

_Value = int | str | bool | None


def state_of(record: Record) -> State | None:
    """The state at first sight, or None if the kernel program did not look at it."""
    if not record.state & STATE_KNOWN:
        return None
    return _state(
        record.mark, record.tc_index, record.priority, record.hash, record.classid, record.state
    )


class Seen:
    """What is known about a packet so far; starts with what was true at its first sight."""

    def __init__(self, record: Record, flow: Flow, state: State | None) -> None:
        self._state = state
        self._proto = flow.proto
        self._values: dict[str, _Value] = {f: getattr(flow, f) for f in _HEADER_FIELDS}
        self._values["ttl"] = _ttl(record)

    def changes(self, note: Note) -> list[Change]:
        """What is different by this note, one of ``KINDS``; from now on that is what is known."""
        if note.kind == NOTE_STATE:
            return self._new_state(note)
        if note.kind == NOTE_IP:
            return self._differences(self._ip(note))
        if note.kind == NOTE_ETH:
            to, sender = note.value, note.more
            return self._differences({"eth_src": _mac(sender), "eth_dst": _mac(to)})
        address = inet_ntop(AF_INET6, struct.pack("=QQ", note.value, note.more))
        return self._differences({"src" if note.kind == NOTE_SRC6 else "dst": address})

    def _ip(self, note: Note) -> dict[str, _Value]:
        values: dict[str, _Value] = {"ttl": note.half & 0xFF}
        if note.half >> 8 == 4:
            source, destination = struct.unpack("=4s4s", struct.pack("=Q", note.value))
            values |= {
                "src": inet_ntop(AF_INET, source),
                "dst": inet_ntop(AF_INET, destination),
            }
        first, second = struct.unpack("!HH", struct.pack("=I", note.word))
        if self._proto in _PORTS:
            values |= {"sport": first, "dport": second}
        elif self._values["icmp_id"] is not None:
            values["icmp_id"] = first
        return values

    def _differences(self, values: dict[str, _Value]) -> list[Change]:
        known = self._values
        found = [
            Change(field, known[field], value)
            for field, value in values.items()
            if known[field] != value
        ]
        known |= values
        return found

    def _new_state(self, note: Note) -> list[Change]:
        old = self._state or State()
        new = self._state = _state(
            note.word,
            note.half,
            note.value & 0xFFFFFFFF,
            note.value >> 32,
            note.more & 0xFFFFFFFF,
            note.more >> 32,
        )
        return [
            Change(field, a, b)
            for field, a, b in zip(State._fields, old, new, strict=True)
            if a != b
        ]


def _state(  # noqa: PLR0917 (as many as the kernel sends)
    mark: int, tc_index: int, priority: int, hash_: int, classid: int, bits: int
) -> State:
    return State(
        mark=mark,
        priority=priority,
        tc_index=tc_index,
        classid=classid,
        hash=hash_,
        ct=_CTINFO.get((bits & STATE_CTINFO) >> 2, "unknown") if bits & STATE_CT else None,
        csum=_CSUM[bits & STATE_CSUM],
        sk=bool(bits & STATE_SK),
        refdst=bool(bits & STATE_REFDST),
    )


def _ttl(record: Record) -> int | None:
    network = record.headers[record.l2_len : record.l2_len + 9]
    if len(network) < 9:
        return None
    return {4: network[8], 6: network[7]}.get(network[0] >> 4)


def _mac(value: int) -> str | None:
    return value.to_bytes(8, "little")[:6].hex(":") if value else None
