# SPDX-License-Identifier: GPL-2.0-only
"""What is declared about labs makes sense by itself."""

from __future__ import annotations

from ipaddress import IPv4Interface

import pytest

from tracer.topology.spec import LABS, PREFIX, Lab

IFNAME_MOST = 15
"""IFNAMSIZ without its terminating zero."""

every_lab = pytest.mark.parametrize("lab", LABS.values(), ids=list(LABS))


def test_docker0_is_as_docker_makes_it() -> None:
    lab = LABS["docker0"]
    assert (lab.bridge.ifname, lab.bridge.address, lab.mtu) == ("docker0", "172.17.0.1/16", 1500)
    assert [(c.name, c.ip, c.ifname, c.mac) for c in lab.containers] == [
        ("c1", "172.17.0.2", "eth0", "02:42:ac:11:00:02"),
        ("c2", "172.17.0.3", "eth0", "02:42:ac:11:00:03"),
    ]
    assert {c.gateway for c in lab.containers} == {"172.17.0.1"}


@every_lab
def test_names_fit_the_kernel_and_are_told_apart(lab: Lab) -> None:
    devices = [lab.bridge.ifname, lab.unnamed_bridge, *(c.port for c in lab.containers)]
    assert len(set(devices)) == len(devices)
    assert all(len(d.encode()) <= IFNAME_MOST for d in devices)
    assert all(c.netns == PREFIX + c.name for c in lab.containers)
    assert len({c.netns for c in lab.containers}) == len(lab.containers)


@every_lab
def test_all_are_neighbours(lab: Lab) -> None:
    bridge = IPv4Interface(lab.bridge.address)
    addresses = [bridge, *(IPv4Interface(c.address) for c in lab.containers)]
    assert {address.network for address in addresses} == {bridge.network}
    assert len({address.ip for address in addresses}) == len(addresses)
    assert {c.gateway for c in lab.containers} <= {None, str(bridge.ip)}
    macs = [lab.bridge.mac, *(c.mac for c in lab.containers)]
    assert len(set(macs)) == len(macs)


@every_lab
def test_there_is_somebody_to_talk_to(lab: Lab) -> None:
    assert lab.client != lab.server
