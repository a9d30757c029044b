# SPDX-License-Identifier: GPL-2.0-only
"""With -s the bytes kept are those tcpdump captures; without it none that headers carry."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.conftest import (
    C1,
    C1_IP,
    C2,
    C2_IP,
    TIMEOUT_S,
    Trace,
    sh,
    skbtrace,
    start_skbtrace,
)
from tests.kernel.packets import inside
from tracer.model import Journey, Outcome

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

PATTERN = b"skbtrace -s: so much"[:16]
"""What ping carries; as many bytes as it takes."""
CARRIED = bytes(range(256)) * 4
"""What a datagram carries, and a stream."""
UDP_PORT, TCP_PORT = 4711, 4712


def traffic(sink: socket.socket) -> None:
    """Pings, datagrams that ``sink`` does not read, and a stream."""
    sh(f"ip netns exec {C1} ping -q -c 3 -i 0.2 -s 400 -p {PATTERN.hex()} {C2_IP}")
    sh(f"ip netns exec {C1} ping -q -c 2 -i 0.2 -s 20 -p {PATTERN.hex()} {C2_IP}")
    with inside(C1, lambda: socket.socket(type=socket.SOCK_DGRAM)) as sender:
        for size in (0, 1, 7, 101, 1000):
            sender.sendto(CARRIED[:size], (C2_IP, UDP_PORT))
    listener = inside(C2, lambda: socket.create_server((C2_IP, TCP_PORT)))
    client = inside(C1, lambda: socket.create_connection((C2_IP, TCP_PORT)))
    with listener, client, listener.accept()[0] as server:
        client.sendall(CARRIED)
        assert server.recv(len(CARRIED), socket.MSG_WAITALL) == CARRIED


def traced(folder: Path, *options: str, before: str = "true") -> tuple[Trace, list[bytes]]:
    """What skbtrace writes of the traffic, and the frames that tcpdump saw c1 send."""
    trace, file = folder / "t.json", folder / "t.pcap"
    sh(before)
    tracer = start_skbtrace("--topology", "docker0", "-w", str(trace), *options)
    dump = subprocess.Popen(
        [
            *("ip", "netns", "exec", C1, "tcpdump", "-i", "eth0", "-Q", "out"),
            *("--immediate-mode", "-s", "0", "-U", "-Z", "root", "-w", str(file)),
        ],
        stderr=subprocess.DEVNULL,
    )
    with ExitStack() as stack:
        stack.callback(dump.kill)
        while not file.exists() or file.stat().st_size < 24:
            time.sleep(0.1)
        sink = inside(C2, lambda: socket.socket(type=socket.SOCK_DGRAM))
        with sink:
            sink.bind((C2_IP, UDP_PORT))
            traffic(sink)
            while file.read_bytes().count(CARRIED) < 1:  # the stream is the last
                time.sleep(0.1)
            dump.terminate()
            dump.wait(TIMEOUT_S)
            tracer.send_signal(signal.SIGINT)
            _, said = tracer.communicate(timeout=TIMEOUT_S)
    assert tracer.returncode == 0, said
    read = Trace(trace)
    assert not any(read.summary.lost.values()), read.summary.lost
    return read, frames_of(file.read_bytes())


def frames_of(pcap: bytes) -> list[bytes]:
    at, frames = 24, []
    while at < len(pcap):
        kept = struct.unpack_from("<8xI", pcap, at)[0]
        at += 16 + kept
        frames.append(pcap[at - kept : at])
    return frames


def sent(trace: Trace, proto: str) -> list[Journey]:
    """What c1 has sent to c2, in the order of time."""
    found = [j for j in trace.of(proto, C1_IP) if j.flow.dst == C2_IP]
    return sorted(found, key=lambda j: j.start_ns)


def of(frames: list[bytes], number: int) -> list[bytes]:
    """Those of an IP protocol to c2."""
    to = socket.inet_aton(C2_IP)
    return [f for f in frames if f[12:14] == b"\x08\0" and f[23] == number and f[30:34] == to]


def kept(journey: Journey) -> bytes:
    """Of the frame, behind the Ethernet addresses, which a packet may not have at first sight."""
    assert journey.frame is not None
    return journey.frame.kept[12:]


def hold_against_tcpdump(trace: Trace, frames: list[bytes], snaplen: int) -> None:
    for proto, number, count in (("icmp", 1, 5), ("udp", 17, 5)):
        journeys, captured = sent(trace, proto), of(frames, number)
        assert len(journeys) == len(captured) == count
        for journey, frame in zip(journeys, captured, strict=True):
            assert kept(journey) == frame[12:snaplen], journey.flow
            assert journey.frame is not None
            assert journey.frame.len == len(frame)
    # What TCP sends from here lies in pages: its headers and no byte of anything else.
    # tcpdump may have ended before the last of them.
    stream, captured = sent(trace, "tcp"), of(frames, 6)
    assert len(captured) >= 3
    for frame in captured:
        same = [j for j in stream if j.frame is not None and j.frame.len == len(frame)]
        found = [kept(j) for j in same if frame[12:].startswith(kept(j))]
        assert found, (frame.hex(), [kept(j).hex() for j in same])
        assert min(map(len, found)) >= 54 - 12


def test_the_bytes_kept_are_those_that_tcpdump_captures(tmp_path: Path) -> None:
    trace, frames = traced(tmp_path, "-s", "200")
    assert trace.capture.asked == {"snaplen": "200"}
    hold_against_tcpdump(trace, frames, 200)
    # Nobody has read the datagrams: what is under way at the end has its bytes too.
    datagrams = sent(trace, "udp")
    assert {j.outcome for j in datagrams} == {Outcome.UNFINISHED}

    # And what is made of the trace can be read where tcpdump's files can.
    exported = tmp_path / "t.pcapng"
    skbtrace("export", str(trace.path), "--to", "pcapng", "-o", str(exported))
    said = sh(f"tcpdump -nn -x -r {exported} udp dst port {UDP_PORT} and src {C1_IP} 2>&1")
    shown = bytes.fromhex("".join(w for w in said.split() if len(w) == 4 and is_hex(w)))
    assert CARRIED[: 200 - 42] in shown
    shown_by = skbtrace("show", str(trace.path), "udp[8:4]", "=", "0x00010203")
    # Those of 7 bytes and more, and the clones that tcpdump was given.
    assert "6 journeys: 3 delivered, 3 unfinished;" in shown_by.stderr, shown_by.stderr


def is_hex(word: str) -> bool:
    return not set(word) - set("0123456789abcdef")


@pytest.mark.once
@pytest.mark.parametrize(("snaplen", "layers"), [(2048, "all"), (61, "none"), (1, "none")])
def test_any_length_with_any_layers(snaplen: int, layers: str, tmp_path: Path) -> None:
    """With all layers a journey is sent in several pieces: its bytes come with the first."""
    trace, frames = traced(tmp_path, "-s", str(snaplen), "--layers", layers)
    if snaplen > 42:
        hold_against_tcpdump(trace, frames, snaplen)
    assert all(j.frame is not None for j in trace.journeys)
    if snaplen == 1:  # headers are kept in any case
        assert not any(j.frame.data for j in trace.journeys if j.frame)


@pytest.mark.once
def test_what_is_not_asked_for_is_not_kept(tmp_path: Path) -> None:
    trace, frames = traced(tmp_path)
    assert any(PATTERN in frame for frame in frames)
    text = trace.path.read_text()
    assert PATTERN.hex() not in text
    assert CARRIED[:4].hex() not in text
    assert not any(j.frame.data for j in trace.journeys if j.frame)
    assert '"data"' not in text


@pytest.mark.once
def test_a_tag_beside_the_packet_stands_in_its_place(tmp_path: Path) -> None:
    """And N counts it, as tcpdump does."""
    sh(f"ip -n {C1} link add link eth0 name eth0.5 type vlan id 5")
    sh(f"ip -n {C1} addr add 10.5.0.1/24 dev eth0.5; ip -n {C1} link set eth0.5 up")
    try:
        sh(f"ip -n {C1} neigh add 10.5.0.2 lladdr 02:42:ac:11:00:03 dev eth0.5")
        path = tmp_path / "t.json"
        skbtrace(
            *("--topology", "docker0", "--layers", "none", "-s", "100", "-q", "-w", str(path)),
            *("--", "ip", "netns", "exec", C1, "sh", "-c"),
            f"ping -q -c 1 -w 2 -s 200 -p {PATTERN.hex()} 10.5.0.2 || true",
        )
    finally:
        sh(f"ip -n {C1} link del eth0.5")
    tagged = [j for j in Trace(path).of("icmp", "10.5.0.1") if j.flow.vlan == 5]
    assert tagged
    for journey in tagged:
        assert journey.frame is not None
        frame = journey.frame.kept
        assert len(frame) == 100
        assert journey.frame.len == 18 + 28 + 200
        assert frame[12:18] == b"\x81\0\0\x05\x08\0"
        # ping puts the time before its pattern
        assert 2 * PATTERN in frame[18 + 28 :]
