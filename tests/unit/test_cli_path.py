# SPDX-License-Identifier: GPL-2.0-only
"""FROM and TO: what they may be, where they are found, and what is said if they are not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from tests.unit.journeys import C1, CAPTURE
from tests.unit.topologies import DOCKER, NAT
from tracer.cli import topo as topo_module
from tracer.cli.path import Target, asked, parse
from tracer.errors import TopologyError, UsageError
from tracer.model import Device, Netns


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("db", Target("db")),
        ("db:5432", Target("db", 5432, "tcp")),
        ("db:53/udp", Target("db", 53, "udp")),
        ("db:80/tcp", Target("db", 80, "tcp")),
        ("172.17.0.3", Target("172.17.0.3")),
        ("172.17.0.3:80", Target("172.17.0.3", 80, "tcp")),
        ("fd00::3", Target("fd00::3")),
        ("[fd00::3]:80", Target("fd00::3", 80, "tcp")),
        ("[fd00::3]:53/udp", Target("fd00::3", 53, "udp")),
        ("ns:4026531840", Target("ns:4026531840")),
        ("nginx:17:80", Target("nginx:17", 80, "tcp")),
    ],
)
def test_what_may_be_typed(text: str, target: Target) -> None:
    assert parse(text, ["ns:4026531840", "nginx:17"]) == target


@pytest.mark.parametrize("text", ["db:", "db:0", "db:65536", "db:http", ":80", "db/udp", "a:b\x1b"])
def test_what_means_nothing(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert "\x1b" not in caught.value.message
    assert "is no name or address with a port" in caught.value.message


@pytest.mark.parametrize(
    ("source", "target", "packet"),
    [
        ("c1", "c2", ("docker0", "c1", "172.17.0.3", "icmp", None)),
        ("c1", "c2:80", ("docker0", "c1", "172.17.0.3", "tcp", 80)),
        ("c1", "host:53/udp", ("docker0", "c1", "172.17.0.1", "udp", 53)),
        ("host", "fd00::3", ("docker0", "host", "fd00::3", "icmpv6", None)),
        ("net1", "router", ("nat", "net1", "192.168.0.1", "icmp", None)),
        ("outside", "router:8088", ("nat", "outside", "203.0.113.1", "tcp", 8088)),
        ("net1", "8.8.8.8", ("nat", "net1", "8.8.8.8", "icmp", None)),
    ],
)
def test_both_are_found_in_the_first_that_has_them(
    source: str, target: str, packet: tuple[str, str, str, str, int | None]
) -> None:
    found = asked([DOCKER, NAT], source, target)
    told = (found.topology.name, found.source.name, found.dst, found.proto, found.dport)
    assert told == packet


def test_an_address_is_looked_for_where_it_is() -> None:
    other = replace(NAT, bridge=DOCKER.bridge)  # a second bridge of the same host
    assert asked([DOCKER, other], "host", "192.168.0.2").topology.name == "nat"
    assert asked([DOCKER, other], "host", "8.8.8.8").topology.name == "docker0"


def test_who_is_not_there_is_told_who_is() -> None:
    with pytest.raises(TopologyError) as caught:
        asked([DOCKER, NAT], "c1", "d\x1bb")
    assert caught.value.message == (
        r"nothing here has both c1 and d\x1bb "
        "(docker0 has host, c1, c2; nat has router, net1, outside)"
    )
    assert caught.value.hint == "sudo skbtrace topo --path host c1"
    with pytest.raises(TopologyError, match="there is no bridge and no lab") as caught:
        asked([], "c1", "c2")
    assert caught.value.hint == "sudo skbtrace lab up"


def test_a_namespace_without_an_address_is_nowhere_to_go() -> None:
    bare = Device(Netns(77, "bare"), 2, "eth0")
    topology = replace(DOCKER, ends=(*DOCKER.ends, bare))
    with pytest.raises(TopologyError, match="bare has no address in docker0"):
        asked([topology], "c1", "bare")
    assert asked([topology], "bare", "c1").dst == "172.17.0.2"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(topo_module, "_each", lambda: iter([DOCKER, NAT]))
    monkeypatch.setattr(topo_module, "_found", lambda name: [NAT])


@pytest.mark.usefixtures("host")
def test_the_command_lists_the_steps() -> None:
    words = ["--path", "c1", "c2:80", "--ascii"]
    lines = CliRunner().invoke(topo_module.topo, words).output.splitlines()
    assert lines[0] == " 1  c1    eth0    veth_xmit                 route 172.17.0.0/16"
    assert lines[-2:] == [
        "= delivered to TCP in c2 for port 80",
        "  Rules that filter are not evaluated.",
    ]


@pytest.mark.usefixtures("host")
def test_the_same_as_one_object() -> None:
    words = ["nat", "--path", "outside", "203.0.113.1:8088", "--json"]
    told = json.loads(CliRunner().invoke(topo_module.topo, words).output)
    steps = told.pop("steps")
    assert told == {
        "topology": "nat",
        "from": "outside",
        "dst": "203.0.113.1",
        "proto": "tcp",
        "dport": 8088,
        "end": "delivered",
        "said": "delivered to TCP in net1 for port 80",
    }
    assert steps[0] == {
        "netns": "outside",
        "netns_inum": 23,
        "ifname": "eth0",
        "ifindex": 2,
        "function": "veth_xmit",
        "why": "route 203.0.113.0/24",
    }
    assert steps[-1]["function"] == "tcp_v4_rcv"


def test_the_names_are_those_of_the_journeys() -> None:
    assert CAPTURE.topology is not None
    assert asked([CAPTURE.topology], C1.name, "c2").source == C1
