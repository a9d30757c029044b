# SPDX-License-Identifier: GPL-2.0-only
"""Figures of pwru, bpftrace and skbtrace → rows, and how the rates are found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from tests.bench.peers import (
    BLAST,
    BLASTS,
    CALM,
    CALM_RATE,
    Row,
    cpu_rows,
    is_whole,
    ladder,
    overload_rows,
    rate_rows,
    script,
    trip_rows,
)
from tracer.probes import MISSION


def step(sent: float, *, good: bool = True, cpu_s: float = 1.0) -> dict[str, Any]:
    lines = 1000 if good else 900
    told = {"rate": sent / 2, "asked": sent, "good": good, "count": 1000, "lines": lines}
    return {"sent": sent, "cpu_s": cpu_s, **told}


def run(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"each": 1, "calm": steps[0], "steps": [*steps], "as": {}, **more}


def verdicts(rows: Iterable[Row]) -> list[bool]:
    return [row[0] for row in rows]


def test_the_highest_rate_is_one_at_which_nothing_was_lost() -> None:
    lost = {"ring_full": 100, "unread": 0}
    rows = rate_rows(
        {
            "skbtrace": run(step(500), step(2400), step(9999, good=False), lost=lost),
            "pwru": run(step(400), step(600, good=False)),
            "bpftrace": run(step(802), step(800)),
        }
    )
    assert verdicts(rows) == [True, True, True, True, True, False, True, False]
    assert [row[2] for row in rows] == [
        "2400 a second, 1200",
        "400 a second, 200",
        ">= 802 a second, >= 401",
        "100; 100",
        *["6.0 times", "3.0 times"] * 2,
    ]


def test_what_skbtrace_lost_and_did_not_count_is_a_miss() -> None:
    rates = {
        "skbtrace": run(step(5000), step(9, good=False), lost={"ring_full": 99}),
        "pwru": run(step(1001)),
        "bpftrace": run(step(0, good=False)),
    }
    assert verdicts(rate_rows(rates)) == [True, True, False, False, False, True, False, True]


def test_cpu_is_of_the_calm_rate_and_of_what_the_other_could_just_follow() -> None:
    ours = run(step(1, cpu_s=0.6), step(2, cpu_s=9))
    ours["as"] = {"pwru": step(3, cpu_s=0.7), "bpftrace": step(1, cpu_s=1.6)}
    rows = [
        *cpu_rows(
            {
                "skbtrace": ours,
                "pwru": run(step(1, cpu_s=1.8), step(3, cpu_s=7), step(4, cpu_s=8, good=False)),
                "bpftrace": run(step(1, cpu_s=1.7, good=False)),
            }
        )
    ]
    assert verdicts(rows) == [True, True, False, False]
    assert [row[2] for row in rows] == [
        "0.60/1.80 s = 0.33",
        "0.70/7.00 s = 0.10",
        "0.60/1.70 s = 0.35, some lost",
        "1.60/1.70 s = 0.94, some lost",
    ]
    assert rows[1][1] == "CPU of 1000 packets, 3/s, skbtrace to pwru"


def trips(**least: float) -> dict[str, list[dict[str, Any]]]:
    return {
        name.replace("_", " "): [
            {"minimum": 1.5 * ms, "median": 3 * ms, "minima": [ms, 2 * ms]},
            {"minimum": ms, "median": 2 * ms, "minima": [ms - 0.001, ms + 0.001]},
            {"minimum": 1.1 * ms, "median": ms, "minima": [ms, 1.2 * ms]},
        ]
        for name, ms in least.items()
    }


def test_round_trips_are_held_against_untraced_and_pwru() -> None:
    good = {"untraced": 0.02, "nothing": 0.032, "another": 0.034}
    rest = {"seven": 0.04, "pwru nothing": 0.04, "pwru seven": 0.08}
    rows = trip_rows(trips(**good, **rest))
    assert verdicts(rows) == [True] * 6
    assert [row[2] for row in rows] == [
        "32.0/20.0 us = 1.60",
        "12.0/20.0 us = 0.60",
        "34.0 us",
        "40.0/20.0 us = 2.00",
        "20.0/60.0 us = 0.33",
        "2.00",
    ]
    slow = {"untraced": 0.02, "nothing": 0.034, "another": 0.039}
    rows = trip_rows(trips(**slow, seven=0.053, **{"pwru nothing": 0.04, "pwru seven": 0.08}))
    assert verdicts(rows) == [False, False, False, False, False, False]


@pytest.mark.parametrize(
    ("full", "lost", "good"),
    [
        ([5000, 5200], BLASTS * BLAST, [True, True, True]),
        ([4600, 4700], BLASTS * BLAST, [True, False, True]),  # 4500 and 5000, +- 200
        ([5000, 5200], BLASTS * BLAST - 1, [True, True, False]),  # it was not full all the time
    ],
)
def test_overload_slows_nobody_and_is_counted(
    full: list[float], lost: int, good: list[bool]
) -> None:
    figures = {
        "reading": [4400, 4600],
        "room": [4900, 5100],
        "full": full,
        "whole": 30_000,
        "lost": {"ring_full": lost, "unread": 0},
        "sent": 30_000 + lost,
    }
    assert verdicts(overload_rows(figures)) == good
    assert verdicts(overload_rows(figures | {"whole": 29_999}))[2] is False


@pytest.mark.parametrize(("most", "sender"), [(3000, 9999), (70, 9999), (10**6, 5000)])
def test_the_ladder_ends_near_the_highest_rate(most: int, sender: int) -> None:
    def tried(rate: int, _count: int) -> dict[str, Any]:
        return {"good": rate <= most, "sent": min(rate, sender), "rate": min(rate, sender)}

    steps = list(ladder(tried, tried(CALM_RATE, CALM)))
    best = max(each["rate"] for each in steps if each["good"])
    assert min(most, sender) / 1.2 < best <= min(most, sender)
    assert len(steps) < 10


def test_nothing_lost_at_no_rate_ends_too() -> None:
    def none(_rate: int, _count: int) -> dict[str, Any]:
        return {"good": False, "sent": 1.0, "rate": 1.0}

    assert len(list(ladder(none, none(CALM_RATE, CALM)))) < 10


@pytest.mark.parametrize(
    ("proto", "outcome", "functions", "whole"),
    [
        ("udp", "delivered", [*MISSION, *MISSION[:5], "udp_rcv"], True),
        ("udp", "dropped", [*MISSION, *MISSION[:5], "udp_rcv"], True),
        ("udp", "delivered", [*MISSION, *MISSION[:4], "udp_rcv"], False),
        ("udp", "damaged", [*MISSION, *MISSION[:5]], False),
        ("arp", "delivered", [*MISSION, *MISSION[:5]], False),
    ],
)
def test_a_whole_journey_has_all_of_its_hops_and_an_end(
    proto: str, outcome: str, functions: list[str], *, whole: bool
) -> None:
    hops = [{"function": function} for function in functions]
    line = json.dumps(
        {"flow": {"proto": proto}, "outcome": outcome, "hops": hops}, separators=(",", ":")
    )
    assert is_whole(line.encode()) is whole


def test_bpftrace_is_told_where_the_skb_is_and_what_there_is_not() -> None:
    symbols = ("veth_xmit", "br_forward", "__netif_receive_skb_core.constprop.0", "process_backlog")
    told = script("".join(f"ffff T {symbol}\n" for symbol in symbols))
    assert [line.split(" {")[0] for line in told.splitlines()] == [
        "kprobe:veth_xmit",
        "kprobe:process_backlog",
        "kprobe:__netif_receive_skb_core.*",
        "kprobe:br_forward",
    ]
    assert "$s = (struct sk_buff *)arg1; printf(" in told
    assert "$s = (struct sk_buff *)*(uint64 *)arg0; printf(" in told
    assert 'printf("%lx process_backlog %d %u %u %llu %d\\n", $s, 0, 0, 0, nsecs, cpu)' in told
