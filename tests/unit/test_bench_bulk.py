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
        ([(2**32 - 500, 1000, 0), (500, 1000, 0), (2**32 - 500, 1000, 0)], 1),
    ],
)
def test_a_segment_before_the_furthest_is_sent_again(
    packets: list[tuple[int, int, int]], again: int
) -> None:
    assert repeated([Sent(at, *packet) for at, packet in enumerate(packets)], MSS) == again
