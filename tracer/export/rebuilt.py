# SPDX-License-Identifier: GPL-2.0-only
"""A packet's headers from its flow, for traces that do not hold them. Pure.

What a flow does not tell is 0: time to live, checksums, windows, options.
"""

from __future__ import annotations

import ipaddress
import struct

from tracer.model import Flow, Frame, Journey

_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
_ETHERNET = 14
_OPERATIONS = {"request": 1, "reply": 2}
_FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, ".": 0x10, "U": 0x20, "E": 0x40, "W": 0x80}
_VLAN, _ARP, _IPV4, _IPV6 = 0x8100, 0x0806, 0x0800, 0x86DD


def rebuilt(journey: Journey) -> Frame | None:
    """Return the frame that tells of the flow what is known; None if that is too little."""
    flow = journey.flow
    size = journey.hops[0].len if journey.hops else 0
    packet = _packet(flow, size)
    if packet is None:
        return None
    ethertype, headers = packet
    tag = b"" if flow.vlan is None else struct.pack(">HH", _VLAN, flow.vlan & 0xFFFF)
    addresses = _mac(flow.eth_dst) + _mac(flow.eth_src)
    whole = addresses + tag + struct.pack(">H", ethertype) + headers
    return Frame(whole, max(size, len(whole)))


def _packet(flow: Flow, size: int) -> tuple[int, bytes] | None:
    """Return the EtherType and what follows."""
    if flow.proto.startswith("0x"):
        return _ethertype(flow.proto)
    try:
        source, target = (ipaddress.ip_address(a or "") for a in (flow.src, flow.dst))
    except ValueError:
        return None
    if flow.proto == "arp":
        return _arp(flow, source.packed, target.packed)
    number = _number(flow.proto)
    if number is None or source.version != target.version:
        return None
    carried = b"" if flow.fragment else _transport(flow)
    length = max(size - _ETHERNET, 0)
    if source.version == 4:
        total = max(length, 20 + len(carried)) & 0xFFFF
        more = 0x2000 if flow.fragment else 0
        ip_id = (flow.ip_id or 0) & 0xFFFF
        head = struct.pack(">BBHHHBBH", 0x45, 0, total, ip_id, more, 0, number, 0)
        return _IPV4, head + source.packed + target.packed + carried
    payload = max(length - 40, len(carried)) & 0xFFFF
    head = struct.pack(">IHBB", 6 << 28, payload, number, 0)
    return _IPV6, head + source.packed + target.packed + carried


def _ethertype(proto: str) -> tuple[int, bytes] | None:
    try:
        return int(proto, 16) & 0xFFFF, b""
    except ValueError:
        return None


def _arp(flow: Flow, source: bytes, target: bytes) -> tuple[int, bytes] | None:
    operation = _OPERATIONS.get(flow.arp_op or "")
    if operation is None or len(source) != 4 or len(target) != 4:
        return None
    head = struct.pack(">HHBBH", 1, _IPV4, 6, 4, operation)
    to = _mac(flow.eth_dst) if operation == _OPERATIONS["reply"] else bytes(6)
    return _ARP, head + _mac(flow.eth_src) + source + to + target


def _transport(flow: Flow) -> bytes:
    ports = struct.pack(">HH", (flow.sport or 0) & 0xFFFF, (flow.dport or 0) & 0xFFFF)
    if flow.proto == "tcp":
        flags = sum({_FLAGS.get(letter, 0) for letter in flow.tcp_flags or ""})
        numbers = struct.pack(">II", _word(flow.tcp_seq), _word(flow.tcp_ack))
        return ports + numbers + struct.pack(">BBHHH", 0x50, flags, 0, 0, 0)
    if flow.proto == "udp":
        return ports + struct.pack(">HH", 8, 0)
    if flow.proto in {"icmp", "icmpv6"}:
        kind, code = (flow.icmp_type or 0) & 0xFF, (flow.icmp_code or 0) & 0xFF
        more = struct.pack(">HH", (flow.icmp_id or 0) & 0xFFFF, (flow.icmp_seq or 0) & 0xFFFF)
        return struct.pack(">BBH", kind, code, 0) + more
    return b""


def _number(proto: str) -> int | None:
    number = proto.removeprefix("ipv4-").removeprefix("ipv6-")
    if number != proto and number.isdecimal() and number.isascii() and len(number) < 4:
        return int(number) & 0xFF
    return _NUMBERS.get(proto)


def _mac(address: str | None) -> bytes:
    try:
        octets = bytes.fromhex((address or "")[:17].replace(":", ""))
    except ValueError:
        return bytes(6)
    return octets if len(octets) == 6 else bytes(6)


def _word(value: int | None) -> int:
    return (value or 0) & 0xFFFFFFFF
