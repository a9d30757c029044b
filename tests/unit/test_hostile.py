# SPDX-License-Identifier: GPL-2.0-only
"""Names that hold escape codes, markup and bidirectional marks reach no terminal as they are.

Texts come in by a trace file, by the kernel, by an engine and by the command line; what goes out
is looked at where a terminal would see it.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import ALL, CAPTURE, READ, SUMMARY
from tracer import wire
from tracer.cli import run
from tracer.correlate import _task
from tracer.errors import SkbtraceError
from tracer.export.output import open_output
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.model import Capture, Device, Journey, Netns, Summary
from tracer.text import printable
from tracer.topology import discover, links, names, netns
from tracer.topology.bundles import Told
from tracer.topology.engines import Engines
from tracer.topology.links import Link
from tracer.topology.names import Names
from tracer.view.capture import closing, opening
from tracer.view.line_view import LineView, write_lines
from tracer.view.look import Look
from tracer.view.theme import STYLES, paint
from tracer.view.topo import drawing

UGLY = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "[red]markup[/red]",
    "[/]",
    "\u202eright to left\u2066",
    "\u200fx\u200e",
    "not utf-8 \udcff\udc9b",
    "\ud800",
    "two\nlines\r",
    "\u2028",
    "nul\0",
    "{0} %s",
    "0123456789\x1b[7m!",
)
pieces = st.sampled_from(UGLY) | st.characters()
ugly = st.lists(pieces, min_size=1, max_size=3).map("".join)
many = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
CODES = frozenset(re.findall(r"\x1b\[[0-9;]*m", "".join(
    paint((("x", style),), color=True) for style in STYLES
)))  # fmt: skip
"""The only escape codes that we ever write."""


def clean(text: str, *, color: bool = False) -> bool:
    """Whether a terminal would print it as it is, line by line, but for our own colours."""
    if color:
        text = re.sub(r"\x1b\[[0-9;]*m", lambda code: "" if code[0] in CODES else "\x1b", text)
    return all(printable(line) == line and line.isprintable() for line in text.split("\n"))


def spoiled(value: Any, texts: Iterator[str]) -> Any:
    """The value with other texts wherever it has some."""
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {spoiled(k, texts): spoiled(v, texts) for k, v in value.items()}
    if isinstance(value, tuple):
        parts = [spoiled(part, texts) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if is_dataclass(value):
        asked: Any = {f.name: spoiled(getattr(value, f.name), texts) for f in fields(value)}
        return replace(value, **asked)  # type: ignore[type-var]
    return value


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_in(tuple(value.items()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from texts_in(part)
    elif is_dataclass(value):
        for f in fields(value):
            yield from texts_in(getattr(value, f.name))


def written(capture: Capture, journeys: list[Journey], summary: Summary) -> bytes:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "trace")
    writer.begin(capture)
    writer.journeys(journeys)
    writer.end(replace(summary, journeys=len(journeys)))
    return stream.getvalue()


def read(content: bytes) -> tuple[Capture, list[Journey], Summary]:
    reader = TraceReader(io.BytesIO(content), "t.json")
    journeys = list(reader)
    assert reader.summary is not None
    return reader.capture, journeys, reader.summary


@st.composite
def foreign(draw: st.DrawFn) -> bytes:
    """A trace in which every text is ugly, as no skbtrace writes it."""
    texts = cycle(draw(st.lists(ugly, min_size=1, max_size=6)))
    journeys = draw(st.lists(any_journey.journeys() | st.sampled_from([*ALL.values()]), max_size=3))
    return written(
        spoiled(CAPTURE, texts), [spoiled(j, texts) for j in journeys], spoiled(SUMMARY, texts)
    )


@many
@given(foreign())
def test_what_a_file_says_is_safe_and_is_the_same_when_written_again(content: bytes) -> None:
    capture, journeys, summary = read(content)
    assert all(clean(text) for text in texts_in([capture, journeys, summary]))
    again = written(capture, journeys, summary)
    assert again.isascii()
    assert read(again) == (capture, journeys, summary)
    assert written(*read(again)) == again


@many
@given(foreign(), st.booleans(), st.booleans(), st.integers(1, 120))
def test_every_view_of_a_file_is_safe(content: bytes, color: bool, ascii: bool, width: int) -> None:
    capture, journeys, summary = read(content)
    out = io.StringIO()
    view = LineView(out, color=color, ascii=ascii, width=width)
    view.begin(capture)
    view.journeys(journeys)
    if journeys:
        view.family([(depth, journey) for depth, journey in enumerate(journeys)])
    view.end(summary)
    assert capture.topology is not None
    write_lines(out, drawing(capture.topology, Look(ascii=ascii), width), color=color)
    assert out.getvalue().isascii() or not ascii
    write_lines(out, opening(capture), color=color)
    write_lines(out, closing(capture, summary), color=color)
    assert clean(out.getvalue(), color=color)


@many
@given(foreign())
def test_show_of_a_file_is_safe(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "t.json"
    file.write_bytes(content)
    for options in ([], ["--ascii"], ["--netns", "no \x1b[31m such"], ["--device", "\x1b[2J"]):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            run(["show", *options, str(file)])
        assert clean(out.getvalue())
        assert clean(err.getvalue())
        assert "Traceback" not in err.getvalue()


def test_markup_is_no_markup() -> None:
    """Colours are put around a text, and the text stays what it is."""
    for text in ("[red]", "[/red]", "[bold on blue]x[/]", ":smile:", "[link=http://x]y[/link]"):
        assert all(text in paint(((text, style),), color=True) for style in STYLES)
    device = Device(Netns(9, "[red]c1[/red]"), 2, "[/]eth[b]")
    hop = READ.hops[0]._replace(device=device)
    out = io.StringIO()
    LineView(out, width=120, color=True).journeys([READ._replace(hops=(hop, *READ.hops[1:]))])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert "[red]c1[/red]/[/]eth[b] " in plain


@many
@given(ugly)
@example("\x1b[31m")
def test_what_the_kernel_calls_a_device_or_a_namespace_is_safe(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    link = Link(3, name, None)
    monkeypatch.setattr(links, "read", lambda: [link])
    monkeypatch.setattr(netns, "inside", lambda _path, work: work())
    monkeypatch.setattr(names, "_files", lambda _: {77: Path("/run/netns", "x" + name)})
    known = Names()
    assert clean(known[known.host.inum, 3].ifname)
    assert clean(known.netns(77).name)
    with pytest.raises(SkbtraceError) as caught:
        known.find("?" + name)
    assert clean(caught.value.message)


@many
@given(ugly, ugly)
def test_what_an_engine_or_a_process_is_called_is_safe(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: str
) -> None:
    container = "ab" * 32
    known = Names(engines=Engines([], written=lambda _: Told(name, pod)))
    monkeypatch.setattr(names, "_processes", lambda: iter([(f"0::/docker/{container}\n", 5)]))
    with pytest.raises(SkbtraceError) as caught:
        known.container("nobody \x1b")
    assert clean(caught.value.message)
    assert known.container(name) == known.container(pod) == {5}
    monkeypatch.setattr(names, "_name_of", lambda *_: name)
    places = names._places_of_processes({}, Engines([], written=lambda _: None))
    assert places
    assert all(clean(place.netns.name) for place in places.values())


@settings(deadline=None)
@given(st.binary(min_size=15, max_size=15))
def test_what_a_process_calls_itself_is_safe(comm: bytes) -> None:
    low, high = (int.from_bytes((comm + b"\0")[n : n + 8], "little") for n in (0, 8))
    note = wire.Note(wire.NOTE_TASK, value=low, word=164, more=high)
    assert clean(_task(note).comm)


@many
@given(ugly, ugly)
def test_messages_about_bridges_are_safe(name: str, other: str) -> None:
    found = [Link(1, other, "bridge")]
    for asked in (name, other):
        kind = None if asked == other else "bridge"
        with pytest.raises(SkbtraceError) as caught:
            discover._bridge("?" + asked, [found[0], found[0]._replace(ifname="?", kind=kind)])
        assert clean(caught.value.message)
        assert clean(caught.value.hint or "")


COMMANDS: tuple[Callable[[str], list[str]], ...] = (
    lambda name: [name],
    lambda name: ["--" + name],
    lambda name: ["-c", name],
    lambda name: ["-t", name],
    lambda name: ["--color", name, "--topology", "x"],
    lambda name: ["--layers", "?" + name, "--topology", "x"],
    lambda name: ["lab", "up", "?" + name],
    lambda name: ["lab", "?" + name],
    lambda name: ["show", "/nowhere/" + name],
    lambda name: ["show", "/nowhere", name],
    lambda name: ["schema", name],
    lambda name: ["topo", "a", name],
)


@many
@given(ugly.filter(lambda name: not name.startswith("-")), st.sampled_from(COMMANDS))
@example("\x1b[31m", COMMANDS[9])
@example("\ud800", COMMANDS[-3])
def test_what_a_person_types_is_safe_in_messages(
    name: str, command: Callable[[str], list[str]]
) -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(command(name))
    assert status != 0
    assert clean(out.getvalue())
    assert clean(err.getvalue())


@many
@given(ugly)
def test_messages_about_files_are_safe(name: str) -> None:
    with pytest.raises(SkbtraceError) as caught:
        open_output("/nowhere/" + name)
    assert clean(caught.value.message)

    class Full(io.RawIOBase):
        def write(self, _data: object) -> int:
            raise OSError(28, "No space left on device", "\x1b")

    with pytest.raises(SkbtraceError) as caught:
        TraceWriter(Full(), name).begin(CAPTURE)
    assert clean(caught.value.message)


@many
@given(ugly)
def test_the_json_of_a_topology_is_ascii(name: str) -> None:
    from tracer.export.trace_writer import topology_members

    assert CAPTURE.topology is not None
    assert json.dumps(topology_members(replace(CAPTURE.topology, name=printable(name)))).isascii()


def test_bytes_that_are_no_utf_8_have_a_name_too() -> None:
    assert printable(os.fsdecode(b"v\xff\x9b")) == r"v\udcff\udc9b"
