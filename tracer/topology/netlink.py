# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel answers over netlink, read at once and decoded as far as it is wanted.

The netlink library makes an event loop for each socket and decodes every attribute of every
message. Where three hundred namespaces are read that is many times the work, so what is only read
goes this way; what changes something goes through the library. Numbers are those of
linux/netlink.h. This module knows no device and no route.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from types import TracebackType

Attributes = dict[int, bytes]
"""Type → value. Of a type that comes more than once: the last."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF
"""Without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""
_REQUEST, _DUMP = 0x01, 0x300
_ERROR, _DONE = 2, 3
_ANSWER = 1 << 17
"""Bytes. The kernel fills at most 32 KiB at a time."""
_AT_ONCE = 64
"""Requests without a dump in one go: their answers must fit the socket's buffer."""


class Netlink:
    """A netlink socket of the namespace the calling thread is in when it is made.

    Its methods raise OSError with the kernel's reason.
    """

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Ask for everything of a kind; return each message without its netlink header."""
        self._socket.send(_message(kind, _REQUEST | _DUMP, 0, body))
        found: list[bytes] = []
        while True:
            for answer, _, message in self._answers():
                if answer in {_DONE, _ERROR}:
                    _check(message)
                    return found
                found.append(message)

    def ask(self, kind: int, bodies: list[bytes]) -> Iterator[bytes | None]:
        """Ask one thing after the other; give each answer, None where the kernel has none."""
        for first in range(0, len(bodies), _AT_ONCE):
            some = bodies[first : first + _AT_ONCE]
            self._socket.send(
                b"".join(_message(kind, _REQUEST, n, body) for n, body in enumerate(some))
            )
            answers: dict[int, bytes | None] = {}
            while len(answers) < len(some):
                for answer, number, message in self._answers():
                    answers[number] = None if answer == _ERROR else message
            for number in range(len(some)):
                yield answers[number]

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """The type, number and body of the messages that come next."""
        data = self._socket.recv(_ANSWER)
        offset, end = 0, len(data) - _HEADER.size
        while offset <= end:
            size, kind, _, number, _ = _HEADER.unpack_from(data, offset)
            yield kind, number, data[offset + _HEADER.size : offset + size]
            offset += max(size + 3 & ~3, _HEADER.size)


def attributes(message: bytes, offset: int = 0) -> Attributes:
    """Return the attributes that stand in a message from ``offset`` on, or in an attribute."""
    # As ``each`` does, but this is called for every message.
    found = {}
    unpack = _ATTRIBUTE.unpack_from
    end = len(message) - 4
    while offset <= end:
        size, kind = unpack(message, offset)
        if size < 4:
            break
        found[kind & _TYPE_MASK] = message[offset + 4 : offset + size]
        offset += size + 3 & ~3
    return found


def each(message: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give the attributes one by one, where a type comes more than once."""
    unpack = _ATTRIBUTE.unpack_from
    end = len(message) - 4
    while offset <= end:
        size, kind = unpack(message, offset)
        if size < 4:
            return
        yield kind & _TYPE_MASK, message[offset + 4 : offset + size]
        offset += size + 3 & ~3


def attribute(kind: int, value: int) -> bytes:
    """Return an attribute that is a number of 32 bits."""
    return struct.pack("=HHI", 8, kind, value)


def u8(value: bytes | None) -> int | None:
    """Return an attribute that is a byte, or None if there is none."""
    return value[0] if value else None


def u16(value: bytes | None) -> int | None:
    """Return an attribute that is a number of 16 bits, or None."""
    return int.from_bytes(value[:2], sys.byteorder) if value else None


def u32(value: bytes | None) -> int | None:
    """Return an attribute that is a number of 32 bits, or None."""
    return int.from_bytes(value[:4], sys.byteorder) if value else None


def text(value: bytes | None) -> str | None:
    """Return an attribute that is a name: as files' names are read, since it may hold anything."""
    return None if value is None else os.fsdecode(value.rstrip(b"\0"))


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    padding = -len(body) % 4
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, kind, flags, number, 0) + body + bytes(padding)


def _check(message: bytes) -> None:
    number = int.from_bytes(message[:4], sys.byteorder, signed=True) if len(message) >= 4 else 0
    if number < 0:
        raise OSError(-number, os.strerror(-number))
