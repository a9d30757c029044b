# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracer.histogram import ERROR, Histogram

VALUES = st.one_of(st.integers(0, 200), st.integers(0, 1 << 50))
PARTS = (0.5, 0.9, 0.99, 0.999, 1.0)


def nearest_rank(values: list[int], part: float) -> int:
    """By sorting: the smallest value that this part of all does not exceed."""
    rank = max(1, -int(-part * len(values) // 1))
    return sorted(values)[rank - 1]


@given(st.lists(VALUES, min_size=1, max_size=300))
def test_percentiles_are_those_of_a_sorted_list_within_the_stated_error(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for part, found in zip(PARTS, histogram.percentiles(*PARTS), strict=True):
        true = nearest_rank(values, part)
        assert abs(found - true) <= true * ERROR
    assert (histogram.count, histogram.total) == (len(values), sum(values))
    assert histogram.largest == max(values)


def test_small_values_are_exact() -> None:
    histogram = Histogram()
    for value in range(64):
        histogram.add(value)
    assert histogram.percentiles(0.25, 0.5, 0.75) == [15, 31, 47]


def test_nothing_counted_is_nothing() -> None:
    assert Histogram().percentiles(0.5, 0.99) == [0, 0]


@given(st.lists(st.tuples(VALUES, st.integers(1, 40)), min_size=1, max_size=50))
def test_a_value_may_stand_for_others(weighted: list[tuple[int, int]]) -> None:
    one, each = Histogram(), Histogram()
    for value, times in weighted:
        one.add(value, times)
        for _ in range(times):
            each.add(value)
    assert one.percentiles(*PARTS) == each.percentiles(*PARTS)
    assert (one.count, one.total) == (each.count, each.total)
