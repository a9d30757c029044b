# SPDX-License-Identifier: GPL-2.0-only
"""Where a packet should go, in topologies of every kind of trouble."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import (
    C1,
    C1_IP,
    C2,
    C2_IP,
    C2_MAC,
    DOCKER0,
    ETH0_C1,
    ETH0_C2,
    HOST,
    VETHC1,
    VETHC2,
)
from tests.unit.topologies import DOCKER, LO_C1, NAT, NET1, OUTSIDE, ROUTER, TO_OUTSIDE, UPLINK
from tracer.model import Forwarding, Netns, Port, Rewrite, Route, Topology
from tracer.probes import DEFAULT_LAYERS, PROBES
from tracer.way import FUNCTIONS, End, Walk, Way, expected_path


def told(way: Way) -> list[str]:
    return [f"{s.function} {s.device.netns.name}/{s.device.ifname}" for s in way.steps]


def whys(way: Way) -> list[str]:
    return [step.why for step in way.steps if step.why]


def across(near: str, far: str) -> list[str]:
    return [
        f"veth_xmit {near}",
        f"__dev_forward_skb {near}",
        f"enqueue_to_backlog {far}",
        f"process_backlog {far}",
        f"__netif_receive_skb_core {far}",
    ]


INTO_BRIDGE = [
    *across("c1/eth0", "host/vethc1"),
    "br_handle_frame host/vethc1",
    "br_handle_frame_finish host/vethc1",
]
OUT_TO_C2 = ["br_forward_finish host/vethc2", *across("host/vethc2", "c2/eth0")]
UP_TO_HOST = ["br_pass_frame_up host/vethc1", "__netif_receive_skb_core host/docker0"]


def to_c2(topology: Topology) -> Way:
    return expected_path(topology, C1, C2_IP, "icmp")


def with_port(**fields: object) -> Topology:
    """The port of c2 is otherwise."""
    ports = tuple(
        port._replace(**fields) if port.device == VETHC2 else port  # type: ignore[arg-type]
        for port in DOCKER.states
    )
    return replace(DOCKER, states=ports)


def without(netns: Netns, dst: str) -> Topology:
    """That route is gone."""
    routes = tuple(r for r in DOCKER.routes if (r.netns, r.dst) != (netns, dst))
    assert len(routes) < len(DOCKER.routes)
    return replace(DOCKER, routes=routes)


def test_container_to_container() -> None:
    way = to_c2(DOCKER)
    assert told(way) == [
        *INTO_BRIDGE,
        "br_forward host/vethc1",
        *OUT_TO_C2,
        "icmp_rcv c2/eth0",
    ]
    assert whys(way) == [
        "route 172.17.0.0/16",
        "the other end is host/vethc1",
        f"forwarding entry {C2_MAC}: vethc2",
        "the other end is c2/eth0",
        "c2 has 172.17.0.3",
    ]
    assert (way.end, way.said) == (End.DELIVERED, "delivered to ICMP in c2")


def test_container_to_host() -> None:
    way = expected_path(DOCKER, C1, "172.17.0.1", "tcp", 22)
    assert told(way) == [*INTO_BRIDGE, *UP_TO_HOST, "tcp_v4_rcv host/docker0"]
    assert way.said == "delivered to TCP in host for port 22"


def test_host_to_container() -> None:
    way = expected_path(DOCKER, HOST, C1_IP, "udp", 53)
    assert told(way) == [
        "br_dev_xmit host/docker0",
        "br_forward host/docker0",
        "br_forward_finish host/vethc1",
        *across("host/vethc1", "c1/eth0"),
        "udp_rcv c1/eth0",
    ]
    assert way.end is End.DELIVERED


def test_container_to_the_outside() -> None:
    way = expected_path(DOCKER, C1, "198.51.100.7", "icmp")
    assert told(way) == [*INTO_BRIDGE, *UP_TO_HOST, "net_dev_start_xmit host/uplink"]
    assert (way.end, way.said) == (End.LEAVES, "leaves by host/uplink")
    assert way.steps[0].why == "route 0.0.0.0/0 via 172.17.0.1"
    assert way.steps[-1].why == "route 0.0.0.0/0 via 10.0.2.2; masquerade"


@pytest.mark.parametrize("ip", [C1_IP, "127.0.0.1"])
def test_a_namespace_that_talks_to_itself(ip: str) -> None:
    way = expected_path(DOCKER, C1, ip, "icmp")
    assert told(way) == [
        "loopback_xmit c1/lo",
        "enqueue_to_backlog c1/lo",
        "process_backlog c1/lo",
        "__netif_receive_skb_core c1/lo",
        "icmp_rcv c1/lo",
    ]
    assert way.end is End.DELIVERED
    down = expected_path(replace(DOCKER, down=(LO_C1,)), C1, ip, "icmp")
    assert (down.steps, down.end, down.said) == ((), End.STOPS, "c1/lo is down")


def test_a_published_port_and_its_router() -> None:
    way = expected_path(NAT, OUTSIDE, "203.0.113.1", "tcp", 8088)
    assert told(way) == [
        *across("outside/eth0", "router/uplink"),
        "br_dev_xmit router/br0",
        "br_forward router/br0",
        "br_forward_finish router/veth1_p",
        *across("router/veth1_p", "net1/veth1"),
        "tcp_v4_rcv net1/veth1",
    ]
    assert way.steps[5].why == "DNAT 8088 to 192.168.0.2:80; route 192.168.0.0/24"
    assert way.said == "delivered to TCP in net1 for port 80"
    other = expected_path(NAT, OUTSIDE, "203.0.113.1", "tcp", 8089)
    assert other.said == "delivered to TCP in router for port 8089"


def test_out_of_the_network_behind_a_router() -> None:
    way = expected_path(NAT, NET1, "203.0.113.2", "icmp")
    assert told(way)[-6:] == [*across("router/uplink", "outside/eth0"), "icmp_rcv outside/eth0"]
    assert "route 203.0.113.0/24; masquerade" in whys(way)


def test_a_published_port_is_one_of_the_host_s_own_address() -> None:
    back_in = expected_path(DOCKER, C1, "172.17.0.1", "tcp", 8088)
    assert told(back_in)[: len(INTO_BRIDGE) + 3] == [
        *INTO_BRIDGE,
        *UP_TO_HOST,
        "br_dev_xmit host/docker0",
    ]
    assert back_in.said == "delivered to TCP in c2 for port 80"
    elsewhere = expected_path(DOCKER, C1, "198.51.100.7", "tcp", 8088)
    assert elsewhere.said == "leaves by host/uplink"


def test_nobody_knows_the_receiver_of_a_frame() -> None:
    way = to_c2(replace(DOCKER, fdb=()))
    assert told(way) == [*INTO_BRIDGE, "br_flood host/vethc1", *OUT_TO_C2, "icmp_rcv c2/eth0"]
    assert f"no forwarding entry for {C2_MAC}: flooded to every port" in whys(way)
    assert way.end is End.DELIVERED


def stop(topology: Topology, dst: str = C2_IP) -> tuple[str, str]:
    """The last step and what is said."""
    way = expected_path(topology, C1, dst, "icmp")
    assert way.end is End.STOPS
    return (way.steps[-1].function if way.steps else "", way.said)


@pytest.mark.parametrize(
    ("topology", "function", "said"),
    [
        (with_port(state="blocking"), "br_forward", "host/vethc2 is blocking"),
        (with_port(state="disabled"), "br_forward", "host/vethc2 is disabled"),
        (
            replace(DOCKER, down=(VETHC2, ETH0_C2)),
            "br_forward",
            "host/vethc2 or its other end, c2/eth0, is down",
        ),
        (
            replace(DOCKER, down=(VETHC1, ETH0_C1)),
            "",
            "c1/eth0 or its other end, host/vethc1, is down (route 172.17.0.0/16)",
        ),
        (
            replace(with_port(state="disabled"), fdb=(), down=(VETHC2,)),
            "br_flood",
            f"no forwarding entry for {C2_MAC}, and host/vethc2 is down",
        ),
        (
            replace(with_port(flood=False), fdb=()),
            "br_flood",
            f"no forwarding entry for {C2_MAC}, and nothing is flooded to host/vethc2",
        ),
        (
            replace(DOCKER, states=tuple(p._replace(isolated=True) for p in DOCKER.states)),
            "br_forward",
            "host/vethc1 and host/vethc2 are isolated ports",
        ),
        (
            replace(
                DOCKER,
                states=(
                    Port(VETHC1, "forwarding", vlans=(10,), pvid=10),
                    Port(VETHC2, "forwarding", vlans=(20,), pvid=20),
                ),
            ),
            "br_forward",
            "VLAN 10 is not allowed at host/vethc2",
        ),
        (
            replace(DOCKER, states=(Port(VETHC1, "forwarding", vlans=(10,)), DOCKER.states[1])),
            "br_handle_frame_finish",
            "host/vethc1 has no VLAN for frames without a tag",
        ),
        (
            replace(DOCKER, states=(Port(VETHC1, "blocking"), DOCKER.states[1])),
            "br_handle_frame",
            "host/vethc1 is blocking",
        ),
        (
            replace(DOCKER, states=(Port(VETHC1, "learning"), DOCKER.states[1])),
            "br_handle_frame_finish",
            "host/vethc1 is learning",
        ),
        (
            replace(DOCKER, fdb=(Forwarding(C2_MAC, VETHC1),)),
            "br_forward",
            "it would leave by host/vethc1, by which it came",
        ),
    ],
)
def test_what_is_in_the_way_of_a_frame(topology: Topology, function: str, said: str) -> None:
    assert stop(topology) == (function, said)


@pytest.mark.parametrize(
    ("topology", "dst", "function", "said"),
    [
        (without(C1, "0.0.0.0/0"), "10.9.9.9", "", "no route to 10.9.9.9 in c1"),
        (
            without(HOST, "0.0.0.0/0"),
            "10.9.9.9",
            "__netif_receive_skb_core",
            "no route to 10.9.9.9 in host",
        ),
        (
            replace(DOCKER, forwards=()),
            "10.9.9.9",
            "__netif_receive_skb_core",
            "ip_forward is off in host",
        ),
        (
            DOCKER,
            "172.17.0.9",
            "",
            "nobody on the network of c1/eth0 has 172.17.0.9 (route 172.17.0.0/16)",
        ),
        (
            replace(DOCKER, routes=(*DOCKER.routes, Route(C1, "blackhole", "10.0.0.0/8"))),
            "10.9.9.9",
            "",
            "the route for 10.0.0.0/8 in c1 says blackhole",
        ),
        (
            replace(DOCKER, down=(DOCKER0,)),
            "172.17.0.1",
            "br_handle_frame_finish",
            "host/docker0 is down",
        ),
    ],
)
def test_what_is_in_the_way_of_a_packet(
    topology: Topology, dst: str, function: str, said: str
) -> None:
    assert stop(topology, dst) == (function, said)


def test_the_longest_prefix_goes_first_then_the_metric() -> None:
    other = replace(UPLINK, ifindex=9, ifname="other")
    worse = Route(HOST, "unicast", "0.0.0.0/0", "10.0.3.2", other, metric=100)
    longer = Route(HOST, "unicast", "198.51.100.0/24", None, other, metric=200)
    twice = Route(HOST, "unicast", "0.0.0.0/0", "10.0.3.2", other)

    def leaves(*routes: Route) -> str:
        topology = replace(DOCKER, routes=(*routes, *DOCKER.routes))
        return expected_path(topology, C1, "198.51.100.7", "icmp").said

    assert leaves(worse) == "leaves by host/uplink"
    assert leaves(worse, longer) == "leaves by host/other (route 198.51.100.0/24; masquerade)"
    assert leaves(twice) == "where 0.0.0.0/0 leads in host is not known"


def test_a_route_that_leads_back_does_not_go_on_for_ever() -> None:
    back = Route(OUTSIDE, "unicast", "0.0.0.0/0", "203.0.113.1", NAT.ends[2])
    there = Route(ROUTER, "unicast", "0.0.0.0/0", "203.0.113.2", TO_OUTSIDE)
    topology = replace(NAT, routes=(*NAT.routes, back, there), forwards=(ROUTER, OUTSIDE))
    way = expected_path(topology, NET1, "10.9.9.9", "icmp")
    assert way.end is End.STOPS
    assert "circles" in way.said


@pytest.mark.parametrize(
    ("topology", "source", "dst", "said"),
    [
        (Topology("auto"), C1, C2_IP, "the routes of c1 are not known"),
        (DOCKER, Netns(9, "elsewhere"), C2_IP, "the routes of elsewhere are not known"),
        (DOCKER, C1, "224.0.0.1", "224.0.0.1 is for many"),
        (DOCKER, C1, "172.17.255.255", ""),
        (DOCKER, C1, "c2", "c2 is no IP address"),
        (replace(DOCKER, macs=()), C1, C2_IP, "whom the frame is for at host/vethc1 is not known"),
        (replace(DOCKER, states=()), C1, C2_IP, "the state of host/vethc1 is not known"),
    ],
)
def test_what_is_not_known(topology: Topology, source: Netns, dst: str, said: str) -> None:
    broadcast = Route(C1, "broadcast", "172.17.255.255/32", None, ETH0_C1)
    topology = replace(topology, routes=(*topology.routes, broadcast) if topology.routes else ())
    way = expected_path(topology, source, dst, "icmp")
    assert way.end is End.UNKNOWN
    assert way.said.startswith(said)


def test_behind_a_port_that_is_no_veth_of_ours_nothing_is_known() -> None:
    card = Forwarding("02:00:00:00:00:09", VETHC2)
    topology = replace(DOCKER, pairs=DOCKER.pairs[:1], fdb=(*DOCKER.fdb[:2], card))
    assert to_c2(topology).said == "whom the frame is for at host/vethc1 is not known"
    walk = Walk(topology, "172.17.0.9", "icmp", None)
    way = walk.way(lambda: walk.transmitted(ETH0_C1, mac=card.mac))
    assert told(way)[-1] == "br_forward_finish host/vethc2"
    assert (way.end, way.said) == (End.LEAVES, "leaves by host/vethc2")


def test_a_frame_for_an_address_that_its_receiver_does_not_have() -> None:
    stale = "02:00:00:00:00:09"
    topology = replace(DOCKER, fdb=(Forwarding(stale, VETHC2),))
    walk = Walk(topology, C2_IP, "icmp", None)
    way = walk.way(lambda: walk.transmitted(ETH0_C1, mac=stale))
    assert told(way)[-1] == "__netif_receive_skb_core c2/eth0"
    assert (way.end, way.said) == (End.STOPS, f"the frame is for {stale}, c2/eth0 has {C2_MAC}")
    walk = Walk(DOCKER, C2_IP, "icmp", None)
    way = walk.way(lambda: walk.transmitted(ETH0_C1, mac=stale))
    assert told(way)[-1] == "br_flood host/vethc1"
    assert (way.end, way.said) == (End.STOPS, f"no device here has {stale}")


def test_ipv6_goes_the_same_way_as_far_as_it_is_known() -> None:
    address = "fd00::3"
    topology = replace(
        DOCKER,
        addresses=(*DOCKER.addresses, (ETH0_C2, f"{address}/64")),
        routes=(
            *DOCKER.routes,
            Route(C1, "unicast", "fd00::/64", None, ETH0_C1),
            Route(C1, "unicast", "::/0", "fd00::1", ETH0_C1),
            Route(C2, "local", f"{address}/128", None, ETH0_C2),
        ),
    )
    way = expected_path(topology, C1, address, "tcp", 80)
    assert told(way)[-1] == "tcp_v6_rcv c2/eth0"
    assert way.end is End.DELIVERED


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3"), True),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", ":80", proto="udp"), False),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", proto="!udp"), True),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", dport="8000-8100"), True),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", dport="!8088"), False),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", dport="x"), False),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", dst="10.0.0.0/8"), False),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", src="172.17.0.2"), True),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", iifname="docker*"), True),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", iifname="docker+"), True),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", iifname="uplink"), False),
        (Rewrite(HOST, "PRE_ROUTING", "dnat", "172.17.0.3", oifname="docker0"), False),
        (Rewrite(HOST, "LOCAL_OUT", "dnat", "172.17.0.3"), False),
        (Rewrite(C1, "PRE_ROUTING", "dnat", "172.17.0.3"), False),
        (Rewrite(HOST, "PRE_ROUTING", "snat", "172.17.0.3"), False),
    ],
)
def test_which_rule_applies(rule: Rewrite, applies: bool) -> None:
    topology = replace(DOCKER, rewrites=(rule,))
    way = expected_path(topology, C1, "172.17.0.1", "tcp", 8088)
    assert way.said.startswith("delivered to TCP in c2" if applies else "delivered to TCP in host")


@pytest.mark.parametrize("to", [None, "somewhere", "@map"])
def test_a_rule_that_leads_nobody_knows_where(to: str | None) -> None:
    rule = Rewrite(HOST, "PRE_ROUTING", "dnat", to)
    way = expected_path(replace(DOCKER, rewrites=(rule,)), C1, "172.17.0.1", "tcp", 80)
    assert (way.end, way.said) == (End.UNKNOWN, "where dnat in host leads is not known")


def test_a_redirected_port_is_the_namespace_s_own() -> None:
    rule = Rewrite(HOST, "PRE_ROUTING", "redirect", ":3128", proto="tcp", dport="80")
    way = expected_path(replace(DOCKER, rewrites=(rule,)), C1, "198.51.100.7", "tcp", 80)
    assert way.said == "delivered to TCP in host for port 3128"


def test_steps_are_functions_that_the_default_layers_show() -> None:
    shown = {p.function for p in PROBES if p.always or p.layer in DEFAULT_LAYERS}
    assert shown >= FUNCTIONS


def _near(topology: Topology) -> st.SearchStrategy[Topology]:
    """Topologies of a few devices with all the facts, right or wrong."""
    devices = [*topology.ports, *topology.ends, *topology.others, *topology.uplinks]
    devices += [topology.bridge] if topology.bridge else []
    device = st.sampled_from(devices)
    netns = st.sampled_from([d.netns for d in devices])
    mac = st.sampled_from([mac for _, mac in topology.macs])
    network = st.sampled_from([r.dst for r in topology.routes]) | any_journey.names
    gateway = st.none() | st.sampled_from(["172.17.0.1", "192.168.0.1", "203.0.113.2", "fd00::1"])
    types = st.sampled_from(["unicast", "local", "broadcast", "blackhole", "x"])
    vlan = st.none() | st.sampled_from([1, 2])
    states = st.sampled_from(["forwarding", "forwarding", "blocking", "learning"])
    return st.builds(
        replace,
        st.just(topology),
        down=st.lists(device, max_size=1).map(tuple),
        pairs=st.just(topology.pairs) | st.lists(st.tuples(device, device), max_size=4).map(tuple),
        states=st.lists(
            st.builds(
                Port,
                device,
                states,
                isolated=st.booleans(),
                hairpin=st.booleans(),
                flood=st.booleans(),
                vlans=st.sampled_from([(), (1,), (1, 2)]),
                pvid=vlan,
            ),
            max_size=4,
        ).map(tuple),
        fdb=st.lists(st.builds(Forwarding, mac, device, vlan, st.booleans()), max_size=4).map(
            tuple
        ),
        routes=st.lists(
            st.builds(Route, netns, types, network, gateway, st.none() | device), max_size=8
        ).map(lambda routes: (*topology.routes, *routes)),
        rewrites=st.lists(
            st.builds(
                Rewrite,
                netns,
                st.sampled_from(["PRE_ROUTING", "LOCAL_OUT", "POST_ROUTING"]),
                st.sampled_from(["dnat", "snat", "masquerade", "redirect"]),
                st.none()
                | st.sampled_from(["172.17.0.3:80", ":8080", "x", ""])
                | any_journey.names,
                dst=st.none() | network,
                iifname=st.none() | any_journey.names | st.just("!uplink"),
                oifname=st.none() | st.just("uplink"),
            ),
            max_size=2,
        ).map(tuple),
        forwards=st.lists(netns, max_size=3).map(tuple),
    )


@given(
    topology=any_journey.topologies | _near(DOCKER) | _near(NAT),
    source=st.sampled_from([HOST, C1, NET1, ROUTER, OUTSIDE]) | any_journey.netnses,
    dst=st.sampled_from([C1_IP, C2_IP, "172.17.0.1", "8.8.8.8", "203.0.113.1", "fd00::3"])
    | any_journey.names,
    proto=st.sampled_from(["icmp", "tcp", "udp", "icmpv6"]) | any_journey.names,
    dport=st.none() | st.integers(0, 65535),
)
def test_any_topology_has_a_way(
    topology: Topology, source: Netns, dst: str, proto: str, dport: int | None
) -> None:
    way = expected_path(topology, source, dst, proto, dport)
    assert way.said
    assert {step.function for step in way.steps} <= FUNCTIONS
    takers = [step for step in way.steps if step.function.endswith("_rcv")]
    assert takers == ([way.steps[-1]] if takers else [])
    assert not takers or way.end is End.DELIVERED
