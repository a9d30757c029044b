# SPDX-License-Identifier: GPL-2.0-only
"""What a packet must be like when it is first seen, besides its bytes: mark, process, direction.

The kernel program decides by it. Pure.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from tracer.errors import UsageError
from tracer.text import printable

COMM_BYTES = 15
"""The kernel cuts the name of a process after so many (TASK_COMM_LEN, with its zero)."""
_MARK = re.compile(r"(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})(?:/(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}))?")
_WORD = 0xFFFFFFFF


class Mark(NamedTuple):
    """skb->mark, of which the bits of ``mask`` count."""

    value: int
    mask: int = _WORD


class Wanted(NamedTuple):
    """All of these must hold; None is not asked for."""

    mark: Mark | None = None
    pid: int | None = None
    """The process that sends it; what none sends (a softirq, a reply of the kernel's) has none."""
    comm: bytes | None = None
    """Its name, as the kernel has it: at most COMM_BYTES."""
    direction: str | None = None
    """``in``: a device has received it when it is first seen. ``out``: it was made on this host."""

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return any(asked is not None for asked in self)


ANYTHING = Wanted()


def mark_of(typed: str) -> Mark:
    """Read ``7``, ``0x10`` or ``0x10/0xf0``, as nft and tc write it. Raises UsageError."""
    found = _MARK.fullmatch(typed)
    numbers = [] if found is None else [_number(n) for n in found.groups() if n]
    if not numbers or max(numbers) > _WORD:
        raise UsageError(
            f"--mark {printable(typed)} is neither a number nor NUMBER/MASK, of 32 bits",
            hint="sudo skbtrace --topology docker0 --mark 0x10/0xf0",
        )
    value, mask = numbers[0], numbers[1] if len(numbers) > 1 else _WORD
    if value & ~mask:
        raise UsageError(
            f"--mark {printable(typed)} can never be: the mark has bits that its mask has not",
            hint=f"sudo skbtrace --topology docker0 --mark {value & mask:#x}/{mask:#x}",
        )
    return Mark(value, mask)


def _number(digits: str) -> int:
    return int(digits, 16 if digits[:2].lower() == "0x" else 10)


def process_of(typed: str) -> tuple[int | None, bytes | None]:
    """Read a process number or name: (pid, None) or (None, comm)."""
    if typed.isascii() and typed.isdigit() and len(typed) < 10:
        return int(typed), None
    return None, os.fsencode(typed)[:COMM_BYTES]
