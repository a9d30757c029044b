# SPDX-License-Identifier: GPL-2.0-only
"""The devices and addresses of the namespace the calling thread is in, read over netlink.

Call these inside ``netns.inside``. Names are the kernel's, not yet safe to print.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_PORT_FORWARDS = 3
"""BR_STATE_FORWARDING"""


class Link(NamedTuple):
    """What netlink says about a device, as far as skbtrace needs it."""

    ifindex: int
    ifname: str
    kind: str | None
    """``bridge``, ``veth``, ...; None for hardware and loopback."""
    alias: str | None
    up: bool
    """Its operational state is UP."""
    master: int | None
    """The ifindex of the bridge it is a port of."""
    forwards: bool
    """It is a bridge port in the forwarding state."""
    peer: int | None
    """A veth's other end: its ifindex in the namespace with the id ``peer_nsid``."""
    peer_nsid: int | None
    """None where the other end is in the same namespace."""


def read() -> list[Link]:
    """Return every device of this namespace. Raises OSError."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return [parse(message) for message in route.get_links()]


def parse(message: Any) -> Link:
    """Read a link message of the netlink library."""
    linkinfo = message.get_attr("IFLA_LINKINFO")
    port = linkinfo.get_attr("IFLA_INFO_SLAVE_DATA") if linkinfo else None
    return Link(
        ifindex=message["index"],
        ifname=_text(message.get_attr("IFLA_IFNAME")) or "",
        kind=linkinfo.get_attr("IFLA_INFO_KIND") if linkinfo else None,
        alias=_text(message.get_attr("IFLA_IFALIAS")),
        up=message.get_attr("IFLA_OPERSTATE") == "UP",
        master=message.get_attr("IFLA_MASTER"),
        forwards=port is not None
        and linkinfo.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge"
        and port.get_attr("IFLA_BRPORT_STATE") == _PORT_FORWARDS,
        peer=message.get_attr("IFLA_LINK"),
        peer_nsid=message.get_attr("IFLA_LINK_NETNSID"),
    )


def _text(name: str | bytes | None) -> str | None:
    # The netlink library leaves what is not UTF-8 as bytes.
    return os.fsdecode(name) if name is not None else None


def addresses() -> list[tuple[int, str]]:
    """Return (ifindex, ``address/prefix length``) of this namespace. Raises OSError."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return [
            (m["index"], f"{m.get_attr('IFA_LOCAL') or m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}")
            for m in route.get_addr()
        ]


def nsids(paths: Mapping[int, str], wanted: Iterable[int]) -> dict[int, int]:
    """Return this namespace's id (the one in ``Link.peer_nsid``) → inode number.

    ``paths``: inode number → path, of the namespaces to ask about; it stops when every
    id in ``wanted`` is found. A namespace that is gone is left out.
    """
    from pyroute2 import IPRoute

    missing = set(wanted)
    found: dict[int, int] = {}
    with IPRoute() as route:
        for inum, path in paths.items():
            if not missing:
                break
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                nsid = route.get_netnsid(fd=fd)["nsid"]
            finally:
                os.close(fd)
            if nsid in missing:
                missing.remove(nsid)
                found[nsid] = inum
    return found
