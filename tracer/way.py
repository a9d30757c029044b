# SPDX-License-Identifier: GPL-2.0-only
"""Where a packet should go: a topology and a destination -> the functions it passes, and why.

Facts in, words out: nothing is looked up, so this also tells of a trace from another host. The
facts are those of the moment when the topology was read; who is asked by ARP is taken to answer.
``Walk`` goes from device to device as the kernel would. Where the facts do not say how it goes on,
the way ends as one that is not known.

Rules that change addresses are looked at, those that filter are not, nor is whether a process
listens. Of the functions, those are told that the default layers show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple, NoReturn, TypeAlias

from tracer.model import Device, Forwarding, Netns, Rewrite, Route, Topology

_Address: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network

_MOST = 32
"""Devices that transmit it, before it is said to go round in circles."""
_REMEMBERED = 65_536
"""Addresses and networks that need not be read again."""
_TAKERS = {
    ("icmp", 4): "icmp_rcv",
    ("icmpv6", 6): "icmpv6_rcv",
    ("tcp", 4): "tcp_v4_rcv",
    ("tcp", 6): "tcp_v6_rcv",
    ("udp", 4): "udp_rcv",
    ("udp", 6): "udpv6_rcv",
}
"""Protocol and version of IP → the function that takes the packet in the end."""
FUNCTIONS = frozenset(
    {
        "veth_xmit",
        "__dev_forward_skb",
        "enqueue_to_backlog",
        "process_backlog",
        "__netif_receive_skb_core",
        "br_handle_frame",
        "br_handle_frame_finish",
        "br_forward",
        "br_forward_finish",
        "br_flood",
        "br_pass_frame_up",
        "br_dev_xmit",
        "loopback_xmit",
        "net_dev_start_xmit",
        *_TAKERS.values(),
    }
)
"""All that a step can be."""


_FOR_LOCAL = re.compile(r'--dst-type LOCAL|"daddr".*"local"')
"""A rule for the namespace's own addresses, as iptables and as nft list it."""


class End(StrEnum):
    """How a way ends."""

    DELIVERED = "delivered"
    LEAVES = "leaves"
    """By a device behind which nothing is known: an uplink."""
    STOPS = "stops"
    UNKNOWN = "unknown"
    """The topology does not say how it goes on."""


class Step(NamedTuple):
    """One function that the packet reaches, and the device it is then seen at."""

    function: str
    device: Device
    why: str = ""
    """What has decided that it comes here; nothing where there is no choice."""
    to: Device | None = None
    """Where the function hands it to: the port it is to leave by, the other end of a pair."""
    mac: str | None = None
    """br_forward: the address of the forwarding entry."""


class Way(NamedTuple):
    """The steps in order, and how it ends."""

    steps: tuple[Step, ...]
    end: End
    said: str
    """The end in words: what takes it, by what it leaves, what is missing."""


def expected_path(
    topology: Topology, source: Netns, dst: str, proto: str, dport: int | None = None
) -> Way:
    """Return the way of a new flow's first packet that is sent in namespace ``source``.

    ``proto`` as in ``Flow``. Raises nothing.
    """
    walk = Walk(topology, dst, proto, dport)
    return walk.way(lambda: walk.sent(source))


class _Over(Exception):  # noqa: N818 (no error: a way has its end)
    def __init__(self, end: End, said: str) -> None:
        super().__init__(said)
        self.end = end
        self.said = said


