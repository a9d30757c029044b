# SPDX-License-Identifier: GPL-2.0-only
"""How long steps take, as the kernel program counts it: the C side and the Python side agree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer import wire
from tracer.correlate import backlog_of, steps_of
from tracer.histogram import Histogram
from tracer.model import Backlog, Counted, Segment, Stepped, Summary
from tracer.probes import PROBES, Handler
from tracer.totals import since, total

BPF = Path(__file__).parents[2] / "bpf"
LONGEST = 2**36 - 1
PROGRAM = r"""
#include <stdio.h>
typedef unsigned char __u8; typedef unsigned short __u16;
typedef unsigned int __u32; typedef unsigned long long __u64;
#include "steps.h"
int main(void) {
    __u64 ns;
    printf("%zu %d\n", sizeof(struct skbtrace_step), SKBTRACE_STEP_CLASSES);
    while (scanf("%llu", &ns) == 1) printf("%u\n", step_class(ns));
    return 0;
}
"""
TIMES = st.integers(0, 2**40) | st.integers(0, 40).map(lambda n: 1 << n)
MANY = sorted(
    {
        *range(5000),
        *(max(2**n + d, 0) for n in range(64) for d in range(-2, 3) if 2**n + d < 2**64),
        *(bits << n for n in range(31) for bits in range(32, 64)),
        *((bits << n) - 1 for n in range(31) for bits in range(32, 64)),
        *(37 * 1000003**n % 2**36 for n in range(2000)),
    }
)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, int]:
    """Times → the class that C counts them in."""
    folder = tmp_path_factory.mktemp("steps")
    (folder / "steps.c").write_text(PROGRAM)
    program = folder / "steps"
    source = folder / "steps.c"
    subprocess.run(["cc", "-Wall", "-Werror", f"-I{BPF}", source, "-o", program], check=True)
    said = subprocess.run(
        [program], input="\n".join(map(str, MANY)), capture_output=True, text=True, check=True
    ).stdout.split()
    assert [int(each) for each in said[:2]] == [wire.STEP.size, wire.STEP_CLASSES]
    return dict(zip(MANY, map(int, said[2:]), strict=True))


def test_c_counts_a_time_in_the_class_that_a_histogram_has_for_it(classes: dict[int, int]) -> None:
    for ns, number in classes.items():
        histogram = Histogram()
        histogram.add(min(ns, LONGEST))
        assert histogram.counts() == [(wire.step_least(number), 1)], ns


def test_every_class_is_met_and_the_last_one_holds_what_is_longer(classes: dict[int, int]) -> None:
    assert set(classes.values()) == set(range(wire.STEP_CLASSES))
    last = wire.STEP_CLASSES - 1
    assert {number for ns, number in classes.items() if ns >= 2**36} == {last}
    assert list(classes.values()) == sorted(classes.values())


def row(*times: int) -> bytes:
    """What a CPU has counted of these."""
    counts = [0] * wire.STEP_CLASSES
    leasts = [wire.step_least(n) for n in range(wire.STEP_CLASSES)]
    for ns in times:
        counts[max(n for n, least in enumerate(leasts) if least <= ns)] += 1
    return wire.STEP.pack(max(times, default=0), sum(times), *counts)


@given(st.lists(st.lists(TIMES, max_size=5), min_size=1, max_size=3))
def test_what_cpus_have_counted_is_added_up(cpus: list[list[int]]) -> None:
    count = wire.decode_step(1, 2, [row(*times) for times in cpus])
    every = [ns for times in cpus for ns in times]
    histogram = Histogram()
    for ns in every:
        histogram.add(min(ns, LONGEST))
    assert count == (1, 2, max(every, default=0), sum(every), tuple(histogram.counts()))


def test_counters_are_as_large_as_they_may_be() -> None:
    most = wire.STEP.pack(2**63, 2**60, *[2**60] * wire.STEP_CLASSES)
    count = wire.decode_step(1, 2, [most] * 15)
    assert count.longest_ns == 2**63
    assert {packets for _, packets in count.classes} == {15 * 2**60}


@given(st.lists(TIMES, min_size=1, max_size=30))
def test_a_histogram_comes_out_of_it_as_it_was(times: list[int]) -> None:
    histogram = Histogram()
    for ns in times:
        histogram.add(ns)
    step = Stepped("a", "b", None, sum(times), max(times), tuple(histogram.counts()))
    assert step.packets == len(times)
    assert step.took.classes() == histogram.classes()
    parts = (0.1, 0.5, 0.99, 1.0)
    assert step.took.percentiles(*parts) == histogram.percentiles(*parts)


def test_steps_have_names_and_rows_of_one_function_are_one() -> None:
    numbers = {p.function: n for n, p in enumerate(PROBES)}
    first = numbers["enqueue_to_backlog"], numbers["process_backlog"]
    counts = [
        wire.StepCount(*wire.STEP_OTHER, 7, 7, ((7, 1),)),
        wire.StepCount(*first, 100, 150, ((50, 1), (100, 1))),
        wire.StepCount(*first, 120, 120, ((120, 1),)),
    ]
    names = ("enqueue_to_backlog", "process_backlog", Segment.SOFTIRQ_WAIT)
    assert steps_of(counts) == (
        Stepped(*names, 270, 120, ((50, 1), (100, 1), (120, 1))),
        Stepped(None, None, None, 7, 7, ((7, 1),)),
    )


def test_lengths_of_the_queue_are_told_apart_from_steps() -> None:
    served = next(n for n, p in enumerate(PROBES) if p.handler is Handler.SERVE)
    lengths = wire.StepCount(served, served, 64, 70, ((0, 3), (2, 3), (64, 1)))
    step = wire.StepCount(served, served + 1, 7, 7, ((7, 1),))
    assert [each[3:5] for each in steps_of([lengths, step])] == [(7, 7)]
    assert backlog_of([step, lengths]) == Backlog(70, 64, lengths.classes)
    assert backlog_of([step]) is None


def test_lengths_of_the_queue_in_a_part_and_in_all() -> None:
    def of(backlog: Backlog | None) -> Summary:
        return Summary(counted=Counted(backlog=backlog))

    then, now = Backlog(9, 5, ((2, 2), (5, 1))), Backlog(20, 7, ((2, 4), (5, 1), (7, 1)))
    part = Backlog(11, 7, ((2, 2), (7, 1)))
    assert since(of(now), of(then)) == of(part)
    assert total([of(then), of(part)]) == of(now)
    assert since(of(now), of(None)) == of(now)
    assert total([of(now), of(None)]) == of(None)


def test_of_a_part_is_told_what_came_in_it() -> None:
    def of(*steps: Stepped) -> Summary:
        return Summary(counted=Counted(steps=steps))

    then = of(Stepped("a", "b", None, 30, 20, ((10, 1), (20, 1))))
    c = Stepped("b", "c", None, 5, 5, ((5, 1),))
    now = of(Stepped("a", "b", None, 70, 40, ((10, 1), (20, 1), (40, 1))), c)
    part = of(Stepped("a", "b", None, 40, 40, ((40, 1),)), c)
    assert since(now, then) == part
    assert total([then, part]) == now
    assert since(now, of()) == now
