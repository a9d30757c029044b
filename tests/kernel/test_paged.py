# SPDX-License-Identifier: GPL-2.0-only
"""A driver may leave all but the Ethernet header in a page: it is read there, and nothing else."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.conftest import C2_IP, TIMEOUT_S, Trace, sh, start_skbtrace
from tests.kernel.packets import frame

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

TAP = "skbtrace-tap"
FROM, PORT = "172.17.0.9", 4711
SIZE = 8000
"""More than a page: what is smaller tun.c does not part."""
# linux/if_tun.h
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000


@contextmanager
def tap() -> Iterator[int]:
    """A port of the bridge, and the file through which it receives."""
    sh("modprobe tun")
    file = os.open("/dev/net/tun", os.O_RDWR)
    try:
        request = struct.pack("16sH22x", TAP.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(file, TUNSETIFF, request)
        sh(f"ip link set {TAP} mtu 9000 master docker0 up")
        yield file
    finally:
        os.close(file)


def receive(file: int, packet: bytes, linear: int) -> None:
    """Let the tap receive a packet of whose bytes so many lie together: hdr_len says it."""
    os.write(file, struct.pack("=BBHHHH", 0, 0, linear, 0, 0, 0) + packet)


def packet(port: int, ttl: int = 64) -> bytes:
    made = frame(
        FROM,
        C2_IP,
        port,
        eth_src="02:42:ac:11:00:09",
        eth_dst="02:42:ac:11:00:03",
        ttl=ttl,
        payload=SIZE,
    )
    return made[:-SIZE] + bytes(range(1, 251)) * (SIZE // 250)


@pytest.mark.parametrize("tagged", [False, True])
def test_headers_in_a_page_are_read_there(tagged: bool, tmp_path: Path) -> None:
    """By the filter, too, and as far as was asked for; also behind a tag kept beside it."""
    path = tmp_path / "t.json"
    # That byte is not among the first ones, which are read in any case.
    words = [f"udp port {PORT} and udp[308] = 51"]
    wanted, other = packet(PORT), packet(PORT + 1)
    if tagged:
        words = [f"vlan 5 and udp port {PORT} and udp[308] = 51"]
        wanted, other = (p[:12] + b"\x81\0\0\x05" + p[12:] for p in (wanted, other))
    with tap() as file:
        tracer = start_skbtrace(
            *("--topology", "docker0", "--layers", "none", "-s", "200", "-w", str(path), *words)
        )
        for linear in (14, 400, 14):
            receive(file, other, linear)
            receive(file, wanted, linear)
        time.sleep(1)
        tracer.send_signal(signal.SIGINT)
        _, said = tracer.communicate(timeout=TIMEOUT_S)
    assert tracer.returncode == 0, said
    trace = Trace(path)
    found = [j for j in trace.journeys if j.parent is None]
    assert len(found) == 3
    for journey in found:
        assert (journey.flow.src, journey.flow.dst) == (FROM, C2_IP)
        assert (journey.flow.proto, journey.flow.dport) == ("udp", PORT)
        assert journey.flow.vlan == (5 if tagged else None)
        assert journey.frame is not None
        assert journey.frame.len == len(wanted)
        assert journey.frame.kept == wanted[:200]
    assert trace.summary.passed_over["filter"] >= 3


def test_what_lies_behind_a_packet_is_none_of_it(tmp_path: Path) -> None:
    """A packet shorter than what is read of headers, in memory that others have had before.

    It says that it is longer than it is: its ports would lie behind its end.
    """
    path = tmp_path / "t.json"
    short = packet(PORT)[: 14 + 20]
    with tap() as file:
        tracer = start_skbtrace("--topology", "docker0", "-s", "2000", "-w", str(path))
        for _ in range(20):
            receive(file, packet(PORT), SIZE)
            receive(file, short, 14)
        time.sleep(1)
        tracer.send_signal(signal.SIGINT)
        _, said = tracer.communicate(timeout=TIMEOUT_S)
    assert tracer.returncode == 0, said
    found = [j for j in Trace(path).journeys if j.parent is None and j.flow.src == FROM]
    lengths = sorted(j.frame.len for j in found if j.frame)
    assert lengths == [34] * 20 + [SIZE + 42] * 20
    for journey in found:
        assert journey.frame is not None
        if journey.frame.len == 34:
            assert journey.frame.kept == short
            assert (journey.flow.sport, journey.flow.dport) == (None, None)
        else:
            assert journey.flow.dport == PORT
