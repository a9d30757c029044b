# SPDX-License-Identifier: GPL-2.0-only
"""Root's capabilities (capabilities(7)), of which the thread that reads packets uses none.

Capabilities belong to a thread. Attaching needs them, so does whatever follows containers into
their namespaces, which is a thread of its own. Who reads what strangers have sent and writes it
into files gives them up meanwhile and takes them up where they are needed: to open a file as
somebody else, to end COMMAND, to look into /proc/kallsyms. That is a guard against mistakes, no
prison: the thread could take them up anywhere.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DAC_READ_SEARCH, BPF = 1 << 2, 1 << 39
"""Bits of linux/capability.h. The first is kept: modules are imported when they are needed, also
from a home that is closed to others. So is the second where else no map can be read (before 5.19,
commit c8644cd0efe7)."""

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Half(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


class _Sets:
    """This thread's."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._header = _Header(_VERSION, 0)
        self._halves = (_Half * 2)()
        self._call(self._libc.capget)
        self.effective, self.permitted = (
            getattr(self._halves[0], name) | getattr(self._halves[1], name) << 32
            for name in ("effective", "permitted")
        )

    def use(self, effective: int) -> None:
        """Have these in effect from now on, of those that are permitted."""
        effective &= self.permitted
        for number, half in enumerate(self._halves):
            half.effective = effective >> 32 * number & 0xFFFFFFFF
        self._call(self._libc.capset)

    def _call(self, function: Callable[..., int]) -> None:
        if function(ctypes.byref(self._header), self._halves):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def give_up(works: Callable[[], bool]) -> None:
    """Have as few in effect in this thread as let ``works`` say yes; all if nothing else does.

    Raises OSError if the kernel does not let it.
    """
    sets = _Sets()
    for kept in (DAC_READ_SEARCH, DAC_READ_SEARCH | BPF, sets.permitted):
        sets.use(kept)
        if works():
            return


@contextmanager
def taken_up() -> Iterator[None]:
    """All that this thread may have are in effect meanwhile, and then what was before."""
    before = _Sets()
    if before.effective != before.permitted:
        before.use(before.permitted)
    try:
        yield
    finally:
        after = _Sets()
        if after.effective != before.effective:
            after.use(before.effective)
