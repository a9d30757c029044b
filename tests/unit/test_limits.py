# SPDX-License-Identifier: GPL-2.0-only
"""The ceiling on the tracer's own CPU time, with clocks that the test moves."""

from __future__ import annotations

from tracer.limits import ONE_IN_MAX, Ceiling, Limits
from tracer.model import Sampling

S = 1_000_000_000


HALF = Limits(cpu_percent=50)


class Day:
    """A ceiling of 50 % and what happens under it, a second at a time."""

    def __init__(self, limits: Limits = HALF) -> None:
        self.now = self.used = self.arrived = self.made = 0
        self.ceiling = Ceiling(limits, clock_ns=lambda: self.now, used_ns=lambda: self.used)

    def second(self, percent: float, *, arrived: int = 100, made: int | None = None) -> int | None:
        """One in how many from now on, if that is something else."""
        self.now += S
        self.used += int(percent * S / 100)
        self.arrived += arrived
        self.made += arrived if made is None else made
        told = self.ceiling.look(self.arrived, self.made)
        return None if told is None else told.one_in


def test_below_it_nothing_happens() -> None:
    day = Day()
    assert [day.second(p) for p in (0, 10, 24, 26, 49, 50)] == [None] * 6


def test_above_it_one_in_two_and_again_until_it_is_below() -> None:
    day = Day()
    assert [day.second(p) for p in (51, 51, 99, 40)] == [2, 4, 8, None]


def test_far_above_it_is_one_step() -> None:
    day = Day()
    # 100 % of a CPU made a tenth of what arrived: all of it would take 1000 %.
    assert day.second(100, arrived=1000, made=100) == 32


def test_what_is_left_from_before_makes_it_neither_harder_nor_easier() -> None:
    day = Day()
    assert day.second(100, arrived=1000, made=100) == 32
    assert day.second(100, arrived=30, made=400) is None
    assert day.second(100, arrived=30, made=400) is None
    assert day.second(3, arrived=30, made=30) == 16


def test_it_goes_back_to_what_was_asked_for_and_no_further() -> None:
    day = Day(Limits(4, cpu_percent=50))
    assert [day.second(p) for p in (150, 10, 10, 10)] == [16, 8, 4, None]


def test_between_half_of_it_and_all_of_it_nothing_changes() -> None:
    day = Day()
    assert [day.second(p) for p in (90, 26, 49, 24)] == [2, None, None, 1]


def test_while_journeys_wait_only_the_time_used_counts() -> None:
    day = Day()
    assert day.second(10, arrived=5000, made=0) is None
    assert day.second(60, arrived=5000, made=0) == 2


def test_it_is_looked_at_once_a_second_and_says_what_it_saw() -> None:
    day = Day()
    day.now, day.used = S // 2, S // 2
    assert day.ceiling.look(10, 10) is None
    day.now, day.used = 2 * S, S + S // 2
    assert day.ceiling.look(20, 20) == Sampling(2 * S, 2, 75, 50)


def test_there_is_an_end_to_it() -> None:
    day = Day()
    assert day.second(100, arrived=10**9, made=1) == ONE_IN_MAX
    assert day.second(100, arrived=10**9, made=1) is None


def test_without_one_nothing_is_ever_changed() -> None:
    day = Day(Limits(8))
    assert [day.second(p) for p in (900, 0)] == [None, None]
    assert not Limits(max_rate=1).samples
    assert Limits(2).samples
    assert Limits(cpu_percent=1).samples
