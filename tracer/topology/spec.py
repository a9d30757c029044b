# SPDX-License-Identifier: GPL-2.0-only
"""LABS: the networks skbtrace can build, declared. A new lab is a new entry.

Values only; what is done with them stands in ``build``, ``make`` and ``traffic``. Only docker0 has
anything in the host's namespace. The other labs have a namespace of their own also for what
stands in the middle, so that none of their names, addresses and rules can meet the host's.

Of docker0, the rules stand in a table of their own beside those of the host, which decide as well:
an ``accept`` here ends a chain of this table only, and what a chain of the host drops is dropped.
Docker inserts its rules into the host's own FORWARD, where its accept is the last word. That
matters for what is routed; from port to port the bridge forwards without asking, unless
br_netfilter is loaded.

Of docker0, the ports give way to devices of the host that have their names (``ifnames``). The
bridge and the addresses do not: docker0 is what people trace and 172.17.0.0/16 what they know it
by, and a second docker0 with other addresses would be another lab. A host that has either keeps
it, and the lab is not built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface

PREFIX = "skbtrace-"
"""Begins the name of every namespace a lab makes. Views show the rest."""

HOST = "host"
"""Where a lab's device is that is in the host's namespace."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A device of a lab: a bridge, an end of a veth pair, or a loopback device."""

    at: str
    """HOST, or the short name of the namespace it is in."""
    ifname: str
    mac: str | None = None
    """None: whatever the kernel gives it."""
    address: str | None = None
    """With its prefix length: ``172.17.0.1/16``. None: it has none."""
    gateway: str | None = None
    """Next hop of the default route through it, or None for no such route."""
    is_port: bool = False
    """It is a port of the lab's bridge."""

    @property
    def netns(self) -> str:
        """The namespace's name under /run/netns, unless it is the host's."""
        return PREFIX + self.at

    @property
    def ifnames(self) -> tuple[str, ...]:
        """What it may be called, the first of them that no other device of the host has."""
        if self.is_port and self.at == HOST:
            return self.ifname, f"skbt-{self.ifname}"
        return (self.ifname,)

    @property
    def ip(self) -> str:
        """The address without its prefix length. Raises ValueError if there is none."""
        return str(IPv4Interface(self.address or "").ip)

    def next_hop(self, ip: str) -> str:
        """Return whom it asks for by ARP to reach ``ip``. Raises ValueError without an address."""
        if IPv4Address(ip) in IPv4Interface(self.address or "").network:
            return ip
        return self.gateway or ip


@dataclass(frozen=True, slots=True)
class Router:
    """A place that forwards IPv4, and its nftables rules: a table of their own."""

    at: str
    """HOST, or the short name of a namespace."""
    table: str
    """Its name; the family is ip. On the host whatever bears it is the lab's."""
    chains: str
    """What stands in the table, as ``nft -f`` reads it."""
    closed: str = ""
    """Rules that end the chain FORWARD where forwarding was off before the lab came."""

    def rules(self, *, was_open: bool) -> str:
        """Return what ``nft -f`` reads. ``was_open``: somebody forwarded there before."""
        rules = f"table ip {self.table} {{\n{self.chains}}}\n"
        if was_open or not self.closed:
            return rules
        return f"{rules}table ip {self.table} {{\n    chain FORWARD {{\n{self.closed}    }}\n}}\n"


