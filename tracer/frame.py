# SPDX-License-Identifier: GPL-2.0-only
"""A packet as tcpdump shows it: the Ethernet frame that filters look at. Pure.

The same frame that bpf/filter.h makes in the kernel, from what a record holds; of that, only its
headers are kept, and what they carry only as far as the record has it apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracer.model import Change, Frame

_ADDRESSES = 12
_ETHERNET = 14
_NO_ADDRESSES = bytes(_ADDRESSES)
_TAG = b"\x81\x00"
_TAGS = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")
_IPV4, _IPV6, _ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
_ARP_BYTES = 28
_OTHERS_BYTES = 64
# IP protocols: ICMP, TCP, UDP, ICMPv6; IPv6's hop-by-hop and routing header, destination options
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_EXTENSIONS = (0, 43, 60)
_FRAGMENT = 44
_ABOUT = 28  # of an ICMP error: an IPv4 header and the ports of the packet it is about
_ABOUT6 = 48
_LOOKED_AT = 13  # of a transport header: as far as TCP says how long its own is


def frame_of(
    headers: bytes,
    l2_len: int,
    protocol: bytes,
    vlan_tci: int | None,
    *,
    pulled: int,
    size: int,
    data: bytes = b"",
) -> Frame:
    """Return the frame of a packet that was first seen so.

    ``headers`` begin with ``l2_len`` bytes of link-layer header, ``pulled`` bytes of them are not
    in ``size``, which is skb->len; ``protocol`` is the EtherType as it lies in memory and
    ``vlan_tci`` a tag beside the packet. Without an Ethernet header its addresses are 0.
    ``data`` are the packet's first bytes, which begin where ``headers`` do.
    """
    whole = _whole(headers, l2_len, protocol, vlan_tci)
    length = max(size + pulled + len(whole) - len(headers), 0)
    kept = whole[: min(_end(whole), length)]
    if not data:
        return Frame(kept, length)
    return Frame(kept, length, _whole(data, l2_len, protocol, vlan_tci)[len(kept) : length])


def cut_of(
    headers: bytes, l2_len: int, protocol: bytes, vlan_tci: int | None
) -> tuple[bytes, int, int]:
    """Return what the frame begins with, and which of these headers come behind that.

    That is from the first number to the second one, if the packet is as long.
    """
    front, begin = _front(headers, l2_len, protocol, vlan_tci)
    whole = front + headers[begin:]
    return front, begin, begin + min(_end(whole), len(whole)) - len(front)


def _front(first: bytes, l2_len: int, protocol: bytes, vlan_tci: int | None) -> tuple[bytes, int]:
    """Return what stands before a packet's first bytes in a frame, and which is the first."""
    if l2_len >= _ETHERNET and vlan_tci is None:
        return b"", 0
    tag = b"" if vlan_tci is None else _TAG + vlan_tci.to_bytes(2, "big")
    if l2_len >= _ETHERNET:
        return first[:_ADDRESSES] + tag, _ADDRESSES
    packet = first[l2_len : l2_len + 1]
    if protocol == b"\0\0" and packet:  # IP has not said it yet
        protocol = {4: _IPV4, 6: _IPV6}.get(packet[0] >> 4, protocol)
    return _NO_ADDRESSES + tag + protocol, l2_len


def _whole(first: bytes, l2_len: int, protocol: bytes, vlan_tci: int | None) -> bytes:
    """Return a packet's first bytes as a frame's."""
    front, begin = _front(first, l2_len, protocol, vlan_tci)
    return front + first[begin:]


def with_addresses(frame: Frame, changes: Sequence[Change]) -> Frame:
    """Return the frame with the Ethernet addresses it was given, if it had none at first."""
    if frame.headers[:_ADDRESSES] != _NO_ADDRESSES:
        return frame
    given = {c.field: c.new for c in reversed(changes) if c.field in ("eth_src", "eth_dst")}
    try:
        addresses = b"".join(bytes.fromhex(str(given[n])[:17].replace(":", "")) for n in _ENDS)
    except (KeyError, ValueError):
        return frame
    return frame._replace(headers=addresses + frame.headers[len(addresses) :])


_ENDS = ("eth_dst", "eth_src")


def _end(whole: bytes) -> int:
    """Return where its headers end."""
    at = _ETHERNET
    ethertype = whole[at - 2 : at]
    while ethertype in _TAGS:
        at += 4
        ethertype = whole[at - 2 : at]
    if ethertype == _IPV4 and len(whole) >= at + 20:
        transport = at + (whole[at] & 0x0F) * 4
        if whole[at + 7] or whole[at + 6] & 0x1F:  # a later fragment
            return transport
        return transport + _transport(whole[at + 9], whole[transport : transport + _LOOKED_AT])
    if ethertype == _ARP:
        return at + _ARP_BYTES
    if ethertype == _IPV6 and len(whole) >= at + 40:
        number, at = whole[at + 6], at + 40
        while number in _EXTENSIONS and len(whole) >= at + 8:
            number, at = whole[at], at + 8 * (whole[at + 1] + 1)
        if number == _FRAGMENT and len(whole) >= at + 8:
            if int.from_bytes(whole[at + 2 : at + 4], "big") & 0xFFF8:
                return at + 8
            number, at = whole[at], at + 8
        return at + _transport(number, whole[at:])
    return at + _OTHERS_BYTES


def _transport(number: int, rest: bytes) -> int:
    """Return the length of the transport header."""
    if number == _UDP:
        return 8
    if number == _TCP and len(rest) > 12:
        return max(rest[12] >> 4, 5) * 4
    if number == _ICMP and rest:
        return 8 + (_ABOUT if rest[0] in (3, 11, 12) else 0)
    if number == _ICMPV6 and rest:
        return 8 + (_ABOUT6 if 0 < rest[0] < 5 else 0)
    return 8
