# SPDX-License-Identifier: GPL-2.0-only
"""Packets made by hand, and the kernel's own counters: what the tests of drops are made of."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from tracer.topology import netns

T = TypeVar("T")
HOST = ""
"""The namespace the tests run in, where a place is asked for."""

_UDP, _TCP, _SYN = 17, 6, 0x02


def inside(place: str, work: Callable[[], T]) -> T:
    """Run ``work`` in a namespace of ``ip netns``, or in HOST."""
    return netns.inside(f"/run/netns/{place}" if place else netns.OWN, work)


def _checksum(words: bytes) -> int:
    words += b"\0" * (len(words) % 2)
    total: int = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(
    src: str,
    dst: str,
    dport: int,
    *,
    eth_src: str,
    eth_dst: str,
    tcp: bool = False,
    sport: int = 4242,
    ttl: int = 64,
    payload: int = 18,
    ip_checksum_off: int = 0,
    checksum_off: int = 0,
) -> bytes:
    """An Ethernet frame with a UDP datagram or a TCP SYN, which may not be fragmented."""
    protocol = _TCP if tcp else _UDP
    ends = IPv4Address(src).packed + IPv4Address(dst).packed
    if tcp:
        body = struct.pack("!HHIIBBHHH", sport, dport, 1000, 0, 5 << 4, _SYN, 64240, 0, 0)
    else:
        body = struct.pack("!HHHH", sport, dport, 8 + payload, 0) + bytes(payload)
    pseudo = ends + struct.pack("!HH", protocol, len(body))
    found = (_checksum(pseudo + body) + checksum_off) & 0xFFFF
    at = 16 if tcp else 6
    body = body[:at] + struct.pack("!H", found) + body[at + 2 :]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0x4000, ttl, protocol, 0) + ends
    found = (_checksum(header) + ip_checksum_off) & 0xFFFF
    header = header[:10] + struct.pack("!H", found) + header[12:]
    macs = bytes.fromhex((eth_dst + eth_src).replace(":", ""))
    return macs + b"\x08\x00" + header + body


def mended(segment: bytes) -> bytes:
    """A frame of TCP as the kernel hands it to a tap, with the checksum it leaves to others."""
    ends, length = segment[26:34], int.from_bytes(segment[16:18], "big") - 20
    body = bytearray(segment[34 : 34 + length])
    body[16:18] = b"\0\0"
    found = _checksum(ends + struct.pack("!HH", _TCP, length) + bytes(body))
    body[16:18] = struct.pack("!H", found)
    return segment[:34] + bytes(body)


def send(place: str, device: str, frames: list[bytes]) -> None:
    """Transmit frames as they are."""

    def out() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((device, 0))
            for each in frames:
                raw.send(each)

    inside(place, out)


def nstat(place: str, name: str) -> int:
    """A counter of a namespace, by the name nstat gives it."""

    def read() -> int:
        for file in ("snmp", "netstat"):
            lines = Path(f"/proc/thread-self/net/{file}").read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                group = names.split(":")[0]
                for member, value in zip(names.split()[1:], values.split()[1:], strict=True):
                    if group + member == name:
                        return int(value)
        return 0  # it has not been counted yet

    return inside(place, read)


def device(place: str, name: str, column: int) -> int:
    """A number of /proc/net/dev: 1 is packets received, 3 dropped; 9 is packets sent, 11 dropped"""

    def read() -> int:
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            if line.strip().startswith(f"{name}:"):
                return int(line.split(":")[1].split()[column])
        raise AssertionError(f"there is no device {name} in {place or 'the host'}")

    return inside(place, read)


RX, RX_DROPPED, TX, TX_DROPPED = 1, 3, 9, 11


def statistic(file: str, name: str) -> int:
    """A counter of /proc/net/stat, of all CPUs together."""
    names, *cpus = Path(f"/proc/net/stat/{file}").read_text().splitlines()
    column = names.split().index(name)
    return sum(int(line.split()[column], 16) for line in cpus)


def softnet_dropped() -> int:
    """What the CPUs' input queues dropped: the second column of softnet_stat."""
    lines = Path("/proc/net/softnet_stat").read_text().splitlines()
    return sum(int(line.split()[1], 16) for line in lines)