@dataclass(frozen=True, slots=True)
class Published:
    """A TCP port of a router behind which somebody else answers."""

    ip: str
    port: int
    caller: Interface
    """Who connects to it."""
    server: Interface
    """Who answers, at ``server_port``."""
    server_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A network that can be built, torn down and given traffic."""

    name: str
    text: str
    bridge: Interface | None = None
    pairs: tuple[tuple[Interface, Interface], ...] = ()
    """The veth pairs. A pair is made where its first end is, and that end comes up first."""
    loopbacks: tuple[Interface, ...] = ()
    """The loopback devices that are looked at."""
    router: Router | None = None
    talks: tuple[tuple[Interface, Interface], ...]
    """Who speaks to whom: a client and a server. The first two are what examples are made of."""
    client_seen_as: str | None = None
    """The clients' address as the servers see it, if it is changed on the way."""
    published: Published | None = None
    mtu: int = 1500

    @property
    def client(self) -> Interface:
        """Who speaks first."""
        return self.talks[0][0]

    @property
    def server(self) -> Interface:
        """Who answers it."""
        return self.talks[0][1]

    @property
    def mark(self) -> str:
        """The alias of every device that is made for this lab: how ours are told from others."""
        return f"skbtrace lab {self.name}"

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """Every device: the bridge, the pairs' ends, the loopback devices."""
        bridge = () if self.bridge is None else (self.bridge,)
        return (*bridge, *(end for pair in self.pairs for end in pair), *self.loopbacks)

    @property
    def places(self) -> tuple[str, ...]:
        """HOST, if it has anything there, and the short names of its namespaces."""
        return tuple(dict.fromkeys(interface.at for interface in self.interfaces))

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The names of its namespaces under /run/netns."""
        return tuple(PREFIX + place for place in self.places if place != HOST)

    @property
    def on_host(self) -> bool:
        """Whether it has anything in the host's namespace: its bridge, then."""
        return HOST in self.places

    def at(self, place: str) -> Iterator[Interface]:
        """Give the devices at ``place``."""
        return (interface for interface in self.interfaces if interface.at == place)

    def renamed(self, names: Mapping[str, str]) -> Lab:
        """Return it with its ports on the host called otherwise: the name declared → the name."""
        pairs = (
            (replace(first, ifname=names.get(first.ifname, first.ifname)), second)
            if first.at == HOST
            else (first, second)
            for first, second in self.pairs
        )
        return replace(self, pairs=tuple(pairs))


def unnamed(bridge: Interface) -> str:
    """Return what the bridge is called until it bears the mark."""
    return f"skbt-{bridge.ifname}"


def _mac(address: str) -> str:
    # As Docker makes them.
    return "02:42:" + IPv4Interface(address).packed.hex(":", 1)


def _port_mac(address: str) -> str:
    # Fixed as well, so that two runs look alike; told from the other end's by the first byte.
    return "0a" + _mac(address)[2:]


# What `iptables-save` shows where a Docker Engine has made docker0, but for what it only prepares:
# chains for published ports, for networks of users, for rules of users.
_DOCKER0_RULES = """\
    chain FORWARD {
        type filter hook forward priority 0; policy accept;
        oifname "docker0" ct state established,related counter accept
        iifname "docker0" counter accept
        oifname "docker0" counter drop
    }
    chain POSTROUTING {
        type nat hook postrouting priority 100; policy accept;
        ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
    }
"""

# Docker, too, drops what else would be forwarded only where it was Docker that switched forwarding
# on (as FORWARD's policy). A bridge of somebody else that asks IPv4 (br_netfilter) did so before.
_DOCKER0_CLOSED = """\
        meta iifkind "bridge" meta oifkind "bridge" counter accept
        counter drop
"""


def _docker0() -> Lab:
    # Addresses, Ethernet addresses and names as Docker gives them; docker0's own Ethernet
    # address is random there and fixed here, so that two runs look alike.
    def container(number: int) -> Interface:
        address = f"172.17.0.{number + 1}/16"
        return Interface(f"c{number}", "eth0", _mac(address), address, gateway="172.17.0.1")

    c1, c2 = container(1), container(2)
    return Lab(
        name="docker0",
        text="two containers on Docker's default bridge",
        bridge=Interface(HOST, "docker0", "02:42:ac:11:00:01", "172.17.0.1/16"),
        pairs=(
            (Interface(HOST, "vethc1", is_port=True), c1),
            (Interface(HOST, "vethc2", is_port=True), c2),
        ),
        router=Router(HOST, f"{PREFIX}docker0", _DOCKER0_RULES, _DOCKER0_CLOSED),
        talks=((c1, c2),),
    )


