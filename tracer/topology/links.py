# SPDX-License-Identifier: GPL-2.0-only
"""What netlink says about one namespace: its devices, addresses, routes, a bridge's table.

Call these inside ``netns.inside``. Names are the kernel's, not yet safe to print. Numbers are those
of linux/rtnetlink.h, linux/if_link.h and linux/neighbour.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from tracer.topology.netlink import (
    Attributes,
    Netlink,
    attribute,
    attributes,
    each,
    text,
    u8,
    u16,
    u32,
)

_GETLINK, _GETADDR, _GETROUTE, _GETNEIGH, _GETNSID = 18, 22, 26, 30, 90
_UNSPEC = b"\0\0\0\0"
_AF_BRIDGE = 7

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NEXTHOP = struct.Struct("=HBBi")
_NDMSG = struct.Struct("=BxxxiHBB")
_VLAN = struct.Struct("=HH")

_EXT_MASK, _VLANS_COMPRESSED, _SKIP_STATS = 29, 1 << 2, 1 << 3
_IFF_UP, _OPER_UP = 1, 6
_PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
_PVID, _RANGE_BEGIN, _RANGE_END = 1 << 1, 1 << 3, 1 << 4
_PERMANENT = 0x80
_TABLES = {254: "main", 255: "local"}
_ROUTE_TYPES = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}
"""Those that decide where a packet for one host goes."""
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class BridgePort(NamedTuple):
    """What a bridge does at one of its ports. As ``model.Port``."""

    state: str
    isolated: bool
    hairpin: bool
    learning: bool
    flood: bool


class Link(NamedTuple):
    """What netlink says about a device, as far as skbtrace needs it."""

    ifindex: int
    ifname: str
    kind: str | None
    """``bridge``, ``veth``, ...; None for hardware and loopback."""
    alias: str | None = None
    mac: str | None = None
    """None if it has no Ethernet address, or only zeros."""
    up: bool = True
    """Its operational state is UP."""
    down: bool = False
    """It is not up, or has no carrier. The operational state follows that up to a second later."""
    master: int | None = None
    """The ifindex of the bridge it is a port of."""
    port: BridgePort | None = None
    filters_vlans: bool = False
    """It is a bridge with vlan_filtering."""
    peer: int | None = None
    """A veth's other end: its ifindex in the namespace with the id ``peer_nsid``."""
    peer_nsid: int | None = None
    """None where the other end is in the same namespace."""

    @property
    def forwards(self) -> bool:
        """It is a bridge port in the forwarding state."""
        return self.port is not None and self.port.state == "forwarding"


class Route(NamedTuple):
    """As ``model.Route``, with the ifindex."""

    type: str
    dst: str
    gateway: str | None
    ifindex: int | None
    metric: int


class Forwarding(NamedTuple):
    """As ``model.Forwarding``, with the ifindex."""

    mac: str
    ifindex: int
    vlan: int | None
    local: bool


class Stack(NamedTuple):
    """What there is in one namespace."""

    links: dict[int, Link]
    """ifindex → device."""
    addresses: list[tuple[int, str]]
    """(ifindex, ``address/prefix length``)"""
    routes: list[Route]
    """Of the tables ``local`` and ``main``, IPv4 and IPv6."""
    forwards: bool
    """It forwards IPv4 (ip_forward)."""


def read() -> list[Link]:
    """Return every device of this namespace. Raises OSError."""
    with Netlink() as route:
        return _links(route)


def stack() -> Stack:
    """Return what there is in this namespace. Raises OSError."""
    with Netlink() as route:
        return Stack(
            {link.ifindex: link for link in _links(route)},
            list(_addresses(route)),
            list(_routes(route)),
            _forwards(),
        )


def _forwards() -> bool:
    fd = os.open("/proc/sys/net/ipv4/ip_forward", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1) != b"0"
    finally:
        os.close(fd)


def _links(route: Netlink) -> list[Link]:
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_EXT_MASK, _SKIP_STATS)
    return [_link(message) for message in route.dump(_GETLINK, body)]


def _link(message: bytes) -> Link:
    _, _, ifindex, flags, _ = _IFINFO.unpack_from(message)
    found = attributes(message, _IFINFO.size)
    info = attributes(found.get(18, b""))
    kind = text(info.get(1))
    master = u32(found.get(10))
    address = found.get(1, b"")
    return Link(
        ifindex=ifindex,
        ifname=text(found.get(3)) or "",
        kind=kind,
        alias=text(found.get(20)),
        mac=address.hex(":") if len(address) == 6 and any(address) else None,
        up=u8(found.get(16)) == _OPER_UP,
        down=not flags & _IFF_UP or u8(found.get(33)) == 0,
        master=master,
        port=_port(attributes(info[5])) if info.get(4) == b"bridge\0" and 5 in info else None,
        filters_vlans=kind == "bridge" and u8(attributes(info.get(2, b"")).get(7)) == 1,
        peer=u32(found.get(5)),
        peer_nsid=u32(found.get(37)),
    )


def _port(found: Mapping[int, bytes]) -> BridgePort:
    state = u8(found.get(1)) or 0
    return BridgePort(
        state=_PORT_STATES[state] if state < len(_PORT_STATES) else str(state),
        isolated=u8(found.get(33)) == 1,
        hairpin=u8(found.get(4)) == 1,
        learning=u8(found.get(8)) != 0,
        flood=u8(found.get(9)) != 0,
    )


