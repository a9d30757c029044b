# SPDX-License-Identifier: GPL-2.0-only
"""How a view is to look: what a render needs to know besides the value and the width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tracer.model import Capture, Netns
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

    @property
    def signs(self) -> Signs:
        """The signs to draw with."""
        return ASCII if self.ascii else UNICODE

    def name(self, text: str) -> str:
        """Return a name as this look can show it."""
        if self.ascii and not text.isascii():
            return text.encode("ascii", "backslashreplace").decode("ascii")
        return text

    def style_of(self, netns: Netns) -> str:
        """Return the style of a namespace."""
        known = self.netns_styles.get(netns.inum)
        return known or NETNS_STYLES[netns.inum % len(NETNS_STYLES)]
