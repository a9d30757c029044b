# SPDX-License-Identifier: GPL-2.0-only
"""Netlink as this host's kernel speaks it, and messages of any bytes."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.topology import links
from tracer.topology.netlink import Netlink, attribute, attributes, each, text, u8, u16, u32


def test_the_devices_are_those_of_sys() -> None:
    there = {entry.name for entry in Path("/sys/class/net").iterdir() if entry.is_dir()}
    found = links.stack()
    assert {link.ifname for link in found.links.values()} == there
    for ifindex, link in found.links.items():
        told = Path("/sys/class/net", link.ifname)
        assert int((told / "ifindex").read_text()) == ifindex
        address = (told / "address").read_text().strip()
        assert link.mac == (address if set(address) - set("0:") else None)
    assert (1, "127.0.0.1/8") in found.addresses
    assert found.forwards == (Path("/proc/sys/net/ipv4/ip_forward").read_text() != "0\n")


def test_what_the_kernel_refuses_is_an_error() -> None:
    with Netlink() as route, pytest.raises(OSError, match="not supported") as caught:
        route.dump(0x3FF, b"\0" * 16)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_questions_are_answered_one_for_one() -> None:
    # More than are sent at once; of every second one there is no such file.
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        bodies = [b"\0" * 4 + attribute(3, n) for n in (fd, 1 << 30) * 50]
        with Netlink() as route:
            answers = list(route.ask(90, bodies))
    finally:
        os.close(fd)
    assert [answer is not None for answer in answers] == [True, False] * 50


def test_a_message_taken_apart() -> None:
    message = b"head" + attribute(7, 0x01020304) + struct.pack("=HH", 7, 0x8000 | 3) + b"eth\0"
    assert attributes(message, 4) == {7: struct.pack("=I", 0x01020304), 3: b"eth"}
    assert list(each(message, 4)) == list(attributes(message, 4).items())
    assert u32(attributes(message, 4).get(7)) == 0x01020304
    assert (u8(b"\x05"), u16(struct.pack("=H", 260))) == (5, 260)
    assert (u8(None), u16(None), u32(None), text(None)) == (None, None, None, None)
    assert text(b"v\xff0\0") == "v\udcff0"


@given(st.binary(max_size=64), st.integers(0, 8))
def test_any_bytes_are_attributes_or_none(message: bytes, offset: int) -> None:
    found = attributes(message, offset)
    assert found == dict(each(message, offset))
    assert sum(4 + len(value) for value in found.values()) <= len(message) + 4


@given(st.binary(max_size=64))
def test_any_bytes_are_next_hops_and_vlans_or_none(value: bytes) -> None:
    links._next_hops(value)
    assert isinstance(links._vlans(value)[0], tuple)


def test_ranges_of_vlans() -> None:
    def entry(flags: int, vlan: int) -> bytes:
        return struct.pack("=HHHH", 8, 2, flags, vlan)

    # BRIDGE_VLAN_INFO_PVID, _RANGE_BEGIN, _RANGE_END
    value = entry(1 << 1, 1) + entry(1 << 3, 10) + entry(1 << 4, 12) + entry(0, 40)
    assert links._vlans(value) == ((1, 10, 11, 12, 40), 1)
    assert links._vlans(b"") == ((), None)


def test_a_gateway_of_the_other_family() -> None:
    via = struct.pack("=H", socket.AF_INET6) + socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert links._gateway(socket.AF_INET, {18: via}) == "fe80::1"
    assert links._gateway(socket.AF_INET, {5: bytes([10, 0, 0, 1])}) == "10.0.0.1"
    assert links._gateway(socket.AF_INET, {}) is None
