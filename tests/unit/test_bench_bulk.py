# SPDX-License-Identifier: GPL-2.0-only
"""What counts as sent again when a trace is held against TcpRetransSegs."""

from __future__ import annotations

import pytest

from tests.bench.bulk import Sent, repeated

MSS = 1000


@pytest.mark.parametrize(
    ("packets", "again"),
    [
        ([(7, 0, 1), (8, 500, 0), (508, 700, 0)], 0),
        ([(7, 0, 1), (7, 0, 1), (8, 500, 0)], 1),  # the SYN
        ([(8, 4500, 0), (4008, 500, 0)], 1),  # a tail loss probe: the end of a large packet
        ([(8, 4500, 0), (8, 4500, 0)], 5),
        ([(8, 4500, 0), (8, 1000, 0), (4508, 1000, 0)], 1),
        ([(8, 500, 0), (508, 0, 1), (508, 0, 1)], 1),  # the FIN
        ([(8, 500, 1), (508, 0, 1)], 1),  # a FIN that was with data, without it
        ([(8, 500, 0), (508, 0, 1), (8, 500, 1)], 1),  # and one that joined it
        ([(8, 1000, 1), (8, 1000, 1)], 1),
        ([(8, 4024, 0, True), (4008, 24, 0, False)], 1),  # a probe of so few bytes has no PSH
        ([(8, 500, 0, True), (508, 12, 0, False), (508, 500, 0, True)], 0),  # an ACK with SACK
        ([(2**32 - 500, 1000, 0), (500, 1000, 0), (2**32 - 500, 1000, 0)], 1),
    ],
)
def test_a_segment_before_the_furthest_is_sent_again(
    packets: list[tuple[int, int, int] | tuple[int, int, int, bool]], again: int
) -> None:
    assert repeated([Sent(at, *packet) for at, packet in enumerate(packets)], MSS) == again
