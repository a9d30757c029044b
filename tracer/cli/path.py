# SPDX-License-Identifier: GPL-2.0-only
"""What ``--path FROM TO`` means in a topology: a namespace, an address, a protocol and a port."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

from tracer.errors import TopologyError, UsageError
from tracer.model import Netns, Topology
from tracer.text import printable
from tracer.way import Way, expected_path


class Target(NamedTuple):
    """TO, taken apart."""

    name: str
    """Of a namespace, or an IP address."""
    port: int | None = None
    proto: str | None = None
    """``tcp`` or ``udp``; None for an echo request."""


class Asked(NamedTuple):
    """FROM and TO, found in a topology."""

    topology: Topology
    source: Netns
    dst: str
    proto: str
    dport: int | None

    @property
    def way(self) -> Way:
        """Where the packet should go."""
        return expected_path(self.topology, self.source, self.dst, self.proto, self.dport)

    def members(self) -> dict[str, object]:
        """Return all of it as plain values."""
        way = self.way
        return {
            "topology": self.topology.name,
            "from": self.source.name,
            "dst": self.dst,
            "proto": self.proto,
            **({} if self.dport is None else {"dport": self.dport}),
            "steps": [
                {
                    "netns": step.device.netns.name,
                    "netns_inum": step.device.netns.inum,
                    "ifname": step.device.ifname,
                    "ifindex": step.device.ifindex,
                    "function": step.function,
                    "why": step.why,
                }
                for step in way.steps
            ],
            "end": way.end.value,
            "said": way.said,
        }


def asked(topologies: Iterable[Topology], source: str, target: str) -> Asked:
    """Find both in the first topology that has them; an address may be known to none.

    Raises UsageError if the words mean nothing, TopologyError if no topology has both.
    """
    seen, possible = [], []
    for topology in topologies:
        found = _found(topology, source, target)
        if found is not None and _knows(topology, found.dst):
            return found
        if found is not None:
            possible.append(found)
        seen.append(topology)
    if possible:
        return possible[0]
    if not seen:
        raise TopologyError("there is no bridge and no lab", hint="sudo skbtrace lab up")
    there = "; ".join(f"{t.name} has {', '.join(_names(t)) or 'none'}" for t in seen)
    both = f"both {printable(source)} and {printable(target)}"
    one, other = next((list(n)[:2] for t in seen if len(n := _names(t)) > 1), ("FROM", "TO"))
    raise TopologyError(
        f"nothing here has {both} ({there})", hint=f"sudo skbtrace topo --path {one} {other}"
    )


def _found(topology: Topology, source: str, target: str) -> Asked | None:
    namespaces = _names(topology)
    to = parse(target, namespaces)
    netns = namespaces.get(source)
    dst = to.name if _is_address(to.name) else None
    if netns is None or (dst is None and to.name not in namespaces):
        return None
    dst = dst or _address_of(topology, namespaces[to.name], netns)
    echo = "icmpv6" if ":" in dst else "icmp"
    return Asked(topology, netns, dst, to.proto or echo, to.port)


def parse(text: str, names: Iterable[str] = ()) -> Target:
    """Take TO apart: ``name``, ``name:port``, ``ip``, ``ip:port`` or ``[v6]:port``.

    ``/udp`` stands behind a port that is none of TCP. What is in ``names`` is a name, colons and
    all. Raises UsageError.
    """
    if text in names or _is_address(text):
        return Target(text)
    whole, slash, proto = (
        text.rpartition("/") if text.endswith(("/udp", "/tcp")) else (text, "", "")
    )
    host, colon, port = whole.rpartition(":")
    if not colon and not slash:
        return Target(text)
    if not port.isdecimal() or not 0 < int(port) < 65536 or not host:
        raise UsageError(
            f"{printable(text)} is no name or address with a port",
            hint="db:5432, 172.17.0.3:53/udp",
        )
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return Target(bare, int(port), proto or "tcp")


def _names(topology: Topology) -> dict[str, Netns]:
    return {device.netns.name: device.netns for device in topology.addressed}


def _knows(topology: Topology, ip: str) -> bool:
    return any(address.split("/", 1)[0] == ip for _, address in topology.addresses)


def _address_of(topology: Topology, netns: Netns, source: Netns) -> str:
    """An address of the namespace, one on a network of the source's if it has any there."""
    given = [(device.netns, ip_interface(address)) for device, address in topology.addresses]
    networks = [each.network for at, each in given if at == source]
    own = sorted(
        (each for at, each in given if at == netns),
        key=lambda each: (each.version, each.network not in networks),
    )
    if not own:
        raise TopologyError(
            f"{netns.name} has no address in {topology.name}",
            hint=f"sudo skbtrace topo {topology.name}",
        )
    return str(own[0].ip)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
