# SPDX-License-Identifier: GPL-2.0-only
"""Kernel symbols: which name a function has on this kernel, and which function an address is in.

The compiler may have given a function a suffix (``.constprop.0``: a clone for constant arguments;
``.isra.0``, ``.part.0``); ``.cold`` is the part of it that is hardly ever run, never its entry.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

KALLSYMS = Path("/proc/kallsyms")
SUFFIXES = ("", ".constprop.0", ".isra.0", ".part.0")
"""Tried first, without reading kallsyms, which takes long."""

_TEXT = re.compile(rb"^([0-9a-f]+) [tTwW] ([^\s]+)", re.MULTILINE)


def plain(symbol: str) -> str:
    """The function's name without what the compiler appended."""
    return symbol.split(".", 1)[0]


def variants(function: str, kallsyms: bytes) -> list[str]:
    """Every symbol of that function in the text of /proc/kallsyms, best first, never ``.cold``."""
    pattern = re.compile(rb" [tTwW] (" + re.escape(function.encode()) + rb"(?:\.[^\s]+)?)\s")
    found = {name.decode() for name in pattern.findall(kallsyms)}
    return sorted((n for n in found if ".cold" not in n), key=lambda name: (len(name), name))


def addresses(names: Iterable[str], path: Path = KALLSYMS) -> dict[str, int]:
    """Symbol → address, of those there are; per-CPU variables: what to add to a CPU's base.

    All in one go: reading the file is what takes time (0.3 s where everything is emulated).
    """
    text = path.read_bytes()
    found = {}
    for name in names:
        for end in (b"\n", b"\t"):  # a module's symbols are followed by its name
            at = text.find(b" " + name.encode() + end)
            if at >= 0:
                line = text[text.rfind(b"\n", 0, at) + 1 : at]
                found[name] = int(line.split()[0], 16)
                break
    return {name: address for name, address in found.items() if address}


class Symbols:
    """Addresses → functions. Reads kallsyms once, when first asked."""

    def __init__(self, path: Path = KALLSYMS) -> None:
        self._path = path
        self._addresses: list[int] = []
        self._names: list[bytes] = []
        self._known: dict[int, tuple[str, int] | None] = {}

    def at(self, address: int) -> tuple[str, int] | None:
        """(function without suffix, bytes into it), or None if kallsyms does not say."""
        if address not in self._known:
            self._known[address] = self._find(address)
        return self._known[address]

    def _find(self, address: int) -> tuple[str, int] | None:
        if not self._addresses:
            pairs = sorted(
                (int(at, 16), name) for at, name in _TEXT.findall(self._path.read_bytes())
            )
            self._addresses = [at for at, _ in pairs]
            self._names = [name for _, name in pairs]
        index = bisect_right(self._addresses, address) - 1
        if index < 0 or not self._addresses[index]:
            return None  # kallsyms shows zeros to those it does not trust
        return plain(self._names[index].decode()), address - self._addresses[index]
