# SPDX-License-Identifier: GPL-2.0-only
"""Packets go the way that was expected of them, and where they do not, that is said."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.conftest import HOUSE, Trace, sh, skbtrace
from tests.kernel.paths import IN, PING, SEND, knows
from tracer.expected import missing
from tracer.model import Journey, Outcome
from tracer.way import FUNCTIONS, End, expected_path

pytestmark = [pytest.mark.kernel, pytest.mark.once]


@dataclass(frozen=True)
class Sent:
    """A packet of a lab's traffic: who sends it, and to whom."""

    lab: str
    source: str
    dst: str
    proto: str = "icmp"
    dport: int | None = None


KNOWN = {
    "docker0": (
        knows("c1", "eth0", "172.17.0.1", "172.17.0.3")
        + knows("c2", "eth0", "172.17.0.1", "172.17.0.2")
        + knows("", "docker0", "172.17.0.2", "172.17.0.3")
        + f"{IN}c1 {PING} 99 172.17.0.3"
    ),
    "bridge": f"{IN}net1 {PING} 99 192.168.0.102",
    "veth": f"{IN}net1 {PING} 99 192.168.0.102",
    "nat": (
        knows("net1", "veth1", "192.168.0.1")
        + knows("router", "br0", "192.168.0.2")
        + knows("router", "uplink", "203.0.113.2")
        + knows("outside", "eth0", "203.0.113.1")
        + f"{IN}net1 {PING} 99 203.0.113.2"
    ),
    "loopback": ":",
}
"""Before the capture: everybody knows everybody, and so does the bridge."""

TRAFFIC = {
    "docker0": f"""
        {IN}c1 {PING} 1 172.17.0.3
        {IN}c1 {PING} 2 172.17.0.1
        {PING} 3 172.17.0.2
        """,
    "bridge": f"{IN}net1 {PING} 1 192.168.0.102",
    "veth": f"{IN}net1 {PING} 1 192.168.0.102",
    "nat": f"""
        {IN}net1 {PING} 1 203.0.113.2
        {SEND} published nat
        """,
    "loopback": f"{IN}alone {PING} 1 127.0.0.1",
}

PACKETS = (
    Sent("docker0", "c1", "172.17.0.3"),
    Sent("docker0", "c1", "172.17.0.1"),
    Sent("docker0", "host", "172.17.0.2"),
    Sent("bridge", "net1", "192.168.0.102"),
    Sent("veth", "net1", "192.168.0.102"),
    Sent("nat", "net1", "203.0.113.2"),
    Sent("nat", "outside", "203.0.113.1", "tcp", 8088),
    Sent("loopback", "alone", "127.0.0.1"),
)


def shell(script: str) -> str:
    return f"export HOUSE={HOUSE} PYTHON={sys.executable}\n{script}"


