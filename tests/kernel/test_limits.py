# SPDX-License-Identifier: GPL-2.0-only
"""Not everything: sampling, rates, triggers, the ceiling. What is left out is whole and counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kernel.conftest import C1, C1_IP, C2, C2_IP, TRIES, Trace, path_of, sh, skbtrace
from tracer.asked import Asked
from tracer.kernel.source import KernelSource
from tracer.model import Outcome
from tracer.topology.discover import discover, scope
from tracer.topology.names import Names
from tracer.trigger import trigger_of
from tracer.wire import NOTE_DROP, Note, decode

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("quiet")]

FLOOD = 4000
PINGS, DATAGRAMS = 20, 6
DISCARD = 9
HOST_IP = "172.17.0.1"


@pytest.fixture(scope="module")
def quiet(lab: None) -> Iterator[None]:
    """Nobody says anything that was not asked for: no IPv6, and nobody asks who has an address."""
    places = [(f"ip netns exec {C1}", "eth0"), (f"ip netns exec {C2}", "eth0"), ("", "docker0")]
    macs = [sh(f"{place} cat /sys/class/net/{device}/address") for place, device in places]
    for place, device in places:
        sh(f"{place} sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
        for ip, mac in zip((C1_IP, C2_IP, HOST_IP), macs, strict=True):
            sh(f"{place} ip neigh replace {ip} lladdr {mac.strip()} nud permanent dev {device}")
    yield
    sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0")


def flood(count: int = FLOOD) -> str:
    return f"ip netns exec {C1} ping -f -q -c {count} {C2_IP}"


class Sent(NamedTuple):
    """What was traced, and what the devices count."""

    trace: Trace
    packets: int
    """Given to the drivers of both containers' devices and of the bridge."""
    said: str

    @property
    def roots(self) -> int:
        """Packets in the trace that were made of no other."""
        return sum(journey.parent is None for journey in self.trace.journeys)

    @property
    def passed_over(self) -> int:
        return sum(self.trace.summary.passed_over.values())


def traced(folder: Path, command: str, *options: str) -> Sent:
    """Trace until nothing was lost: an interrupt in the middle of a probe may hide a packet."""
    told = folder / "counters"
    count = "; ".join(
        f"{place} cat /sys/class/net/{device}/statistics/tx_packets >>{told}"
        for place, device in (
            (f"ip netns exec {C1}", "eth0"),
            (f"ip netns exec {C2}", "eth0"),
            ("", "docker0"),
        )
    )
    path = folder / "t.json"
    for _ in range(TRIES):
        told.unlink(missing_ok=True)
        done = skbtrace(
            *("--topology", "docker0", "--layers", "transport,socket"),
            *("-f", "-w", str(path), *options),
            *("--", "sh", "-ec", f"{count}; {command}; {count}"),
        )
        trace = Trace(path)
        if not any(trace.summary.lost.values()):
            break
    assert not any(trace.summary.lost.values()), trace.summary.lost
    counts = [int(line) for line in told.read_text().split()]
    return Sent(trace, sum(counts[3:]) - sum(counts[:3]), done.stderr)


@pytest.fixture(scope="module")
def paths(quiet: None, tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, ...]]:
    """Every way that an echo request, its reply and what is made of them takes, all followed."""
    sent = traced(tmp_path_factory.mktemp("all"), flood(50))
    found = Counter((j.flow.proto, j.flow.src) for j in sent.trace.journeys if j.parent is None)
    assert sent.roots == sent.packets >= 100, found
    assert sent.trace.summary.sampled == (1, 1)
    assert sent.passed_over == sent.trace.summary.untriggered == 0
    return {tuple(path_of(j)) for j in sent.trace.of("icmp")}


@pytest.mark.once
def test_one_in_eight_is_one_in_eight_and_the_rest_is_counted(
    paths: set[tuple[str, ...]], tmp_path: Path
) -> None:
    sent = traced(tmp_path, flood(), "--sample", "8")
    assert sent.packets >= 2 * FLOOD
    assert sent.roots + sent.passed_over == sent.packets
    assert abs(sent.roots - sent.packets / 8) < 5 * sqrt(sent.packets * 7 / 64)
    assert f"sampled: one in 8, {sent.passed_over} packets passed over" in sent.said
    assert [s.one_in for s in sent.trace.samplings] == [8]

    echoes = sent.trace.of("icmp")
    assert {tuple(path_of(j)) for j in echoes} <= paths, "begins or ends in the middle"
    # A request's reply is another packet: neither always with it nor never.
    both = Counter(j.flow.icmp_seq for j in echoes)
    pairs = sum(count == 2 for count in both.values())
    assert abs(pairs - FLOOD / 64) < 5 * sqrt(FLOOD * 63) / 64

    # Branches are here if and only if their packet is.
    here = {j.id for j in sent.trace.journeys}
    branches = [b.id for j in sent.trace.journeys for b in j.branches]
    clones = {j.id: j.parent for j in sent.trace.journeys if j.parent is not None}
    assert len(branches) > FLOOD / 16
    assert set(branches) == set(clones)
    assert set(clones.values()) <= here


@pytest.mark.once
def test_no_more_than_so_many_a_second(tmp_path: Path) -> None:
    sent = traced(tmp_path, flood(2000), "--max-rate", "20")
    assert sent.roots + sent.passed_over == sent.packets
    assert set(sent.trace.summary.passed_over) == {"filter", "sample", "max_rate", "per_flow"}
    assert sent.trace.summary.passed_over["max_rate"] == sent.passed_over
    starts = [j.start_ns for j in sent.trace.journeys if j.parent is None]
    seconds = (max(starts) - min(starts)) / 1e9
    assert 0.9 * 20 * seconds < len(starts) <= 20 * seconds + 2 + 3
    assert f"--max-rate: {sent.passed_over} packets passed over" in sent.said


