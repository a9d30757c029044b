# SPDX-License-Identifier: GPL-2.0-only
"""Nanoseconds in words, with as many digits as they are worth, and from words. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TYPED = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ns|us|ms|s)")

_FORMS = (
    (99_950, 1e3, ".1f", ""),
    (9_999_500, 1e3, ".0f", ""),
    (99_950_000, 1e6, ".1f", "ms"),
    (999_500_000, 1e6, ".0f", "ms"),
    (9_995_000_000, 1e9, ".2f", "s"),
    (99_950_000_000, 1e9, ".1f", "s"),
)
"""Below so many ns: what a unit has in ns, its digits, its name. Microseconds go without one."""
_LONGEST = (0, 1e9, ".0f", "s")


def _parts(ns: int) -> tuple[str, str]:
    _, per_unit, digits, unit = next((form for form in _FORMS if ns < form[0]), _LONGEST)
    return format(ns / per_unit, digits), unit


def short(ns: int) -> str:
    """Return a time for a column of microseconds: ``0.9``, ``38.4``, ``1234``, ``12.3ms``."""
    number, unit = _parts(ns)
    return number + unit


def words(ns: int) -> str:
    """Return a time as it stands in a sentence: ``38.4 us``, ``12.3 ms``, ``5.00 s``."""
    number, unit = _parts(ns)
    return f"{number} {unit or 'us'}"


def nanoseconds(typed: str) -> int | None:
    """Return what a person has typed, ``500us``, ``1.5 ms``; None if that is no time."""
    found = _TYPED.fullmatch(typed)
    return None if found is None else int(Decimal(found[1]) * _UNITS[found[2]])
