# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.journeys import ALL
from tracer.errors import UsageError
from tracer.kernel.definitions import _trigger
from tracer.model import Outcome
from tracer.trigger import Trigger, trigger_of

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


def test_nothing_typed_is_no_trigger() -> None:
    assert trigger_of(()) is None


@given(st.integers(0, 10**9 - 1), st.sampled_from([*UNITS]), st.sampled_from(["", " "]))
def test_a_latency_is_a_number_and_a_unit(number: int, unit: str, gap: str) -> None:
    assert trigger_of([f"latency{gap}>{gap}{number}{gap}{unit}"]) == Trigger(
        slower_ns=number * UNITS[unit]
    )


@given(st.integers(1, 999_999_999), st.integers(0, 999))
def test_and_may_have_a_fraction(whole: int, thousandths: int) -> None:
    trigger = trigger_of([f"latency>{whole}.{thousandths:03}us"])
    assert trigger == Trigger(slower_ns=whole * 1000 + thousandths)


@given(st.text())
def test_any_words_are_a_trigger_or_a_usage_error(words: str) -> None:
    try:
        assert trigger_of([words]) is not None
    except UsageError as error:
        assert "latency>" in str(error)  # noqa: PT017 (most words are none)


@pytest.mark.parametrize("words", ["", "latency", "latency>5", "latency<5us", "latency>us", "lost"])
def test_what_is_none(words: str) -> None:
    with pytest.raises(UsageError):
        trigger_of([words])


def test_any_of_several() -> None:
    trigger = trigger_of(["drop", "absorbed", "latency>2ms", "latency>1ms"])
    assert trigger == Trigger(frozenset({Outcome.DROPPED, Outcome.ABSORBED}), 1_000_000)
    assert trigger_of([*Outcome]) == Trigger(frozenset(Outcome))


def test_what_is_kept() -> None:
    for journey in ALL.values():
        for outcome in Outcome:
            assert Trigger(frozenset({outcome}))(journey) == (journey.outcome is outcome)
        assert Trigger(slower_ns=journey.duration_ns - 1)(journey)
        assert not Trigger(slower_ns=journey.duration_ns)(journey)
    journey = ALL["request"]._replace(outcome=Outcome.DROPPED)
    assert Trigger(frozenset({Outcome.DROPPED}), 10**12)(journey)


def test_what_the_kernel_is_told() -> None:
    """It holds back only what user space would not keep."""
    assert _trigger(None) == {}
    assert _trigger(trigger_of(["drop", "delivered"])) == {}
    assert _trigger(trigger_of(["latency>1us"])) == {"SKBTRACE_TRIGGER_NS": "1000ULL"}
    both = _trigger(trigger_of(["drop", "latency>1us"]))
    assert both == {"SKBTRACE_TRIGGER_NS": "1000ULL", "SKBTRACE_TRIGGER_DROP": 1}
    assert "SKBTRACE_TRIGGER_DROP" not in _trigger(trigger_of(["damaged"]))
