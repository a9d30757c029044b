# SPDX-License-Identifier: GPL-2.0-only
"""What reads foreign files, given any bytes: it returns, or raises a SkbtraceError of one line.

The first byte of an input says who is given the rest: the reader as a stream, plain or compressed
first (a fuzzer makes no check of gzip right by chance), the index that the view looks into, or the
file of promises.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import tempfile
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.unit.journeys import ALL, CAPTURE
from tests.unit.topologies import DOCKER
from tests.unit.traces import gzipped, members, trace_of
from tracer.errors import SkbtraceError
from tracer.export.opened import Opened, opened
from tracer.export.trace_index import TraceIndex
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.model import Capture, Journey, Sampling, Summary, TopologyChange
from tracer.promise_file import promises_of

_VALUES: list[object] = [
    None,
    True,
    0,
    -1,
    1.5,
    2**63,
    10**30,
    "",
    "0",
    "-1",
    "0x1",
    "2-1",
    [],
    {},
    "\x1b[31m",
]
_LINES_MOST = 2000
"""Journeys that are looked at one by one: an input is small, what it unpacks to may be not."""


def one(data: bytes) -> None:
    """Give one input to whom it is for."""
    kind, content = data[:1], data[1:]
    give = _KINDS.get(kind[0] % len(_KINDS) if kind else 0, _stream)
    try:
        give(content)
    except SkbtraceError as error:
        # A filter's message shows where in it the mistake is, on lines below.
        said = error.message.replace("\n", "") if give is _promises else error.message
        if not said or not said.isprintable():
            raise AssertionError(error.message) from error


def mutate(data: bytes, most: int, seed: int, mutate_bytes: Callable[[bytes, int], bytes]) -> bytes:
    """Change an input: half of the time a member of one line of JSON, else any bytes."""
    chance = random.Random(seed)
    lines = data[1:].splitlines(keepends=True)
    if not lines or chance.random() < 0.5:
        return mutate_bytes(data, most)
    number = chance.randrange(len(lines))
    if chance.random() < 0.1:
        lines.insert(chance.randrange(len(lines) + 1), lines[number])
    else:
        try:
            line = json.loads(lines[number])
        except (ValueError, RecursionError):
            return mutate_bytes(data, most)
        target = line
        while isinstance(target, dict | list) and target:
            key = chance.choice(list(target) if isinstance(target, dict) else range(len(target)))
            if not isinstance(target[key], dict | list) or chance.random() < 0.3:
                target[key] = chance.choice([*_VALUES, target])
                break
            target = target[key]
        try:
            lines[number] = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        except (ValueError, RecursionError):  # it stands in itself
            return mutate_bytes(data, most)
    return (data[:1] + b"".join(lines))[:most]


def sow(corpus: Path) -> None:
    """Write inputs to begin with."""
    every = list(ALL.values())
    for number, journey in enumerate(every):
        (corpus / f"journey-{number:02d}").write_bytes(b"\x00" + trace_of([journey]))
    journeys = every[:3]
    plain = trace_of(journeys)
    changing = _changing(journeys)
    traces = [plain, changing, plain[:3000] + plain, plain + changing, trace_of(journeys[:1])]
    seeds = [(0, trace) for trace in traces]
    seeds += [(0, gzipped(plain)), (0, members(plain, 700)), (0, gzipped(plain)[:2000])]
    seeds += [(1, trace) for trace in traces] + [(2, trace) for trace in traces]
    seeds += [(2, gzipped(changing)), (2, gzip.compress(plain) * 2)]
    seeds.append((3, _PROMISES))
    for number, (kind, content) in enumerate(seeds):
        (corpus / f"seed-{number:02d}").write_bytes(bytes([kind]) + content)


def _stream(content: bytes) -> None:
    reader = TraceReader(Opened(io.BytesIO(content), "fuzz"), "fuzz")
    journeys: list[Journey] = []
    with contextlib.suppress(SkbtraceError):
        journeys.extend(reader)
    with contextlib.suppress(SkbtraceError):  # by who has read it before
        for _ in TraceReader(Opened(io.BytesIO(content), "fuzz"), "fuzz", reader.changes):
            pass
    _write(reader.capture, journeys, reader)


def _gzipped(content: bytes) -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    _stream(packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH))


def _index(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with opened(file.name) as stream:
            index = TraceIndex(stream, "fuzz")
            wrong = None
            try:
                index.scan()
            except SkbtraceError as error:
                wrong = error
            for number in reversed(range(min(index.seen, _LINES_MOST))):
                with contextlib.suppress(SkbtraceError):
                    journey = index.journey(number)
                    assert journey is not None
                    # Not found is one whose line says its id twice: it was looked at only.
                    assert (index.number_of(journey.id) or number) >= number
            with contextlib.suppress(SkbtraceError):
                index.count()
            if wrong is not None:
                raise wrong


def _promises(content: bytes) -> None:
    # As cli/expect.py, which says what these are.
    with contextlib.suppress(tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        promises_of(tomllib.loads(content.decode()))


def _write(capture: Capture, journeys: list[Journey], reader: TraceReader) -> None:
    """What was read can be written, and is read the same."""
    stream = io.BytesIO()
    writer = TraceWriter(stream, "fuzz")
    writer.begin(capture)
    for change in reader.changes:
        writer.topology(change)
    writer.journeys(journeys)
    writer.end(reader.summary or Summary(journeys=len(journeys)))
    again = TraceReader(io.BytesIO(stream.getvalue()), "fuzz")
    found: list[Journey] = []
    with contextlib.suppress(SkbtraceError):  # names that became known later, of many captures
        found.extend(again)
    assert [journey.id for journey in found] == [journey.id for journey in journeys]


def _changing(journeys: list[Journey]) -> bytes:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "x")
    writer.begin(CAPTURE)
    writer.topology(TopologyChange(7, DOCKER))
    writer.journeys(journeys[:3])
    writer.sampling(Sampling(9, 10, 30))
    writer.end(Summary(journeys=3))
    return stream.getvalue()


_KINDS: dict[int, Callable[[bytes], None]] = {0: _stream, 1: _gzipped, 2: _index, 3: _promises}
_PROMISES = b"""[[promise]]
name = "web asks db"
from = "web"
to = "db"
filter = "tcp dst port 5432"
at_least = 3
at_most = 10
path = ["web/eth0", "*", "host/docker0"]
passes = ["br_forward"]
avoids = ["ip_forward"]
outcome = ["delivered"]
nat = { src = "203.0.113.1" }
within = "500us"
p99 = "1ms"
"""
