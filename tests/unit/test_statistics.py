# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.golden import assert_golden
from tests.unit.journeys import ALL, CAPTURE, DROPPED, NFT_DROPPED, REPLY, REQUEST, SUMMARY, TCP
from tests.unit.screens import journeys, look
from tracer.export.statistics import members
from tracer.histogram import ERROR
from tracer.model import Device, Journey, Outcome, Segment
from tracer.statistics import OUTLIERS, By, Statistics, path_of
from tracer.tally import flow_key
from tracer.view.line import text_of, width_of
from tracer.view.look import Look
from tracer.view.statistics import bars, report
from tracer.view.theme import STYLES


def of(found: list[Journey], by: By = By.FLOW) -> Statistics:
    statistics = Statistics(by)
    statistics.add_all(found)
    return statistics


def test_everything_is_counted() -> None:
    found = journeys(2)
    statistics = of(found)
    assert statistics.journeys == len(found) == 30
    assert statistics.hops == sum(len(journey.hops) for journey in found)
    assert statistics.bytes == sum(journey.hops[0].len for journey in found)
    assert statistics.branches == sum(journey.parent is not None for journey in found)
    assert statistics.outcomes == {
        o: n for o in Outcome if (n := sum(journey.outcome is o for journey in found))
    }
    assert statistics.seconds == pytest.approx(29 * 0.0017)
    assert statistics.took.total == sum(journey.duration_ns for journey in found)


@pytest.mark.parametrize(
    ("by", "key"),
    [
        (By.FLOW, flow_key(REQUEST)),
        (By.PATH, ("c1/eth0", "host/vethc1", "host/vethc2", "c2/eth0")),
        (By.OUTCOME, "consumed"),
        (By.NETNS, "c1"),
        (By.CPU, 0),
    ],
)
def test_journeys_are_grouped_by_what_was_asked_for(by: By, key: object) -> None:
    statistics = of([REQUEST, REPLY, REQUEST], by)
    group = statistics.groups[key]  # type: ignore[index]
    assert (group.journeys, group.first) == (2, REQUEST.id)
    assert group.took.percentiles(0.5) == statistics.groups[key].took.percentiles(0.99)  # type: ignore[index]
    assert sum(group.journeys for group in statistics.groups.values()) == 3


def test_a_step_is_at_a_device_and_waiting_is_apart_from_work() -> None:
    statistics = of([REQUEST, REQUEST])
    waits = {
        (str(placed.device and placed.device.ifname), took.count)
        for placed, took in statistics.steps.items()
        if placed.step.segment is Segment.SOFTIRQ_WAIT
    }
    assert waits == {("vethc1", 2), ("eth0", 2)}
    assert sum(took.total for took in statistics.kinds.values()) == 2 * REQUEST.duration_ns
    softirq = [h.segment is Segment.SOFTIRQ_WAIT for h in REQUEST.hops].count(True)
    assert statistics.kinds[Segment.SOFTIRQ_WAIT].count == 2 * softirq


def test_drops_know_the_last_journey_that_was_dropped_so() -> None:
    again = DROPPED._replace(id="900")
    statistics = of([DROPPED, NFT_DROPPED, again])
    assert {(d.journeys, d.last.id) for d in statistics.drops.values()} == {
        (2, "900"),
        (1, NFT_DROPPED.id),
    }


def test_the_slowest_are_the_slowest() -> None:
    end = TCP.hops[-1]
    found = [
        TCP._replace(id=str(n), hops=(*TCP.hops[:-1], end._replace(dt_ns=(n * 37) % 101 * 10**6)))
        for n in range(101)
    ]
    slowest = of(found).slowest
    assert slowest == sorted(((j.duration_ns, j.id) for j in found), reverse=True)[:OUTLIERS]


@settings(max_examples=40, deadline=None)
@given(st.lists(any_journey.journeys(), max_size=12), st.sampled_from(By))
def test_steps_are_those_of_a_plain_sort(found: list[Journey], by: By) -> None:
    statistics = of(found, by)
    plain: dict[tuple[str, str, Segment | None, Device | None], list[int]] = {}
    for journey in found:
        for before, hop in zip(journey.hops, journey.hops[1:], strict=False):
            step = (before.function, hop.function, before.segment, before.device)
            plain.setdefault(step, []).append(max(hop.dt_ns - before.dt_ns, 0))
    told = {
        (p.step.function, p.step.following, p.step.segment, p.device): took
        for p, took in statistics.steps.items()
    }
    assert told.keys() == plain.keys()
    for key, values in plain.items():
        values.sort()
        (median,) = told[key].percentiles(0.5)
        true = values[(len(values) + 1) // 2 - 1]
        assert abs(median - true) <= true * ERROR
        assert (told[key].count, told[key].total) == (len(values), sum(values))
    assert sum(group.journeys for group in statistics.groups.values()) == len(found)
    for width in (60, 100):
        lines = list(report(statistics, width, Look(), most=5))
        assert all(width_of(line) <= width for line in lines)
        assert {style for line in lines for _, style in line} <= STYLES.keys()
    assert members(statistics, CAPTURE, None)["journeys"] == len(found)


@pytest.mark.parametrize("width", [80, 132])
def test_the_report_looks_as_accepted(width: int) -> None:
    lines = report(of(journeys(), By.PATH if width > 100 else By.FLOW), width, look(), most=6)
    text = "\n".join(text_of(line) for line in lines) + "\n"
    assert_golden(f"statistics-{width}.txt", text)


def test_a_histogram_is_drawn_over_nine_powers_of_ten() -> None:
    statistics = of([REQUEST])
    assert len(bars(statistics.took, Look())) == 16
    assert bars(statistics.took, Look(ascii=True)).strip() == "#"


def test_the_members_hold_all_of_it() -> None:
    told = members(of(list(ALL.values()), By.PATH), CAPTURE, SUMMARY)
    groups = told["groups"]
    assert isinstance(groups, list)
    assert {tuple(group["path"]) for group in groups} == {path_of(j) for j in ALL.values()}
    capture = told["capture"]
    assert isinstance(capture, dict)
    assert capture["whole"] is True
    assert capture["lost"] == SUMMARY.lost
    assert capture["missing"] == ["icmpv6_rcv"]
