# SPDX-License-Identifier: GPL-2.0-only
"""LABS: the networks skbtrace can build, declared. A new lab is a new entry.

Values only; what is done with them stands in ``build`` and ``traffic``.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface

PREFIX = "skbtrace-"
"""Begins the name of every namespace a lab makes. Views show the rest."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge in the middle, in the host's namespace."""

    ifname: str
    address: str
    """With its prefix length: ``172.17.0.1/16``."""
    mac: str


@dataclass(frozen=True, slots=True)
class Container:
    """A namespace and the veth pair that joins it to the bridge."""

    name: str
    """Short; the namespace is called ``skbtrace-<name>``."""
    port: str
    """The pair's end on the bridge."""
    ifname: str
    """The pair's end in the namespace."""
    address: str
    mac: str
    gateway: str | None = None
    """Next hop of the default route, or None for no such route."""

    @property
    def netns(self) -> str:
        """The namespace's name under /run/netns."""
        return PREFIX + self.name

    @property
    def ip(self) -> str:
        """The address without its prefix length."""
        return str(IPv4Interface(self.address).ip)


@dataclass(frozen=True, slots=True)
class Lab:
    """A network that can be built, torn down and given traffic.

    The first container speaks and the second answers.
    """

    name: str
    text: str
    bridge: Bridge
    containers: tuple[Container, ...]
    mtu: int = 1500

    @property
    def mark(self) -> str:
        """The alias of every device that is made for this lab: how ours are told from others."""
        return f"skbtrace lab {self.name}"

    @property
    def unnamed_bridge(self) -> str:
        """What the bridge is called until it bears the mark."""
        return f"skbt-{self.bridge.ifname}"

    @property
    def client(self) -> Container:
        """The container that speaks."""
        return self.containers[0]

    @property
    def server(self) -> Container:
        """The container that answers."""
        return self.containers[1]


def _docker0() -> Lab:
    # Addresses, Ethernet addresses and names as Docker gives them; docker0's own Ethernet
    # address is random there and fixed here, so that two runs look alike.
    def container(number: int) -> Container:
        return Container(
            name=f"c{number}",
            port=f"vethc{number}",
            ifname="eth0",
            address=f"172.17.0.{number + 1}/16",
            mac=f"02:42:ac:11:00:{number + 1:02x}",
            gateway="172.17.0.1",
        )

    return Lab(
        name="docker0",
        text="two containers on Docker's default bridge",
        bridge=Bridge("docker0", "172.17.0.1/16", "02:42:ac:11:00:01"),
        containers=(container(1), container(2)),
    )


LABS: dict[str, Lab] = {lab.name: lab for lab in (_docker0(),)}
