# SPDX-License-Identifier: GPL-2.0-only
"""Packet header bytes -> Flow. Reads what the headers say, believes no length it cannot check.

Ethernet, one VLAN tag, ARP, IPv4, IPv6 (with its extension headers), TCP, UDP, ICMP, ICMPv6,
and in an ICMP error the same again: the beginning of the packet that it is about.
Bytes beyond what was captured leave the members they hold at None.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from socket import AF_INET, inet_ntop

from tracer.model import Flow

_ETH_P_IP, _ETH_P_IPV6, _ETH_P_ARP = 0x0800, 0x86DD, 0x0806
_VLAN_TAGS = (0x8100, 0x88A8)
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination options
_FRAGMENT = 44
# Errors, which carry the packet they are about: unreachable, time exceeded, parameter problem;
# ICMPv6 has packet too big beside them.
_ERRORS = {"icmp": (3, 11, 12), "icmpv6": (1, 2, 3, 4)}
_TCP_FLAGS = ((0x02, "S"), (0x01, "F"), (0x04, "R"), (0x08, "P"), (0x20, "U"))
_FLAGS = tuple(
    ("".join(letter for bit, letter in _TCP_FLAGS if bits & bit) + ("." if bits & 0x10 else ""))
    or "none"
    for bits in range(0x40)
)
_ARP_OPS = {1: "request", 2: "reply"}

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_PORTS = struct.Struct("!HH")
_TCP = struct.Struct("!HHIIBB")
_ICMP = struct.Struct("!BBHHH")

_IPV4_PLAIN = b"\x45"
_TCP_ENDS = _IPV4.size + 20
_LEAST = {1: _IPV4.size + _ICMP.size, 6: _TCP_ENDS, 17: _IPV4.size + 8}
"""IPv4 protocols: bytes that a packet has at least, with its IP header."""
_FLOWS: dict[tuple[object, ...], tuple[object, ...]] = {}
_FLOWS_MOST = 8192
_NO_MORE = (None,) * (len(Flow._fields) - Flow._fields.index("fragment"))
_NO_ICMP = (None,) * (len(Flow._fields) - Flow._fields.index("icmp_type"))
_NO_TCP = (None,) * (Flow._fields.index("icmp_type") - Flow._fields.index("fragment"))
_new = tuple.__new__


def flow_of(headers: bytes, l2_len: int, protocol: int, vlan_tci: int | None = None) -> Flow:
    """Who speaks to whom.

    ``headers`` begin with ``l2_len`` bytes of link-layer header; ``protocol`` is the EtherType in
    host order, used where there is no Ethernet header; ``vlan_tci`` is a tag the kernel keeps
    beside the packet. Where neither says what it is (a packet that IP has not yet given its
    protocol), the version in its first byte does. Any bytes give a Flow.
    """
    return _known(headers, l2_len, protocol, vlan_tci) or _read(headers, l2_len, protocol, vlan_tci)


def _known(headers: bytes, l2_len: int, protocol: int, vlan_tci: int | None) -> Flow | None:
    """Return the same for most packets: what all of a flow have in common is read once.

    None if it is not of IPv4 without options, or a fragment, or of another protocol than these.
    """
    if headers[l2_len : l2_len + 1] != _IPV4_PLAIN or len(headers) < l2_len + _IPV4.size:
        return None
    _, _, total, ip_id, fragment, _, number, _, _, _ = _IPV4.unpack_from(headers, l2_len)
    transport = l2_len + _IPV4.size
    least = _LEAST.get(number)
    if least is None or fragment & 0x3FFF or 0 < total < least or len(headers) < l2_len + least:
        return None
    ports = transport if number == 1 else transport + 4
    key = (protocol, vlan_tci, number, headers[:l2_len], headers[l2_len + 12 : ports])
    fixed = _FLOWS.get(key)
    if fixed is None:
        found = _read(headers, l2_len, protocol, vlan_tci)
        if len(_FLOWS) >= _FLOWS_MOST:
            _FLOWS.clear()
        # Something else if what lies there only looks like IPv4.
        _FLOWS[key] = found[:8] if found.ip_id == ip_id else ()
        return found
    more: tuple[object, ...] | None = None
    if number == 17:
        more = _NO_MORE
    elif number == 6:
        _, _, seq, ack, _, bits = _TCP.unpack_from(headers, transport)
        more = (None, _FLAGS[bits & 0x3F], seq, ack if bits & 0x10 else None, *_NO_ICMP)
    elif headers[transport] in {0, 8}:
        kind, code, _, ident, seq = _ICMP.unpack_from(headers, transport)
        more = (*_NO_TCP, kind, code, ident, seq, None, None)
    return _new(Flow, (*fixed, ip_id, *more)) if more and fixed else None


def _read(headers: bytes, l2_len: int, protocol: int, vlan_tci: int | None) -> Flow:
    eth_src = eth_dst = None
    vlan = None if vlan_tci is None else vlan_tci & 0x0FFF
    ethertype, at = protocol, min(l2_len, len(headers))
    if at >= 14:
        eth_dst, eth_src = _mac(headers[:6]), _mac(headers[6:12])
        ethertype = int.from_bytes(headers[12:14], "big")
        if vlan_tci is not None:
            ethertype = protocol  # the tag stands beside the packet, not in it
    if ethertype in _VLAN_TAGS:
        # The tag lies in the packet: behind the addresses, or at the network header.
        tag = headers[14:18] if at >= 14 else headers[at : at + 4]
        if len(tag) == 4:
            vlan = int.from_bytes(tag[:2], "big") & 0x0FFF
            ethertype = int.from_bytes(tag[2:], "big")
            at = max(at, 18) if l2_len >= 14 else at + 4
    body = headers[at:]
    if not ethertype and not at:
        ethertype = _by_version(body)
    flow = _BODIES.get(ethertype, _other)(body, ethertype)
    if flow.src is None and eth_src is not None:
        flow = flow._replace(src=eth_src, dst=eth_dst)
    return flow._replace(eth_src=eth_src, eth_dst=eth_dst, vlan=vlan)


def _mac(address: bytes) -> str:
    return address.hex(":")


def _by_version(body: bytes) -> int:
    """Return the EtherType that the first byte of an IP header speaks of, or 0."""
    first = body[0] if body else 0
    if first >> 4 == 4:
        return _ETH_P_IP if first & 0x0F >= 5 else 0
    return _ETH_P_IPV6 if first >> 4 == 6 else 0


def _other(_body: bytes, ethertype: int) -> Flow:
    return Flow(proto=f"0x{ethertype:04x}")


def _arp(body: bytes, ethertype: int) -> Flow:
    if len(body) < _ARP.size:
        return Flow(proto="arp")
    _, kind, _, plen, op, _, sender, _, target = _ARP.unpack_from(body)
    if kind != _ETH_P_IP or plen != 4:
        return Flow(proto="arp")
    return Flow(
        proto="arp",
        src=inet_ntop(AF_INET, sender),
        dst=inet_ntop(AF_INET, target),
        arp_op=_ARP_OPS.get(op, str(op)),
    )


def _ipv4(body: bytes, ethertype: int) -> Flow:
    if len(body) < _IPV4.size:
        return Flow(proto="ipv4")
    first, _, total, ip_id, fragment, _, number, _, src, dst = _IPV4.unpack_from(body)
    flow = Flow(
        proto=_NAMES.get(number, f"ipv4-{number}") if number != 58 else "ipv4-58",
        src=inet_ntop(AF_INET, src),
        dst=inet_ntop(AF_INET, dst),
        ip_id=ip_id,
        fragment=True if fragment & 0x3FFF else None,
    )
    if fragment & 0x1FFF:  # not the first fragment: no transport header
        return flow
    # Behind its end there may be padding; where the length is not yet set, or is 0 because the
    # packet is larger than it can say, there is none.
    return _transport(flow, body[(first & 0x0F) * 4 : total or len(body)])


def _ipv6(body: bytes, ethertype: int) -> Flow:
    if len(body) < _IPV6.size:
        return Flow(proto="ipv6")
    _, length, number, _, src, dst = _IPV6.unpack_from(body)
    rest = body[_IPV6.size : _IPV6.size + length if length else len(body)]
    fragment: bool | None = None
    offset = 0
    while number in _EXTENSIONS and len(rest) >= 8:
        number, rest = rest[0], rest[(rest[1] + 1) * 8 :]
    if number == _FRAGMENT and len(rest) >= 8:
        fragment = True
        offset = int.from_bytes(rest[2:4], "big") & 0xFFF8
        number, rest = rest[0], rest[8:]
    flow = Flow(
        proto=_NAMES.get(number, f"ipv6-{number}") if number != 1 else "ipv6-1",
        src=str(IPv6Address(src)),
        dst=str(IPv6Address(dst)),
        fragment=fragment,
    )
    return flow if offset else _transport(flow, rest)


def _transport(flow: Flow, rest: bytes) -> Flow:
    if flow.proto == "tcp" and len(rest) >= _TCP.size:
        sport, dport, seq, ack, _, bits = _TCP.unpack_from(rest)
        return flow._replace(
            sport=sport,
            dport=dport,
            tcp_flags=_FLAGS[bits & 0x3F],
            tcp_seq=seq,
            tcp_ack=ack if bits & 0x10 else None,
        )
    if flow.proto in ("tcp", "udp") and len(rest) >= _PORTS.size:
        sport, dport = _PORTS.unpack_from(rest)
        # The eight bytes that an ICMP error must carry end with TCP's sequence number.
        seq = int.from_bytes(rest[4:8], "big") if flow.proto == "tcp" and len(rest) >= 8 else None
        return flow._replace(sport=sport, dport=dport, tcp_seq=seq)
    if flow.proto in ("icmp", "icmpv6") and len(rest) >= _ICMP.size:
        kind, code, _, ident, seq = _ICMP.unpack_from(rest)
        echo = kind in ((0, 8) if flow.proto == "icmp" else (128, 129))
        return flow._replace(
            icmp_type=kind,
            icmp_code=code,
            icmp_id=ident if echo else None,
            icmp_seq=seq if echo else None,
            about=_about(rest[_ICMP.size :]) if kind in _ERRORS[flow.proto] else None,
        )
    return flow


def _about(body: bytes) -> Flow | None:
    """Return the flow of the packet an error carries; None if not even an IP header is there."""
    if len(body) >= _IPV4.size and body[0] >> 4 == 4 and body[0] & 0x0F >= 5:
        # An error about an error is never sent, so this does not go deeper.
        return _ipv4(body, _ETH_P_IP)._replace(about=None)
    if len(body) >= _IPV6.size and body[0] >> 4 == 6:
        return _ipv6(body, _ETH_P_IPV6)._replace(about=None)
    return None


_BODIES = {_ETH_P_IP: _ipv4, _ETH_P_IPV6: _ipv6, _ETH_P_ARP: _arp}
