# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from tests.unit.journeys import ALL, DROPPED, NFT_DROPPED, REPLY, REQUEST, TCP, VETHC1
from tracer import tally as module
from tracer.model import Segment
from tracer.tally import DropPlace, Step, Tally, drop_place, flow_key

SECOND = 1_000_000_000


def test_flows_count_their_journeys_bytes_and_drops() -> None:
    tally = Tally()
    for journey in (REQUEST, REQUEST, REPLY, DROPPED):
        tally.add(journey)
    assert [(c.journeys, c.dropped) for c in tally.flows.values()] == [(2, 0), (1, 0), (1, 1)]
    assert tally.flows[flow_key(REQUEST)].bytes == 2 * REQUEST.hops[0].len
    assert tally.journeys == tally.stand_for == tally.took.count == 4


def test_a_request_and_its_reply_are_two_flows_and_so_are_two_connections() -> None:
    other = TCP._replace(flow=TCP.flow._replace(sport=1))
    assert len({flow_key(journey) for journey in (REQUEST, REPLY, TCP, other)}) == 4


def test_steps_are_between_two_functions_and_know_what_was_waited_for() -> None:
    tally = Tally()
    tally.add(REQUEST)
    assert sum(took.count for took in tally.steps.values()) == len(REQUEST.hops) - 1
    assert sum(took.total for took in tally.steps.values()) == REQUEST.duration_ns
    wait = Step("enqueue_to_backlog", "process_backlog", Segment.SOFTIRQ_WAIT)
    assert tally.steps[wait].count == 2  # into the host, and out of it


def test_drops_are_counted_by_reason_function_and_device() -> None:
    tally = Tally()
    for journey in (DROPPED, NFT_DROPPED, NFT_DROPPED._replace(id="82"), REQUEST):
        tally.add(journey)
    counts = {place.function: (c.journeys, c.last) for place, c in tally.drops.items()}
    assert counts == {"nf_hook_slow": (1, DROPPED.id), "nft_do_chain": (2, "82")}
    assert all(place.reason == "NETFILTER_DROP" for place in tally.drops)


def test_a_drop_of_which_the_kernel_said_nothing_has_at_least_a_place() -> None:
    silent = DROPPED._replace(drop=None, hops=DROPPED.hops[:4])
    assert drop_place(silent) == DropPlace(None, None, VETHC1)


def test_one_may_stand_for_many() -> None:
    tally = Tally()
    tally.add(DROPPED, 16)
    assert (tally.journeys, tally.stand_for) == (1, 16)
    assert next(iter(tally.flows.values())).dropped == 16
    assert next(iter(tally.drops.values())).journeys == 16
    assert {took.count for took in tally.steps.values()} == {16}


def test_the_recent_past_is_a_count_for_each_second() -> None:
    tally = Tally()
    for second, times in ((1, 3), (2, 1), (5, 2)):
        for _ in range(times):
            tally.add(TCP._replace(start_ns=second * SECOND + 7))
    count = tally.flows[flow_key(TCP)]
    assert count.recent(tally.last_ns)[-5:] == [3, 1, 0, 0, 2]
    assert len(count.recent(tally.last_ns)) == module.SECONDS
    assert count.rate == pytest.approx(5 / 4)
    assert count.recent(tally.last_ns + 100 * SECOND) == [0] * module.SECONDS


def test_memory_is_bounded_and_what_gave_way_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLOWS_MOST", 3)
    tally = Tally()
    for port in (1, 2, 3, 1, 4, 5):
        tally.add(TCP._replace(flow=TCP.flow._replace(sport=port)))
    assert [key.sport for key in tally.flows] == [1, 4, 5]  # the longest unseen went
    assert tally.forgotten == 2


def test_every_kind_of_journey_can_be_counted() -> None:
    tally = Tally()
    for journey in ALL.values():
        tally.add(journey)
    tally.add(TCP._replace(hops=()))
    assert tally.journeys == len(ALL) + 1
