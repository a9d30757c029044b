# SPDX-License-Identifier: GPL-2.0-only
"""Graphs for Graphviz: read back by a reader of the little of DOT that is used."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import CAPTURE, DOCKER0, ETH0_C1, HOST, VETHC1
from tracer.model import Device, Netns, Rewrite, Route, Topology
from tracer.view.dot import graph

LAB = CAPTURE.topology
assert LAB is not None
ETH0 = Device(HOST, 2, "eth0")
QUOTED = r'"((?:[^"\\\n]|\\.)*)"'
ATTRIBUTES = rf"(?: \[\w+=(?:\w+|{QUOTED})(?:, \w+=(?:\w+|{QUOTED}))*\])?"
STATEMENTS = (
    rf"graph {QUOTED} {{",
    rf"  subgraph {QUOTED} {{",
    r"  rankdir=LR;",
    r"  node \[shape=box\];",
    rf"    label={QUOTED};",
    rf" +{QUOTED}{ATTRIBUTES};",
    rf"  {QUOTED} -- {QUOTED}{ATTRIBUTES};",
    r"(  )?}",
)


def nodes(lines: list[str]) -> dict[str, str]:
    """Node → label, as they are shown."""
    found = [re.fullmatch(rf" +{QUOTED} \[.*label={QUOTED}\];", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def test_a_bridge_and_two_containers() -> None:
    assert LAB is not None
    assert list(graph([LAB])) == [
        'graph "docker0" {',
        "  rankdir=LR;",
        "  node [shape=box];",
        '  subgraph "cluster_4026531840_host" {',
        '    label="host";',
        '    "4026531840 host/3 docker0" [label="docker0\\n172.17.0.1/16"];',
        '    "4026531840 host/5 vethc1" [label="vethc1"];',
        '    "4026531840 host/7 vethc2" [label="vethc2"];',
        "  }",
        '  subgraph "cluster_4026532194_c1" {',
        '    label="c1";',
        '    "4026532194 c1/4 eth0" [label="eth0\\n172.17.0.2/16"];',
        "  }",
        '  subgraph "cluster_4026532257_c2" {',
        '    label="c2";',
        '    "4026532257 c2/6 eth0" [label="eth0\\n172.17.0.3/16"];',
        "  }",
        '  "4026531840 host/3 docker0" -- "4026531840 host/5 vethc1";',
        '  "4026531840 host/3 docker0" -- "4026531840 host/7 vethc2";',
        '  "4026531840 host/5 vethc1" -- "4026532194 c1/4 eth0" [style=bold];',
        '  "4026531840 host/7 vethc2" -- "4026532257 c2/6 eth0" [style=bold];',
        "}",
    ]


def test_rewrites_are_on_the_way_out_or_else_beside_the_bridge() -> None:
    assert LAB is not None
    rewrite = Rewrite(HOST, "POST_ROUTING", "masquerade", src="172.17.0.0/16")
    inside = replace(LAB, rewrites=(rewrite,), forwards=(HOST,))
    assert nodes(list(graph([inside])))["note 4026531840 host"] == "172.17.0.0/16 → masquerade"
    route = Route(HOST, "unicast", "0.0.0.0/0", "10.0.2.2", ETH0)
    lines = list(graph([replace(inside, uplinks=(ETH0,), routes=(route,))]))
    out = '"way 4026531840 2"'
    assert f'  {out} [shape=plaintext, label="default via 10.0.2.2"];' in lines
    label = ' [label="172.17.0.0/16 → masquerade"]'
    assert f'  "4026531840 host/2 eth0" -- {out}{label};' in lines
    assert not any("shape=note" in line for line in lines)


def test_two_bridges_are_one_graph() -> None:
    assert LAB is not None
    back = Device(HOST, 9, "br-back")
    end = Device(ETH0_C1.netns, 8, "eth1")
    other = Topology("br-back", bridge=back, ends=(end,), addresses=((end, "10.0.0.2/24"),))
    lines = list(graph([LAB, other]))
    assert sum("subgraph" in line for line in lines) == 3
    assert lines[0] == 'graph "docker0, br-back" {'
    assert list(nodes(lines).values()).count("docker0\\n172.17.0.1/16") == 1


@pytest.mark.parametrize(
    ("ifname", "label"),
    [('v"x', 'v\\"x'), ("v\\x1b", "v\\\\x1b"), ("v\\", "v\\\\"), ("<b>", "<b>"), ("\\N", "\\\\N")],
)
def test_names_are_quoted(ifname: str, label: str) -> None:
    lines = list(graph([Topology("t", bridge=Device(HOST, 1, ifname))]))
    assert list(nodes(lines).values()) == [label]


def test_devices_that_are_called_alike_are_two() -> None:
    one, other = Device(Netns(7, "c"), 2, "eth0"), Device(Netns(8, "c"), 2, "eth0")
    lines = list(graph([Topology("t", bridge=DOCKER0, ends=(one, other), ports=(VETHC1,))]))
    assert len(nodes(lines)) == 4


@given(st.lists(any_journey.topologies, max_size=2))
def test_every_line_is_a_statement(topologies: list[Topology]) -> None:
    lines = list(graph(topologies))
    for line in lines:
        assert any(re.fullmatch(statement, line) for statement in STATEMENTS), line
    assert sum(line.endswith("{") for line in lines) == sum(line.strip() == "}" for line in lines)
