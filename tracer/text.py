# SPDX-License-Identifier: GPL-2.0-only
r"""Text that is safe to print: names come from kernels, files and people, and may hold anything.

Linux accepts a device named ``v\x1b[31mx``. Names are made safe once, where they enter: by
``topology`` for what the kernel says, by ``export`` for what a file says, by ``cli`` for what
a person typed. This module knows nothing of terminals, styles or the rest of the house.
"""

from __future__ import annotations

import re

# Unicode's default ignorable code points that Python calls printable: they are not seen, or
# change how the character before them looks.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    r"""Return ``text`` with every character that is not plainly visible as an escape.

    Control and C1 characters, bidirectional and other format characters, fillers, variation
    selectors, line separators, surrogates and unassigned code points become ``\xNN``, ``\uNNNN``
    or ``\UNNNNNNNN``. A space and a backslash stay, so ``printable(printable(t))`` is
    ``printable(t)``. Raises nothing.
    """
    if text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None):
        return text
    return "".join(c if _is_visible(c) else _escape(ord(c)) for c in text)


def _is_visible(character: str) -> bool:
    return character.isprintable() and _UNSEEN.match(character) is None


def _escape(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"
