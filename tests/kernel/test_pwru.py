# SPDX-License-Identifier: GPL-2.0-only
"""What another tracer saw at the same time, we have seen, too: pwru on the same functions."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kernel.conftest import (
    C1,
    C1_IP,
    C2_IP,
    IN_A_GUEST,
    KERNEL,
    TIMEOUT_S,
    Trace,
    sh,
    start_skbtrace,
)
from tests.vm import peer
from tracer.model import Journey
from tracer.probes import FREES, LAYERS, PROBES, Attach, Skb, chosen

pytestmark = [pytest.mark.kernel, pytest.mark.once, pytest.mark.usefixtures("lab")]

FUNCTIONS = dict.fromkeys(
    probe.function
    for probe in map(PROBES.__getitem__, chosen(LAYERS))
    if probe.attach is Attach.KPROBE and probe.skb not in (Skb.NONE, Skb.AT_ARG1)
)
"""Ours that are given the skb itself: those pwru knows to follow."""
WORK = (
    f"ip netns exec {C1} ping -q -c 5 -i 0.05 {C2_IP};"
    f"ip netns exec {C1} bash -c 'echo hi >/dev/udp/{C2_IP}/9' || :;"
    f"ip netns exec {C1} bash -c 'echo hi >/dev/tcp/{C2_IP}/9' || :"
)
LINE = re.compile(r"^\S+ (0x[0-9a-f]+) .*?\] +([\w.]+)(?:\t\[\w+\])? +(\d+)\s*$", re.MULTILINE)


class Event(NamedTuple):
    """A line of pwru's."""

    skb: int
    function: str
    at_ns: int


@pytest.fixture(scope="module")
def seen(lab: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, list[Event]]:
    """Both trace the same packets; no hit may be passed over."""
    program = peer.PWRU.tree / peer.PWRU.programs[0]
    if not program.exists():
        assert not IN_A_GUEST, "pwru is not there: python3 -m tests.vm fetch"
        pytest.skip("pwru is not there: python3 -m tests.vm fetch")
    folder: Path = tmp_path_factory.mktemp("pwru")
    path, out = folder / "trace.json", folder / "pwru.out"
    ours = start_skbtrace("--topology", "docker0", "--layers", "all", "-w", str(path))
    try:
        with out.open("w") as stream:
            theirs = subprocess.Popen(
                [
                    *(program, "--all-kmods", "--timestamp", "absolute"),
                    *("--filter-func", f"^({'|'.join(FUNCTIONS)})$", f"host {C1_IP}"),
                ],
                stdout=stream,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                assert theirs.stderr is not None
                next(line for line in theirs.stderr if "Listening" in line)
                sh(WORK)
                told = -1
                while told != (told := out.stat().st_size):  # it lags behind
                    time.sleep(3)
            finally:
                theirs.send_signal(signal.SIGINT)
                theirs.communicate(timeout=TIMEOUT_S)
    finally:
        ours.send_signal(signal.SIGINT)
        ours.communicate(timeout=TIMEOUT_S)
    trace = Trace(path)
    assert not any(trace.summary.lost.values()), trace.summary.lost
    text = out.read_text()
    events = [Event(int(skb, 16), name, int(at)) for skb, name, at in LINE.findall(text)]
    assert len(events) == text.count("\n") - 1, text  # the first line is the head
    return trace, events


def lives(events: list[Event]) -> list[list[Event]]:
    """The events of each packet: an skb's address is another packet's after its free."""
    found: list[list[Event]] = []
    open_at: dict[int, list[Event]] = {}
    for event in sorted(events, key=lambda event: event.at_ns):
        life = open_at.get(event.skb)
        if life is None:
            life = open_at[event.skb] = []
            found.append(life)
        life.append(event)
        if event.function in FREES:
            del open_at[event.skb]
    return found


def journey_of(life: list[Event], journeys: list[Journey]) -> Journey:
    """Ours of the same skb that began at the same time: both read the same clock."""
    same = [journey for journey in journeys if journey.skb == life[0].skb]
    return min(same, key=lambda journey: abs(journey.start_ns - life[0].at_ns))


def test_pwru_saw_no_function_of_ours_that_we_did_not_see(seen: tuple[Trace, list[Event]]) -> None:
    trace, events = seen
    told = lives(events)
    assert len(told) > 5 * 2
    for life in told:
        journey = journey_of(life, trace.journeys)
        ours = iter([hop.function for hop in journey.hops])
        theirs = [event.function for event in life]
        missed = [name for name in theirs if name not in ours]  # in order: ours is used up
        assert missed == [], (theirs, [hop.function for hop in journey.hops])


def test_pwru_saw_most_of_what_we_saw(seen: tuple[Trace, list[Event]]) -> None:
    trace, events = seen
    names = {event.function for event in events}
    assert {"__dev_forward_skb", "enqueue_to_backlog", "icmp_rcv", "tcp_v4_rcv"} <= names
    if KERNEL >= (5, 11):  # before, modules had no types, by which pwru finds the skb
        assert {"veth_xmit", "br_forward"} <= names
    requests = trace.of("icmp", C1_IP, icmp_type=8)
    assert len(requests) == 5
    assert len(events) > sum(len(journey.hops) for journey in requests)
