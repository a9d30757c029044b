# SPDX-License-Identifier: GPL-2.0-only
"""Four CPUs that send to one another's input queues, each served by a thread of its own.

The kernel's own default serves a queue in a softirq, which the other tests show. This one is for a
kernel that was started with ``thread_backlog_napi`` (6.10); the suite starts a guest so.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.kernel.conftest import C1, C1_IP, C2, Trace, capture, sh
from tests.kernel.cpus import COUNT
from tracer.model import Outcome

CPUS = 4
THREADED = "thread_backlog_napi" in Path("/proc/cmdline").read_text().split()

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.usefixtures("lab"),
    pytest.mark.skipif(not THREADED, reason="the kernel was started without thread_backlog_napi"),
]


@pytest.fixture(scope="module")
def flood(lab: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, dict[str, object]]:
    """Every CPU sends; RPS spreads what is received on both veths over all of them."""
    assert os.cpu_count() == CPUS
    folder = tmp_path_factory.mktemp("cpus")
    rps = "/queues/rx-0/rps_cpus"
    sh(
        f"echo f >/sys/class/net/vethc1{rps};"
        f"ip netns exec {C2} sh -c 'echo f >/sys/class/net/eth0{rps}'"
    )
    trace = capture(folder, f"{sys.executable} -m tests.kernel.cpus {folder}/told")
    return trace, json.loads((folder / "told").read_text())


def test_every_queue_has_a_thread() -> None:
    names = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm")]
    assert sorted(n for n in names if n.startswith("backlog_napi")) == [
        f"backlog_napi/{cpu}" for cpu in range(CPUS)
    ]


def test_a_packet_is_taken_from_the_queue_it_was_put_on_wherever_it_was_sent(
    flood: tuple[Trace, dict[str, object]],
) -> None:
    trace, told = flood
    datagrams = trace.of("udp", C1_IP)
    assert told["got"] == len(datagrams) == CPUS * COUNT
    queues: Counter[int] = Counter()
    moved = 0
    for journey in datagrams:
        assert journey.outcome is Outcome.DELIVERED
        queued = [n for n, hop in enumerate(journey.hops) if hop.function == "enqueue_to_backlog"]
        assert len(queued) == 2
        for at in queued:
            enqueue, served, core = journey.hops[at : at + 3]
            assert served.function == "process_backlog"
            assert core.function == "__netif_receive_skb_core"
            assert enqueue.to_cpu == served.cpu == core.cpu
            assert enqueue.device == served.device == core.device
            queues[served.cpu] += 1
            moved += enqueue.cpu != served.cpu
    assert sorted(queues) == list(range(CPUS))
    assert moved > COUNT


def test_each_cpu_has_received_what_it_says_it_has(
    flood: tuple[Trace, dict[str, object]],
) -> None:
    trace, told = flood
    seen = Counter(
        hop.cpu
        for journey in trace.journeys
        for hop in journey.hops
        if hop.function == "__netif_receive_skb_core"
    )
    assert [seen[cpu] for cpu in range(CPUS)] == told["received"]


def test_no_journey_goes_back_in_time(flood: tuple[Trace, dict[str, object]]) -> None:
    for journey in flood[0].journeys:
        times = [hop.dt_ns for hop in journey.hops]
        assert times == sorted(times)


def test_the_sender_is_in_c1(flood: tuple[Trace, dict[str, object]]) -> None:
    first = {journey.hops[0].device.netns.name for journey in flood[0].of("udp", C1_IP)}  # type: ignore[union-attr]
    assert first == {C1.removeprefix("skbtrace-")}
