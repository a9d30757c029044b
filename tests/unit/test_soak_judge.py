# SPDX-License-Identifier: GPL-2.0-only
"""What a soak lets pass: what comes and goes; and what not: what grows, what is lost unsaid."""

from __future__ import annotations

from typing import Any

import pytest

from tests.soak.judge import GROWTH_KB, rows

SAMPLES = 50


def figures(**other: Any) -> dict[str, Any]:
    """A soak in which all was well."""
    footer = {
        "journeys": 900,
        "lost": {"ring_full": 100, "hop_limit": 0, "probe_missed": 0},
        "outcomes": {"unfinished": 0},
        "counted": {"hits": {"icmp_rcv": 800}, "ended": [{"packets": 1000}]},
    }
    well = {
        "kernel": "6.1",
        "cpus": 2,
        "s": 600.0,
        "came": 7,
        "requests": 400,
        "late": 21,
        "journeys": 900,
        "footer": footer,
        # What waits has grown to its bound when two fifths of the time are over.
        "samples": [{"kb": 1000 * min(n, 20), "files": 139} for n in range(SAMPLES)],
        "status": 0,
        "left": [],
        "complaints": [],
    }
    return well | other


def bad(found: dict[str, Any]) -> list[str]:
    return [what for good, what, *_ in rows(found) if not good]


def test_all_is_well() -> None:
    assert bad(figures()) == []


def test_memory_that_grows_to_the_end_is_a_leak() -> None:
    each = 2.6 * GROWTH_KB / SAMPLES  # from the middle of the third fifth to that of the last
    samples = [{"kb": round(each * n), "files": 139} for n in range(SAMPLES)]
    assert bad(figures(samples=samples)) == ["tracer, resident: early, late, kB"]


@pytest.mark.parametrize(("some", "is_leak"), [(1, True), (9, False)])
def test_a_descriptor_that_stays_is_a_leak_and_one_that_comes_and_goes_is_none(
    some: int, is_leak: bool
) -> None:
    samples = [{"kb": 0, "files": 139 + (n > 30 and n % some == 0)} for n in range(SAMPLES)]
    assert bad(figures(samples=samples)) == ["descriptors: early, late"] * is_leak


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"journeys": 899}, "journeys written and read"),
        ({"requests": 500}, "echo requests answered; hits of icmp_rcv, missed"),
        ({"status": 1}, "the tracer's exit status"),
        ({"left": ["veth_xmit"]}, "left behind"),
        ({"complaints": ["WARNING"]}, "complaints in the kernel log"),
    ],
)
def test_what_is_wrong_is_named(other: dict[str, Any], what: str) -> None:
    assert what in bad(figures(**other))


def test_a_loss_that_is_not_counted_is_found() -> None:
    found = figures()
    found["footer"]["lost"]["ring_full"] = 99
    assert bad(found) == ["ended, counted in the kernel; journeys and lost ones"]
