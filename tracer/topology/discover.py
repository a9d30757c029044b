# SPDX-License-Identifier: GPL-2.0-only
"""What a trace is about: a bridge and what it joins, a lab, or everything.

Only reads. A bridge is one whoever made it: a lab, Docker or a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from tracer.errors import PrerequisiteError, TopologyError
from tracer.model import Device, Forwarding, Netns, Port, Rewrite, Route, Scope, Topology
from tracer.text import printable
from tracer.topology import links, netns, rewrites
from tracer.topology.links import Link, Stack
from tracer.topology.names import Names
from tracer.topology.spec import LABS, Interface, Lab
from tracer.topology.state import as_called, path_of

AUTO = "auto"
"""The name of everything this host has."""


def lab_called(name: str) -> Lab | None:
    """Return the lab that ``name`` means, or None: a bridge that exists goes before a lab.

    The lab in the host's namespace is meant also where its bridge exists, whoever made that.
    Raises OSError.
    """
    lab = LABS.get(name)
    return None if lab is not None and not lab.on_host and is_bridge(name) else lab


def discover(bridge_name: str, names: Names) -> Topology:
    """Find the bridge in the host's namespace and everything that hangs on it.

    Raises TopologyError if there is no such device or it is not a bridge, and
    PrerequisiteError without the right to look into other namespaces.
    """
    try:
        return _discover(bridge_name, names)
    except PermissionError as error:
        raise PrerequisiteError(
            "looking into other network namespaces needs root",
            hint=f"sudo skbtrace --topology {printable(bridge_name)}",
        ) from error


def discover_lab(lab: Lab, names: Names) -> Topology:
    """Find every device of a lab that stands. Its veth ends that are no ports are ``ends``.

    Raises TopologyError if it does not stand whole, and PrerequisiteError without the right to look
    into its namespaces.
    """
    try:
        return _discover_lab(lab, names)
    except PermissionError as error:
        raise PrerequisiteError(
            "looking into other network namespaces needs root",
            hint=f"sudo skbtrace --topology {lab.name}",
        ) from error
    except (FileNotFoundError, KeyError) as error:
        raise TopologyError(
            f"the lab {lab.name} does not stand whole", hint=f"sudo skbtrace lab up {lab.name}"
        ) from error


def bridges() -> list[str]:
    """Return the names of the bridges in the host's namespace, sorted. Raises OSError."""
    found = netns.inside(netns.OWN, links.read)
    return sorted(link.ifname for link in found if link.kind == "bridge")


def is_bridge(name: str) -> bool:
    """Whether the host's namespace has a bridge of that name. Raises OSError."""
    return name in bridges()


def everything(names: Names) -> Topology:
    """Return the topology of every device of this host.

    That is, in every namespace that has a name or a process. Raises OSError.
    """
    names.refresh()
    places = names.places()
    found = netns.inside_each({inum: place.path for inum, place in places.items()}, links.read)
    for inum, there in found.items():
        names.learn(places[inum].netns, there)
    every = (names.device(inum, link.ifindex) for inum, there in found.items() for link in there)
    return Topology(AUTO, others=tuple(every))


def root(topology: Topology, names: Names) -> str:
    """Return where the namespace can be entered that all others hang on: the bridge's, if any."""
    first = topology.bridge or next(iter(topology.ends), None)
    return netns.OWN if first is None else names.path(first.netns.inum) or netns.OWN


def devices(topology: Topology) -> Iterator[Device]:
    """Give every device of a topology."""
    if topology.bridge is not None:
        yield topology.bridge
    yield from topology.ports
    yield from topology.ends
    yield from topology.others
    yield from topology.uplinks


def scope(topology: Topology) -> Scope | None:
    """Return the devices where journeys may begin; None: everywhere. See ``model.Scope``.

    Within are the bridge, its ports, and every device of the namespaces at their other ends;
    beside are the uplinks.
    """
    if topology.name == AUTO:
        return None
    within = (*topology.own, *topology.others)
    return {
        (device.netns.inum, device.ifindex): inside
        for devices, inside in ((topology.uplinks, False), (within, True))
        for device in devices
    }


