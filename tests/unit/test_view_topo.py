# SPDX-License-Identifier: GPL-2.0-only
"""Drawings of topologies, line by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import CAPTURE, HOST
from tracer.model import Device, Netns, Topology
from tracer.view.line import text_of, width_of
from tracer.view.look import Look
from tracer.view.theme import STYLES
from tracer.view.topo import NARROWEST, drawing

ROUTER, NET1, OUTSIDE = Netns(2, "router"), Netns(3, "net1"), Netns(4, "outside")


def drawn(topology: Topology | None, width: int = 80, *, ascii: bool = False) -> str:
    assert topology is not None
    return "\n".join(text_of(line) for line in drawing(topology, Look(ascii=ascii), width))


def test_a_bridge_and_two_containers() -> None:
    assert drawn(CAPTURE.topology) == (
        "┌ host ──────────────────┐\n"
        "│ docker0  172.17.0.1/16 │\n"
        "│ ├─ vethc1              ├── c1/eth0  172.17.0.2/16\n"
        "│ └─ vethc2              ├── c2/eth0  172.17.0.3/16\n"
        "└────────────────────────┘"
    )


def test_the_same_in_ascii_on_a_terminal_that_is_narrow() -> None:
    assert drawn(CAPTURE.topology, 20, ascii=True) == (
        "+ host --------------+\n"
        "| docker0  172.17.0~ |\n"
        "| +- vethc1          +-- c1/eth0  172.1~\n"
        "| +- vethc2          +-- c2/eth0  172.1~\n"
        "+--------------------+"
    )


def test_a_router_between_two_without_a_bridge() -> None:
    inner, outer = Device(ROUTER, 1, "veth1"), Device(ROUTER, 2, "eth0")
    net1, outside = Device(NET1, 1, "eth0"), Device(OUTSIDE, 1, "eth0")
    topology = Topology(
        "nat",
        ends=(inner, net1, outer, outside),
        addresses=((inner, "10.0.0.1/24"), (net1, "10.0.0.2/24"), (outside, "198.51.100.2/24")),
        pairs=((inner, net1), (outer, outside)),
    )
    assert drawn(topology) == (
        "┌ router ────────────┐\n"
        "│ veth1  10.0.0.1/24 ├── net1/eth0  10.0.0.2/24\n"
        "│ eth0               ├── outside/eth0  198.51.100.2/24\n"
        "└────────────────────┘"
    )


def test_two_that_are_joined_and_one_that_is_not() -> None:
    one, other, alone = Device(NET1, 1, "veth1"), Device(OUTSIDE, 2, "veth2"), Device(HOST, 1, "lo")
    topology = Topology(
        "veth", ends=(one, other, alone), addresses=((alone, "::1/128"), (alone, "127.0.0.1/8")),
        pairs=((one, other),),
    )  # fmt: skip
    assert drawn(topology) == (
        "┌ net1 ─┐\n"
        "│ veth1 ├── outside/veth2\n"
        "└───────┘\n"
        "┌ host ────────────────────┐\n"
        "│ lo  127.0.0.1/8  ::1/128 │\n"
        "└──────────────────────────┘"
    )


def test_a_long_name_leaves_the_address_whole() -> None:
    bridge = Device(HOST, 1, "br0")
    port, end = (
        Device(HOST, 2, "veth2"),
        Device(Netns(9, "a-container-with-a-long-name"), 2, "eth0"),
    )
    topology = Topology(
        "br0", bridge=bridge, ports=(port,), ends=(end,), addresses=((end, "10.0.0.9/24"),),
        pairs=((port, end),),
    )  # fmt: skip
    assert drawn(topology, 48).splitlines()[2] == "│ └─ veth2 ├── a-container-wi…/eth0  10.0.0.9/24"


def test_thirty_containers_take_thirty_lines() -> None:
    bridge = Device(HOST, 1, "docker0")
    ports = tuple(Device(HOST, n, f"veth{n:07x}") for n in range(30))
    ends = tuple(Device(Netns(100 + n, f"app-{n}"), 2, "eth0") for n in range(30))
    topology = Topology(
        "docker0", bridge=bridge, ports=ports, ends=ends, pairs=tuple(zip(ports, ends, strict=True))
    )
    assert len(drawn(topology).splitlines()) == 30 + 3


@pytest.mark.parametrize("ascii", [False, True])
@given(topology=any_journey.topologies, width=st.integers(1, 200))
def test_no_line_is_wider_than_the_terminal(ascii: bool, topology: Topology, width: int) -> None:
    lines = drawing(topology, Look(ascii=ascii), width)
    assert all(width_of(line) <= max(width, NARROWEST) for line in lines)
    assert {style for line in lines for _, style in line} <= STYLES.keys()
    if ascii:
        assert "".join(map(text_of, lines)).isascii()