class Walk:
    """One packet on its way, from device to device.

    ``way`` takes what begins it: ``sent``, ``transmitted`` or ``received``. That goes on to the
    end and does not return, nor do the methods it calls.
    """

    def __init__(
        self,
        topology: Topology,
        dst: str,
        proto: str,
        dport: int | None,
        *,
        src: str | None = None,
        opens: bool = True,
        rewritten: Mapping[Netns, tuple[str | None, int | None]] | None = None,
    ) -> None:
        self._topology = topology
        self._dst = _address(dst)
        self._asked_for = dst
        self._dport = dport
        self._proto = proto
        self._src = _address(src or "")
        self._opens = opens
        self._rewritten = rewritten or {}
        self._peers = {one: other for pair in topology.pairs for one, other in (pair, pair[::-1])}
        self._macs = dict(topology.macs)
        self._states = {port.device: port for port in topology.states}
        self._down = frozenset(topology.down)
        self._steps: list[Step] = []
        self._because: list[str] = []
        """What was decided since the last step."""
        self._left = _MOST

    def way(self, begin: Callable[[], NoReturn]) -> Way:
        """Return the whole way. Raises nothing."""
        try:
            begin()
        except _Over as over:
            return Way(tuple(self._steps), over.end, over.said)

    # The namespace's own stack

    def sent(self, netns: Netns) -> NoReturn:
        """A process in that namespace sends it."""
        if self._dst is None:
            self._end(End.UNKNOWN, f"{self._asked_for} is no IP address")
        self._translated(netns, "LOCAL_OUT")
        self._routed(netns, None)

    def _routed(self, netns: Netns, arrived: Device | None) -> NoReturn:
        """By its route; ``arrived``: the device that received it, if it was not sent here."""
        if not self._knows_routes(netns):
            self._end(End.UNKNOWN, f"the routes of {netns.name} are not known")
        if self._dst is None or self._dst.is_multicast or str(self._dst) == "255.255.255.255":
            self._end(End.UNKNOWN, f"{self._dst} is for many")
        route = self._route(netns)
        if route is None:
            self._end(End.STOPS, f"no route to {self._dst} in {netns.name}")
        if route.type == "local" and arrived is not None:
            self._taken(arrived)
        if route.type == "local":
            self._looped(netns)
        if route.type in {"blackhole", "unreachable", "prohibit"}:
            said = f"the route for {route.dst} in {netns.name} says {route.type}"
            self._end(End.STOPS, said)
        if route.type != "unicast" or route.device is None:
            self._end(End.UNKNOWN, f"where {route.dst} leads in {netns.name} is not known")
        if arrived is not None and self._version == 6:
            self._end(End.UNKNOWN, f"whether {netns.name} forwards IPv6 is not known")
        if arrived is not None and netns not in self._topology.forwards:
            self._end(End.STOPS, f"ip_forward is off in {netns.name}")
        via = f" via {route.gateway}" if route.gateway else ""
        self._because.append(f"route {route.dst}{via}")
        self.transmitted(route.device, route.gateway or str(self._dst))

    def _looped(self, netns: Netns) -> NoReturn:
        """To an address of its own namespace."""
        lo = next((d for d in self._devices() if d.netns == netns and d.ifname == "lo"), None)
        if lo is None:
            self._end(End.UNKNOWN, f"the loopback device of {netns.name} is not known")
        if lo in self._down:
            self._end(End.STOPS, f"{lo.place} is down")
        self._step("loopback_xmit", lo, f"{netns.name} has {self._dst}")
        self._step("enqueue_to_backlog", lo)
        self._step("process_backlog", lo)
        self._step("__netif_receive_skb_core", lo)
        self._taken(lo)

    def _taken(self, device: Device) -> NoReturn:
        netns = device.netns.name
        taker = _TAKERS.get((self._proto, self._version))
        if taker is None:
            self._end(End.DELIVERED, f"delivered in {netns}")
        self._step(taker, device, f"{netns} has {self._dst}")
        port = "" if self._dport is None else f" for port {self._dport}"
        self._end(End.DELIVERED, f"delivered to {self._proto.upper()} in {netns}{port}")

    def _arrived(self, device: Device) -> NoReturn:
        """Up the stack of the namespace whose device has received it."""
        netns = device.netns
        if netns in self._rewritten:
            dst, dport = self._rewritten[netns]
            self._dst = _address(dst or "") or self._dst
            self._dport = self._dport if dport is None else dport
        elif not self._opens and any(r.netns == netns for r in self._topology.rewrites):
            said = f"which addresses connection tracking in {netns.name} gives it is not known"
            self._end(End.UNKNOWN, said)
        else:
            self._translated(netns, "PRE_ROUTING", came_by=device)
        self._routed(netns, device)

    # The link

    def transmitted(
        self, device: Device, next_hop: str | None = None, *, mac: str | None = None
    ) -> NoReturn:
        """A device is to transmit it, to this address or to that of who has ``next_hop``."""
        self._left -= 1
        if self._left < 0:
            self._end(End.STOPS, "it goes round in circles, until its TTL is used up")
        if device in self._down:
            self._end(End.STOPS, self._is_down(device))
        if device.ifname == "lo":
            self._looped(device.netns)
        self._source_translated(device)
        bridge = self._topology.bridge
        if device != bridge and device not in self._peers:
            if device in self._topology.uplinks:
                self._step("net_dev_start_xmit", device)
            self._end(End.LEAVES, f"leaves by {device.place}")
        if mac is None and next_hop is not None:
            owner = self._owner(device, next_hop)
            if owner is None and self._is_closed(device):
                said = f"nobody on the network of {device.place} has {next_hop}"
                self._end(End.STOPS, said)
            mac = None if owner is None else self._macs.get(owner)
        if device == bridge:
            self._step("br_dev_xmit", device)
            self._switched(device, mac, None)
        self._crossed(device, mac)

    def _crossed(self, device: Device, mac: str | None) -> NoReturn:
        """Over a veth pair."""
        peer = self._peers[device]
        if peer in self._down:
            self._end(End.STOPS, self._is_down(peer))
        self._step("veth_xmit", device)
        self._step("__dev_forward_skb", device, f"the other end is {peer.place}", to=peer)
        self._step("enqueue_to_backlog", peer)
        self._step("process_backlog", peer)
        self.received(peer, mac)

    def received(self, device: Device, mac: str | None) -> NoReturn:
        """A device receives the frame that is for this address."""
        self._step("__netif_receive_skb_core", device)
        if device in self._topology.ports:
            self._bridged(device, mac)
        own = self._macs.get(device)
        if mac is not None and own is not None and mac != own:
            said = f"the frame is for {mac}, {device.place} has {own}"
            self._end(End.STOPS, said)
        self._arrived(device)

    # The bridge

    def _bridged(self, port: Device, mac: str | None) -> NoReturn:
        """From a port into its bridge."""
        state = self._states.get(port)
        self._step("br_handle_frame", port)
        if state is not None and state.state not in {"forwarding", "learning"}:
            self._end(End.STOPS, f"{port.place} is {state.state}")
        self._step("br_handle_frame_finish", port)
        if state is None:
            self._end(End.UNKNOWN, f"the state of {port.place} is not known")
        if state.vlans and state.pvid is None:
            said = f"{port.place} has no VLAN for frames without a tag"
            self._end(End.STOPS, said)
        if state.state == "learning":
            self._end(End.STOPS, f"{port.place} is learning")
        self._switched(port, mac, state.pvid)

    def _switched(self, at: Device, mac: str | None, vlan: int | None) -> NoReturn:
        """By the forwarding table. ``at``: a port, or the bridge itself if it transmits."""
        bridge = self._topology.bridge
        if bridge is None or mac is None:
            self._end(End.UNKNOWN, f"whom the frame is for at {at.place} is not known")
        entry = self._entry(mac, vlan)
        own = self._macs.get(bridge) == mac
        if own or (entry is not None and (entry.local or entry.device == bridge)):
            if at == bridge:
                self._end(End.STOPS, f"{bridge.place} itself has {mac}")
            self._up(at, bridge, mac)
        if entry is not None:
            out = entry.device
            why = f"forwarding entry {mac}: {out.ifname}"
            self._step("br_forward", at, why, to=out, mac=mac)
            forbidden = self._forbidden(at, out, vlan)
            if forbidden is not None:
                self._end(End.STOPS, forbidden)
            self._out_of(out, mac)
        nothing = f"no forwarding entry for {mac}"
        self._step("br_flood", at, f"{nothing}: flooded to every port")
        for out in self._topology.ports:
            if self._macs.get(self._peers.get(out, out)) == mac:
                break
        else:
            if all(port in self._peers for port in self._topology.ports):
                self._end(End.STOPS, f"no device here has {mac}")
            self._end(End.UNKNOWN, f"who has {mac} is not known")
        forbidden = self._forbidden(at, out, vlan)
        state = self._states.get(out)
        if forbidden is None and state is not None and not state.flood:
            forbidden = f"nothing is flooded to {out.place}"
        if forbidden is not None:
            self._end(End.STOPS, f"{nothing}, and {forbidden}")
        self._out_of(out, mac)

    def _up(self, port: Device, bridge: Device, mac: str) -> NoReturn:
        if bridge in self._down:
            self._end(End.STOPS, f"{bridge.place} is down")
        self._step("br_pass_frame_up", port, f"{bridge.ifname} has {mac}")
        self._step("__netif_receive_skb_core", bridge)
        self._arrived(bridge)

    def _forbidden(self, at: Device, out: Device, vlan: int | None) -> str | None:
        """What keeps a frame from leaving by that port."""
        into, state = self._states.get(at), self._states.get(out)
        said = None
        if out in self._down:
            said = self._is_down(out)
        elif state is None:
            self._end(End.UNKNOWN, f"the state of {out.place} is not known")
        elif state.state != "forwarding":
            said = f"{out.place} is {state.state}"
        elif at == out and not state.hairpin:
            said = f"it would leave by {out.place}, by which it came"
        elif vlan is not None and state.vlans and vlan not in state.vlans:
            said = f"VLAN {vlan} is not allowed at {out.place}"
        elif into is not None and into.isolated and state.isolated:
            said = f"{at.place} and {out.place} are isolated ports"
        return said

    def _out_of(self, port: Device, mac: str) -> NoReturn:
        self._step("br_forward_finish", port)
        self._left -= 1
        if self._left < 0:
            self._end(End.STOPS, "it goes round in circles")
        if port not in self._peers:
            self._end(End.LEAVES, f"leaves by {port.place}")
        self._crossed(port, mac)

    # What the topology says

    @property
    def _version(self) -> int:
        return 4 if self._dst is None else self._dst.version

    def _devices(self) -> list[Device]:
        topology = self._topology
        routed = [route.device for route in topology.routes if route.device is not None]
        return [*topology.ends, *topology.others, *routed]

    def _knows_routes(self, netns: Netns) -> bool:
        topology = self._topology
        return any(route.netns == netns for route in topology.routes) or (
            bool(topology.routes) and any(d.netns == netns for d in topology.addressed)
        )

    def _route(self, netns: Netns) -> Route | None:
        """The table ``local`` goes before ``main``, in each the longest prefix.

        Of one that has several next hops the device is None.
        """
        best: tuple[bool, int, int] | None = None
        found: Route | None = None
        for route in self._topology.routes:
            if route.netns.inum != netns.inum:
                continue
            network = _network(route.dst)
            if network is None or not _is_in(self._dst, network):
                continue
            rank = (route.type in {"local", "broadcast"}, network.prefixlen, -route.metric)
            if best is None or rank > best:
                best, found = rank, route
            elif rank == best and found is not None and found[3:5] != route[3:5]:
                found = found._replace(device=None)
        return found

    def _is_down(self, device: Device) -> str:
        peer = self._peers.get(device)
        if peer is None or peer not in self._down:
            return f"{device.place} is down"
        # Of a pair, both are down if one is.
        return f"{device.place} or its other end, {peer.place}, is down"

    def _neighbours(self, device: Device) -> list[Device]:
        """The devices that a frame from this one can be for."""
        topology = self._topology
        peer = self._peers.get(device)
        if device != topology.bridge and peer not in topology.ports:
            return [] if peer is None else [peer]
        ends = [self._peers[port] for port in topology.ports if port in self._peers]
        bridge = [] if topology.bridge is None else [topology.bridge]
        return [each for each in (*bridge, *ends) if each != device]

    def _is_closed(self, device: Device) -> bool:
        """Whether all its neighbours are known."""
        ports = self._topology.ports
        if device != self._topology.bridge and self._peers.get(device) not in ports:
            return True
        return all(port in self._peers for port in ports)

    def _owner(self, device: Device, ip: str) -> Device | None:
        """The neighbour that answers for an address: its own, or any of its namespace."""
        wanted = _address(ip)
        neighbours = self._neighbours(device)
        for owner, address in self._topology.addresses:
            if owner in neighbours and _address(address.split("/", 1)[0]) == wanted:
                return owner
        for route in self._topology.routes:
            network = _network(route.dst)
            if route.type == "local" and network is not None and network.num_addresses == 1:
                for neighbour in neighbours:
                    if neighbour.netns == route.netns and network.network_address == wanted:
                        return neighbour
        return None

    # Rules that change addresses

    def _translated(self, netns: Netns, hook: str, came_by: Device | None = None) -> None:
        """Apply the first rule that gives it another destination."""
        for rule in self._topology.rewrites:
            if (
                rule.netns == netns
                and rule.hook == hook
                and rule.kind in {"dnat", "redirect"}
                and self._matches(rule)
                and _is_named(rule.iifname, came_by)
                and rule.oifname is None
                and (self._is_local(netns) or not _FOR_LOCAL.search(rule.rule))
            ):
                break
        else:
            return
        dst, dport = _target(rule.to)
        if rule.kind == "redirect":
            owned = [] if came_by is None else self._given(came_by)
            dst = owned[0] if owned else _address("127.0.0.1" if self._version == 4 else "::1")
        if dst is None and dport is None:
            self._end(End.UNKNOWN, f"where {rule.kind} in {netns.name} leads is not known")
        said = "DNAT" if rule.kind == "dnat" else "redirect"
        asked = self._dst if self._dport is None else self._dport
        self._because.append(f"{said} {asked} to {rule.to}")
        self._dst = dst or self._dst
        self._dport = self._dport if dport is None else dport

    def _is_local(self, netns: Netns) -> bool:
        route = self._route(netns)
        return route is not None and route.type == "local"

    def _source_translated(self, device: Device) -> None:
        """Apply the first rule that gives it another source."""
        owned = self._given(device)
        if self._src is None and owned:
            self._src = owned[0]
        for rule in self._topology.rewrites:
            if (
                rule.netns == device.netns
                and rule.hook == "POST_ROUTING"
                and rule.kind in {"snat", "masquerade"}
                and self._matches(rule)
                and _is_named(rule.oifname, device)
                and rule.iifname is None
            ):
                src = _target(rule.to)[0] if rule.kind == "snat" else None
                self._src = src or (owned[0] if owned else None)
                self._because.append("masquerade" if src is None else f"SNAT to {src}")
                return

    def _given(self, device: Device) -> list[_Address]:
        """The addresses of a device, of the packet's version of IP."""
        found = [_address(a.split("/", 1)[0]) for d, a in self._topology.addresses if d == device]
        return [each for each in found if each is not None and each.version == self._version]

    def _matches(self, rule: Rewrite) -> bool:
        return (
            _agrees(rule.proto, lambda proto: proto == self._proto)
            and _agrees(rule.src, lambda src: _is_in(self._src, _network(src)))
            and _agrees(rule.dst, lambda dst: _is_in(self._dst, _network(dst)))
            and _agrees(rule.dport, lambda ports: _is_within(self._dport, ports))
        )

    def _entry(self, mac: str, vlan: int | None) -> Forwarding | None:
        for entry in self._topology.fdb:
            if entry.mac == mac and (entry.vlan in {None, vlan} or vlan is None):
                return entry
        return None

    # What is told

    def _step(
        self,
        function: str,
        device: Device,
        why: str = "",
        *,
        to: Device | None = None,
        mac: str | None = None,
    ) -> None:
        because = [*self._because, *([why] if why else [])]
        self._because.clear()
        self._steps.append(Step(function, device, "; ".join(because), to, mac))

    def _end(self, end: End, said: str) -> NoReturn:
        because = f" ({'; '.join(self._because)})" if self._because else ""
        raise _Over(end, f"{said}{because}")


