# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import ALL, CAPTURE, DROPPED, SUMMARY
from tests.unit.topologies import DOCKER
from tracer.errors import TraceFileError
from tracer.export.opened import Opened, opened
from tracer.export.trace_index import TraceIndex
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.model import Journey, Outcome, TopologyChange

JOURNEYS = list(ALL.values())


def write(path: Path, journeys: list[Journey]) -> Path:
    """A trace whose topology changes after every third journey."""
    with path.open("wb", buffering=0) as stream:
        writer = TraceWriter(stream, "x")
        writer.begin(CAPTURE)
        for number, journey in enumerate(journeys, start=1):
            writer.journeys([journey])
            if not number % 3:
                writer.topology(TopologyChange(0, DOCKER))
        outcomes = {o.value: sum(j.outcome is o for j in journeys) for o in Outcome}
        hops = sum(len(j.hops) for j in journeys)
        writer.end(type(SUMMARY)(journeys=len(journeys), hops=hops, outcomes=outcomes))
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write(tmp_path / "trace.json", JOURNEYS)


OPEN: list[Opened] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def indexed(path: Path) -> TraceIndex:
    OPEN.append(opened(str(path)))
    return TraceIndex(OPEN[-1], path.name)


@settings(max_examples=30, deadline=None)
@given(st.lists(any_journey.journeys(), max_size=8))
def test_it_holds_what_a_reader_reads(
    tmp_path_factory: pytest.TempPathFactory, journeys: list[Journey]
) -> None:
    path = write(tmp_path_factory.mktemp("trace") / "trace.json", journeys)
    index = indexed(path)
    index.scan()
    with path.open("rb") as stream:
        read = list(TraceReader(stream, "x"))
    assert [index.journey(number) for number in range(index.seen)] == read
    assert [index.dropped(n) for n in range(index.seen)] == [
        journey.outcome is Outcome.DROPPED for journey in read
    ]
    assert index.drops == sum(journey.outcome is Outcome.DROPPED for journey in read)
    assert index.summary is not None


def test_journeys_are_found_by_id_and_outside_is_nothing(trace: Path) -> None:
    index = indexed(trace)
    index.scan()
    number = index.number_of(DROPPED.id)
    assert number is not None
    assert index.journey(number) == DROPPED
    assert index.number_of("nobody") is None
    assert index.journey(-1) is None
    assert index.journey(index.seen) is None
    assert (index.first, index.earlier) == (0, ())
    assert index.frozen() is index


def test_what_was_found_can_be_looked_at_before_all_is(trace: Path) -> None:
    index = indexed(trace)
    left = iter([True] * 4)
    index.scan(lambda: next(left, False))
    assert index.seen == 4
    assert index.journey(3) == JOURNEYS[3]
    assert index.summary is None


def test_it_counts_what_the_journeys_have_in_common(trace: Path) -> None:
    index = indexed(trace)
    index.scan()
    index.count()
    with index.tally() as tally:
        assert tally.journeys == len(JOURNEYS)
    again = indexed(trace)
    again.scan()
    left = iter([True] * 5)
    again.count(lambda: next(left, False))
    with again.tally() as tally:
        assert tally.journeys == 5


@pytest.mark.parametrize("cut", [10, 300])
def test_a_trace_that_is_cut_off_can_be_looked_at(trace: Path, cut: int) -> None:
    trace.write_bytes(trace.read_bytes()[:-cut])
    index = indexed(trace)
    with pytest.raises(TraceFileError, match=r"has no footer|is cut off"):
        index.scan()
    assert index.seen >= len(JOURNEYS) - 2
    assert index.journey(0) == JOURNEYS[0]


def test_a_line_that_is_wrong_is_named_when_it_is_looked_at(trace: Path) -> None:
    lines = trace.read_text().splitlines()
    members = json.loads(lines[6])  # behind the first change of the topology
    assert members["type"] == "journey"
    members["start_ns"] = 5
    lines[6] = json.dumps(members, separators=(",", ":"))
    trace.write_text("\n".join(lines) + "\n")
    index = indexed(trace)
    index.scan()
    wrong = next(n for n in range(index.seen) if JOURNEYS[n].id == members["id"])
    with pytest.raises(TraceFileError, match=r"trace\.json: line 7 has no"):
        index.journey(wrong)
    assert index.journey(wrong + 1) == JOURNEYS[wrong + 1]


def test_a_trace_that_somebody_wrote_otherwise_is_read_as_well(trace: Path) -> None:
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    trace.write_text("".join(json.dumps(dict(reversed(line.items()))) + "\n" for line in lines))
    index = indexed(trace)
    index.scan()
    assert [index.journey(number) for number in range(index.seen)] == JOURNEYS
    assert index.drops == sum(journey.outcome is Outcome.DROPPED for journey in JOURNEYS)
