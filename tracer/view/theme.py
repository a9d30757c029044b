# SPDX-License-Identifier: GPL-2.0-only
"""What each style looks like, and lines turned into terminal text.

With ``screen`` the only module that knows rich. Sixteen colours, so that a person's own palette
decides the shades; meaning never lies in colour alone. This module knows no packets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from tracer.view.line import Line, text_of

if TYPE_CHECKING:
    from rich.style import Style

STYLES: dict[str, str] = {
    "": "",
    "id": "bold",
    "flow": "bold",
    "size": "dim",
    "branch": "magenta",
    "reference": "magenta",
    "state": "dim",
    "path": "dim",
    "heading": "dim",
    "axis": "dim",
    "rule": "dim",
    "function": "",
    "unknown": "dim",
    "cpu": "dim",
    "at": "dim",
    "work": "green",
    "wait": "yellow",
    "socket": "blue",
    "verdict": "cyan",
    "task": "dim",
    "change": "yellow",
    "command": "bold cyan",
    "delivered": "bold green",
    "transmitted": "bold green",
    "consumed": "green",
    "absorbed": "green",
    "dropped": "bold red",
    "unfinished": "bold yellow",
    "damaged": "bold red",
    "good": "green",
    "bad": "bold red",
    "warning": "yellow",
    "dim": "dim",
    "passed": "bold green",
    "key": "bold",
    "cursor": "reverse",
    "netns0": "cyan",
    "netns1": "magenta",
    "netns2": "bright_blue",
    "netns3": "bright_yellow",
    "netns4": "bright_cyan",
    "netns5": "bright_magenta",
}
"""Style name → rich style."""


def paint(line: Line, *, color: bool) -> str:
    """Return a line as text for a terminal, with colour codes if ``color``."""
    if not color:
        return text_of(line)
    return "".join([f"{codes[0]}{text}{codes[1]}" for text, codes in _with_codes(line)])


def _with_codes(line: Line) -> list[tuple[str, tuple[str, str]]]:
    return [(text, _codes(style)) for text, style in line]


@cache
def _codes(style: str) -> tuple[str, str]:
    """Return what to write before and after a text of this style."""
    from rich.color import ColorSystem
    from rich.style import Style

    before, after = (
        Style.parse(STYLES[style] or "none")
        .render("|", color_system=ColorSystem.STANDARD)
        .split("|")
    )
    return before, after


LIT = {"": "", "chosen": "reverse", "beside": "underline", "bar": "reverse"}
"""How a whole line of a screen is lit → rich style."""


@cache
def rich_style(style: str, lit: str, *, color: bool) -> Style:
    """Return what a text of this style looks like in a line that is lit so."""
    from rich.style import Style

    found = Style.parse(f"{STYLES[style]} {LIT[lit]}".strip() or "none")
    if lit in {"chosen", "bar"}:
        # What is dim is hard to read when it is reversed.
        found += Style(dim=False)
    return found if color and lit != "chosen" else found.without_color


def use_color(mode: str, *, isatty: bool, environ: Mapping[str, str]) -> bool:
    """Say whether to colour: ``always``, ``never``, or ``auto`` by terminal, NO_COLOR and TERM."""
    if mode != "auto":
        return mode == "always"
    return isatty and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
