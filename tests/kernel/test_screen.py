# SPDX-License-Identifier: GPL-2.0-only
"""The live view of the real program in a real terminal, over real packets."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import HOUSE, TIMEOUT_S, Trace
from tests.kernel.host import left_behind
from tests.terminal import Terminal
from tests.threads import main_and_others
from tracer.capabilities import DAC_READ_SEARCH

pytestmark = [pytest.mark.kernel, pytest.mark.once]

Start = Callable[..., Terminal]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the main job in a terminal; at the end nothing is left of it."""
    started: list[Terminal] = []

    def begin(*options: str) -> Terminal:
        command = [sys.executable, "-m", "tracer", "--topology", "docker0", *options]
        started.append(Terminal(command, width=110, height=36, cwd=HOUSE))
        return started[-1].__enter__()

    yield begin
    for terminal in started:
        terminal.__exit__()
    assert left_behind() == []


def journeys(terminal: Terminal) -> int:
    """How many the status line tells of."""
    found = re.search(r"(\d+) journeys", terminal.lines[0])
    return int(found[1]) if found else 0


def comes(terminal: Terminal, holds: Callable[[], object]) -> None:
    terminal.until(holds, TIMEOUT_S)


def test_live_packets_are_chosen_followed_frozen_and_filtered(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    terminal = start("-w", str(path))
    comes(terminal, lambda: "compiling and attaching" in terminal.text)
    comes(terminal, lambda: journeys(terminal) > 20)
    assert re.match(r" docker0  LIVE \d\d:\d\d", terminal.lines[0])
    assert re.search(r"  0 lost  ring \d+ %", terminal.lines[0])
    assert "probes" in terminal.lines[1]
    main, others = main_and_others(terminal.pid)
    # Who draws, and who reads; on this kernel, maps as well.
    assert [main.effective, *(s.effective for s in others)].count(DAC_READ_SEARCH) >= 2

    terminal.type("p")
    comes(terminal, lambda: "FROZEN" in terminal.lines[0])
    rows = terminal.lines[3:8]
    seen = journeys(terminal)
    comes(terminal, lambda: journeys(terminal) > seen)  # the capture goes on
    assert [row[2:] for row in terminal.lines[3:8]] == [row[2:] for row in rows]
    terminal.type("p")
    comes(terminal, lambda: "FROZEN" not in terminal.lines[0])

    terminal.type("/icmp and icmp[0] == 8\r")
    comes(terminal, lambda: "only / icmp" in terminal.lines[1])
    comes(terminal, lambda: "ICMP request c1 > c2" in terminal.lines[4])
    assert all("request" in row or not row.strip() for row in terminal.lines[3:12])
    terminal.type("g\r")
    comes(terminal, lambda: "hop 1 of" in terminal.text)
    terminal.type("G")
    comes(terminal, lambda: "skb_release_head_state" in terminal.text)
    terminal.type("K")
    comes(terminal, lambda: "not while a trace is written" in terminal.lines[1])

    terminal.type("q")
    assert terminal.ends(TIMEOUT_S) == 0
    assert terminal.is_clean
    after = terminal.written.rsplit(b"\x1b[?1049l", 1)[1].decode()
    told = re.search(r"(\d+) journeys", re.sub(r"\x1b\[[0-9;?]*[a-z]", "", after))
    assert told is not None
    assert int(told[1]) == Trace(path).summary.journeys == len(Trace(path).journeys)


def test_a_filter_can_be_handed_to_the_kernel(start: Start) -> None:
    terminal = start()
    comes(terminal, lambda: journeys(terminal) > 20)
    terminal.type("/udp\rK")
    comes(terminal, lambda: "filter: udp" in terminal.text or "kernel is given" in terminal.text)
    terminal.type("\x1b")
    comes(terminal, lambda: "filter: udp" in terminal.lines[1])

    def fresh() -> list[str]:
        return [row for row in terminal.lines[3:12] if "#2-" in row]

    assert "FOLLOW" in terminal.lines[0]
    comes(terminal, lambda: len(fresh()) > 3)
    assert all(" UDP " in row for row in fresh()), terminal.text
    terminal.type("q")
    assert terminal.ends(TIMEOUT_S) == 0
    assert terminal.is_clean
    assert b"the filter refused" in terminal.written


def test_a_signal_ends_the_view_and_the_capture(start: Start) -> None:
    terminal = start()
    comes(terminal, lambda: journeys(terminal) > 0)
    terminal.signal(signal.SIGTERM)
    assert terminal.ends(TIMEOUT_S) == 0
    assert terminal.is_clean
    assert b"nothing lost" in terminal.written


def test_it_can_be_left_before_the_probes_are_attached(start: Start) -> None:
    terminal = start()
    comes(terminal, lambda: "STARTING" in terminal.lines[0])
    terminal.type("q")
    assert terminal.ends(TIMEOUT_S) == 0
    assert terminal.is_clean


def test_a_capture_that_ends_by_itself_can_still_be_looked_at(start: Start) -> None:
    terminal = start("-c", "12")
    comes(terminal, lambda: "ENDED" in terminal.lines[0])
    assert journeys(terminal) == 12
    terminal.type("g\r")
    comes(terminal, lambda: "hop 1 of" in terminal.text)
    terminal.type("q")
    assert terminal.ends(TIMEOUT_S) == 0
