# SPDX-License-Identifier: GPL-2.0-only
"""The real program in a real terminal, over traces: what needs no kernel."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.terminal import Terminal
from tests.unit.journeys import CAPTURE, DROPPED, REPLY
from tests.unit.screens import journeys
from tests.unit.traces import gzipped, trace_of, write
from tracer.cli.screen import Incoming, save
from tracer.export.opened import opened
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.model import Outcome, Summary

SKBTRACE = [sys.executable, "-m", "tracer"]
ROUNDS = 20


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    found = journeys(ROUNDS)
    with path.open("wb", buffering=0) as stream:
        writer = TraceWriter(stream, "x")
        writer.begin(CAPTURE)
        writer.journeys(found)
        outcomes = {o.value: sum(j.outcome is o for j in found) for o in Outcome}
        writer.end(Summary(journeys=len(found), outcomes=outcomes))
    return path


@pytest.fixture
def shown(trace: Path, tmp_path: Path) -> Iterator[Terminal]:
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with Terminal([*SKBTRACE, "show", str(trace)], cwd=tmp_path, env=env) as terminal:
        terminal.shows("q quit")
        terminal.shows(f"{15 * ROUNDS} journeys")
        yield terminal


def test_a_trace_is_looked_at_and_left(shown: Terminal) -> None:
    assert "trace.json  TRACE" in shown.lines[0]
    shown.type("d")
    shown.shows(f"only drops: {2 * ROUNDS} of {15 * ROUNDS}")
    shown.type("\r")
    shown.shows("hop 1 of")
    shown.type("q")
    assert shown.ends() == 0
    assert shown.is_clean
    # Sixteen colours of the terminal's own palette, which is light or dark: none of our own.
    assert not re.search(rb"\x1b\[[0-9;]*[34]8[;:]", shown.written)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(shown: Terminal, number: signal.Signals) -> None:
    shown.signal(number)
    assert shown.ends() == 0
    assert shown.is_clean


def test_ctrl_c_is_a_key(shown: Terminal) -> None:
    shown.type("/tcp\x03")
    assert shown.ends() == 0
    assert shown.is_clean


def test_it_can_be_suspended_and_goes_on(shown: Terminal) -> None:
    shown.type("\x1a")
    shown.until(lambda: os.waitid(os.P_PID, shown.pid, os.WSTOPPED | os.WNOHANG) is not None)
    assert shown.is_clean
    before = len(shown.written)
    shown.signal(signal.SIGCONT)
    shown.until(lambda: b"\x1b[?1049h" in shown.written[before:])
    shown.type("\x1b[B")
    shown.until(lambda: re.search(r"^› +#12 ", shown.text, re.MULTILINE))
    shown.type("q")
    assert shown.ends() == 0


def test_another_size_is_taken_and_a_tiny_one_refused(shown: Terminal) -> None:
    shown.resize(40, 10)
    shown.shows("this is 40 x 10")
    shown.resize(140, 45)
    shown.shows("hop 1 of")
    shown.type("q")
    assert shown.ends() == 0


def test_journeys_are_written_beside_what_is_there(shown: Terminal, tmp_path: Path) -> None:
    name = f"journey-{REPLY.id}.json"
    (tmp_path / name).write_text("mine")
    shown.type("j\x65")
    shown.shows(f"2 journeys written to journey-{REPLY.id}-2.json")
    shown.type("q")
    assert shown.ends() == 0
    assert (tmp_path / name).read_text() == "mine"
    with (tmp_path / f"journey-{REPLY.id}-2.json").open("rb") as stream:
        assert next(j.id for j in TraceReader(stream, "it")) == REPLY.id


def test_a_fault_of_the_view_leaves_the_terminal_as_it_was(trace: Path) -> None:
    program = (
        "from tracer.cli import main\n"
        "from tracer.view.screen.panes import Screen\n"
        "def draw(*_): raise RuntimeError('a fault')\n"
        "Screen.draw = draw\n"
        f"main(['show', {str(trace)!r}])\n"
    )
    with Terminal([sys.executable, "-c", program]) as terminal:
        assert terminal.ends() == 1
        assert terminal.is_clean
        assert b"a fault" in terminal.written
        assert b"skbtrace: the view ended by a fault of its own" in terminal.written


def piped(command: str) -> Terminal:
    return Terminal(["sh", "-c", command])


def test_a_stream_is_looked_at_with_the_terminals_keys(trace: Path) -> None:
    show = shlex.join([*SKBTRACE, "show", "-"])
    with piped(f"cat {trace} | {show}") as terminal:
        terminal.shows(f"{15 * ROUNDS} journeys")
        terminal.shows("ENDED")
        terminal.type("g\r")
        terminal.shows("hop 1 of")
        terminal.type("q")
        assert terminal.ends() == 0
        assert terminal.is_clean


def test_a_stream_that_goes_on_is_followed_until_it_is_left(trace: Path) -> None:
    show = shlex.join([*SKBTRACE, "show", "-"])
    writer = f"{{ head -n 101 {trace}; sleep 20; }}"  # the shell waits for it
    with piped(f"{writer} | {{ {show}; echo left with $?; }}") as terminal:
        terminal.shows("100 journeys")
        assert "LIVE" in terminal.lines[0]
        assert "FOLLOW" in terminal.lines[0]
        terminal.type("q")
        assert terminal.until(lambda: b"left with 0" in terminal.written) < 10
        assert terminal.is_clean


def test_what_is_wrong_is_said_in_the_view_and_after_it(trace: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_bytes(trace.read_bytes()[:-2000])
    with Terminal([*SKBTRACE, "show", str(cut)]) as terminal:
        terminal.shows("is cut off")
        terminal.type("G")
        terminal.type("q")
        assert terminal.ends() == 1
        assert terminal.is_clean
        assert b"skbtrace: " in terminal.written.rsplit(b"\x1b[?1049l", 1)[1]


@pytest.mark.parametrize(
    ("options", "env"), [(["--no-ui"], {}), ([], {"TERM": "dumb"})], ids=["no-ui", "dumb"]
)
def test_where_no_screen_is_wanted_or_possible_there_are_blocks(
    trace: Path, options: list[str], env: dict[str, str]
) -> None:
    with Terminal([*SKBTRACE, "show", *options, str(trace)], env=env) as terminal:
        assert terminal.ends() == 0
        assert b"\x1b[?1049h" not in terminal.written
        assert f"#{DROPPED.id} ".encode() in terminal.written


def test_no_color_is_no_colour(trace: Path) -> None:
    for env, options in (({"NO_COLOR": "1"}, []), ({}, ["--color", "never", "--ascii"])):
        with Terminal([*SKBTRACE, "show", *options, str(trace)], env=env) as terminal:
            terminal.shows("q quit")
            terminal.type("jjj\rq")
            assert terminal.ends() == 0
            colours = [f"\x1b[{n}m".encode() for n in (*range(30, 38), *range(90, 98))]
            assert not any(code in terminal.written for code in colours)
            if options:
                assert terminal.text.isascii()


@pytest.mark.parametrize("how", ["show {gz}", "show - <{gz}", "cat {gz} | show -"])
def test_what_is_compressed_and_what_follows_it_is_looked_at(tmp_path: Path, how: str) -> None:
    found = journeys(ROUNDS)
    content = gzipped(trace_of(found)) + gzipped(trace_of(found))
    path = write(tmp_path / "t.json", content)
    command = how.format(gz=shlex.quote(path)).replace("show", shlex.join([*SKBTRACE, "show"]))
    with Terminal(["sh", "-c", command], env={"PYTHONPATH": str(Path(__file__).parents[2])}) as it:
        it.shows(f"{30 * ROUNDS} journeys")
        it.type("G")
        it.shows(f"#2-{found[-1].id} ")
        it.type("g\r")
        it.shows("hop 1 of")
        it.type("q")
        assert it.ends() == 0
        assert b"holds 2 traces" in it.written
        assert it.is_clean


def test_a_file_that_cannot_be_begun_in_the_middle_is_looked_at_as_it_comes(tmp_path: Path) -> None:
    """zstd: of that only the last journeys are kept, as of a pipe."""
    zstd = pytest.importorskip("backports.zstd")
    path = write(tmp_path / "t.zst", zstd.compress(trace_of(journeys(ROUNDS))))
    program = (
        "import sys, backports, backports.zstd\n"
        "sys.modules['compression'] = backports\n"
        "sys.modules['compression.zstd'] = backports.zstd\n"
        "from tracer.cli import main\n"
        f"main(['show', {path!r}])\n"
    )
    with Terminal([sys.executable, "-c", program]) as it:
        it.shows(f"{15 * ROUNDS} journeys")
        it.shows("ENDED")
        it.type("q")
        assert it.ends() == 0
        assert it.is_clean


def test_what_is_saved_of_a_rotated_trace_is_no_file_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = save(replace(CAPTURE, part=3), [REPLY], "journey.json")
    with opened(saved) as stream:
        assert TraceReader(stream, saved).capture == CAPTURE


class Pipe:
    """Both ends of one."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        self.over = threading.Event()
        self.incoming = Incoming(self.out, self.over)

    def write(self, data: bytes) -> None:
        os.write(self.into, data)


def test_lines_come_whole_and_it_is_known_whether_one_waits() -> None:
    pipe = Pipe()
    pipe.write(b"one\ntwo\nthr")
    assert (pipe.incoming.readline(), pipe.incoming.more) == (b"one\n", True)
    assert (pipe.incoming.readline(), pipe.incoming.more) == (b"two\n", False)
    pipe.write(b"ee\nfour")
    os.close(pipe.into)
    assert [pipe.incoming.readline() for _ in range(4)] == [b"three\n", b"four", b"", b""]
    os.close(pipe.out)


def test_a_line_that_is_too_long_is_given_in_pieces() -> None:
    pipe = Pipe()
    pipe.write(b"x" * 100)
    assert len(pipe.incoming.readline(50)) >= 50
    pipe.over.set()
    assert pipe.incoming.readline(50) == b""
    os.close(pipe.into)
    os.close(pipe.out)
