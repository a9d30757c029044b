# SPDX-License-Identifier: GPL-2.0-only
"""How long each step takes is counted in the kernel: as the journeys tell it, and without them."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.kernel.conftest import C1, C2_IP, Trace, capture, sh
from tracer.asked import Asked
from tracer.correlate import backlog_of, steps_of
from tracer.histogram import ERROR
from tracer.kernel import definitions
from tracer.kernel.source import KernelSource
from tracer.model import Layer, Stepped
from tracer.tally import Step, Tally

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

REQUESTS = 499
TO_NOBODY = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(101): s.sendto(bytes(100), ("{C2_IP}", 9))
"""


@pytest.fixture(scope="module", params=["transport,socket", "all"])
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A flood of echo requests, and datagrams that nobody wants."""
    (folder := tmp_path_factory.mktemp("steps")).joinpath("send.py").write_text(TO_NOBODY)
    return capture(
        folder,
        f"ip netns exec {C1} ping -f -q -c {REQUESTS} {C2_IP};"
        f"ip netns exec {C1} python3 {folder}/send.py",
        layers=request.param,
    )


def named(steps: Iterable[Stepped]) -> dict[Step, Stepped]:
    """The steps of which it is known what they are."""
    return {
        Step(step.function, step.following, step.segment): step
        for step in steps
        if step.function is not None and step.following is not None
    }


def counted(trace: Trace) -> dict[Step, Stepped]:
    """What the kernel has counted, all of it."""
    assert trace.summary.counted is not None
    steps = trace.summary.counted.steps
    found = named(steps)
    assert len(found) == len(steps)
    return found


def test_each_step_of_a_journey_is_counted_and_nothing_else(trace: Trace) -> None:
    assert trace.summary.lost_total == 0
    steps: Counter[Step] = Counter()
    for journey in trace.journeys:
        for hop, following in zip(journey.hops, journey.hops[1:], strict=False):
            steps[Step(hop.function, following.function, hop.segment)] += 1
    assert {key: step.packets for key, step in counted(trace).items()} == steps
    assert sum(steps.values()) > 20 * REQUESTS
    print(f"{len(steps)} pairs of functions")


def test_times_are_those_of_the_journeys(trace: Trace) -> None:
    tally = Tally()
    for journey in trace.journeys:
        tally.add(journey)
    for key, step in counted(trace).items():
        took = tally.steps[key]
        assert (step.total_ns, step.longest_ns) == (took.total, took.largest), key
        assert step.took.classes() == took.classes(), key


def test_percentiles_are_within_the_stated_error(trace: Trace) -> None:
    times: dict[Step, list[int]] = {}
    for journey in trace.journeys:
        for hop, following in zip(journey.hops, journey.hops[1:], strict=False):
            key = Step(hop.function, following.function, hop.segment)
            times.setdefault(key, []).append(following.dt_ns - hop.dt_ns)
    for key, step in counted(trace).items():
        every = sorted(times[key])
        for part in (0.5, 0.9, 0.99):
            true = every[max(1, -int(-part * len(every) // 1)) - 1]
            assert step.took.percentiles(part)[0] == pytest.approx(true, rel=ERROR), (key, part)


def test_all_are_counted_although_nearly_every_record_is_lost() -> None:
    """A ring buffer of four pages overflows at once: nobody reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definitions, "RING_PAGES", 4)
        source = KernelSource(asked=Asked(layers=(Layer.TRANSPORT, Layer.SOCKET)))
        source.start()
    try:
        sh(f"ip netns exec {C1} ping -f -q -c {REQUESTS} {C2_IP}")
        source.stop()
        records, hits, lost = len(source.read()), source.hits(), source.lost()
        steps = named(steps_of(source.steps()))
    finally:
        source.close()
    assert records < 100
    assert lost["ring_full"] > REQUESTS
    before, after = Counter[str](), Counter[str]()
    for key, step in steps.items():
        before[key.function] += step.packets
        after[key.following] += step.packets
    # Nothing comes to these but from where something else was seen, or goes on unseen from them.
    assert hits["veth_xmit"] == before["veth_xmit"] == after["__dev_forward_skb"] >= 4 * REQUESTS
    assert hits["enqueue_to_backlog"] == after["enqueue_to_backlog"] == after["process_backlog"]
    assert hits["br_forward"] == after["br_forward"] == before["br_forward"] >= 2 * REQUESTS
    assert hits["icmp_rcv"] == after["icmp_rcv"] == before["icmp_rcv"] >= 2 * REQUESTS


def test_how_many_packets_wait_in_the_input_queue_is_counted() -> None:
    """What the host broadcasts, the bridge queues at both ports before a softirq may begin."""
    source = KernelSource(asked=Asked(layers=(Layer.TRANSPORT, Layer.SOCKET)))
    source.start()
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"docker0")
            for _ in range(REQUESTS):
                sender.sendto(b"to all", ("255.255.255.255", 9))
        source.stop()
        hits, backlog = source.hits(), backlog_of(source.steps())
    finally:
        source.close()
    assert backlog is not None
    assert backlog.lengths.count == hits["process_backlog"] >= REQUESTS
    assert dict(backlog.classes)[2] >= 0.9 * REQUESTS
    assert 2 * 0.9 * REQUESTS <= backlog.total <= hits["enqueue_to_backlog"]


def test_pairs_for_which_there_is_no_room_are_counted_together() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definitions, "STEPS_MAX", 8)  # four for those that find none, one for queues
        source = KernelSource(asked=Asked(layers=(Layer.TRANSPORT, Layer.SOCKET)))
        source.start()
    try:
        sh(f"ip netns exec {C1} ping -f -q -c {REQUESTS} {C2_IP}")
        source.stop()
        steps = {step[:2]: step.packets for step in steps_of(source.steps())}
        hits = source.hits()
    finally:
        source.close()
    assert len(steps) == 4
    first = "veth_xmit", "__dev_forward_skb"
    assert steps[first] == hits["veth_xmit"]
    assert steps[None, None] > 10 * REQUESTS
