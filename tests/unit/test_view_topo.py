# SPDX-License-Identifier: GPL-2.0-only
"""Drawings of topologies, line by line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import CAPTURE, ETH0_C2, HOST, VETHC1, VETHC2
from tracer.bridge import nat, state_words, ways
from tracer.model import Device, Netns, Port, Rewrite, Route, Topology
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


ETH0 = Device(HOST, 2, "eth0")
LAB = CAPTURE.topology
assert LAB is not None
PUBLISHED = Rewrite(
    *(HOST, "PRE_ROUTING", "dnat", "172.17.0.2:80", "tcp"), dport="8088", iifname="!docker0"
)
DOCKERS = replace(
    LAB,
    uplinks=(ETH0,),
    addresses=(*LAB.addresses, (ETH0, "10.0.2.15/24")),
    routes=(Route(HOST, "unicast", "0.0.0.0/0", "10.0.2.2", ETH0),),
    states=(
        Port(VETHC1, "blocking", isolated=True),
        Port(VETHC2, "forwarding", hairpin=True, vlans=(1, 2, 3, 10), pvid=10),
    ),
    down=(ETH0_C2,),
    rewrites=(
        PUBLISHED,
        PUBLISHED._replace(hook="LOCAL_OUT", dst="!127.0.0.0/8"),
        Rewrite(HOST, "POST_ROUTING", "masquerade", src="172.17.0.0/16", oifname="!docker0"),
    ),
)
"""What Docker makes, with everything about its ports that is not as usual."""


def test_what_is_not_as_usual_and_the_way_out() -> None:
    assert drawn(DOCKERS) == (
        "┌ host ───────────────────────────────────┐\n"
        "│ docker0  172.17.0.1/16                  │\n"
        "│ ├─ vethc1  blocking  isolated           ├── c1/eth0  172.17.0.2/16\n"
        "│ └─ vethc2  hairpin  vlan 1-3,10 pvid 10 ├── c2/eth0  down  172.17.0.3/16\n"
        "│ eth0  10.0.2.15/24                      ├─→ default via 10.0.2.2\n"
        "└─────────────────────────────────────────┘\n"
        "NAT  tcp :8088 → 172.17.0.2:80\n"
        "NAT  172.17.0.0/16 → masquerade\n"
        "IPv4 is not forwarded in host"
    )


def test_what_is_forwarded_as_usual_is_not_said() -> None:
    assert "forwarded" not in drawn(replace(DOCKERS, forwards=(HOST,)))
    assert "forwarded" not in drawn(LAB)  # nothing asks for it
    assert "forwarded" in drawn(replace(DOCKERS, rewrites=()))  # two networks


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (Port(VETHC1, "forwarding"), []),
        (Port(VETHC1, "disabled"), ["disabled"]),
        (Port(VETHC1, "forwarding", learning=False, flood=False), ["learning off", "flood off"]),
        (Port(VETHC1, "forwarding", vlans=(1,), pvid=1), ["vlan 1"]),
        (Port(VETHC1, "forwarding", vlans=(4, 2, 5)), ["vlan 2,4-5 pvid none"]),
        (None, []),
    ],
)
def test_the_words_of_a_port(port: Port | None, said: list[str]) -> None:
    assert state_words(port, is_down=False) == said


def test_a_port_that_is_down_is_disabled_for_that_reason() -> None:
    assert state_words(Port(VETHC1, "disabled"), is_down=True) == ["down"]


@pytest.mark.parametrize(
    ("rewrite", "said"),
    [
        (
            Rewrite(HOST, "PRE_ROUTING", "dnat", "10.0.0.2", "tcp", iifname="uplink"),
            "tcp in uplink > 10.0.0.2",
        ),
        (
            Rewrite(HOST, "POST_ROUTING", "snat", "1.2.3.4", src="!10.0.0.0/8", oifname="eth0"),
            "not 10.0.0.0/8 out eth0 > snat 1.2.3.4",
        ),
        (
            Rewrite(HOST, "PRE_ROUTING", "redirect", ":53", "udp", dst="10.0.0.1", dport="1-9"),
            "udp 10.0.0.1:1-9 > redirect :53",
        ),
        (
            Rewrite(
                *(HOST, "POST_ROUTING", "masquerade", None, "tcp"),
                src="fd00::2",
                dst="fd00::3",
                dport="80",
            ),
            "tcp fd00::2 to [fd00::3]:80 > masquerade",
        ),
        (
            Rewrite(HOST, "POST_ROUTING", "masquerade", rule="-A POSTROUTING -m mark ..."),
            "-A POSTROUTING -m mark ...",
        ),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", dport="80"), ":80 > dnat"),
    ],
)
def test_the_words_of_a_rewrite(rewrite: Rewrite, said: str) -> None:
    assert LAB is not None
    assert list(nat(replace(LAB, rewrites=(rewrite, rewrite)), ">")) == [said]


def test_the_ways_an_uplink_leads() -> None:
    def via(*routes: tuple[str, str]) -> str:
        assert LAB is not None
        every = tuple(Route(HOST, "unicast", dst, gateway, ETH0) for dst, gateway in routes)
        return ways(replace(LAB, uplinks=(ETH0,), routes=every))[ETH0]

    assert via(("10.0.0.0/8", "10.0.2.1"), ("::/0", "fe80::1")) == "default via fe80::1"
    assert via(("0.0.0.0/0", "1.1.1.1"), ("::/0", "fe80::1")) == "default via 1.1.1.1, fe80::1"
    assert via(("10.8.0.0/16", "10.0.2.1")) == "10.8.0.0/16 via 10.0.2.1"
    assert via(("10.8.0.0/16", "a"), ("10.9.0.0/16", "b")) == "10.8.0.0/16 via a (+1)"


def test_thirty_containers_take_thirty_lines() -> None:
    bridge = Device(HOST, 1, "docker0")
    ports = tuple(Device(HOST, n, f"veth{n:07x}") for n in range(30))
    ends = tuple(Device(Netns(100 + n, f"app-{n}"), 2, "eth0") for n in range(30))
    topology = Topology(
        *("docker0", False, bridge, ports, ends),
        addresses=tuple((end, f"172.17.0.{n + 2}/16") for n, end in enumerate(ends)),
        pairs=tuple(zip(ports, ends, strict=True)),
        states=tuple(Port(port, "forwarding", isolated=port == ports[3]) for port in ports),
        down=(ends[4],),
        uplinks=(ETH0,),
        rewrites=(PUBLISHED,),
        forwards=(HOST,),
    )
    lines = drawn(topology).splitlines()
    assert len(lines) == 30 + 3 + 2
    assert lines[5] == "│ ├─ veth0000003  isolated ├── app-3/eth0  172.17.0.5/16"
    assert lines[6] == "│ ├─ veth0000004           ├── app-4/eth0  down  172.17.0.6/16"
    assert lines[7] == "│ ├─ veth0000005           ├── app-5/eth0  172.17.0.7/16"


@pytest.mark.parametrize("ascii", [False, True])
@given(topology=any_journey.topologies, width=st.integers(1, 200))
def test_no_line_is_wider_than_the_terminal(ascii: bool, topology: Topology, width: int) -> None:
    lines = drawing(topology, Look(ascii=ascii), width)
    assert all(width_of(line) <= max(width, NARROWEST) for line in lines)
    assert {style for line in lines for _, style in line} <= STYLES.keys()
    if ascii:
        assert "".join(map(text_of, lines)).isascii()


def test_a_link_local_address_is_shown_only_if_there_is_no_other() -> None:
    web, db = Device(Netns(2, "web"), 2, "eth0"), Device(Netns(3, "db"), 2, "eth0")
    ports = (Device(Netns(1, "host"), 4, "v1"), Device(Netns(1, "host"), 5, "v2"))
    topology = Topology(
        "br0",
        ports=ports,
        ends=(web, db),
        pairs=tuple(zip(ports, (web, db), strict=True)),
        addresses=((web, "fe80::1/64"), (web, "10.0.0.2/24"), (db, "fe80::2/64")),
    )
    said = drawn(topology)
    assert "fe80::1" not in said
    assert "10.0.0.2/24" in said
    assert "db/eth0  fe80::2/64" in said
