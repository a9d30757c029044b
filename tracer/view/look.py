# SPDX-License-Identifier: GPL-2.0-only
"""How a view is to look: what a render needs to know besides the value and the width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tracer.model import Capture, Device, Netns, Segment, Topology
from tracer.view.line import Span
from tracer.view.signs import ASCII, UNICODE, Signs

NETNS_STYLES = tuple(f"netns{n}" for n in range(6))
"""Styles for namespaces, by turns."""


@dataclass(frozen=True, slots=True)
class Look:
    """Style options of a render. The same journey and look give the same lines."""

    ascii: bool = False
    """Nothing outside ASCII, names included."""
    netns_styles: Mapping[int, str] = field(default_factory=dict)
    """Namespace inode number to style name; others get one by their number."""

    path_of: Callable[[Netns], str | None] | None = None
    """The file by which a namespace can be entered, for commands that are suggested."""

    capture: Capture | None = None
    """What the journeys are of: its topology says where they should have gone."""

    names: Mapping[str, str] = field(default_factory=dict)
    """IP address → what a list calls it; see ``names_of``."""

    @property
    def signs(self) -> Signs:
        """The signs to draw with."""
        return ASCII if self.ascii else UNICODE

    def name(self, text: str) -> str:
        """Return a name as this look can show it."""
        if self.ascii and not text.isascii():
            return text.encode("ascii", "backslashreplace").decode("ascii")
        return text

    def address(self, word: str) -> str:
        """Return a word with its IP address, if it is one, replaced by its name."""
        if not self.names:
            return word
        name = self.names.get(word)
        if name is not None:
            return name
        address, colon, port = word.rpartition(":")
        name = self.names.get(address.strip("[]")) if colon else None
        return word if name is None else f"{name}:{port}"

    def place(self, device: Device | None) -> Span:
        """Return where something is, in the style of its namespace; ``-`` for nowhere."""
        if device is None:
            return "-", "unknown"
        return self.name(device.place), self.style_of(device.netns)

    def style_of(self, netns: Netns) -> str:
        """Return the style of a namespace."""
        known = self.netns_styles.get(netns.inum)
        return known or NETNS_STYLES[netns.inum % len(NETNS_STYLES)]


def segment_style(segment: Segment | None) -> str:
    """Return the style of a step's time: work, waiting, or lying in a socket's queue."""
    if segment is None:
        return ""
    return {Segment.WORK: "work", Segment.SOCKET: "socket"}.get(segment, "wait")


def styles_of(topology: Topology | None) -> dict[int, str]:
    """Return a style for each namespace of a topology; neighbours have different ones."""
    if topology is None:
        return {}
    met = dict.fromkeys(device.netns.inum for device in (*topology.own, *topology.others))
    return {inum: NETNS_STYLES[n % len(NETNS_STYLES)] for n, inum in enumerate(met)}


def names_of(topology: Topology | None) -> dict[str, str]:
    """Return what addresses are called for short: a namespace that has it, or the bridge.

    An address that two have is called by neither.
    """
    if topology is None:
        return {}
    names: dict[str, set[str]] = {}
    for device, address in topology.addresses:
        name = device.ifname if device == topology.bridge else device.netns.name
        names.setdefault(address.split("/")[0], set()).add(name)
    return {address: name for address, (name, *others) in names.items() if not others}
