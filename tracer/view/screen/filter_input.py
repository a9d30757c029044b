# SPDX-License-Identifier: GPL-2.0-only
"""The field in which a filter is typed, and those that were typed before.

Knows no filters: whoever has the field judges what is in it.
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding
from textual.widgets import Input


class FilterInput(Input):
    """Where a filter is typed. Up and down: those of before."""

    BINDINGS: ClassVar = [Binding("up", "older", show=False), Binding("down", "newer", show=False)]
    DEFAULT_CSS = """
    FilterInput {
        display: none; dock: top; offset: 0 1; width: 50%; height: 1; border: none; padding: 0 1;
        background: ansi_default; color: ansi_default;
    }
    FilterInput:focus { border: none; background-tint: ansi_default 0%; }
    """

    def __init__(self) -> None:
        super().__init__(placeholder="tcp port 80 and host 172.17.0.3", compact=True)
        self.typed: list[str] = []
        self._at = 0

    def open(self, words: str) -> None:
        """Begin with these words."""
        self.value = words
        self.cursor_position = len(words)
        self._at = len(self.typed)
        self.display = True
        self.focus()

    def action_older(self) -> None:
        """The one typed before."""
        self._go(-1)

    def action_newer(self) -> None:
        """The one typed after."""
        self._go(1)

    def _go(self, by: int) -> None:
        self._at = min(max(self._at + by, 0), len(self.typed))
        self.value = self.typed[self._at] if self._at < len(self.typed) else ""
        self.cursor_position = len(self.value)
