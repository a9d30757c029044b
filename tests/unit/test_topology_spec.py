# SPDX-License-Identifier: GPL-2.0-only
"""What is declared about labs makes sense by itself."""

from __future__ import annotations

from ipaddress import IPv4Interface

import pytest

from tracer.topology.spec import HOST, LABS, PREFIX, Interface, Lab, unnamed

IFNAME_MOST = 15
"""IFNAMSIZ without its terminating zero."""

every_lab = pytest.mark.parametrize("lab", LABS.values(), ids=list(LABS))


def addressed(lab: Lab) -> list[tuple[Interface, IPv4Interface]]:
    return [(each, IPv4Interface(each.address)) for each in lab.interfaces if each.address]


def test_docker0_is_as_docker_makes_it() -> None:
    lab = LABS["docker0"]
    bridge = lab.bridge
    assert bridge is not None
    assert (bridge.at, bridge.ifname, bridge.address) == (HOST, "docker0", "172.17.0.1/16")
    assert lab.mtu == 1500
    assert [(port.at, port.ifname, port.mac) for port, _ in lab.pairs] == [
        (HOST, "vethc1", None),
        (HOST, "vethc2", None),
    ]
    assert [(end.netns, end.ip, end.ifname, end.mac, end.gateway) for _, end in lab.pairs] == [
        ("skbtrace-c1", "172.17.0.2", "eth0", "02:42:ac:11:00:02", "172.17.0.1"),
        ("skbtrace-c2", "172.17.0.3", "eth0", "02:42:ac:11:00:03", "172.17.0.1"),
    ]


def test_only_docker0_has_anything_on_the_host() -> None:
    assert [lab.name for lab in LABS.values() if lab.on_host] == ["docker0"]


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("veth", {"net1/veth1 192.168.0.101/24", "net2/veth2 192.168.0.102/24"}),
        (
            "bridge",
            {
                "router/br0 192.168.0.100/24",
                "router/veth1_p None",
                "router/veth2_p None",
                "net1/veth1 192.168.0.101/24",
                "net2/veth2 192.168.0.102/24",
            },
        ),
        (
            "nat",
            {
                "router/br0 192.168.0.1/24",
                "router/veth1_p None",
                "net1/veth1 192.168.0.2/24",
                "router/uplink 203.0.113.1/24",
                "outside/eth0 203.0.113.2/24",
            },
        ),
        (
            "crowd",
            {"crowd/br0 10.0.30.100/24"}
            | {f"crowd/veth{n} None" for n in range(1, 31)}
            | {f"box{n}/eth0 10.0.30.{n}/24" for n in range(1, 31)},
        ),
        ("loopback", {"alone/lo 127.0.0.1/8"}),
    ],
)
def test_the_devices_of_a_lab(name: str, devices: set[str]) -> None:
    assert {f"{e.at}/{e.ifname} {e.address}" for e in LABS[name].interfaces} == devices


@every_lab
def test_names_fit_the_kernel_and_are_told_apart(lab: Lab) -> None:
    devices = [(each.at, each.ifname) for each in lab.interfaces]
    if lab.bridge is not None:
        devices.append((lab.bridge.at, unnamed(lab.bridge)))
    assert len(set(devices)) == len(devices)
    devices += [(each.at, name) for each in lab.interfaces for name in each.ifnames[1:]]
    assert len(set(devices)) == len(devices)
    assert all(0 < len(ifname.encode()) <= IFNAME_MOST for _, ifname in devices)
    assert all(name.startswith(PREFIX) and name != PREFIX for name in lab.namespaces)
    assert len(set(lab.namespaces)) == len(lab.namespaces)


@every_lab
def test_addresses_are_unique_and_those_of_a_wire_are_neighbours(lab: Lab) -> None:
    ips = [address.ip for _, address in addressed(lab)]
    assert len(set(ips)) == len(ips)
    macs = [each.mac for each in lab.interfaces if each.mac is not None]
    assert len(set(macs)) == len(macs)
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs)  # locally administered, of one device
    for first, second in lab.pairs:
        wire = lab.bridge if first.is_port else first
        assert wire is not None
        assert (
            IPv4Interface(wire.address or "").network == IPv4Interface(second.address or "").network
        )
        assert second.gateway in {None, wire.ip}


