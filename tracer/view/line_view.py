# SPDX-License-Identifier: GPL-2.0-only
"""The line view: each finished journey as a block on a stream, a blank line after it.

A thin shell around ``journey.render``. It knows the stream's width and encoding, not where
journeys come from.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TextIO

from tracer.model import (
    Capture,
    Device,
    Journey,
    Netns,
    Sampling,
    Summary,
    Topology,
    TopologyChange,
)
from tracer.view.journey import NARROWEST, render
from tracer.view.line import Line, trimmed
from tracer.view.look import NETNS_STYLES, Look
from tracer.view.theme import paint

_WIDTH = 80
"""Cells, where nobody says how many."""
_REMEMBERED = 4096
"""Namespaces that keep their colour; the one after them starts over."""


class LineView:
    """A Sink that writes journeys to ``stream`` as blocks of lines.

    ``width`` in cells, or None to ask the terminal before every batch. ``path_of``: by which file
    a namespace can be entered on this host. BrokenPipeError passes up.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        color: bool = False,
        ascii: bool = False,
        width: int | None = None,
        path_of: Callable[[Netns], str | None] | None = None,
    ) -> None:
        self._stream = stream
        self._color = color
        self._width = width
        self._styles: dict[int, str] = {}
        self._look = Look(ascii or not speaks_unicode(stream), self._styles, path_of)

    def begin(self, capture: Capture) -> None:
        """Give the topology's namespaces their colours. Nothing is written."""
        self._look = replace(self._look, capture=capture)
        if capture.topology is not None:
            self._see_all(capture.topology)

    def topology(self, change: TopologyChange) -> None:
        """Give namespaces that are new their colours. Nothing is written."""
        if self._look.capture is not None:
            capture = replace(self._look.capture, topology=change.topology)
            self._look = replace(self._look, capture=capture)
        self._see_all(change.topology)

    def sampling(self, now: Sampling) -> None:
        """Nothing is written."""

    def journeys(self, batch: Sequence[Journey]) -> None:
        """Write one block each, all in one go, and flush."""
        width = self._width or terminal_width(self._stream)
        blocks = []
        for journey in batch:
            self._see(hop.device for hop in journey.hops)
            lines = render(journey, width, self._look)
            blocks += [paint(line, color=self._color) for line in lines]
            blocks.append("")
        if blocks:
            self._stream.write("\n".join(blocks) + "\n")
            self._stream.flush()

    def family(self, members: Sequence[tuple[int, Journey]]) -> None:
        """Write a family of journeys (see ``tree``), the lower ones behind a rule; flush."""
        width = self._width or terminal_width(self._stream)
        deepest = max(0, width - NARROWEST) // len(_rules(1, self._look))
        lines: list[Line] = []
        for depth, journey in members:
            self._see(hop.device for hop in journey.hops)
            rules = _rules(min(depth, deepest), self._look)
            if lines:
                lines.append(trimmed([(rules, "rule")]))
            for line in render(journey, width - len(rules), self._look):
                lines.append(((rules, "rule"), *line) if rules else line)
        self._stream.write("".join([paint(line, color=self._color) + "\n" for line in lines]))
        self._stream.write("\n")
        self._stream.flush()

    def end(self, summary: Summary) -> None:
        """Flush."""
        self._stream.flush()

    def _see_all(self, topology: Topology) -> None:
        self._see((topology.bridge, *topology.ports, *topology.ends))

    def _see(self, devices: Iterable[Device | None]) -> None:
        for device in devices:
            if device is not None and device.netns.inum not in self._styles:
                self._name(device.netns)

    def _name(self, netns: Netns) -> None:
        if len(self._styles) >= _REMEMBERED:
            self._styles.clear()
        self._styles[netns.inum] = NETNS_STYLES[len(self._styles) % len(NETNS_STYLES)]


def _rules(depth: int, look: Look) -> str:
    return f"{look.signs.below} " * depth


def write_lines(stream: TextIO, lines: Iterable[Line], *, color: bool = False) -> None:
    """Write lines to a stream and flush. BrokenPipeError passes up."""
    stream.write("".join([paint(line, color=color) + "\n" for line in lines]))
    stream.flush()


def speaks_unicode(stream: TextIO) -> bool:
    """Say whether every character can be written to ``stream``."""
    try:
        return codecs.lookup(stream.encoding or "ascii").name.startswith("utf")
    except LookupError:
        return False


def terminal_width(stream: TextIO, environ: Mapping[str, str] = os.environ) -> int:
    """Return the width in cells of the terminal behind ``stream``; else COLUMNS, else 80."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        columns = environ.get("COLUMNS", "")
        return int(columns) if columns.isdecimal() and int(columns) > 0 else _WIDTH
