# SPDX-License-Identifier: GPL-2.0-only
"""The real program in a real terminal, over traces: what needs no kernel."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.terminal import Terminal
from tests.unit.journeys import CAPTURE, DROPPED, REPLY
from tests.unit.screens import journeys
from tests.unit.traces import gzipped, trace_of, write
from tracer.cli.feeding import Feeding, save
from tracer.cli.show_screen import show_stream, take_in
from tracer.errors import TraceFileError
from tracer.export.incoming import Incoming
from tracer.export.kept_lines import KeptLines
from tracer.export.opened import opened
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.journal import Journal
from tracer.model import Journey, Outcome, Summary

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
    shown.until(lambda: shown.is_clean)  # its last words may not have been read yet
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


def test_a_full_disk_is_told_of_and_leaves_no_half_file(trace: Path, tmp_path: Path) -> None:
    show = shlex.join([*SKBTRACE, "show", str(trace)])
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["sh", "-c", f"ulimit -f 64; exec {show}"]  # blocks of 512 bytes
    with Terminal(command, cwd=tmp_path, env=env) as terminal:
        terminal.shows(f"{15 * ROUNDS} journeys")
        terminal.type("w")
        terminal.shows("cannot write journeys.json: File too large; nothing is left of it")
        terminal.type("q")
        assert terminal.ends() == 0
        assert not list(tmp_path.iterdir())


def test_journeys_are_written_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given, most = 0, 0
    write = TraceWriter.journeys

    def written(self: TraceWriter, batch: Sequence[Journey]) -> None:
        nonlocal most
        write(self, batch)
        most = max(most, given - self.written)

    def some() -> Iterator[Journey]:
        nonlocal given
        for journey in journeys(100):
            given += 1
            yield journey

    monkeypatch.setattr(TraceWriter, "journeys", written)
    assert save(CAPTURE, some(), "it.json") == "it.json"
    assert most < 500 < given
    with Path("it.json").open("rb") as stream:
        reader = TraceReader(stream, "it")
        assert len(list(reader)) == given
        assert reader.summary is not None
        assert sum(reader.summary.outcomes.values()) == given

    def failing() -> Iterator[Journey]:
        yield REPLY
        raise TraceFileError("left")

    with pytest.raises(TraceFileError, match="left"):
        save(CAPTURE, failing(), "other.json")
    assert [path.name for path in tmp_path.iterdir()] == ["it.json"]


def test_a_files_name_cannot_write_to_the_terminal(trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "\x1b]0;x\x07\x1b[31ma.json"
    path.write_bytes(trace.read_bytes())
    with Terminal([*SKBTRACE, "show", str(path)]) as terminal:
        terminal.shows("q quit")
        assert terminal.lines[0].startswith(r" \x1b]0;x\x07\x1b[31ma.json  TRACE")
        terminal.type("q")
        assert terminal.ends() == 0
        assert b"\x1b]0;x" not in terminal.written


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
    writer = f"{{ head -n 101 {trace}; sleep 600; }}"  # the shell waits for it
    with piped(f"{writer} | {{ {show}; echo left with $?; }}") as terminal:
        terminal.shows("100 journeys")
        assert "LIVE" in terminal.lines[0]
        assert "FOLLOW" in terminal.lines[0]
        terminal.type("q")
        terminal.until(lambda: b"left with 0" in terminal.written)
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


def test_a_wrong_line_in_a_stream_costs_nothing_that_came_before(
    trace: Path, tmp_path: Path
) -> None:
    lines = trace.read_bytes().splitlines(keepends=True)
    lines[50] = lines[50][:60] + b"\n"  # its beginning is that of a journey
    wrong = tmp_path / "wrong.json"
    wrong.write_bytes(b"".join(lines))
    show = shlex.join([*SKBTRACE, "show", "-"])
    with piped(f"cat {wrong} | {show}") as terminal:
        terminal.shows("standard input: a line is not JSON")
        terminal.shows("ENDED")
        assert " 49 journeys " in terminal.lines[0]
        terminal.type("g\r")
        terminal.shows("hop 1 of")
        terminal.type("q")
        assert terminal.ends() == 1
        assert terminal.is_clean
        said = terminal.written.rsplit(b"\x1b[?1049l", 1)[1]
        assert b"skbtrace: standard input: a line is not JSON" in said


def test_what_is_chosen_of_a_stream_is_listed(trace: Path) -> None:
    show = shlex.join([*SKBTRACE, "show", "-", "icmp"])
    with piped(f"cat {trace} | {show}") as terminal:
        terminal.shows(f"{15 * ROUNDS} journeys")
        terminal.shows("ENDED")
        assert not re.search(r"^..#.* TCP ", terminal.text, re.MULTILINE)
        terminal.type("q")
        assert terminal.ends() == 0


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


def colours(written: bytes) -> set[int]:
    """The parameters of what sets how text looks (SGR) that are a colour."""
    found: set[int] = set()
    for parameters in re.findall(rb"\x1b\[([0-9;:]*)m", written):
        found |= {int(number) for number in re.split(rb"[;:]", parameters) if number}
    return found & {*range(30, 39), *range(40, 49), 58, *range(90, 98), *range(100, 108)}


def test_colours_are_found_where_they_are_some(shown: Terminal) -> None:
    shown.type("q")
    assert shown.ends() == 0
    assert {31, 32} <= colours(shown.written)
    assert colours(b"\x1b[1;38;5;9mx\x1b[0m\x1b[1;7m\x1b[4:3m") == {38}


def test_no_color_is_no_colour(trace: Path) -> None:
    for env, options in (({"NO_COLOR": "1"}, []), ({}, ["--color", "never", "--ascii"])):
        with Terminal([*SKBTRACE, "show", *options, str(trace)], env=env) as terminal:
            terminal.shows("q quit")
            terminal.type("jjj\rq")
            assert terminal.ends() == 0
            assert not colours(terminal.written)
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


def descriptors() -> list[Path]:
    """What this process has open."""
    return sorted(Path("/proc/self/fd").iterdir())


def test_no_descriptor_of_a_stream_is_left(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(_name: str, watched: Journal, feeding: Feeding, **_: object) -> None:
        feeding.start()
        feeding.wait()
        assert watched.seen == 15 * ROUNDS

    monkeypatch.setattr("tracer.cli.show_screen.look_at", looked)
    monkeypatch.setattr("tracer.cli.show_screen.keyboard", nullcontext)
    before = descriptors()
    with opened(str(trace)) as stream:
        show_stream(stream, "x", color="never", ascii_only=False)
    assert descriptors() == before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b'{"type":"journey","id":"\\u00zz"}\n', "line 8 is not JSON"),
        (b'{"type":"journey","id":"1","outcome":\n', "a line is not JSON"),
        (b"{}\n", "line 8 is no journey"),
        (b"", "holds 300 journeys, but its footer counts 299"),
    ],
)
def test_a_stream_that_is_wrong_in_the_middle_is_taken_once(
    trace: Path, tmp_path: Path, wrong: bytes, said: str
) -> None:
    path = tmp_path / "trace.json"
    text = trace.read_bytes()
    if not wrong:
        text = text.replace(b'"journeys":300', b'"journeys":299')
    lines = text.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:7], wrong, *lines[7:]]))
    kept = KeptLines("x")
    journal = Journal(kept.journey)
    with (
        path.open("rb") as stream,
        closing(Incoming(stream.fileno(), threading.Event())) as incoming,
        pytest.raises(TraceFileError, match=said),
    ):
        take_in(incoming, "x", journal, kept)
    assert journal.seen == (6 if wrong else 300)
    assert all(journal.journey(number) is not None for number in range(journal.seen))


def test_lines_come_whole_and_it_is_known_whether_one_waits() -> None:
    pipe = Pipe()
    pipe.write(b"one\ntwo\nthr")
    assert (pipe.incoming.readline(), pipe.incoming.more) == (b"one\n", True)
    assert (pipe.incoming.readline(), pipe.incoming.more) == (b"two\n", False)
    pipe.write(b"ee\nfour")
    os.close(pipe.into)
    assert [pipe.incoming.readline() for _ in range(4)] == [b"three\n", b"four", b"", b""]
    os.close(pipe.out)
    pipe.incoming.close()


def test_a_line_that_is_too_long_is_given_in_pieces() -> None:
    pipe = Pipe()
    pipe.write(b"x" * 100)
    assert len(pipe.incoming.readline(50)) >= 50
    pipe.over.set()
    assert pipe.incoming.readline(50) == b""
    os.close(pipe.into)
    os.close(pipe.out)
    pipe.incoming.close()
