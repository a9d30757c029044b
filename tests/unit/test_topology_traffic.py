# SPDX-License-Identifier: GPL-2.0-only
"""The lab's traffic: what it says on the wire."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tracer.topology.traffic import _echo_request, _is_reply, checksum

IP_HEADER = bytes([0x45]) + bytes(19)
u16 = st.integers(0, 0xFFFF)


def test_the_checksum_of_the_rfc() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF
    assert checksum(b"") == 0xFFFF


@given(st.binary())
def test_what_is_signed_sums_to_zero(data: bytes) -> None:
    even = data + b"\0" * (len(data) % 2)
    assert checksum(even + struct.pack("!H", checksum(data))) == 0


@given(u16, u16)
def test_a_request_is_signed_and_is_no_reply(identifier: int, sequence: int) -> None:
    request = _echo_request(identifier, sequence)
    assert len(request) == 64  # what ping sends by default
    assert checksum(request) == 0
    assert not _is_reply(IP_HEADER + request, identifier, sequence)
    assert _is_reply(IP_HEADER + b"\0" + request[1:], identifier, sequence)
    assert not _is_reply(IP_HEADER + b"\0" + request[1:], identifier, sequence ^ 1)
    assert not _is_reply(IP_HEADER + b"\0" + request[1:], identifier ^ 1, sequence)


@given(st.binary(), u16, u16)
def test_anything_received_is_a_reply_or_not(data: bytes, identifier: int, sequence: int) -> None:
    _is_reply(data, identifier, sequence)