@every_lab
def test_a_pair_is_made_where_its_first_end_is(lab: Lab) -> None:
    for first, second in lab.pairs:
        assert lab.places.index(first.at) < lab.places.index(second.at)
        assert second.at != HOST
        assert not second.is_port
        assert second.mac is not None
        if first.is_port:
            assert lab.bridge is not None
            assert lab.bridge.at == first.at


@every_lab
def test_who_speaks_and_who_answers_is_in_the_lab(lab: Lab) -> None:
    speakers = [speaker for talk in lab.talks for speaker in talk]
    if lab.published is not None:
        speakers += [lab.published.caller, lab.published.server]
    assert all(speaker in lab.interfaces and speaker.address for speaker in speakers)
    assert all(client != server or client in lab.loopbacks for client, server in lab.talks)
    assert (lab.client, lab.server) == lab.talks[0]


def test_in_a_crowd_everybody_talks_and_servers_are_asked_by_many() -> None:
    crowd = LABS["crowd"]
    clients, servers = ({talk[side] for talk in crowd.talks} for side in (0, 1))
    assert len(clients) == len(crowd.talks) == 25
    assert len(servers) == 5
    assert clients | servers == {end for _, end in crowd.pairs}


def test_a_crowd_can_stand_beside_every_other_lab() -> None:
    others = {n for lab in LABS.values() if lab.name != "crowd" for n in lab.namespaces}
    assert not others & set(LABS["crowd"].namespaces)


def test_only_a_port_on_the_host_may_be_called_otherwise() -> None:
    for lab in LABS.values():
        for each in lab.interfaces:
            assert (len(each.ifnames) > 1) == (each.at == HOST and each != lab.bridge)


def test_a_lab_whose_port_is_called_otherwise_is_the_same_but_for_that() -> None:
    lab = LABS["docker0"]
    other = lab.renamed({"vethc2": "skbt-vethc2", "eth0": "never", "docker0": "never"})
    assert [each.ifname for each in other.at(HOST)] == ["docker0", "vethc1", "skbt-vethc2"]
    assert other.renamed({"skbt-vethc2": "vethc2"}) == lab
    nat = LABS["nat"]
    assert nat.renamed({"uplink": "never"}) == nat


def test_whom_one_asks_by_arp() -> None:
    nat, veth = LABS["nat"], LABS["veth"]
    assert nat.client.next_hop(nat.server.ip) == "192.168.0.1"
    assert nat.server.next_hop("203.0.113.1") == "203.0.113.1"
    assert veth.client.next_hop(veth.server.ip) == "192.168.0.102"


@every_lab
def test_what_forwards_is_the_labs_and_so_is_the_table_of_its_rules(lab: Lab) -> None:
    if lab.router is not None:
        assert lab.router.at in lab.places
        assert lab.router.rules(was_open=True).startswith(f"table ip {lab.router.table} {{")
        # Nobody else on the host calls a table like that.
        assert lab.router.at != HOST or lab.router.table == PREFIX + lab.name


def test_where_nobody_forwarded_docker0_forwards_for_nobody_else() -> None:
    router = LABS["docker0"].router
    assert router is not None
    assert router.rules(was_open=False) == router.rules(was_open=True) + (
        "table ip skbtrace-docker0 {\n"
        "    chain FORWARD {\n"
        '        meta iifkind "bridge" meta oifkind "bridge" counter accept\n'
        "        counter drop\n"
        "    }\n"
        "}\n"
    )


def test_labs_that_share_a_name_share_no_device_on_the_host() -> None:
    on_host = [each.ifname for lab in LABS.values() for each in lab.at(HOST)]
    assert len(set(on_host)) == len(on_host)
