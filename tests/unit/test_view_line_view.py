# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.journeys import ALL, C1, CAPTURE, CLONE, HOST, REQUEST, SUMMARY, UNFINISHED
from tests.unit.topologies import DOCKER
from tracer.model import Device, Journey, Netns
from tracer.view.journey import NARROWEST, render
from tracer.view.line import cells, text_of
from tracer.view.line_view import LineView, speaks_unicode, terminal_width, write_lines
from tracer.view.look import Look
from tracer.view.theme import STYLES, paint, use_color

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class Stream(io.TextIOWrapper):
    """A text stream of some encoding that counts its flushes."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.flushes = 0

    def flush(self) -> None:
        self.flushes = getattr(self, "flushes", 0) + 1
        super().flush()

    def written(self) -> str:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


def show(
    *journeys: Journey, encoding: str = "utf-8", color: bool = False, ascii: bool = False
) -> str:
    stream = Stream(encoding)
    view = LineView(stream, width=80, color=color, ascii=ascii)
    view.begin(CAPTURE)
    view.journeys(journeys)
    view.end(SUMMARY)
    return stream.written()


def test_each_journey_is_a_block_and_a_blank_line() -> None:
    blocks = show(REQUEST, CLONE).split("\n\n")
    assert blocks[0].split("\n") == [text_of(line) for line in render(REQUEST, 80, Look())]
    assert blocks[1].split("\n")[0].startswith("#13 ")
    assert blocks[2:] == [""]


def test_where_it_should_have_gone_is_told_by_the_capture() -> None:
    stream = Stream()
    view = LineView(stream, width=80)
    view.begin(replace(CAPTURE, topology=DOCKER))
    view.journeys((UNFINISHED,))
    assert stream.written().endswith("\n  expected process_backlog at host/vethc1 next\n\n")
    assert "expected" not in show(UNFINISHED)


def family(*depths: int, width: int, color: bool = False) -> list[str]:
    stream = Stream()
    view = LineView(stream, width=width, color=color)
    view.family([(depth, REQUEST) for depth in depths])
    return stream.written().split("\n")


def test_a_branch_is_as_wide_as_what_is_left_behind_its_rules() -> None:
    lines = family(0, 1, 2, width=80)
    block = [text_of(line) for line in render(REQUEST, 76, Look())]
    assert lines[-2 - len(block) : -2] == [f"│ │ {line}" for line in block]
    assert lines[-3 - len(block)] == "│ │"
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize("width", [30, 40, 41, 50, 80])
def test_however_deep_a_branch_its_lines_have_room(width: int) -> None:
    lines = family(*range(60), width=width)
    assert max(map(cells, lines)) <= max(width, NARROWEST)
    assert sum("#11" in line for line in lines) == 60


def test_the_rules_of_a_family_are_painted_too() -> None:
    colored = family(0, 1, width=80, color=True)
    assert [ESCAPE.sub("", line) for line in colored] == family(0, 1, width=80)


def test_color_changes_no_text() -> None:
    colored = show(*ALL.values(), color=True)
    assert "\x1b[" in colored
    assert ESCAPE.sub("", colored) == show(*ALL.values())


def test_no_color_means_no_escape_codes() -> None:
    assert "\x1b" not in show(*ALL.values())


def test_a_stream_that_cannot_take_unicode_gets_ascii() -> None:
    assert show(*ALL.values(), encoding="ascii") == show(*ALL.values(), ascii=True)
    assert show(REQUEST, encoding="latin-1").isascii()
    assert not show(REQUEST).isascii()
    assert not speaks_unicode(Stream("latin-1"))


def test_a_batch_is_flushed_once_and_an_empty_one_writes_nothing() -> None:
    stream = Stream()
    view = LineView(stream, width=80)
    view.begin(CAPTURE)
    view.journeys(())
    assert (stream.written(), stream.flushes) == ("", 0)
    view.journeys((REQUEST, CLONE))
    assert stream.flushes == 1


def test_a_namespace_keeps_its_color_in_every_journey() -> None:
    stream = Stream()
    view = LineView(stream, width=80, color=True)
    for inum in range(3):
        other = Device(Netns(inum, f"n{inum}"), 1, "eth0")
        view.journeys((REQUEST._replace(hops=(REQUEST.hops[0]._replace(device=other),)),))
    view.journeys((REQUEST,))
    view.journeys((CLONE,))
    codes = set(re.findall(r"(\x1b\[[0-9;]*m)c1/eth0", stream.written()))
    assert len(codes) == 1


def test_namespaces_of_one_topology_have_different_colors() -> None:
    out = show(REQUEST, color=True)
    code = {place: re.search(rf"(\x1b\[[0-9;]*m){place}", out) for place in ("c1/", "host/", "c2/")}
    assert len({match[1] for match in code.values() if match}) == 3


def test_a_broken_pipe_is_passed_up() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as stream:
        with pytest.raises(BrokenPipeError):
            LineView(stream, width=80).journeys((REQUEST,))
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)  # so that closing has a place to flush to


def test_the_width_is_the_terminal_s() -> None:
    leader, follower = pty.openpty()
    try:
        with os.fdopen(follower, "w", encoding="utf-8", closefd=False) as stream:
            import fcntl
            import struct
            import termios

            fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 97, 0, 0))
            assert terminal_width(stream, {"COLUMNS": "33"}) == 97
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize(
    ("environ", "width"),
    [({}, 80), ({"COLUMNS": "132"}, 132), ({"COLUMNS": "wide"}, 80), ({"COLUMNS": "0"}, 80)],
)
def test_without_a_terminal_the_width_is_columns_or_80(environ: dict[str, str], width: int) -> None:
    assert terminal_width(io.StringIO(), environ) == width


def test_lines_can_be_written_by_themselves() -> None:
    stream = Stream()
    write_lines(stream, [(("a", "bad"), ("b", "")), ()], color=False)
    assert stream.written() == "ab\n\n"
    assert paint((("a", "bad"),), color=True) == "\x1b[1;31ma\x1b[0m"


def test_every_style_can_be_painted() -> None:
    for style in STYLES:
        assert ESCAPE.sub("", paint((("x", style),), color=True)) == "x"


@pytest.mark.parametrize(
    ("mode", "isatty", "environ", "colored"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_when_there_is_color(
    mode: str, isatty: bool, environ: dict[str, str], colored: bool
) -> None:
    assert use_color(mode, isatty=isatty, environ=environ) is colored


def test_plain_ascii_output_never_imports_rich() -> None:
    code = (
        "import sys\n"
        "from tests.unit.journeys import REQUEST\n"
        "from tracer.view.line_view import LineView\n"
        "LineView(sys.stdout, width=80, ascii=True).journeys((REQUEST,))\n"
        "sys.exit('rich' in sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, cwd=root, stdout=-3).returncode
        == 0
    )


def test_the_look_is_used_for_namespaces() -> None:
    look = Look(netns_styles={C1.inum: "netns5"})
    assert look.style_of(C1) == "netns5"
    assert look.style_of(HOST) in STYLES
