# SPDX-License-Identifier: GPL-2.0-only
"""The way of a packet, line by line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import C1, C2, C2_IP, HOST
from tests.unit.topologies import DOCKER
from tracer.model import Topology
from tracer.view.line import text_of, width_of
from tracer.view.look import Look
from tracer.view.path import NARROWEST, listing
from tracer.view.theme import STYLES
from tracer.way import End, Step, Way, expected_path


def listed(topology: Topology, width: int = 100, dst: str = C2_IP, *, ascii: bool = True) -> str:
    way = expected_path(topology, C1, dst, "icmp")
    return "\n".join(text_of(line) for line in listing(way, Look(ascii=ascii), width))


def test_each_step_has_a_line() -> None:
    assert listed(DOCKER) == (
        " 1  c1    eth0    veth_xmit                 route 172.17.0.0/16\n"
        " 2  c1    eth0    __dev_forward_skb         the other end is host/vethc1\n"
        " 3  host  vethc1  enqueue_to_backlog\n"
        " 4  host  vethc1  process_backlog\n"
        " 5  host  vethc1  __netif_receive_skb_core\n"
        " 6  host  vethc1  br_handle_frame\n"
        " 7  host  vethc1  br_handle_frame_finish\n"
        " 8  host  vethc1  br_forward                forwarding entry 02:42:ac:11:00:03: vethc2\n"
        " 9  host  vethc2  br_forward_finish\n"
        "10  host  vethc2  veth_xmit\n"
        "11  host  vethc2  __dev_forward_skb         the other end is c2/eth0\n"
        "12  c2    eth0    enqueue_to_backlog\n"
        "13  c2    eth0    process_backlog\n"
        "14  c2    eth0    __netif_receive_skb_core\n"
        "15  c2    eth0    icmp_rcv                  c2 has 172.17.0.3\n"
        "= delivered to ICMP in c2\n"
        "  Rules that filter are not evaluated."
    )


def test_where_there_is_no_room_beside_it_the_reason_stands_below() -> None:
    lines = listed(DOCKER, 70).splitlines()
    assert lines[8:11] == [
        " 8  host  vethc1  br_forward                forwarding entry",
        "                                            02:42:ac:11:00:03: vethc2",
        " 9  host  vethc2  br_forward_finish",
    ]
    assert listed(DOCKER, 50).splitlines()[:3] == [
        " 1  c1    eth0    veth_xmit",
        "    route 172.17.0.0/16",
        " 2  c1    eth0    __dev_forward_skb",
    ]


@pytest.mark.parametrize(
    ("topology", "dst", "end"),
    [
        (DOCKER, "198.51.100.7", "> leaves by host/uplink"),
        (replace(DOCKER, forwards=()), "198.51.100.7", "X stops: ip_forward is off in host"),
        (Topology("auto"), C2_IP, "? not known: the routes of c1 are not known"),
    ],
)
def test_the_end_has_the_sign_of_such_an_outcome(topology: Topology, dst: str, end: str) -> None:
    assert listed(topology, dst=dst).splitlines()[-2:] == [
        end,
        "  Rules that filter are not evaluated.",
    ]


def test_a_namespace_has_its_style() -> None:
    look = Look(netns_styles={C1.inum: "netns1", HOST.inum: "netns2", C2.inum: "netns3"})
    lines = listing(expected_path(DOCKER, C1, C2_IP, "icmp"), look, 80)
    styles = [style for line in lines for _, style in line if style.startswith("netns")]
    assert styles == ["netns1"] * 2 + ["netns2"] * 9 + ["netns3"] * 4


ways = st.builds(
    Way,
    st.lists(
        st.builds(
            Step, any_journey.functions, any_journey.devices, st.just("") | any_journey.names
        ),
        max_size=12,
    ).map(tuple),
    st.sampled_from(End),
    any_journey.names,
)


@given(way=ways, width=st.integers(1, 160), ascii=st.booleans())
def test_no_line_is_wider_than_the_terminal(way: Way, width: int, ascii: bool) -> None:
    lines = listing(way, Look(ascii=ascii), width)
    assert all(width_of(line) <= max(width, NARROWEST) for line in lines)
    assert {style for line in lines for _, style in line} <= STYLES.keys()
    if ascii:
        assert "".join(map(text_of, lines)).isascii()
