# SPDX-License-Identifier: GPL-2.0-only
"""A topology as a drawing: a box for each namespace that joins others, a line out to each of those.

Pure: a topology and a width in, lines out. A namespace with one device, as a container mostly is,
takes one line beside the box it hangs on, so that thirty of them still fit a screen.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracer.model import Device, Netns, Topology
from tracer.view.line import Line, Span, cells, clip, trimmed, width_of
from tracer.view.look import Look

NARROWEST = 40
_NAME_LEAST = 8

_UNICODE = ("┌", "─", "┐", "│", "├", "└", "┘")
_ASCII = ("+", "-", "+", "|", "+", "+", "+")


def drawing(topology: Topology, look: Look, width: int) -> list[Line]:
    """Return the lines of a drawing at most ``width`` cells wide (40 or more)."""
    return [trimmed(line) for line in _Drawing(topology, look, max(width, NARROWEST)).lines()]


class _Drawing:
    def __init__(self, topology: Topology, look: Look, width: int) -> None:
        self._bridge = topology.bridge
        self._ports = frozenset(topology.ports)
        self._look = look
        self._width = width
        self._signs = _ASCII if look.ascii else _UNICODE
        self._peer = {one: other for pair in topology.pairs for one, other in (pair, pair[::-1])}
        self._addresses: dict[Device, list[str]] = {}
        for device, address in topology.addresses:
            self._addresses.setdefault(device, []).append(address)
        bridge = () if topology.bridge is None else (topology.bridge,)
        every = (*bridge, *topology.ports, *topology.ends)
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

    def _box(self, netns: Netns, drawn: set[Netns]) -> Iterator[tuple[Span, ...]]:
        top_left, across, top_right, down, out, bottom_left, bottom_right = self._signs
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
            peer = self._peer.get(device)
            yield (
                (f"{down} ", ""),
                *line,
                (" " * (wide - width_of(line)), ""),
                (f" {down if peer is None else out}", ""),
                *(() if peer is None else self._far(peer, drawn, self._width - wide - 4)),
            )
        yield ((f"{bottom_left}{across * (wide + 2)}{bottom_right}", ""),)

    def _words(self, device: Device, devices: list[Device]) -> list[Span]:
        """What stands in the box: the device, below its bridge if it is a port of it."""
        _, across, _, _, out, corner, _ = self._signs
        branch = ""
        if device in self._ports and self._bridge in devices:
            last = [each for each in devices if each in self._ports][-1]
            branch = f"{corner if device == last else out}{across} "
        return [(branch, ""), (self._look.name(device.ifname), ""), *self._where(device)]

    def _where(self, device: Device) -> list[Span]:
        known = sorted(self._addresses.get(device, ()), key=lambda address: ":" in address)
        return [(f"  {self._look.name(address)}", "flow") for address in known]

    def _far(self, peer: Device, drawn: set[Netns], room: int) -> Iterator[Span]:
        """The other end: with its addresses if it is all there is of its namespace."""
        cut = self._look.signs.cut
        alone = self._devices.get(peer.netns, [peer]) == [peer]
        rest: list[Span] = [(f"/{self._look.name(peer.ifname)}", "")]
        if alone and peer.netns not in drawn:
            drawn.add(peer.netns)
            rest += self._where(peer)
        line = f"{self._signs[1] * 2} "
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