@pytest.mark.once
def test_an_elephant_does_not_hide_the_mouse(tmp_path: Path) -> None:
    mouse = f"ip netns exec {C2} ping -q -c 8 -i 0.3 {HOST_IP}"
    sent = traced(tmp_path, f"{flood(2000)} & {mouse}; wait", "--per-flow", "20")
    assert sent.roots + sent.passed_over == sent.packets
    assert sent.trace.summary.passed_over["per_flow"] == sent.passed_over > 2000
    both = [j for j in sent.trace.of("icmp") if HOST_IP in (j.flow.src, j.flow.dst)]
    assert len(both) == 16
    starts = [j.start_ns for j in sent.trace.of("icmp") if j not in both]
    seconds = (max(starts) - min(starts)) / 1e9
    assert 0.9 * 20 * seconds < len(starts) <= 20 * seconds + 2 + 3


PING = f"ip netns exec {C1} ping -q -c {PINGS} -i 0.02 {C2_IP}"
MIXED = (
    f"{PING};"
    f"for n in $(seq {DATAGRAMS}); do"
    f" ip netns exec {C1} bash -c 'echo nobody >/dev/udp/{C2_IP}/{DISCARD}'; sleep 0.1; done"
)


@pytest.mark.once
def test_only_what_was_dropped(tmp_path: Path) -> None:
    sent = traced(tmp_path, MIXED, "--trigger", "drop")
    assert {j.outcome for j in sent.trace.journeys} == {Outcome.DROPPED}
    assert len(sent.trace.of("udp", C1_IP, dport=DISCARD)) == DATAGRAMS
    # With the clones that raw sockets got, and the ICMP errors that came back.
    untriggered = sent.trace.summary.untriggered
    assert untriggered >= sent.packets - sent.roots >= 2 * PINGS
    assert f"; {untriggered} not triggered" in sent.said
    assert sent.trace.summary.silent == ()


@pytest.mark.once
def test_the_kernel_sends_nothing_else() -> None:
    topology = discover("docker0", Names())
    source = KernelSource(scope(topology), Asked(trigger=trigger_of(["drop"])))
    try:
        source.start()
        sh(MIXED)
        records = [decode(data) for data in source.read()]
        source.stop()
        held_back = source.passed()["trigger"]
    finally:
        source.close()
    assert len(records) >= DATAGRAMS
    for record in records:
        assert any(isinstance(s, Note) and s.kind == NOTE_DROP for s in record.slots)
    assert held_back >= 2 * PINGS


@pytest.mark.once
def test_only_what_took_long(tmp_path: Path) -> None:
    """What leaves the bridge for c1 lies in that port's queueing discipline for a while."""
    sh("tc qdisc add dev vethc1 root netem delay 400ms")
    try:
        sent = traced(tmp_path, PING, "--trigger", "latency>300ms")
    finally:
        sh("tc qdisc del dev vethc1 root")
    assert {j.flow.src for j in sent.trace.of("icmp")} == {C2_IP}
    assert len(sent.trace.of("icmp")) == PINGS
    assert min(j.duration_ns for j in sent.trace.journeys) > 300e6
    assert sent.trace.summary.untriggered >= PINGS


@pytest.mark.once
def test_an_outcome_that_only_user_space_tells(tmp_path: Path) -> None:
    sent = traced(tmp_path, MIXED, "--trigger", "delivered", "--trigger", "latency>100s")
    assert {j.outcome for j in sent.trace.journeys} == {Outcome.DELIVERED}
    assert len(sent.trace.of("icmp", C2_IP, icmp_type=0)) == PINGS
    assert sent.trace.of("udp") == []
    assert sent.roots + sent.trace.summary.untriggered >= sent.packets


@pytest.mark.once
def test_above_its_share_of_a_cpu_it_samples_harder_and_says_so(tmp_path: Path) -> None:
    floods = f"for n in 1 2 3 4 5 6; do {flood(300)}; sleep 1; done"
    sent = traced(tmp_path, floods, "--cpu-limit", "5")
    assert sent.roots + sent.passed_over == sent.packets
    assert sent.passed_over > 0
    first, *later = sent.trace.samplings
    assert (first.one_in, first.cpu_percent) == (1, None)
    assert later[0].one_in > 1
    assert all(s.cpu_limit == 5 and s.cpu_percent is not None for s in later)
    assert (later[0].cpu_percent or 0) > 5
    said = re.findall(
        r"^sampling one in (\d+): this traffic took \d+ % of a CPU, the limit is 5 %$",
        sent.said,
        re.MULTILINE,
    )
    assert [int(n) for n in said] == [s.one_in for s in later if s.one_in > 1]
    most = max(s.one_in for s in later)
    assert sent.trace.summary.sampled == (1, most)
    assert f"sampled: one in 1 to {most}, " in sent.said


def test_all_of_it_at_once_with_every_layer(tmp_path: Path) -> None:
    """The largest program that there is."""
    options = ["--sample", "2", "--max-rate", "50", "--per-flow", "40", "--cpu-limit", "90"]
    trigger = ["--trigger", "drop", "--trigger", "latency>100s", "--layers", "all"]
    sent = traced(tmp_path, f"{flood(200)}; {MIXED}", *options, *trigger)
    assert {j.outcome for j in sent.trace.journeys} <= {Outcome.DROPPED}
    summary = sent.trace.summary
    assert summary.passed_over["sample"] > 100
    assert summary.passed_over["max_rate"] + summary.passed_over["per_flow"] > 0
    assert summary.untriggered > 0
    assert sent.roots + sent.passed_over < sent.packets  # the rest was not triggered
