# SPDX-License-Identifier: GPL-2.0-only
"""Kernel symbols: where variables are, and which name a function has on this kernel.

The compiler may have given a function a suffix (``.constprop.0``: a clone for constant arguments;
``.isra.0``, ``.part.0``); ``.cold`` is the part of it that is hardly ever run, never its entry.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

KALLSYMS = Path("/proc/kallsyms")

_FUNCTION = re.compile(rb" [tTwW] ([^\s]+)")


def plain(symbol: str) -> str:
    """The function's name without what the compiler appended."""
    return symbol.split(".", 1)[0]


class Symbols:
    """What /proc/kallsyms says now. Read once: that is what takes time."""

    def __init__(self, path: Path = KALLSYMS) -> None:
        self._text = path.read_bytes()
        self._functions = set(_FUNCTION.findall(self._text))
        self._suffixed: dict[str, list[str]] = defaultdict(list)
        for name in self._functions:
            if b"." in name and b".cold" not in name:
                symbol = name.decode()
                self._suffixed[plain(symbol)].append(symbol)

    def variants(self, function: str) -> list[str]:
        """Every symbol of that function, best first, never ``.cold``."""
        exact = [function] if function.encode() in self._functions else []
        return exact + sorted(self._suffixed.get(function, ()), key=lambda name: (len(name), name))

    def addresses(self, names: Iterable[str]) -> dict[str, int]:
        """Symbol → address, of those there are; per-CPU variables: what to add to a CPU's base."""
        found = {}
        for name in names:
            for end in (b"\n", b"\t"):  # a module's symbols are followed by its name
                at = self._text.find(b" " + name.encode() + end)
                if at >= 0:
                    line = self._text[self._text.rfind(b"\n", 0, at) + 1 : at]
                    found[name] = int(line.split()[0], 16)
                    break
        return {name: address for name, address in found.items() if address}
