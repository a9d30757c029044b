# SPDX-License-Identifier: GPL-2.0-only
"""When a trace goes on in another file, what the files are called, how many are kept. Pure."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from tracer.errors import UsageError
from tracer.text import printable

_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_AGES = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_WORD = re.compile(r"([1-9][0-9]{0,8})([A-Za-z]+)|keep=([1-9][0-9]{0,8})")
_COMPRESSED = (".gz", ".zst")


class Rotation(NamedTuple):
    """What is None is no reason for another file, or none to remove one."""

    size: int | None = None
    """Bytes in the file; the last write may be beyond."""
    age_s: int | None = None
    keep: int | None = None
    """Files; of more the oldest ones are removed."""


def rotation_of(typed: str) -> Rotation:
    """Return what ``100M``, ``1h`` or ``100M,1h,keep=10`` means. Raises UsageError."""
    found: dict[str, int] = {}
    for word in typed.split(","):
        parts = _WORD.fullmatch(word.strip())
        if parts is None:
            raise _unclear(word)
        number, unit, keep = parts.groups()
        if keep is not None:
            name, value = "keep", int(keep)
        elif unit in _SIZES:
            name, value = "size", int(number) * _SIZES[unit]
        elif unit in _AGES:
            name, value = "age_s", int(number) * _AGES[unit]
        else:
            raise _unclear(word)
        if name in found:
            raise UsageError(f"--out-rotate {printable(typed)} says twice the same kind of thing")
        found[name] = value
    if found.keys() <= {"keep"}:
        raise UsageError(
            f"--out-rotate {printable(typed)} does not say when",
            hint=f"--out-rotate 100M,{printable(typed)}",
        )
    return Rotation(**found)


def _unclear(word: str) -> UsageError:
    return UsageError(
        f"--out-rotate {printable(word)} is neither a size (100M: K, M, G), nor an age (1h: s, "
        "min, h, d), nor keep=N",
        hint="--out-rotate 100M,1h,keep=10",
    )


def numbered(path: str, number: int) -> str:
    """Return what file ``number`` is called: ``trace.000001.json.gz``. The names sort."""
    before, after = _around(path)
    return f"{before}{number:06d}{after}"


def those_there(path: str, names: list[str]) -> list[str]:
    """Return which of a folder's names files of that rotated trace could have, in order."""
    before, after = _around(os.path.basename(path))  # noqa: PTH119 (a name, as typed)
    pattern = re.compile(f"{re.escape(before)}[0-9]{{6,}}{re.escape(after)}")
    return sorted(name for name in names if pattern.fullmatch(name))


def _around(path: str) -> tuple[str, str]:
    packed = next((ending for ending in _COMPRESSED if path.endswith(ending)), "")
    stem, ending = os.path.splitext(path.removesuffix(packed))  # noqa: PTH122 (text in, text out)
    return f"{stem}.", f"{ending}{packed}"
