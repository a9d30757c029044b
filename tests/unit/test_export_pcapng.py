# SPDX-License-Identifier: GPL-2.0-only
"""The pcapng that is exported, as tshark and tcpdump read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.exported import NAMES, REAL, Given, exported, exported_real, real
from tests.unit.filters import ipv4, udp
from tests.unit.journeys import ALL, ARP, CAPTURE, DROPPED, REQUEST, TCP, UDP
from tracer.export.rebuilt import rebuilt
from tracer.export.trace_reader import TraceReader
from tracer.flow import flow_of
from tracer.model import Device, Flow, Frame, Journey, Netns

_FIELDS = (
    "frame.time_epoch",
    "frame.len",
    "frame.cap_len",
    "frame.interface_name",
    "frame.packet_id",
    "frame.comment",
    "ip.src",
    "ip.dst",
    "udp.dstport",
)
_THERE = all(shutil.which(program) for program in ("tshark", "capinfos", "tcpdump"))
pytestmark = pytest.mark.skipif(
    not _THERE and not os.environ.get("SKBTRACE_REQUIRE"), reason="needs tshark and tcpdump"
)


def tshark(path: Path, *more: str) -> list[dict[str, Any]]:
    """Return the fields of each packet."""
    fields = [word for field in _FIELDS for word in ("-e", field)]
    said = subprocess.run(
        ["tshark", "-n", *more, "-r", path, "-T", "json", *fields],
        capture_output=True,
        check=True,
    )
    assert b"truncated" not in said.stderr
    packets: list[dict[str, Any]] = json.loads(said.stdout)
    return [
        {name: values[0] for name, values in packet["_source"]["layers"].items()}
        for packet in packets
    ]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pcapng") / "nat.pcapng"
    path.write_bytes(exported_real("pcapng"))
    return path


def test_tshark_reads_each_packet_once_in_the_order_of_time(file: Path) -> None:
    with REAL.open("rb") as stream:
        capture = TraceReader(stream, "x").capture
    ordered = sorted(real(), key=lambda j: j.start_ns)
    packets = tshark(file)
    assert [p["frame.packet_id"] for p in packets] == [str(int(j.id)) for j in ordered]
    for packet, journey in zip(packets, ordered, strict=True):
        at_ns = journey.start_ns + capture.realtime_ns - capture.monotonic_ns
        seconds, fraction = packet["frame.time_epoch"].split(".")
        assert int(seconds) * 10**9 + int(fraction.ljust(9, "0")) == at_ns
        device = journey.first_device
        assert device is not None
        assert packet["frame.interface_name"] == device.place
        assert journey.frame is not None
        assert int(packet["frame.len"]) == journey.frame.len
        assert int(packet["frame.cap_len"]) == len(journey.frame.headers)
        if journey.flow.proto != "arp":
            assert (packet["ip.src"], packet["ip.dst"]) == (journey.flow.src, journey.flow.dst)
        assert packet["frame.comment"].startswith(f"journey {journey.id}")
        path = " > ".join(device.place for device, _ in journey.arrivals())
        assert path in packet["frame.comment"]


def test_the_comment_tells_what_nat_did_and_names_are_resolved(file: Path) -> None:
    comments = "\n".join(p["frame.comment"] for p in tshark(file))
    assert "src 192.168.0.2 -> 203.0.113.1" in comments
    said = subprocess.run(
        ["tshark", "-N", "n", "-r", file, "icmp"], capture_output=True, text=True, check=True
    ).stdout
    assert "net1 → outside" in said


def test_tcpdump_agrees(file: Path) -> None:
    said = subprocess.run(
        ["tcpdump", "-ttnr", file, "--nano"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ordered = sorted(real(), key=lambda j: j.start_ns)
    assert len(said) == len(ordered)
    kinds = Counter(
        "arp" if " ARP," in line else "icmp" if " ICMP " in line else "other" for line in said
    )
    flows = Counter(j.flow.proto if j.flow.proto in {"arp", "icmp"} else "other" for j in ordered)
    assert kinds == flows
    with REAL.open("rb") as stream:
        capture = TraceReader(stream, "x").capture
    first = ordered[0].start_ns + capture.realtime_ns - capture.monotonic_ns
    assert said[0].startswith(f"{first // 10**9}.{first % 10**9:09} ")


def test_wireshark_knows_where_it_comes_from(file: Path) -> None:
    said = subprocess.run(["capinfos", file], capture_output=True, text=True, check=True).stdout
    assert "Strict time order:   True" in said
    assert "Capture application: skbtrace" in said
    assert "Capture oper-sys:    Linux 6.1" in said
    assert "Its bytes are its headers" in said


def test_what_headers_carry_is_there_if_it_was_kept(tmp_path: Path) -> None:
    """And the file says how much that is, of a capture that was asked for it."""
    headers = bytes(12) + b"\x08\0" + ipv4(17, udp(53, 4242, b""))[2:]
    whole = Frame(headers, 14 + 28 + 6, b"abcdef")
    part, none = whole._replace(data=b"abc"), whole._replace(data=b"")
    journeys = [REQUEST._replace(frame=frame) for frame in (whole, part, none)]
    capture = replace(CAPTURE, asked={"snaplen": "45"})
    path = tmp_path / "x.pcapng"
    path.write_bytes(exported("pcapng", Given(journeys, capture)))
    packets = tshark(path)
    assert [int(p["frame.cap_len"]) for p in packets] == [48, 45, 42]
    assert {int(p["frame.len"]) for p in packets} == {48}
    for frame in (whole, part):
        assert headers + frame.data in path.read_bytes()
    said = subprocess.run(["capinfos", path], capture_output=True, text=True, check=True).stdout
    assert "Its bytes are its first 45, its headers in any case; fewer where" in said


def test_what_a_trace_does_not_hold_is_rebuilt_and_marked_so(tmp_path: Path) -> None:
    journeys = [REQUEST, TCP, UDP, ARP, DROPPED]
    assert not any(j.frame for j in journeys)
    path = tmp_path / "x.pcapng"
    path.write_bytes(exported("pcapng", Given(journeys)))
    packets = tshark(path)
    assert len(packets) == len(journeys)
    for packet, journey in zip(packets, sorted(journeys, key=lambda j: j.start_ns), strict=True):
        assert "these are rebuilt" in packet["frame.comment"]
        if journey.flow.proto != "arp":
            assert packet["ip.src"] == journey.flow.src
    assert any("DROP NETFILTER_DROP at host/docker0" in p["frame.comment"] for p in packets)


@pytest.mark.parametrize("journey", [j for j in ALL.values() if j.flow.src], ids=lambda j: j.id)
def test_what_is_rebuilt_tells_of_the_same_flow(journey: Journey) -> None:
    frame = rebuilt(journey)
    assert frame is not None
    at = 14 if journey.flow.vlan is None else 18
    ethertype = int.from_bytes(frame.headers[at - 2 : at], "little")  # as it lies in memory
    tci = None if journey.flow.vlan is None else journey.flow.vlan
    again = flow_of(frame.headers[:12] + frame.headers[at - 2 :], 14, ethertype, tci)
    told = again._asdict()
    for name, value in journey.flow._asdict().items():
        # To whom an ARP reply was sent stands in it; a SYN's acknowledgement means nothing.
        if value and name != "about" and (name, journey.flow.proto) != ("eth_dst", "arp"):
            assert told[name] == value, name


def test_ipv6_is_rebuilt_too() -> None:
    flow = Flow("udp", "fd00::1", "fd00::2", 5000, 53)
    frame = rebuilt(REQUEST._replace(flow=flow))
    assert frame is not None
    again = flow_of(frame.headers, 14, 0xDD86)
    assert again[:5] == flow[:5]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names(name: str, tmp_path: Path) -> None:
    device = Device(Netns(1, name), 2, name[:15])
    hop = REQUEST.hops[0]._replace(device=device)
    path = tmp_path / "x.pcapng"
    path.write_bytes(exported("pcapng", Given([REQUEST._replace(hops=(hop,))])))
    (packet,) = tshark(path)
    assert packet["frame.interface_name"] == device.place


def test_a_foreign_trace_may_say_anything(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    device = Device(Netns(1, "\N{SNOWMAN}" * 3000), 2, "eth0")
    hop = REQUEST.hops[0]._replace(device=device, len=1 << 40)
    frame = Frame(bytes(14), 1 << 40)
    given = [
        REQUEST._replace(frame=frame, hops=(hop,)),
        REQUEST._replace(id="2", hops=(hop,)),
    ]
    path.write_bytes(exported("pcapng", Given(given)))
    first, second = tshark(path)
    assert first["frame.len"] == second["frame.len"] == str(0x7FFFFFFF)
    assert first["frame.interface_name"] == "\N{SNOWMAN}" * 1333  # 4000 bytes, whole characters


def test_an_id_of_another_run_is_a_number_too(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    given = [REQUEST._replace(id=id) for id in ("17", "2-17", "x", "1-2-3")]
    path.write_bytes(exported("pcapng", Given(given)))
    assert [p.get("frame.packet_id") for p in tshark(path)] == [
        "17",
        str((2 << 48) + 17),
        None,
        None,
    ]
