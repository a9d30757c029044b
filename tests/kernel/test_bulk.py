# SPDX-License-Identifier: GPL-2.0-only
"""Bulk TCP, in short: no packet is lost, none is two. In long: make bench ARGS='--bulk 10'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench import bulk
from tests.kernel.conftest import TRIES
from tracer.model import Outcome

pytestmark = [pytest.mark.kernel, pytest.mark.once, pytest.mark.usefixtures("lab")]

MISSED = {"probe_missed", "hop_missing"}
"""An interrupt in the middle of a probe hides what it does; the kernel counts those hits. Then it
is tried again, and if that happens every time, they are what may be missing."""
SEGMENTS_MAX = 65536 // bulk.MSS + 1
"""In one packet, which one hit may hide."""
AMOUNT = {"defaults": "-n 20M", "offloads-off": "-n 3M"}  # some 3 s in a guest


@pytest.fixture(scope="module", params=bulk.RUNS)
def figures(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lab: None
) -> dict[str, Any]:
    """iperf3 from c1 to c2, with Docker's defaults and with offloads off."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    found: dict[str, Any] = {}
    for _ in range(TRIES):
        try:
            bulk.traced(AMOUNT[request.param], folder, offloads=bulk.RUNS[request.param])
        finally:
            bulk.offload("on")
        found = bulk.figures_of(folder)
        if not any(found["told"].lost.values()):
            break
    return found


def test_nothing_is_lost_and_every_end_is_known(figures: dict[str, Any]) -> None:
    told: bulk.Told = figures["told"]
    assert not any(told.lost[name] for name in told.lost.keys() - MISSED), told.lost
    unclear = told.outcomes[Outcome.UNFINISHED] + told.outcomes[Outcome.DAMAGED]
    assert unclear <= bulk.SHARE * told.journeys, told.bad
    assert told.outcomes[Outcome.DELIVERED] > 100


def test_no_journey_is_two_packets(figures: dict[str, Any]) -> None:
    assert figures["told"].mixed == 0


def test_tcp_and_the_devices_have_counted_the_same(figures: dict[str, Any]) -> None:
    told: bulk.Told = figures["told"]
    sent, again = figures["tcp"]["TcpOutSegs"], figures["tcp"]["TcpRetransSegs"]
    missed = told.lost["probe_missed"]
    assert 0 <= sent + again - told.segments <= missed * SEGMENTS_MAX
    assert abs(again - told.repeats) <= missed * SEGMENTS_MAX
    for device, count in figures["received"].items():
        assert 0 <= count - told.received[device] <= missed