def _net(number: int, address: str, gateway: str | None = None) -> Interface:
    return Interface(f"net{number}", f"veth{number}", _mac(address), address, gateway)


def _bridge(address: str) -> Interface:
    return Interface("router", "br0", _mac(address), address)


def _on_bridge(net: Interface) -> tuple[Interface, Interface]:
    port = Interface(
        "router", f"{net.ifname}_p", _port_mac(net.address or ""), address=None, is_port=True
    )
    return port, net


def _veth() -> Lab:
    net1, net2 = _net(1, "192.168.0.101/24"), _net(2, "192.168.0.102/24")
    return Lab(
        name="veth",
        text="two namespaces joined by one veth pair",
        pairs=((net1, net2),),
        talks=((net1, net2),),
    )


def _bridge_lab() -> Lab:
    net1, net2 = _net(1, "192.168.0.101/24"), _net(2, "192.168.0.102/24")
    return Lab(
        name="bridge",
        text="two namespaces on a bridge in a third",
        bridge=_bridge("192.168.0.100/24"),
        pairs=(_on_bridge(net1), _on_bridge(net2)),
        talks=((net1, net2),),
    )


_NAT_RULES = """\
    chain PREROUTING {
        type nat hook prerouting priority -100; policy accept;
        iifname "uplink" tcp dport 8088 counter dnat to 192.168.0.2:80
    }
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
        ct state established,related counter accept
        iifname "br0" oifname "uplink" counter accept
        ip daddr 192.168.0.2 tcp dport 80 ct status dnat counter accept
    }
    chain POSTROUTING {
        type nat hook postrouting priority 100; policy accept;
        ip saddr 192.168.0.0/24 oifname "uplink" counter masquerade
    }
"""


def _nat() -> Lab:
    net1 = _net(1, "192.168.0.2/24", gateway="192.168.0.1")
    uplink = Interface("router", "uplink", _mac("203.0.113.1/24"), "203.0.113.1/24")
    # It has no route to 192.168.0.0/24: without translation nothing comes back.
    outside = Interface("outside", "eth0", _mac("203.0.113.2/24"), "203.0.113.2/24")
    return Lab(
        name="nat",
        text="a network behind a router that translates addresses",
        bridge=_bridge("192.168.0.1/24"),
        pairs=(_on_bridge(net1), (uplink, outside)),
        router=Router("router", "skbtrace", _NAT_RULES),
        talks=((net1, outside),),
        client_seen_as=uplink.ip,
        published=Published(uplink.ip, 8088, caller=outside, server=net1, server_port=80),
    )


def _crowd() -> Lab:
    # Names and addresses of its own, so that it can stand beside any other lab. The last byte of
    # an address is the box's number.
    def box(number: int) -> Interface:
        address = f"10.0.30.{number}/24"
        return Interface(f"box{number}", "eth0", _mac(address), address)

    def port(number: int, box: Interface) -> Interface:
        mac = _port_mac(box.address or "")
        return Interface("crowd", f"veth{number}", mac, is_port=True)

    bridge = Interface("crowd", "br0", _mac("10.0.30.100/24"), "10.0.30.100/24")
    boxes = [box(number) for number in range(1, 31)]
    servers, clients = boxes[:5], boxes[5:]
    return Lab(
        name="crowd",
        text="thirty containers on one bridge",
        bridge=bridge,
        pairs=tuple((port(number, each), each) for number, each in enumerate(boxes, 1)),
        talks=tuple(zip(clients, servers * 5, strict=True)),
    )


def _loopback() -> Lab:
    alone = Interface("alone", "lo", address="127.0.0.1/8")
    return Lab(
        name="loopback",
        text="a namespace that talks to itself",
        loopbacks=(alone,),
        talks=((alone, alone),),
    )


LABS: dict[str, Lab] = {
    lab.name: lab for lab in (_docker0(), _veth(), _bridge_lab(), _nat(), _crowd(), _loopback())
}
