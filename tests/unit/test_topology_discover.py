# SPDX-License-Identifier: GPL-2.0-only
"""What a trace looks at, and what is said about a bridge that is none."""

from __future__ import annotations

import pytest

from tracer.errors import TopologyError
from tracer.model import Device, Netns, Topology
from tracer.topology.discover import AUTO, _bridge, scope
from tracer.topology.links import Link

HOST, C1 = Netns(1, "host"), Netns(2, "c1")


def link(ifindex: int, ifname: str, kind: str | None) -> Link:
    return Link(ifindex, ifname, kind)


def test_the_scope_is_bridge_ports_and_ends() -> None:
    topology = Topology(
        "docker0",
        bridge=Device(HOST, 3, "docker0"),
        ports=(Device(HOST, 4, "vethc1"), Device(HOST, 2, "eth0")),
        ends=(Device(C1, 2, "eth0"),),
        others=(Device(C1, 1, "lo"),),
        uplinks=(Device(HOST, 9, "eth1"), Device(HOST, 3, "docker0")),
    )
    within = {(1, 3), (1, 4), (1, 2), (2, 2), (2, 1)}
    assert scope(topology) == dict.fromkeys(within, True) | {(1, 9): False}
    assert scope(Topology("nothing")) == {}
    assert scope(Topology(AUTO)) is None


def test_a_missing_bridge_is_told_with_those_there_are() -> None:
    found = [link(1, "lo", None), link(2, "br1", "bridge"), link(3, "br\x1b[0m", "bridge")]
    with pytest.raises(TopologyError) as caught:
        _bridge("br0", found)
    assert caught.value.message == (
        r"there is no bridge br0 on this host (there are: br1, br\x1b[0m)"
    )
    assert caught.value.hint == "ip link show type bridge"


def test_a_missing_bridge_that_can_be_built_is_told_how() -> None:
    with pytest.raises(TopologyError) as caught:
        _bridge("docker0", [link(1, "lo", None)])
    assert caught.value.message == "there is no bridge docker0 on this host"
    assert caught.value.hint == "sudo skbtrace lab up docker0"


@pytest.mark.parametrize(("kind", "told"), [("veth", "veth"), (None, "no virtual device")])
def test_a_device_that_is_no_bridge_is_told(kind: str | None, told: str) -> None:
    with pytest.raises(TopologyError, match=f"v0 is not a bridge .{told}."):
        _bridge("v0", [link(2, "v0", kind)])


def test_a_hostile_bridge_name_is_made_safe() -> None:
    with pytest.raises(TopologyError) as caught:
        _bridge("\x1b[31m", [])
    assert "\x1b" not in caught.value.message
