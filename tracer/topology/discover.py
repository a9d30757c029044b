# SPDX-License-Identifier: GPL-2.0-only
"""What a trace is about: a bridge and what it joins, a lab, or everything.

Only reads. A bridge is one whoever made it: a lab, Docker or a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tracer.errors import PrerequisiteError, TopologyError
from tracer.model import Device, Scope, Topology
from tracer.text import printable
from tracer.topology import links, netns
from tracer.topology.links import Link
from tracer.topology.names import Names, Place
from tracer.topology.spec import LABS, Interface, Lab
from tracer.topology.state import path_of

AUTO = "auto"
"""The name of everything this host has."""


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
    names.refresh()
    devices: dict[Interface, Device] = {}
    addresses: list[tuple[Device, str]] = []
    for place in lab.places:
        try:
            inum = netns.inum(path_of(place))
            found = {link.ifname: link.ifindex for link in netns.inside(path_of(place), links.read)}
            for interface in lab.at(place):
                devices[interface] = names.device(inum, found[interface.ifname])
            given = netns.inside(path_of(place), links.addresses)
        except PermissionError as error:
            raise PrerequisiteError(
                "looking into other network namespaces needs root",
                hint=f"sudo skbtrace --topology {lab.name}",
            ) from error
        except (FileNotFoundError, KeyError) as error:
            raise TopologyError(
                f"the lab {lab.name} does not stand whole", hint=f"sudo skbtrace lab up {lab.name}"
            ) from error
        here = {devices[interface].ifindex: devices[interface] for interface in lab.at(place)}
        addresses += [(here[ifindex], address) for ifindex, address in given if ifindex in here]
    others = [interface for interface in lab.interfaces if interface != lab.bridge]
    return Topology(
        name=lab.name,
        bridge=None if lab.bridge is None else devices[lab.bridge],
        ports=tuple(devices[each] for each in others if each.is_port),
        ends=tuple(devices[each] for each in others if not each.is_port),
        addresses=tuple(addresses),
        pairs=tuple(
            (devices[one], devices[other])
            for one, other in (sorted(pair, key=lambda end: not end.is_port) for pair in lab.pairs)
        ),
    )


def bridges() -> list[str]:
    """Return the names of the bridges in the host's namespace, sorted. Raises OSError."""
    found = netns.inside(netns.OWN, links.read)
    return sorted(link.ifname for link in found if link.kind == "bridge")


def is_bridge(name: str) -> bool:
    """Whether the host's namespace has a bridge of that name. Raises OSError."""
    return name in bridges()


def everything() -> Topology:
    """Return the topology that stands for every device of this host, in every namespace."""
    return Topology(AUTO)


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
    bridge = () if topology.bridge is None else (topology.bridge,)
    within = (*bridge, *topology.ports, *topology.ends, *topology.others)
    return {
        (device.netns.inum, device.ifindex): inside
        for devices, inside in ((topology.uplinks, False), (within, True))
        for device in devices
    }


def _discover(bridge_name: str, names: Names) -> Topology:
    names.refresh()
    places = names.places()
    host = places[names.host.inum]
    found = netns.inside(host.path, links.read)
    bridge = _bridge(bridge_name, found)
    ports = sorted(link for link in found if link.master == bridge.ifindex)
    ends = _far_ends(ports, host, places)

    addresses = _addresses(host, {bridge.ifindex})
    for place in dict.fromkeys(place for _, place, _ in ends):
        addresses += _addresses(place, {end.ifindex for _, at, end in ends if at == place})
    return Topology(
        name=printable(bridge_name),
        bridge=names.device(host.netns.inum, bridge.ifindex),
        ports=tuple(names.device(host.netns.inum, port.ifindex) for port in ports),
        ends=tuple(names.device(place.netns.inum, end.ifindex) for _, place, end in ends),
        addresses=tuple(
            (names.device(inum, ifindex), address) for inum, ifindex, address in addresses
        ),
        pairs=tuple(
            (
                names.device(host.netns.inum, port.ifindex),
                names.device(place.netns.inum, end.ifindex),
            )
            for port, place, end in ends
        ),
    )


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


def _far_ends(
    ports: list[Link], host: Place, places: dict[int, Place]
) -> list[tuple[Link, Place, Link]]:
    """Ports, and where the other end of their veth pair is."""
    nsids = {p.peer_nsid for p in ports if p.kind == "veth" and p.peer_nsid is not None}
    inums: dict[int | None, int] = {None: host.netns.inum}
    if nsids:
        paths = {inum: place.path for inum, place in places.items()}
        for nsid, inum in netns.inside(host.path, lambda: links.nsids(paths, nsids)).items():
            inums[nsid] = inum
    read: dict[int, dict[int, Link]] = {}
    ends = []
    for port in ports:
        at = inums.get(port.peer_nsid)
        if port.kind != "veth" or port.peer is None or at is None:
            continue
        if at not in read:
            read[at] = _links_by_index(places[at])
        end = read[at].get(port.peer)
        if end is not None:
            ends.append((port, places[at], end))
    return ends


def _links_by_index(place: Place) -> dict[int, Link]:
    try:
        return {link.ifindex: link for link in netns.inside(place.path, links.read)}
    except FileNotFoundError:  # it vanished meanwhile
        return {}


def _addresses(place: Place, ifindexes: set[int]) -> list[tuple[int, int, str]]:
    try:
        found = netns.inside(place.path, links.addresses)
    except FileNotFoundError:
        return []
    return [(place.netns.inum, index, address) for index, address in found if index in ifindexes]
