# SPDX-License-Identifier: GPL-2.0-only
"""Lines on a terminal: Textual's line API, told only of the lines that are different.

Knows no packets: it is given a function that draws for a width and a height.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tracer.view.line import width_of
from tracer.view.screen.panes import Shown
from tracer.view.theme import rich_style


class Canvas(Widget):
    """The whole screen, drawn line by line; only lines that are different are drawn again."""

    can_focus = True
    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; background: ansi_default; }"

    def __init__(self, draw: Callable[[int, int], list[Shown]], *, color: bool) -> None:
        super().__init__()
        self._draw = draw
        self._color = color
        self.shown: list[Shown] = []
        self._strips: list[Strip] = []

    def redraw(self) -> None:
        """Draw what is different now."""
        width, height = self.size
        if not width or not height:
            return
        shown = self._draw(width, height)
        before = self.shown
        strips = self._strips
        whole = len(before) != len(shown) or (strips and strips[0].cell_length != width)
        changed = [
            y
            for y, line in enumerate(shown)
            if whole or line[:2] != before[y][:2] or line.beside != before[y].beside
        ]
        self.shown = shown
        if whole:
            strips = self._strips = [Strip.blank(width)] * height
        for y in changed:
            strips[y] = strip_of(shown[y], width, color=self._color)
        if whole:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        """Return a line of what was drawn last."""
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width)

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.redraw()


def strip_of(shown: Shown, width: int, *, color: bool) -> Strip:
    """Return a line of the screen as Textual takes it, exactly so wide."""
    missing = width - width_of(shown.line) - width_of(shown.beside)
    gap = (" " * missing, "")
    segments = [
        Segment(text, rich_style(style, shown.lit, color=color))
        for text, style in (*shown.line, gap)
        if text
    ]
    segments += [
        Segment(text, rich_style(style, "", color=color)) for text, style in shown.beside if text
    ]
    return Strip(segments, max(width, width - missing)).crop(0, width)
