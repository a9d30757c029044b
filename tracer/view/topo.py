# SPDX-License-Identifier: GPL-2.0-only
"""A topology as a drawing: a box for each namespace that joins others, a line out to each of those.

Pure: a topology and a width in, lines out. A namespace with one device, as a container mostly is,
takes one line beside the box it hangs on, so that thirty of them still fit a screen. What is as
usual (up, forwarding) is not said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracer.bridge import is_forwarding, nat, state_words, ways
from tracer.model import Device, Netns, Topology
from tracer.view.line import Line, Span, cells, clip, trimmed, width_of
from tracer.view.look import Look

NARROWEST = 40
_NAME_LEAST = 8


def drawing(
    topology: Topology, look: Look, width: int, passed: Sequence[Device] = ()
) -> list[Line]:
    """Return the lines of a drawing at most ``width`` cells wide (40 or more).

    ``passed``: the devices a packet came to, in order; their numbers stand behind their names.
    """
    drawn = _Drawing(topology, look, max(width, NARROWEST), passed)
    return [trimmed(line) for line in drawn.lines()]


class _Drawing:
    def __init__(
        self, topology: Topology, look: Look, width: int, passed: Sequence[Device] = ()
    ) -> None:
        self._passed: dict[Device, list[int]] = {}
        for number, device in enumerate(passed, start=1):
            self._passed.setdefault(device, []).append(number)
        self._topology = topology
        self._bridge = topology.bridge
        self._ports = frozenset(topology.ports)
        self._look = look
        self._width = width
        self._box_signs = look.signs.box
        self._peer = {one: other for pair in topology.pairs for one, other in (pair, pair[::-1])}
        self._addresses: dict[Device, list[str]] = {}
        for device, address in topology.addresses:
            self._addresses.setdefault(device, []).append(address)
        bridge = () if topology.bridge is None else (topology.bridge,)
        self._states = {port.device: port for port in topology.states}
        self._down = frozenset(topology.down)
        self._ways = ways(topology)
        every = (*bridge, *topology.ports, *topology.ends, *topology.uplinks)
        self._devices: dict[Netns, list[Device]] = {}
        for device in dict.fromkeys(every):
            self._devices.setdefault(device.netns, []).append(device)

    def lines(self) -> Iterator[tuple[Span, ...]]:
        drawn: set[Netns] = set()
        # The most joined first: what hangs on it is then drawn beside it.
        for netns in sorted(self._devices, key=lambda n: -len(self._devices[n])):
            if netns not in drawn:
                drawn.add(netns)
                yield from self._box(netns, drawn)
        for rewrite in nat(self._topology, self._look.signs.across):
            said = self._look.name(rewrite)
            yield ("NAT  ", "dim"), (clip(said, self._width - 5, self._look.signs.cut), "")
        if not is_forwarding(self._topology) and self._bridge is not None:
            where = f"IPv4 is not forwarded in {self._look.name(self._bridge.netns.name)}"
            yield ((clip(where, self._width, self._look.signs.cut), "warning"),)

    def _box(self, netns: Netns, drawn: set[Netns]) -> Iterator[tuple[Span, ...]]:
        top_left, across, top_right, down, out, bottom_left, bottom_right = self._box_signs
        devices = self._devices[netns]
        name = self._look.name(netns.name)
        style = self._look.style_of(netns)
        inside = [self._words(device, devices) for device in devices]
        wide = max(cells(name), *(width_of(tuple(words)) for words in inside))
        wide = min(wide, self._width * 11 // 20 - 4)  # the rest is for what hangs on it
        name = clip(name, wide, self._look.signs.cut)
        rest = across * (wide - cells(name))
        yield (f"{top_left} ", ""), (name, style), (f" {rest}{top_right}", "")
        for device, words in zip(devices, inside, strict=True):
            line = tuple(_clipped(words, wide, self._look.signs.cut))
            beside = tuple(self._beside(device, drawn, self._width - wide - 4))
            yield (
                (f"{down} ", ""),
                *line,
                (" " * (wide - width_of(line)), ""),
                (f" {out if beside else down}", ""),
                *beside,
            )
        yield ((f"{bottom_left}{across * (wide + 2)}{bottom_right}", ""),)

    def _words(self, device: Device, devices: list[Device]) -> list[Span]:
        """What stands in the box: the device, below its bridge if it is a port of it."""
        _, across, _, _, out, corner, _ = self._box_signs
        branch = ""
        if device in self._ports and self._bridge in devices:
            last = [each for each in devices if each in self._ports][-1]
            branch = f"{corner if device == last else out}{across} "
        return [(branch, ""), *self._called(device), *self._where(device)]

    def _called(self, device: Device, before: str = "") -> list[Span]:
        """The device's name; behind it when the packet came there."""
        name = before + self._look.name(device.ifname)
        numbers = self._passed.get(device)
        if numbers is None:
            return [(name, "")]
        return [(name, "passed"), (f" {','.join(map(str, numbers))}", "passed")]

    def _where(self, device: Device) -> list[Span]:
        """What is unusual about the device, and its addresses."""
        said = state_words(self._states.get(device), is_down=device in self._down)
        words = [(f"  {self._look.name(word)}", "warning") for word in said]
        return [*words, *self._addressed(device)]

    def _addressed(self, device: Device) -> list[Span]:
        every = self._addresses.get(device, ())
        # Every device has a link-local one; it tells something only if it is all there is.
        known = [address for address in every if not address.startswith("fe80:")] or every
        known = sorted(known, key=lambda address: ":" in address)
        return [(f"  {self._look.name(address)}", "flow") for address in known]

    def _beside(self, device: Device, drawn: set[Netns], room: int) -> Iterator[Span]:
        """What a line out of the box leads to: the other end of a pair, or a gateway."""
        peer = self._peer.get(device)
        if peer is not None:
            far = tuple(self._far(peer, drawn, room))
            yield from far
            room -= width_of(far)
        way = self._ways.get(device)
        if way is not None:
            line = f"{self._box_signs.across}{self._look.signs.across} " if peer is None else "  "
            words = [(line, ""), (self._look.name(way), "")]
            yield from _clipped(words, room, self._look.signs.cut)

    def _far(self, peer: Device, drawn: set[Netns], room: int) -> Iterator[Span]:
        """The other end: with its addresses if it is all there is of its namespace."""
        cut = self._look.signs.cut
        alone = self._devices.get(peer.netns, [peer]) == [peer]
        rest: list[Span] = self._called(peer, "/")
        if alone and peer.netns not in drawn:
            drawn.add(peer.netns)
            rest += self._where(peer)
        line = f"{self._box_signs.across * 2} "
        # Of a long name its beginning is enough; an address is of use only as a whole.
        left = max(room - cells(line) - width_of(tuple(rest)), _NAME_LEAST)
        name = clip(self._look.name(peer.netns.name), left, cut)
        words = [(line, ""), (name, self._look.style_of(peer.netns)), *rest]
        return _clipped(words, room, cut)


def _clipped(words: list[Span], room: int, mark: str) -> Iterator[Span]:
    for text, style in words:
        if room <= 0:
            return
        shown = clip(text, room, mark)
        room -= cells(shown)
        yield shown, style
        if shown != text:
            return
