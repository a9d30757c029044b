# SPDX-License-Identifier: GPL-2.0-only
"""A filter chooses what tcpdump chooses of the same packets, and what it chose stays chosen."""

from __future__ import annotations

import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.conftest import (
    C1,
    C1_IP,
    C2_IP,
    TIMEOUT_S,
    Trace,
    path_of,
    sh,
    skbtrace,
    start_skbtrace,
)
from tests.kernel.packets import send
from tests.unit.filters import PACKETS
from tracer.model import Journey

pytestmark = pytest.mark.kernel

EXPRESSIONS = [
    "tcp port 80 or arp",
    "tcp[tcpflags] & tcp-syn != 0",
    f"not host {C1_IP}",
    "dst net 172.17.0.0/30 and not icmp",
    "ip[8] < 64",
    "len > 100",
    "ether src 02:42:ac:11:00:02 and icmp",
    "vlan and udp port 53",
    "ip[2:2] % 7 = 0 or (udp[4:2] >> 1) * 2 != udp[4:2]",
]
FEW = ("vlan and udp port 53",)
"""What differs between kernels is where a packet's bytes are found, not what is done with them."""
SOME = ("ether src 02:42:ac:11:00:02 and icmp", "len > 100")
"""What is done with them is tried in bulk in tests/unit/test_filter.py."""
LAST = b"skbt"
"""What the last packets carry."""


def kept_by_tcpdump(file: Path, expression: str, begin_ns: int) -> list[bytes]:
    """The frames that it keeps of a file, from this moment on."""
    out = subprocess.check_output(["tcpdump", "-r", file, "-w", "-", expression])
    at, frames = 24, []
    while at < len(out):
        seconds, micros, kept, _ = struct.unpack_from("<IIII", out, at)
        at += 16 + kept
        if seconds * 10**9 + micros * 1000 >= begin_ns:
            frames.append(out[at - kept : at])
    return frames


def is_of(journey: Journey, frame: bytes) -> bool:
    """What the kernel sends itself is first seen before it has Ethernet addresses."""
    assert journey.frame is not None
    headers, length, _ = journey.frame
    begin = 0 if any(headers[:12]) else 12
    return length == len(frame) and frame[begin : len(headers)] == headers[begin:]


def ends(journey: Journey) -> tuple[str, str]:
    netnses = [h.device.netns.name for h in journey.hops if h.device is not None]
    return netnses[0], netnses[-1]


def marks(expression: str) -> list[pytest.MarkDecorator]:
    """Where it is tried."""
    if expression in FEW:
        return []
    return [pytest.mark.once] if expression in SOME else [pytest.mark.slow]


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("expression", [pytest.param(e, marks=marks(e)) for e in EXPRESSIONS])
def test_what_it_keeps_is_what_tcpdump_keeps(expression: str, tmp_path: Path) -> None:
    trace, file = tmp_path / "t.json", tmp_path / "t.pcap"
    words = (
        "--topology",
        "docker0",
        "--layers",
        "netfilter",
        "-w",
        str(trace),
        *expression.split(),
    )
    tracer = start_skbtrace(*words)
    inside = ("ip", "netns", "exec", C1, "tcpdump", "-i", "eth0")
    dump = subprocess.Popen(
        [*inside, "-Q", "out", "--immediate-mode", "-U", "-Z", "root", "-w", file],
        stderr=subprocess.DEVNULL,
    )
    while not file.exists() or file.stat().st_size < 24:
        time.sleep(0.1)
    time.sleep(0.5)
    begin_ns, begun_ns = time.time_ns(), time.monotonic_ns()
    send(C1, "eth0", [frame for frame, length in PACKETS if len(frame) == length])
    sh(f"ip netns exec {C1} ping -q -c 2 -i 0.2 -p {LAST.hex()} {C2_IP}")
    while file.read_bytes().count(10 * LAST) < 2:
        time.sleep(0.1)
    dump.terminate()
    dump.wait(TIMEOUT_S)
    tracer.send_signal(signal.SIGINT)
    _, said = tracer.communicate(timeout=TIMEOUT_S)
    assert tracer.returncode == 0, said

    read = Trace(trace)
    assert read.capture.asked == {"filter": expression}
    assert not any(read.summary.lost.values()), read.summary.lost
    journeys = [
        j
        for j in read.journeys
        if j.parent is None and j.start_ns >= begun_ns and ends(j)[0] == "c1"
    ]
    frames = kept_by_tcpdump(file, expression, begin_ns)
    assert frames
    missing = list(journeys)
    for frame in frames:
        found = next((j for j in missing if is_of(j, frame)), None)
        assert found is not None, frame.hex()
        missing.remove(found)
    assert not [path_of(j) for j in missing]
    # The same words choose the same from the file, clones with what they were made of.
    shown = skbtrace("show", str(trace), *expression.split())
    assert f"{len(read.journeys)} journey" in shown.stderr, shown.stderr
    assert "not selected" not in shown.stderr


@pytest.mark.once
def test_what_is_chosen_stays_so_when_its_address_is_another_one(tmp_path: Path) -> None:
    """192.168.0.2 is what the router hides."""
    trace = tmp_path / "t.json"
    skbtrace(
        *("--topology", "nat", "-q", "-w", str(trace), "src", "host", "192.168.0.2", "and", "icmp"),
        *("--", "ip", "netns", "exec", "skbtrace-net1", "ping", "-q", "-c", "3", "203.0.113.2"),
    )
    read = Trace(trace)
    requests = read.of("icmp", "192.168.0.2", icmp_type=8)
    assert len(requests) == 3
    for journey in requests:
        assert ends(journey)[0] == "net1"
        assert any("uplink" in place for place in path_of(journey))
        new = [c.new for h in journey.hops for c in h.changes if c.field == "src"]
        assert new == ["203.0.113.1"]
    assert not read.of("icmp", "203.0.113.2")


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("option", "requests", "replies"),
    [
        (("--mark", "0x20/0xf0", "--process", "ping", "-Q", "out"), 2, 0),
        pytest.param(("--process", "ping"), 4, 0, marks=pytest.mark.once),
        pytest.param(("-Q", "out"), 4, 4, marks=pytest.mark.once),
        pytest.param(("-Q", "in"), 0, 0, marks=pytest.mark.once),
    ],
)
def test_what_is_not_in_its_bytes_chooses_too(
    option: tuple[str, ...], requests: int, replies: int, tmp_path: Path
) -> None:
    """The echo replies are sent by nobody, and bear no mark; nothing comes from outside."""
    trace = tmp_path / "t.json"
    inside = f"ip netns exec {C1} ping -q -c 2 -i 0.2"
    skbtrace(
        *("--topology", "docker0", "--layers", "transport", "-q", "-w", str(trace), *option),
        *("icmp", "--", "sh", "-ec", f"{inside} -m 33 {C2_IP}; {inside} -m 49 {C2_IP}"),
    )
    read = Trace(trace)
    assert len(read.of("icmp", C1_IP)) == requests
    assert len(read.of("icmp", C2_IP)) == replies
    assert read.summary.passed_over["filter"] >= 8 - requests - replies