class _Middle(NamedTuple):
    """What there is in the namespace of the bridge, or of a lab's router."""

    netns: Netns
    stack: Stack
    forwardings: list[links.Forwarding]
    vlans: Mapping[int, tuple[tuple[int, ...], int | None]]
    """Ports by ifindex; empty unless the bridge filters VLANs."""


def _middle(at: Netns, bridge: Link | None, stack: Stack) -> _Middle:
    """Read it, inside the namespace. Raises OSError."""
    if bridge is None:
        return _Middle(at, stack, [], {})
    vlans = links.vlans() if bridge.filters_vlans else {}
    return _Middle(at, stack, links.forwardings(bridge.ifindex), vlans)


def _discover(bridge_name: str, names: Names) -> Topology:
    names.refresh()
    places = names.places()
    host = places[names.host.inum]
    paths = {inum: place.path for inum, place in places.items()}

    def look() -> tuple[Link, _Middle, dict[int, int]]:
        stack = links.stack()
        bridge = _bridge(bridge_name, stack.links.values())
        nsids = {
            link.peer_nsid
            for link in stack.links.values()
            if link.master == bridge.ifindex and link.kind == "veth" and link.peer_nsid is not None
        }
        inums = links.nsids(paths, nsids) if nsids else {}
        return bridge, _middle(host.netns, bridge, stack), inums

    bridge, middle, inums = netns.inside(host.path, look)
    away = {inum: paths[inum] for inum in inums.values() if inum != host.netns.inum}
    stacks = {host.netns.inum: middle.stack, **netns.inside_each(away, links.stack)}
    for inum, stack in stacks.items():
        names.learn(places[inum].netns, stack.links.values())
    ports = sorted(
        (link for link in middle.stack.links.values() if link.master == bridge.ifindex),
        key=lambda link: link.ifindex,
    )
    port_devices = {port.ifindex: names.device(host.netns.inum, port.ifindex) for port in ports}
    pairs = []
    for port in ports:
        at = host.netns.inum if port.peer_nsid is None else inums.get(port.peer_nsid, -1)
        if port.kind == "veth" and at in stacks and port.peer in stacks[at].links:
            pairs.append((port_devices[port.ifindex], names.device(at, port.peer or 0)))
    topology = Topology(
        name=printable(bridge_name),
        bridge=names.device(host.netns.inum, bridge.ifindex),
        ports=tuple(port_devices.values()),
        ends=tuple(end for _, end in pairs),
        pairs=tuple(pairs),
    )
    return _filled(topology, names, stacks, middle, host.path)


def _discover_lab(lab: Lab, names: Names) -> Topology:
    """As ``discover_lab``; raises KeyError or FileNotFoundError if something is missing."""
    names.refresh()
    lab = as_called(lab)
    devices: dict[Interface, Device] = {}
    stacks: dict[int, Stack] = {}
    paths: dict[str, int] = {place: netns.inum(path_of(place)) for place in lab.places}
    centre = lab.bridge.at if lab.bridge is not None else lab.router.at if lab.router else None
    middle = None
    for place, inum in paths.items():
        found = stacks[inum] = netns.inside(path_of(place), links.stack)
        names.learn(names.netns(inum), found.links.values())
        by_name = {link.ifname: link for link in found.links.values()}
        for interface in lab.at(place):
            devices[interface] = names.device(inum, by_name[interface.ifname].ifindex)
        if place == centre:
            bridge = None if lab.bridge is None else by_name[lab.bridge.ifname]
            work = partial(_middle, names.netns(inum), bridge, found)
            middle = netns.inside(path_of(place), work)
    others = [interface for interface in lab.interfaces if interface != lab.bridge]
    topology = Topology(
        name=lab.name,
        bridge=None if lab.bridge is None else devices[lab.bridge],
        ports=tuple(devices[each] for each in others if each.is_port),
        ends=tuple(devices[each] for each in others if not each.is_port),
        pairs=tuple(
            (devices[one], devices[other])
            for one, other in (sorted(pair, key=lambda end: not end.is_port) for pair in lab.pairs)
        ),
    )
    return _filled(topology, names, stacks, middle, path_of(centre) if centre else None)


