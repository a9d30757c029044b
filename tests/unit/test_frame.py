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
            assert found.accepts(kept.kept, kept.len) is found.accepts(whole, length), whole.hex()


def test_what_headers_carry_is_not_known() -> None:
    get = filter_of(["tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420"])
    whole = MACS + ipv4(6, tcp(4242, 80, 0x18, b"GET / HTTP/1.1\r\n"))
    assert get.accepts(whole, len(whole)) is True
    assert get.accepts(seen(whole).kept, len(whole)) is None


def kept_of(
    whole: bytes, snaplen: int, *, l2_len: int = 14, vlan_tci: int | None = None, linear: int = 9999
) -> Frame:
    """The frame of a packet of which the kernel handed over so many bytes: see keep_bytes()."""
    missing = (0 if vlan_tci is None else 4) + max(14 - l2_len, 0)
    data = whole[: max(min(snaplen - missing, linear), 0)]
    headers = whole.ljust(HEADER_BYTES, b"\xaa")[:HEADER_BYTES]
    protocol = IP if l2_len < 14 else whole[12:14]
    size = len(whole) - l2_len
    return frame_of(headers, l2_len, protocol, vlan_tci, pulled=l2_len, size=size, data=data)


CARRIES = ipv4(17, udp(53, 4242, bytes(range(200))))


@pytest.mark.parametrize("snaplen", [43, 60, 119, 120, 121, 200, 241, 242, 243, 2048])
def test_what_headers_carry_is_kept_where_it_was_asked_for(snaplen: int) -> None:
    """As many bytes of the frame as were asked for, whatever is put into it."""
    whole = MACS + CARRIES
    assert len(whole) == 242
    frame = kept_of(whole, snaplen)
    assert (frame.kept, frame.len) == (whole[:snaplen], 242)
    assert frame.headers == whole[:42]
    beside = kept_of(whole, snaplen + 4, vlan_tci=5)
    assert (beside.kept, beside.len) == ((MACS + tagged(CARRIES, 5))[: snaplen + 4], 246)
    bare = kept_of(whole[14:], snaplen, l2_len=0)
    assert (bare.kept, bare.len) == ((bytes(12) + CARRIES)[:snaplen], 242)


@pytest.mark.parametrize("snaplen", [1, 10, 14, 41, 42])
def test_headers_are_kept_in_any_case(snaplen: int) -> None:
    whole = MACS + CARRIES
    for l2_len in (14, 0):
        frame = kept_of(whole[14 - l2_len :], snaplen, l2_len=l2_len)
        assert (len(frame.headers), frame.data, frame.len) == (42, b"", 242)


@pytest.mark.parametrize("linear", [30, 42, 43, 100, 130])
def test_what_lies_in_pages_is_not_kept(linear: int) -> None:
    whole = MACS + CARRIES
    frame = kept_of(whole, 200, linear=linear)
    assert (frame.kept, frame.len) == (whole[: max(linear, 42)], 242)


def test_what_a_short_packet_does_not_have_is_not_there() -> None:
    whole = MACS + arp(1)
    padded = whole + bytes(18)  # Ethernet's
    assert kept_of(whole, 200) == Frame(whole, len(whole))
    assert kept_of(padded, 200) == Frame(whole, len(padded), bytes(18))


def test_a_filter_may_look_at_what_was_kept() -> None:
    get = filter_of(["tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420"])
    whole = MACS + ipv4(6, tcp(4242, 80, 0x18, b"GET / HTTP/1.1\r\n"))
    for snaplen, said in ((58, True), (57, None)):
        frame = kept_of(whole, snaplen)
        assert get.accepts(frame.kept, frame.len) is said