class Stage:
    """The labs' traffic, captured when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._captured: dict[str, Trace] = {}

    def capture(self, lab: str) -> Trace:
        if lab not in self._captured:
            self._captured[lab] = captured(self._folder, lab, TRAFFIC[lab])
        return self._captured[lab]


def captured(folder: Path, lab: str, script: str, before: str = ":") -> Trace:
    path = folder / "trace.json"
    skbtrace("lab", "up", lab)
    try:
        sh(shell(f"{KNOWN[lab]}\n{before}"))
        words = ("--topology", lab, "-q", "-f", "-w", str(path))
        skbtrace(*words, "--", "sh", "-ec", shell(script))
    finally:
        skbtrace("lab", "down", lab)
    return Trace(path)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"))


def sent(trace: Trace, packet: Sent) -> list[Journey]:
    """The requests, at their first hop."""
    first = {"icmp_type": 8, "tcp_flags": None} if packet.proto == "icmp" else {"tcp_flags": "S"}
    return [
        j
        for j in trace.of(packet.proto, None, dst=packet.dst, dport=packet.dport, **first)
        if j.hops[0].device is not None and j.hops[0].device.netns.name == packet.source
    ]


@pytest.mark.parametrize("packet", PACKETS, ids=lambda p: f"{p.lab}: {p.source} to {p.dst}")
def test_a_request_goes_the_expected_way(packet: Sent, stage: Stage) -> None:
    trace = stage.capture(packet.lab)
    topology = trace.capture.topology
    assert topology is not None
    (request,) = sent(trace, packet)
    source = request.hops[0].device
    assert source is not None
    way = expected_path(topology, source.netns, packet.dst, packet.proto, packet.dport)
    assert way.end is End.DELIVERED, way
    assert [(step.function, step.device) for step in way.steps] == [
        (hop.function, hop.device) for hop in request.hops if hop.function in FUNCTIONS
    ]


@pytest.mark.parametrize("lab", TRAFFIC)
def test_nothing_is_said_of_a_packet_that_arrived(lab: str, stage: Stage) -> None:
    trace = stage.capture(lab)
    topology = trace.capture.topology
    assert topology is not None
    attached = trace.capture.attached
    arrived = [j for j in trace.journeys if j.outcome is not Outcome.DROPPED]
    assert arrived
    assert [j for j in arrived if missing(topology, j, attached) is not None] == []


@dataclass(frozen=True)
class Trouble:
    """What is done to a lab, and what is said of the request then."""

    lab: str
    said: str
    before: str = ":"
    """Done before the capture: the topology knows it."""
    then: str = ":"
    """Done while tracing."""
    known: str = ""
    """What is shown if that was noticed before the request was seen."""


C2_MAC = "02:42:ac:11:00:03"
TROUBLES = (
    Trouble(
        "docker0",
        "expected to stop here: host/vethc2 is disabled",
        before="bridge link set dev vethc2 state 0",
    ),
    Trouble(
        "docker0",
        "expected br_forward_finish at host/vethc2 next",
        then="bridge link set dev vethc2 state 0",
        known="expected to stop here: host/vethc2 is disabled",
    ),
    Trouble(
        "docker0",
        f"expected to stop here: no forwarding entry for {C2_MAC}, "
        "and host/vethc2 or its other end, c2/eth0, is down",
        before="ip link set vethc2 down",
    ),
    Trouble(
        "docker0",
        "expected to stop here: host/vethc1 and host/vethc2 are isolated ports",
        before="bridge link set dev vethc1 isolated on; bridge link set dev vethc2 isolated on",
    ),
    Trouble(
        "docker0",
        f"expected br_forward to host/vethc2 instead of br_flood: no forwarding entry for {C2_MAC}",
        then=f"bridge fdb del {C2_MAC} dev vethc2 master",
    ),
    Trouble(
        "nat",
        "expected to stop here: no route to 203.0.113.2 in router",
        before="ip -n skbtrace-router route del 203.0.113.0/24",
    ),
    Trouble(
        "nat",
        "expected to stop here: ip_forward is off in router",
        before=f"{IN}router sysctl -qw net.ipv4.ip_forward=0",
    ),
    Trouble(
        "nat",
        "expected veth_xmit at router/uplink next: route 203.0.113.0/24; masquerade",
        before=f"{IN}router nft flush chain ip skbtrace FORWARD",
    ),
)
REQUEST = {
    "docker0": Sent("docker0", "c1", "172.17.0.3"),
    "nat": Sent("nat", "net1", "203.0.113.2"),
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda t: t.said)
def test_what_is_in_the_way_is_said(trouble: Trouble, tmp_path: Path) -> None:
    packet = REQUEST[trouble.lab]
    ping = f"{IN}{packet.source} ping -q -c 1 -W 1 -e 5 {packet.dst} || true"
    trace = captured(tmp_path, trouble.lab, f"{trouble.then}\n{ping}", trouble.before)
    topology = trace.capture.topology
    assert topology is not None
    (request,) = sent(trace, packet)
    assert missing(topology, request, trace.capture.attached) == trouble.said
    shown = skbtrace("show", str(trace.path), env={**os.environ, "COLUMNS": "200"}).stdout
    assert any(f"\n  {said}\n" in shown for said in (trouble.said, trouble.known) if said)


def test_the_way_is_told_without_a_packet() -> None:
    skbtrace("lab", "up", "nat")
    try:
        sh(KNOWN["nat"])
        told = json.loads(skbtrace("topo", "--path", "outside", "router:8088", "--json").stdout)
        assert (told["topology"], told["dst"], told["end"]) == ("nat", "203.0.113.1", "delivered")
        assert told["steps"][-1]["netns"] == "net1"
        said = skbtrace("topo", "nat", "--path", "net1", "10.9.9.9", "--ascii").stdout
        assert said.splitlines()[-2] == "X stops: no route to 10.9.9.9 in router"
        error = skbtrace("topo", "nat", "--path", "net1", "web:80", status=1).stderr
        assert "nothing here has both net1 and web:80 (nat has router, net1, outside)" in error
    finally:
        skbtrace("lab", "down", "nat")