def _filled(
    topology: Topology,
    names: Names,
    stacks: Mapping[int, Stack],
    middle: _Middle | None,
    path: str | None,
) -> Topology:
    """Return the topology with everything that can be told of its devices and namespaces."""
    routes = tuple(_routes(names, stacks))
    uplinks: tuple[Device, ...] = ()
    if middle is not None:
        leading = (r.device for r in routes if r.netns == middle.netns and r.type == "unicast")
        uplinks = tuple(
            dict.fromkeys(d for d in leading if d is not None and _leads_out(d, middle))
        )
    known = dict.fromkeys(topology.own)
    others = tuple(
        names.device(end_inum, ifindex)
        for end_inum in dict.fromkeys(end.netns.inum for end in topology.ends)
        if end_inum != names.host.inum
        for ifindex in stacks[end_inum].links
        if names.device(end_inum, ifindex) not in known
    )
    every = dict.fromkeys((*known, *others, *uplinks))
    addressed = dict.fromkeys((*topology.addressed, *uplinks))
    found = {device: stacks[device.netns.inum].links.get(device.ifindex) for device in every}
    return replace(
        topology,
        addresses=tuple(
            (names.device(inum, ifindex), address)
            for inum, stack in stacks.items()
            for ifindex, address in stack.addresses
            if names.device(inum, ifindex) in addressed
        ),
        others=others,
        uplinks=uplinks,
        macs=tuple((device, link.mac) for device, link in found.items() if link and link.mac),
        down=tuple(device for device, link in found.items() if link and link.down),
        states=() if middle is None else tuple(_states(topology.ports, middle)),
        fdb=() if middle is None else tuple(_fdb(names, middle)),
        routes=routes,
        rewrites=() if path is None or middle is None else _rewrites(middle.netns, path),
        forwards=tuple(names.netns(inum) for inum, stack in stacks.items() if stack.forwards),
    )


def _leads_out(device: Device, middle: _Middle) -> bool:
    """Whether what is sent by it leaves the middle: it is no bridge, no port of one, not lo."""
    link = middle.stack.links.get(device.ifindex)
    return link is not None and link.kind != "bridge" and link.port is None and link.ifindex != 1


def _routes(names: Names, stacks: Mapping[int, Stack]) -> Iterator[Route]:
    for inum, stack in stacks.items():
        at = names.netns(inum)
        for type_, dst, gateway, ifindex, metric in stack.routes:
            device = None if ifindex is None else names.device(inum, ifindex)
            yield Route(at, type_, dst, gateway, device, metric)


def _states(ports: Iterable[Device], middle: _Middle) -> Iterator[Port]:
    for device in ports:
        link = middle.stack.links.get(device.ifindex)
        if link is not None and link.port is not None:
            vlans, pvid = middle.vlans.get(device.ifindex, ((), None))
            yield Port(device, *link.port, vlans, pvid)


def _fdb(names: Names, middle: _Middle) -> Iterator[Forwarding]:
    inum = middle.netns.inum
    for mac, ifindex, vlan, local in middle.forwardings:
        yield Forwarding(mac, names.device(inum, ifindex), vlan, local)


def _rewrites(at: Netns, path: str) -> tuple[Rewrite, ...]:
    try:
        return tuple(netns.inside(path, lambda: rewrites.read(at)))
    except FileNotFoundError:  # it vanished meanwhile
        return ()


def _bridge(name: str, found: Iterable[Link]) -> Link:
    by_name = {link.ifname: link for link in found}
    link = by_name.get(name)
    if link is None:
        bridges = sorted(printable(link.ifname) for link in found if link.kind == "bridge")
        raise TopologyError(
            f"there is no bridge {printable(name)} on this host"
            + (f" (there are: {', '.join(bridges)})" if bridges else ""),
            hint=f"sudo skbtrace lab up {name}" if name in LABS else "ip link show type bridge",
        )
    if link.kind != "bridge":
        raise TopologyError(
            f"{printable(name)} is not a bridge ({link.kind or 'no virtual device'})",
            hint="ip link show type bridge",
        )
    return link
