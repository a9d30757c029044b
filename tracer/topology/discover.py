# SPDX-License-Identifier: GPL-2.0-only
"""What a bridge joins: its ports, the far ends of their veth pairs, and their addresses.

Only reads. It must not know whether a lab, Docker or a person made the bridge.
"""

from __future__ import annotations

from collections.abc import Iterable

from tracer.errors import PrerequisiteError, TopologyError
from tracer.model import Topology
from tracer.text import printable
from tracer.topology import links, netns
from tracer.topology.links import Link
from tracer.topology.names import Names, Place
from tracer.topology.spec import LABS


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


def scope(topology: Topology) -> frozenset[tuple[int, int]]:
    """Return (namespace's inode number, ifindex) of the bridge, the ports and their far ends."""
    devices = (*topology.ports, *topology.ends)
    if topology.bridge is not None:
        devices = (topology.bridge, *devices)
    return frozenset((device.netns.inum, device.ifindex) for device in devices)


def _discover(bridge_name: str, names: Names) -> Topology:
    names.refresh()
    places = names.places()
    host = places[names.host.inum]
    found = netns.inside(host.path, links.read)
    bridge = _bridge(bridge_name, found)
    ports = sorted(link for link in found if link.master == bridge.ifindex)
    ends = _far_ends(ports, host, places)

    addresses = _addresses(host, {bridge.ifindex})
    for place in dict.fromkeys(place for place, _ in ends):
        addresses += _addresses(place, {end.ifindex for at, end in ends if at == place})
    return Topology(
        name=printable(bridge_name),
        bridge=names.device(host.netns.inum, bridge.ifindex),
        ports=tuple(names.device(host.netns.inum, port.ifindex) for port in ports),
        ends=tuple(names.device(place.netns.inum, end.ifindex) for place, end in ends),
        addresses=tuple(
            (names.device(inum, ifindex), address) for inum, ifindex, address in addresses
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


def _far_ends(ports: list[Link], host: Place, places: dict[int, Place]) -> list[tuple[Place, Link]]:
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
            ends.append((places[at], end))
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
