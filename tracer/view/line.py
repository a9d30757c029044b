# SPDX-License-Identifier: GPL-2.0-only
"""A line: pieces of text, each with the name of its style. Measured in terminal cells.

This module knows no colours, no terminals and no packets. Style names are the keys of
``theme.STYLES``.
"""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[str, str]
"""Text and the name of its style; "" is plain."""
Line = tuple[Span, ...]


def cells(text: str) -> int:
    """How many terminal cells ``text`` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def width_of(line: Line) -> int:
    """How many terminal cells a line takes."""
    return sum(cells(text) for text, _ in line)


def text_of(line: Line) -> str:
    """Return a line without its styles."""
    return "".join(text for text, _ in line)


def trimmed(spans: Iterable[Span]) -> Line:
    """Return spans as a line: no empty ones, no blanks at its end."""
    line = [span for span in spans if span[0]]
    while line:
        text, style = line.pop()
        text = text.rstrip(" ")
        if text:
            return (*line, (text, style))
    return ()


def clip(text: str, width: int, mark: str) -> str:
    """Return ``text`` in at most ``width`` cells; ``mark`` (one cell) stands for what was cut."""
    if cells(text) <= width:
        return text
    kept, room = [], width - 1
    for character in text:
        room -= cells(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + mark if width > 0 else ""


def within(spans: Iterable[Span], width: int, mark: str) -> Line:
    """Return spans as a line of at most ``width`` cells; ``mark`` stands for what was cut."""
    shown: list[Span] = []
    for text, style in spans:
        fitting = clip(text, width, mark)
        if fitting:
            shown.append((fitting, style))
        width -= cells(fitting)
        if fitting != text:
            break
    return tuple(shown)


def left(text: str, width: int, mark: str) -> str:
    """Return ``text`` in exactly ``width`` cells, to the left."""
    text = clip(text, width, mark)
    return text + " " * (width - cells(text))


def right(text: str, width: int, mark: str) -> str:
    """Return ``text`` in exactly ``width`` cells, to the right."""
    text = clip(text, width, mark)
    return " " * (width - cells(text)) + text


def fill(words: Iterable[Span], width: int, mark: str, *, indent: int = 2) -> list[Line]:
    """Set words in lines of at most ``width`` cells, a space between two words.

    Lines after the first are indented. A word that is longer than a line is clipped.
    """
    lines: list[Line] = []
    line: list[Span] = []
    room = width
    for word, style in words:
        text = clip(word, width - (indent if lines or line else 0), mark)
        size = cells(text)
        if line and size + 1 > room:
            lines.append(tuple(line))
            line, room = [(" " * indent, "")], width - indent
        elif line:
            line.append((" ", ""))
            room -= 1
        line.append((text, style))
        room -= size
    if line:
        lines.append(tuple(line))
    return lines
