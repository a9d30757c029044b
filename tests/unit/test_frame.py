# SPDX-License-Identifier: GPL-2.0-only
"""The frame that filters look at: whole headers, nothing of what they carry."""

from __future__ import annotations

import pytest

from tests.unit.filters import MACS, PACKETS, arp, icmp, ipv4, ipv6, tagged, tcp, udp
from tracer.filter import filter_of
from tracer.frame import frame_of, with_addresses
from tracer.model import Change, Frame
from tracer.wire import HEADER_BYTES

IP, IPV6 = b"\x08\x00", b"\x86\xdd"


def seen(whole: bytes, l2_len: int = 14, vlan_tci: int | None = None, pulled: int = 14) -> Frame:
    """The frame of a packet of which the kernel handed over what it does."""
    headers = whole.ljust(HEADER_BYTES, b"\xaa")[:HEADER_BYTES]
    size = len(whole) - pulled
    return frame_of(headers, l2_len, whole[12:14], vlan_tci, pulled=pulled, size=size)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (arp(1), 28),
        (ipv4(6, tcp(1, 2, 2, b"GET / HTTP", bytes(12))), 52),
        (ipv4(17, udp(1, 2)), 28),
        (ipv4(1, icmp(8)), 28),
        (ipv4(1, icmp(3)), 56),
        (ipv4(17, udp(1, 2, bytes(64)), frag=0x10), 20),
        (ipv6(17, udp(1, 2)), 48),
        (ipv6(0, b"\x11\0" + bytes(6) + udp(53, 4242)), 56),
        (ipv6(58, icmp(128)), 48),
    ],
)
def test_only_the_headers_are_kept(body: bytes, headers: int) -> None:
    whole = MACS + body
    assert seen(whole) == Frame(whole[: 14 + headers], len(whole))
    sent = seen(whole, pulled=0)
    assert sent == seen(whole)


def test_a_tag_beside_the_packet_stands_in_it() -> None:
    body = ipv4(17, udp(53, 4242))
    assert seen(MACS + body, vlan_tci=5) == seen(MACS + tagged(body, 5))


def test_a_packet_without_ethernet_header_is_given_one() -> None:
    packet = ipv4(6, tcp(1, 2, 2))[2:]
    headers = packet.ljust(HEADER_BYTES, b"\xaa")
    for protocol in (IP, b"\0\0"):
        frame = frame_of(headers, 0, protocol, None, pulled=0, size=len(packet))
        assert frame == Frame(bytes(12) + IP + packet, 14 + len(packet))
    changes = [
        Change("eth_src", None, "02:42:ac:11:00:02"),
        Change("eth_dst", None, "02:42:ac:11:00:03"),
    ]
    assert with_addresses(frame, changes).headers == MACS + IP + packet
    assert with_addresses(frame, changes[:1]) == frame
    assert with_addresses(frame, [Change("eth_src", None, None), changes[1]]) == frame


WORDS = [
    *("tcp port 80", "udp port 53", "icmp", "icmp[icmptype] = icmp-echo", "tcp[13] & 2 != 0"),
    *("arp", "ip6", "vlan 5", "vlan and udp", "host 172.17.0.2", "net fd00::/64", "greater 100"),
    *("len < 60", "portrange 50-60", "ip[8] < 64", "ether src 02:42:ac:11:00:02", "ip proto 47"),
]


@pytest.mark.parametrize("expression", WORDS)
def test_what_is_kept_says_what_the_whole_packet_says(expression: str) -> None:
    found = filter_of([expression])
    for whole, length in PACKETS:
        if len(whole) == length:
            kept = seen(whole)
            assert found.accepts(*kept) is found.accepts(whole, length), whole.hex()


def test_what_headers_carry_is_not_known() -> None:
    get = filter_of(["tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420"])
    whole = MACS + ipv4(6, tcp(4242, 80, 0x18, b"GET / HTTP/1.1\r\n"))
    assert get.accepts(whole, len(whole)) is True
    assert get.accepts(*seen(whole)) is None
