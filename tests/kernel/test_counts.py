# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel program counts is the truth, although nearly every record is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kernel.conftest import C1, C2, C2_IP, sh
from tests.kernel.packets import RX, TX, device, nstat
from tracer.asked import Asked
from tracer.kernel import definitions
from tracer.kernel.source import KernelSource
from tracer.model import Layer
from tracer.probes import PROBES
from tracer.wire import EndCount

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

REQUESTS = 1009
DATAGRAMS = 211
PAYLOAD = 100
VETHS = ((C1, "eth0"), (C2, "eth0"), ("", "vethc1"), ("", "vethc2"))
# Nobody listens there; c2 answers some of them with an ICMP error.
TO_NOBODY = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({DATAGRAMS}): s.sendto(bytes({PAYLOAD}), ("{C2_IP}", 9))
"""


class Counted:
    """What was counted of one flood, by the kernel program and by others."""

    hits: dict[str, int]
    ends: list[EndCount]
    lost: dict[str, int]
    records: int
    sent: int
    received: int
    in_echos: int
    no_ports: int


def others() -> tuple[int, int, int, int]:
    """Transmitted by all veths, received by c2, its echo requests and datagrams for nobody."""
    return (
        sum(device(netns, ifname, TX) for netns, ifname in VETHS),
        device(C2, "eth0", RX),
        nstat(C2, "IcmpInEchos"),
        nstat(C2, "UdpNoPorts"),
    )


@pytest.fixture(scope="module")
def counted() -> Counted:
    """A ring buffer of four pages overflows at once: nobody reads it."""
    found = Counted()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definitions, "RING_PAGES", 4)
        source = KernelSource(asked=Asked(layers=(Layer.TRANSPORT, Layer.SOCKET)))
        source.start()
    try:
        before = others()
        sh(f"ip netns exec {C1} ping -f -q -c {REQUESTS} {C2_IP}")
        sh(f"ip netns exec {C1} python3 -c '{TO_NOBODY}'")
        after = others()
        source.stop()
        found.records = len(source.read())
        found.hits, found.ends, found.lost = source.hits(), source.ends(), source.lost()
    finally:
        source.close()
    told = [now - then for now, then in zip(after, before, strict=True)]
    found.sent, found.received, found.in_echos, found.no_ports = told
    return found


def inum(netns: str) -> int:
    """The namespace's number."""
    return Path("/run/netns", netns).stat().st_ino


def at(counted: Counted, netns: str, function: str | None = None) -> list[EndCount]:
    """What ended in a namespace, at a function."""
    return [
        end
        for end in counted.ends
        if end.netns == inum(netns) and function in {None, PROBES[end.probe].function}
    ]


def packets(ends: list[EndCount]) -> int:
    """How many."""
    return sum(end.packets for end in ends)


def test_nearly_every_record_is_lost(counted: Counted) -> None:
    assert counted.records < 100
    assert counted.lost["ring_full"] > REQUESTS


def test_hits_are_what_the_interfaces_have_sent(counted: Counted) -> None:
    assert counted.hits["veth_xmit"] == counted.hits["__dev_forward_skb"] == counted.sent
    assert counted.hits["enqueue_to_backlog"] == counted.sent
    assert counted.hits["br_forward"] >= 2 * REQUESTS + DATAGRAMS
    assert counted.hits["ip_forward"] == 0  # is not probed


def test_every_packet_that_came_to_a_container_ended_there(counted: Counted) -> None:
    assert counted.received >= REQUESTS + DATAGRAMS
    assert packets(at(counted, C2)) == counted.received


def test_packets_and_bytes_of_one_outcome(counted: Counted) -> None:
    requests = at(counted, C2, "icmp_rcv")
    assert packets(requests) == counted.in_echos == REQUESTS
    assert sum(end.bytes for end in requests) == REQUESTS * (8 + 56)
    assert not any(end.branch or end.dropped for end in requests)


def test_drops_have_their_place_and_reason(counted: Counted) -> None:
    dropped = [end for end in at(counted, C2) if end.dropped]
    assert packets(dropped) == counted.no_ports == DATAGRAMS
    assert len({(end.drop_at, end.drop_reason) for end in dropped}) == 1
    assert all(end.drop_at for end in dropped)
    assert sum(end.bytes for end in dropped) == DATAGRAMS * (8 + PAYLOAD)
    assert os.uname().release.startswith("5.10.") == (dropped[0].drop_reason == 0xFFFFFFFF)


def test_the_clones_for_ping_are_told_apart(counted: Counted) -> None:
    """Its raw socket gets a clone of each reply."""
    clones = [end for end in counted.ends if end.branch]
    assert packets(clones) == REQUESTS
    assert not any(end.dropped for end in at(counted, C1))  # nor is what it was cloned from
    assert clones == [end for end in at(counted, C1, "__sock_queue_rcv_skb") if end.branch]
