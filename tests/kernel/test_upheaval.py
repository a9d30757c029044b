# SPDX-License-Identifier: GPL-2.0-only
"""The host changes under a tracer, or the tracer is kept from its work: nothing is lost unsaid."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import (
    C1,
    C1_IP,
    C2_IP,
    HOUSE,
    KERNEL,
    TIMEOUT_S,
    Trace,
    sh,
    start_skbtrace,
)
from tests.kernel.host import complaints
from tests.threads import main_and_others
from tracer.capabilities import BPF, DAC_READ_SEARCH
from tracer.model import Outcome

pytestmark = pytest.mark.kernel

REQUESTS = 211
CPU = Path("/sys/devices/system/cpu/cpu1/online")
ON_CPU = f"ip netns exec {C1} taskset -c {{cpu}} ping -q -c {REQUESTS} -i 0.002 {C2_IP}"


def started(trace: Path, *, topology: str = "docker0") -> subprocess.Popen[str]:
    """Nobody looks at the view."""
    words = ("--topology", topology, "-w", str(trace))
    return start_skbtrace(*words, out=subprocess.DEVNULL)


def ended(tracer: subprocess.Popen[str], trace: Path) -> tuple[Trace, str]:
    """End it in order; what it has written and said."""
    tracer.send_signal(signal.SIGINT)
    _, said = tracer.communicate(timeout=TIMEOUT_S)
    assert tracer.returncode == 0, said
    return Trace(trace), said


@pytest.fixture
def cpu() -> Iterator[None]:
    """A CPU that may go, and is there again afterwards."""
    if not CPU.exists():
        pytest.skip("no CPU here can be switched off")
    yield
    CPU.write_text("1")


@pytest.mark.usefixtures("lab", "cpu")
def test_a_cpu_goes_and_comes_back(tmp_path: Path) -> None:
    before = complaints()
    tracer = started(tmp_path / "t.json")
    sh(ON_CPU.format(cpu=1))
    CPU.write_text("0")
    sh(ON_CPU.format(cpu=0))
    CPU.write_text("1")
    sh(ON_CPU.format(cpu=1))
    trace, _ = ended(tracer, tmp_path / "t.json")
    assert not any(trace.summary.lost.values()), trace.summary.lost
    requests = trace.of("icmp", C1_IP, icmp_type=8)
    assert len(requests) == 3 * REQUESTS
    assert {j.outcome for j in requests} == {Outcome.CONSUMED}
    assert {j.hops[0].cpu for j in requests[:REQUESTS]} == {1}
    assert {j.hops[0].cpu for j in requests[REQUESTS : 2 * REQUESTS]} == {0}
    assert {j.hops[0].cpu for j in requests[2 * REQUESTS :]} == {1}
    assert complaints() == before


@pytest.mark.once
@pytest.mark.usefixtures("lab")
def test_a_tracer_that_was_suspended_reads_on(tmp_path: Path) -> None:
    """What its ring buffer cannot hold meanwhile is counted: test_source.py."""
    tracer = started(tmp_path / "t.json")
    tracer.send_signal(signal.SIGSTOP)
    sh(ON_CPU.format(cpu=0))
    tracer.send_signal(signal.SIGCONT)
    trace, _ = ended(tracer, tmp_path / "t.json")
    assert not any(trace.summary.lost.values()), trace.summary.lost
    assert len(trace.of("icmp", C1_IP, icmp_type=8)) == REQUESTS


@pytest.mark.usefixtures("lab")
def test_who_reads_packets_gives_up_capabilities_and_reads_on(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    tracer = started(trace)
    try:
        # A map may be read by whoever has it since 5.19 (commit c8644cd0efe7).
        kept = DAC_READ_SEARCH | (BPF if KERNEL < (5, 19) else 0)
        end = time.monotonic() + TIMEOUT_S
        while (main := main_and_others(tracer.pid)[0]).effective != kept:
            assert time.monotonic() < end, main
            time.sleep(0.02)
        _, others = main_and_others(tracer.pid)
        assert any(s.effective == s.permitted for s in others)  # to enter namespaces
        sh(f"ip netns exec {C1} ping -q -c {REQUESTS} -i 0.01 {C2_IP}")
        nobody_listens = "import socket; socket.socket(2, 2).sendto(b'', ('" + C2_IP + "', 9))"
        sh(f'ip netns exec {C1} {sys.executable} -c "{nobody_listens}"')
    finally:
        found, _ = ended(tracer, trace)
    assert not any(found.summary.lost.values()), found.summary.lost
    assert len(found.of("icmp", C1_IP, icmp_type=8)) == REQUESTS
    (dropped,) = [j for j in found.journeys if j.outcome is Outcome.DROPPED]
    assert dropped.drop is not None
    assert dropped.drop.function is not None  # told by /proc/kallsyms, of root alone
    counted = found.summary.counted
    assert counted is not None
    assert counted.hits["veth_xmit"] >= 2 * REQUESTS  # read from a map at the end


@pytest.mark.once
@pytest.mark.usefixtures("lab")
def test_told_again_to_end_it_leaves_what_it_has_not_read(tmp_path: Path) -> None:
    many = 2000
    tracer = started(tmp_path / "t.json")
    tracer.send_signal(signal.SIGSTOP)
    sh(f"ip netns exec {C1} ping -q -f -c {many} {C2_IP}")
    tracer.send_signal(signal.SIGCONT)
    tracer.send_signal(signal.SIGINT)
    assert tracer.stderr is not None
    assert any("wait to be read; Ctrl-C leaves them" in line for line in tracer.stderr)
    trace, said = ended(tracer, tmp_path / "t.json")
    lost = trace.summary.lost
    assert lost["unread"] > 0
    assert f"unread {lost['unread']}" in said
    # Requests, replies, and a clone of each reply; ARP may come by.
    there = len(trace.journeys) + lost["unread"]
    assert 3 * many - 3 * lost["probe_missed"] <= there <= 3 * many + 20


@pytest.mark.once
@pytest.mark.usefixtures("lab")
def test_a_slow_reader_gets_everything(tmp_path: Path) -> None:
    """While it is slow the ring buffer fills, and has room for this."""
    slow = (
        "import os, sys, time\nwhile chunk := os.read(0, 4096): os.write(1, chunk); time.sleep(.01)"
    )
    with (tmp_path / "t.json").open("wb") as out, (tmp_path / "said").open("w+") as said:
        tracer = subprocess.Popen(
            [sys.executable, "-m", "tracer", "--topology", "docker0", "--json"],
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=HOUSE,
        )
        reader = subprocess.Popen([sys.executable, "-c", slow], stdin=tracer.stdout, stdout=out)
        assert tracer.stdout is not None
        tracer.stdout.close()
        while "attached" not in (tmp_path / "said").read_text():
            time.sleep(0.1)
        sh(ON_CPU.format(cpu=0))
        tracer.send_signal(signal.SIGINT)
        assert tracer.wait(TIMEOUT_S) == 0, (tmp_path / "said").read_text()
        assert reader.wait(TIMEOUT_S) == 0
    trace = Trace(tmp_path / "t.json")
    assert (tmp_path / "t.json").stat().st_size > 100 * 4096  # which took it longer than a second
    assert not any(trace.summary.lost.values()), trace.summary.lost
    assert len(trace.of("icmp", C1_IP, icmp_type=8)) == REQUESTS


def test_a_module_that_is_unloaded_takes_its_probes_along_and_that_is_said(tmp_path: Path) -> None:
    before = complaints()
    sh("modprobe nft_reject_ipv4")
    tracer = started(tmp_path / "t.json", topology="auto")
    sh("rmmod nft_reject_ipv4; modprobe nft_reject_ipv4")
    time.sleep(0.5)
    trace, said = ended(tracer, tmp_path / "t.json")
    assert trace.summary.unloaded == ("nft_reject_ipv4_eval",)
    assert "not seen any more since the module was unloaded: nft_reject_ipv4_eval; start" in said
    assert complaints() == before


def test_veth_goes_as_far_as_the_kernel_lets_it(tmp_path: Path) -> None:
    """Where it is probed by fentry it stays until the tracer has gone: nothing is missed."""
    pair = "modprobe veth; ip link add skbt-x type veth peer name skbt-y; ip link set skbt-x up"
    before = complaints()
    sh(pair)
    try:
        tracer = started(tmp_path / "t.json", topology="auto")
        sh("ip link del skbt-x")
        gone = subprocess.run(["rmmod", "veth"], capture_output=True, text=True, check=False)
        sh(pair)
        time.sleep(0.5)
        trace, said = ended(tracer, tmp_path / "t.json")
    finally:
        sh("ip link del skbt-x")
    if KERNEL > (5, 10):
        assert "in use" in gone.stderr
        assert trace.summary.unloaded == ()
        sh("rmmod veth; modprobe veth")
    else:
        assert gone.returncode == 0, gone.stderr
        assert trace.summary.unloaded == ("veth_xmit",)
        assert "not seen any more since the module was unloaded: veth_xmit; start" in said
    assert complaints() == before
