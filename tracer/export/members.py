# SPDX-License-Identifier: GPL-2.0-only
"""Typed access to the members of a JSON object from a file nobody vouches for.

Each function returns a member as what it must be or raises WrongError; every text comes out
printable. This module knows JSON, not traces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tracer.text import printable

Members = dict[str, object]
_T = TypeVar("_T")

LARGEST = 1 << 63
"""Numbers lie below it."""


class WrongError(Exception):
    """A line does not hold what it must. The message stands behind "line 5 "."""


def shown(name: str) -> str:
    """Return a member's name as a message can show it."""
    return repr(name[:40])


def safe(text: object, name: str) -> str:
    """Return ``text``, which stands in member ``name``, printable."""
    if not isinstance(text, str):
        raise WrongError(f"has no text in {shown(name)}")
    return printable(text)


def text(members: Members, name: str) -> str:
    """Return a member that is a text."""
    return safe(members.get(name), name)


def texts(members: Members, name: str) -> tuple[str, ...]:
    """Return a member that is a list of texts."""
    return tuple(safe(item, name) for item in a_list(members, name))


def text_map(members: Members, name: str) -> dict[str, str]:
    """Return a member that is an object of texts."""
    return {safe(k, name): safe(v, name) for k, v in an_object(members, name).items()}


def counts(members: Members, name: str) -> dict[str, int]:
    """Return a member that is an object of whole numbers."""
    numbers = an_object(members, name)
    return {safe(key, name): integer(numbers, key) for key in numbers}


def optional(members: Members, name: str, read: Callable[[Members, str], _T]) -> _T | None:
    """Return what ``read`` finds, or None if the member is null or not there."""
    return None if members.get(name) is None else read(members, name)


def an_object(members: Members, name: str) -> Members:
    """Return a member that is an object."""
    value = members.get(name)
    if not isinstance(value, dict):
        raise WrongError(f"has no object in {shown(name)}")
    return value


def a_list(members: Members, name: str) -> list[object]:
    """Return a member that is a list of anything."""
    value = members.get(name)
    if not isinstance(value, list):
        raise WrongError(f"has no list in {shown(name)}")
    return value


def objects(members: Members, name: str) -> list[Members]:
    """Return a member that is a list of objects."""
    values: list[Members] = []
    for value in a_list(members, name):
        if not isinstance(value, dict):
            raise WrongError(f"has something else than objects in {shown(name)}")
        values.append(value)
    return values


def integer(members: Members, name: str, least: int = 0) -> int:
    """Return a whole number from ``least`` up to what the kernel can count."""
    value = members.get(name)
    # By class: True is an int to isinstance, and not a number in JSON.
    if value.__class__ is not int or not least <= value < LARGEST:
        raise WrongError(f"has no whole number in {shown(name)}")
    return value


def integers(members: Members, name: str) -> tuple[int, ...]:
    """Return a member that is a list of whole numbers."""
    return tuple(integer({name: item}, name) for item in a_list(members, name))


def truth(members: Members, name: str) -> bool:
    """Return a member that is true or false."""
    value = members.get(name)
    if not isinstance(value, bool):
        raise WrongError(f"has neither true nor false in {shown(name)}")
    return value


def plain(members: Members, name: str) -> int | str | bool | None:
    """Return a member that is a text, a whole number, true, false or null, or is not there."""
    value = members.get(name)
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, int | str):
        raise WrongError(f"has no plain value in {shown(name)}")
    return safe(value, name) if isinstance(value, str) else integer(members, name)


def big(members: Members, name: str) -> int:
    """Read a number that is written as text, because it may exceed 2^53."""
    text = members.get(name)
    if not isinstance(text, str) or not (text.isascii() and text.isdigit() and len(text) < 20):
        raise WrongError(f"has no number as text in {shown(name)}")
    return int(text)


def octets(members: Members, name: str) -> bytes:
    """Return bytes that are written as two hexadecimal digits each."""
    text = members.get(name)
    if isinstance(text, str) and not set(text) - set("0123456789abcdef") and not len(text) % 2:
        return bytes.fromhex(text)
    raise WrongError(f"has no hexadecimal bytes in {shown(name)}")


def hexadecimal(members: Members, name: str) -> int:
    """Return a number of up to 64 bits that is written as ``0x…``."""
    text = members.get(name)
    if not isinstance(text, str) or not text.startswith("0x"):
        raise WrongError(f"has no hexadecimal text in {shown(name)}")
    digits = text[2:]
    if not 0 < len(digits) <= 16 or set(digits) - set("0123456789abcdef"):
        raise WrongError(f"has no hexadecimal text in {shown(name)}")
    return int(digits, 16)
