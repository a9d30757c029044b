# SPDX-License-Identifier: GPL-2.0-only
"""Topologies as they are read from the labs docker0 and nat, with an uplink. Values only."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.journeys import C1, C2, CAPTURE, DOCKER0, ETH0_C1, ETH0_C2, HOST, VETHC1, VETHC2
from tracer.model import Device, Forwarding, Netns, Port, Rewrite, Route, Topology

C1_MAC, C2_MAC, DOCKER0_MAC = "02:42:ac:11:00:02", "02:42:ac:11:00:03", "02:42:ac:11:00:01"
UPLINK = Device(HOST, 2, "uplink")
LO_HOST, LO_C1, LO_C2 = (Device(netns, 1, "lo") for netns in (HOST, C1, C2))


def _own(device: Device, ip: str) -> Route:
    return Route(device.netns, "local", f"{ip}/32", None, device)


def _loopback(lo: Device) -> Route:
    return Route(lo.netns, "local", "127.0.0.0/8", None, lo)


def _route(device: Device, dst: str, gateway: str | None = None, metric: int = 0) -> Route:
    return Route(device.netns, "unicast", dst, gateway, device, metric)


assert CAPTURE.topology is not None
DOCKER: Topology = replace(
    CAPTURE.topology,
    others=(LO_C1, LO_C2),
    uplinks=(UPLINK,),
    macs=((DOCKER0, DOCKER0_MAC), (ETH0_C1, C1_MAC), (ETH0_C2, C2_MAC)),
    states=(Port(VETHC1, "forwarding"), Port(VETHC2, "forwarding")),
    fdb=(
        Forwarding(DOCKER0_MAC, DOCKER0, local=True),
        Forwarding(C1_MAC, VETHC1),
        Forwarding(C2_MAC, VETHC2),
    ),
    routes=(
        _own(DOCKER0, "172.17.0.1"),
        _loopback(LO_HOST),
        _route(DOCKER0, "172.17.0.0/16"),
        _route(UPLINK, "0.0.0.0/0", "10.0.2.2"),
        *(
            route
            for lo, eth0, ip in ((LO_C1, ETH0_C1, "172.17.0.2"), (LO_C2, ETH0_C2, "172.17.0.3"))
            for route in (
                _own(eth0, ip),
                _loopback(lo),
                _route(eth0, "172.17.0.0/16"),
                _route(eth0, "0.0.0.0/0", "172.17.0.1"),
            )
        ),
    ),
    rewrites=(
        Rewrite(
            HOST,
            "PRE_ROUTING",
            "dnat",
            "172.17.0.3:80",
            proto="tcp",
            dport="8088",
            rule="-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER; -A DOCKER -j DNAT",
        ),
        Rewrite(HOST, "POST_ROUTING", "masquerade", src="172.17.0.0/16", oifname="!docker0"),
    ),
    forwards=(HOST,),
)

ROUTER, NET1, OUTSIDE = Netns(21, "router"), Netns(22, "net1"), Netns(23, "outside")
BR0, VETH1_P, VETH1 = (
    Device(ROUTER, 2, "br0"),
    Device(ROUTER, 3, "veth1_p"),
    Device(NET1, 2, "veth1"),
)
TO_OUTSIDE, ETH0 = Device(ROUTER, 4, "uplink"), Device(OUTSIDE, 2, "eth0")
NAT = Topology(
    "nat",
    bridge=BR0,
    ports=(VETH1_P,),
    ends=(VETH1, TO_OUTSIDE, ETH0),
    addresses=(
        (BR0, "192.168.0.1/24"),
        (VETH1, "192.168.0.2/24"),
        (TO_OUTSIDE, "203.0.113.1/24"),
        (ETH0, "203.0.113.2/24"),
    ),
    pairs=((VETH1_P, VETH1), (TO_OUTSIDE, ETH0)),
    macs=(
        (BR0, "02:42:c0:a8:00:01"),
        (VETH1, "02:42:c0:a8:00:02"),
        (TO_OUTSIDE, "02:42:cb:00:71:01"),
        (ETH0, "02:42:cb:00:71:02"),
    ),
    states=(Port(VETH1_P, "forwarding"),),
    fdb=(Forwarding("02:42:c0:a8:00:02", VETH1_P),),
    routes=(
        _own(BR0, "192.168.0.1"),
        _own(TO_OUTSIDE, "203.0.113.1"),
        _route(BR0, "192.168.0.0/24"),
        _route(TO_OUTSIDE, "203.0.113.0/24"),
        _own(VETH1, "192.168.0.2"),
        _route(VETH1, "192.168.0.0/24"),
        _route(VETH1, "0.0.0.0/0", "192.168.0.1"),
        _own(ETH0, "203.0.113.2"),
        _route(ETH0, "203.0.113.0/24"),
    ),
    rewrites=(
        Rewrite(
            ROUTER,
            "PRE_ROUTING",
            "dnat",
            "192.168.0.2:80",
            proto="tcp",
            dport="8088",
            iifname="uplink",
        ),
        Rewrite(ROUTER, "POST_ROUTING", "masquerade", src="192.168.0.0/24", oifname="uplink"),
    ),
    forwards=(ROUTER,),
)