def _addresses(route: Netlink) -> Iterator[tuple[int, str]]:
    for message in route.dump(_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
        family, length, _, _, ifindex = _IFADDR.unpack_from(message)
        found = attributes(message, _IFADDR.size)
        address = found.get(2) or found.get(1)  # of a tunnel, the second is the other end's
        if family in _FAMILIES and address:
            yield ifindex, f"{socket.inet_ntop(family, address)}/{length}"


def _routes(route: Netlink) -> Iterator[Route]:
    for message in route.dump(_GETROUTE, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, length, src_length, tos, table, _, _, kind, _ = _RTMSG.unpack_from(message)
        # A route for some senders or some kinds of service only is not everybody's.
        if table not in _TABLES or kind not in _ROUTE_TYPES or src_length or tos:
            continue
        if family not in _FAMILIES:
            continue
        found = attributes(message, _RTMSG.size)
        none = bytes(4 if family == socket.AF_INET else 16)
        dst = f"{socket.inet_ntop(family, found.get(1, none))}/{length}"
        metric = u32(found.get(6)) or 0
        # RTA_MULTIPATH: several next hops.
        ways = _next_hops(found[9]) if 9 in found else [(u32(found.get(4)), found)]
        for ifindex, way in ways:
            yield Route(_ROUTE_TYPES[kind], dst, _gateway(family, way), ifindex, metric)


def _next_hops(value: bytes) -> list[tuple[int | None, Attributes]]:
    found: list[tuple[int | None, Attributes]] = []
    offset = 0
    while offset + _NEXTHOP.size <= len(value):
        size, _, _, ifindex = _NEXTHOP.unpack_from(value, offset)
        if size < _NEXTHOP.size:
            break
        found.append((ifindex, attributes(value[offset : offset + size], _NEXTHOP.size)))
        offset += size + 3 & ~3
    return found


def _gateway(family: int, found: Mapping[int, bytes]) -> str | None:
    if 5 in found:
        return socket.inet_ntop(family, found[5])
    via = found.get(18)  # a gateway of the other family
    if via is not None and u16(via) in _FAMILIES:
        return socket.inet_ntop(u16(via) or 0, via[2:])
    return None


def forwardings(bridge: int) -> list[Forwarding]:
    """Return the forwarding table of a bridge of this namespace. Raises OSError."""
    found = []
    body = _IFINFO.pack(_AF_BRIDGE, 0, 0, 0, 0) + attribute(10, bridge)
    with Netlink() as route:
        for message in route.dump(_GETNEIGH, body):
            _, ifindex, state, _, _ = _NDMSG.unpack_from(message)
            entry = attributes(message, _NDMSG.size)
            if u32(entry.get(9)) == bridge and 2 in entry:  # else a device's own list of groups
                local = bool(state & _PERMANENT)
                found.append(Forwarding(entry[2].hex(":"), ifindex, u16(entry.get(5)), local))
    return found


def vlans() -> dict[int, tuple[tuple[int, ...], int | None]]:
    """Return bridge port's ifindex → (VLANs, pvid), of this namespace. Raises OSError."""
    body = _IFINFO.pack(_AF_BRIDGE, 0, 0, 0, 0) + attribute(_EXT_MASK, _VLANS_COMPRESSED)
    with Netlink() as route:
        return {
            _IFINFO.unpack_from(message)[2]: _vlans(attributes(message, _IFINFO.size).get(26, b""))
            for message in route.dump(_GETLINK, body)
        }


def _vlans(value: bytes) -> tuple[tuple[int, ...], int | None]:
    found: list[int] = []
    pvid = begin = None
    for kind, entry in each(value):
        if kind != 2 or len(entry) < _VLAN.size:
            continue
        flags, vlan = _VLAN.unpack_from(entry)
        if flags & _PVID:
            pvid = vlan
        if flags & _RANGE_BEGIN:
            begin = vlan
        elif flags & _RANGE_END and begin is not None:
            found += range(begin, vlan + 1)
        else:
            found.append(vlan)
    return tuple(found), pvid


def nsids(paths: Mapping[int, str], wanted: Iterable[int]) -> dict[int, int]:
    """Return this namespace's id (the one in ``Link.peer_nsid``) → inode number.

    ``paths``: inode number → path, of the namespaces to ask about; it stops when every
    id in ``wanted`` is found. A namespace that is gone is left out. Raises OSError.
    """
    missing = set(wanted)
    found: dict[int, int] = {}
    ask = list(paths.items())
    with Netlink() as route:
        while ask and missing:
            some, ask = ask[:_FILES], ask[_FILES:]
            for inum, nsid in _nsids(route, some):
                if nsid in missing:
                    missing.remove(nsid)
                    found[nsid] = inum
    return found


_FILES = 64
"""Open at once."""


def _nsids(route: Netlink, paths: list[tuple[int, str]]) -> Iterator[tuple[int, int]]:
    with ExitStack() as stack:
        inums, bodies = [], []
        for inum, path in paths:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            stack.callback(os.close, fd)
            inums.append(inum)
            bodies.append(_UNSPEC + attribute(3, fd))
        for inum, answer in zip(inums, route.ask(_GETNSID, bodies), strict=True):
            nsid = None if answer is None else u32(attributes(answer, len(_UNSPEC)).get(1))
            if nsid is not None:
                yield inum, nsid