@lru_cache(maxsize=_REMEMBERED)
def _address(text: str) -> _Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


@lru_cache(maxsize=_REMEMBERED)
def _network(text: str) -> _Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _is_in(address: _Address | None, network: _Network | None) -> bool:
    return address is not None and network is not None and address in network


def _is_within(port: int | None, ports: str) -> bool:
    first, _, last = ports.partition("-")
    if port is None or not first.isdecimal() or not (last or first).isdecimal():
        return False
    return int(first) <= port <= int(last or first)


def _agrees(value: str | None, test: Callable[[str], bool]) -> bool:
    """Whether what a rule asks for is so; a leading ``!`` turns it round."""
    if value is None:
        return True
    return not test(value[1:]) if value.startswith("!") else test(value)


def _is_named(value: str | None, device: Device | None) -> bool:
    def test(name: str) -> bool:
        if device is None:
            return False
        if name[-1:] in {"*", "+"}:  # as nft and as iptables write it
            return device.ifname.startswith(name[:-1])
        return device.ifname == name

    return _agrees(value, test)


def _target(to: str | None) -> tuple[_Address | None, int | None]:
    """``172.17.0.2:80``, ``:8080``, ``[2001:db8::2]:80`` or an address alone."""
    if to is None:
        return None, None
    alone = _address(to)
    if alone is not None:
        return alone, None
    host, _, port = to.rpartition(":")
    return _address(host.strip("[]")), int(port) if port.isdecimal() else None
