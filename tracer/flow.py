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
from typing import NamedTuple

from tracer.model import Flow

_ETH_P_IP, _ETH_P_IPV6, _ETH_P_ARP = 0x0800, 0x86DD, 0x0806
_VLAN_TAGS = (0x8100, 0x88A8)
_OF_V4, _OF_V6 = 1, 58  # ICMP's numbers
_NAMES = {_OF_V4: "icmp", 6: "tcp", 17: "udp", _OF_V6: "icmpv6"}
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


class Numbers(NamedTuple):
    """What is different in the headers of packets that are otherwise alike: some numbers."""

    same: bytes
    """Ones for the bytes that are the same in all of them; what lies behind is not."""
    places: tuple[tuple[int, str], ...]
    """Where stands, as a number of which kind (``struct``'s, in network byte order), how long the
    packet is by IP's word, and then members of its flow ..."""
    members: tuple[int, ...]
    """... which, by their place in ``Flow``."""
    says: int
    """IP says no less than this, or nothing (0)."""
    least: int
    """Bytes that are there at least, from where the headers begin."""


class _Header(NamedTuple):
    """What is different in a header of one kind, and which of that is a member of ``Flow``."""

    size: int
    different: tuple[tuple[int, int], ...]
    """Where, and how many bytes."""
    members: tuple[tuple[int, str, str], ...] = ()
    """Where, how it is read, what it is called."""


_PLAIN = 0x45
"""How an IPv4 header begins that has no options."""
_V4 = _Header(_IPV4.size, ((2, 4), (10, 2)), ((4, "H", "ip_id"),))
_V6 = _Header(_IPV6.size, ((4, 2),))
_SEGMENT = _Header(20, ((4, 8), (14, 46)), ((4, "I", "tcp_seq"), (8, "I", "tcp_ack")))
_DATAGRAM = _Header(8, ((4, 4),))
_ECHO = _Header(8, ((2, 2), (6, 2)), ((6, "H", "icmp_seq"),))
_ANOTHER = _Header(8, ((0, 8),))
_ECHOES = {"icmp": (0, 8), "icmpv6": (128, 129)}


def flow_of(headers: bytes, l2_len: int, protocol: int, vlan_tci: int | None = None) -> Flow:
    """Who speaks to whom.

    ``headers`` begin with ``l2_len`` bytes of link-layer header; ``protocol`` is the EtherType in
    host order, used where there is no Ethernet header; ``vlan_tci`` is a tag the kernel keeps
    beside the packet. Where neither says what it is (a packet that IP has not yet given its
    protocol), the version in its first byte does. Any bytes give a Flow.
    """
    ethertype, at, vlan = _network(headers, l2_len, protocol, vlan_tci)
    flow = _BODIES.get(ethertype, _other)(headers[at:], ethertype)
    eth_src = eth_dst = None
    if min(l2_len, len(headers)) >= 14:
        eth_dst, eth_src = _mac(headers[:6]), _mac(headers[6:12])
        if flow.src is None:
            flow = flow._replace(src=eth_src, dst=eth_dst)
    return flow._replace(eth_src=eth_src, eth_dst=eth_dst, vlan=vlan)


def numbers_of(
    headers: bytes, l2_len: int, protocol: int, vlan_tci: int | None = None
) -> Numbers | None:
    """Return what is different in packets of the same flow as this one's (see ``flow_of``).

    None if it is not of plain IP, not all there, or a message of ICMP that is no echo.
    """
    ethertype, at, _ = _network(headers, l2_len, protocol, vlan_tci)
    body = headers[at:]
    if ethertype == _ETH_P_IP and len(body) >= _IPV4.size and body[0] == _PLAIN:
        _, _, says, _, fragment, _, number, *_ = _IPV4.unpack_from(body)
        if fragment & 0x3FFF or number == _OF_V6:
            return None
        ip, says_of = _V4, _V4.size
    elif ethertype == _ETH_P_IPV6 and len(body) >= _IPV6.size:
        _, says, number, *_ = _IPV6.unpack_from(body)
        if number in (*_EXTENSIONS, _FRAGMENT, _OF_V4):
            return None
        ip, says_of = _V6, 0
    else:
        return None
    transport = _header(_NAMES.get(number), body[ip.size :])
    if transport is None or 0 < says < says_of + transport.size:
        return None
    least = at + ip.size + transport.size
    same = bytearray(b"\xff" * least)
    places, members = [(at + ip.different[0][0], "H")], []  # the length comes first
    for begin, header in ((at, ip), (at + ip.size, transport)):
        for where, size in header.different:
            same[begin + where : begin + where + size] = bytes(size)
        for where, code, name in header.members:
            places.append((begin + where, code))
            members.append(Flow._fields.index(name))
    return Numbers(
        bytes(same[:least]),
        tuple(places),
        tuple(members),
        says_of + transport.size,
        least,
    )


def _header(proto: str | None, rest: bytes) -> _Header | None:
    """What is different in a transport header; None if that is not all, or it is not all there."""
    found = _ANOTHER
    if proto == "udp":
        found = _DATAGRAM
    elif proto == "tcp":
        if len(rest) < _SEGMENT.size:
            return None
        found = _SEGMENT._replace(size=max(rest[12] >> 4, 5) * 4)
        if not rest[13] & 0x10:
            found = found._replace(members=found.members[:1])
    elif proto is not None:
        if not rest or rest[0] not in _ECHOES[proto]:
            return None
        found = _ECHO
    return found if len(rest) >= found.size else None


def _network(
    headers: bytes, l2_len: int, protocol: int, vlan_tci: int | None
) -> tuple[int, int, int | None]:
    """Return the EtherType, where what it speaks of begins, and the VLAN's number."""
    vlan = None if vlan_tci is None else vlan_tci & 0x0FFF
    ethertype, at = protocol, min(l2_len, len(headers))
    if at >= 14 and vlan_tci is None:  # else the tag stands beside the packet, not in it
        ethertype = int.from_bytes(headers[12:14], "big")
    if ethertype in _VLAN_TAGS:
        # The tag lies in the packet: behind the addresses, or at the network header.
        tag = headers[14:18] if at >= 14 else headers[at : at + 4]
        if len(tag) == 4:
            vlan = int.from_bytes(tag[:2], "big") & 0x0FFF
            ethertype = int.from_bytes(tag[2:], "big")
            at = max(at, 18) if l2_len >= 14 else at + 4
    if not ethertype and not at:
        ethertype = _by_version(headers)
    return ethertype, at, vlan


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
        proto=_NAMES.get(number, f"ipv4-{number}") if number != _OF_V6 else "ipv4-58",
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
        proto=_NAMES.get(number, f"ipv6-{number}") if number != _OF_V4 else "ipv6-1",
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
