# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.terminal import Terminal
from tests.unit.journeys import ALL, CAPTURE
from tests.unit.screens import journeys
from tracer.cli import run
from tracer.cli import stats as module
from tracer.export.trace_writer import TraceWriter
from tracer.model import Backlog, Counted, Outcome, Segment, Stepped, Summary
from tracer.statistics import By


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    found = journeys(4)
    with path.open("wb", buffering=0) as stream:
        writer = TraceWriter(stream, "x")
        writer.begin(CAPTURE)
        writer.journeys(found)
        outcomes = {o.value: sum(j.outcome is o for j in found) for o in Outcome}
        writer.end(Summary(journeys=len(found), outcomes=outcomes, lost={"ring_full": 2}))
    return path


def test_the_report_goes_to_standard_output_and_what_was_lost_beside_it(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["stats", str(trace)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{4 * len(ALL)} journeys in")
    assert "time by kind of step" in out
    assert "journeys by flow" in out
    assert "NETFILTER_DROP in nf_hook_slow at host/docker0" in out
    assert "try: sudo nft -a list ruleset" in out
    assert "! ring_full 2" in err


@pytest.mark.parametrize("by", list(By))
def test_as_json_it_is_one_object_that_agrees_with_the_lines(
    trace: Path, by: By, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["stats", "--json", "--by", by.value, str(trace)]) == 0
    told = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    plain = [line for line in lines if line["type"] == "journey"]
    assert told["journeys"] == len(plain)
    assert told["outcomes"] == dict(Counter(line["outcome"] for line in plain))
    assert told["took"]["total_ns"] == sum(line["duration_ns"] for line in plain)
    assert told["hops"] == sum(len(line["hops"]) for line in plain)
    assert told["capture"]["lost"] == {"ring_full": 2}
    assert told["by"] == by.value
    assert sum(group["journeys"] for group in told["groups"]) == len(plain)


def test_what_the_kernel_has_counted_is_told_where_journeys_are_lacking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (
        Stepped("veth_xmit", "arp_rcv", Segment.WORK, 9_000_000, 5_000_000, ((4_000_000, 2),)),
        Stepped(None, None, None, 100, 60, ((40, 1), (60, 1))),
    )
    path = tmp_path / "trace.json"
    title = "steps of every packet that was followed, counted in the kernel"
    for lost, untriggered in ((0, 0), (3, 0), (0, 4)):
        with path.open("wb", buffering=0) as stream:
            writer = TraceWriter(stream, "x")
            writer.begin(CAPTURE)
            counted = Counted(steps=steps, backlog=Backlog(70, 64, ((0, 3), (2, 3), (64, 1))))
            writer.end(Summary(0, 0, {"ring_full": lost}, counted=counted, untriggered=untriggered))
        assert run(["stats", "--json", str(path)]) == 0
        every = json.loads(capsys.readouterr().out)
        lengths = {"p50": 2, "p90": 64, "p99": 64, "p999": 64}
        assert every["backlog"] == {"served": 7, "total": 70, **lengths, "max": 64}
        told = every["counted_steps"]
        assert [each["function"] for each in told] == ["veth_xmit", None]
        assert (told[0]["count"], told[0]["total_ns"], told[0]["max_ns"]) == (2, 9000000, 5000000)
        assert told[0]["p50_ns"] == pytest.approx(4_000_000, rel=1 / 32)
        assert run(["stats", str(path)]) == 0
        out = capsys.readouterr().out
        assert "input queues served 7 times; packets that waited: p50 2, p99 64, at most 64" in out
        assert (title in out) == ("veth_xmit" in out) == bool(lost or untriggered)


def test_journeys_can_be_chosen(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stats", "--json", "--device", "host/docker0", str(trace)]) == 0
    at_docker0 = json.loads(capsys.readouterr().out)
    assert 0 < at_docker0["journeys"] < 4 * len(ALL)
    assert run(["stats", "--netns", "nowhere", str(trace)]) == 1
    assert "no namespace of this trace is called nowhere" in capsys.readouterr().err


def test_of_a_trace_that_is_cut_off_it_tells_what_there_is(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.json"
    cut.write_bytes(trace.read_bytes()[:-3000])
    assert run(["stats", "--json", str(cut)]) == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert 0 < told["journeys"] < 4 * len(ALL)
    assert told["capture"]["whole"] is False
    assert "is cut off" in err


def test_the_choices_of_by_are_those_there_are() -> None:
    assert [by.value for by in By] == list(module._BY)


def test_what_is_no_trace_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.write_text("no trace")
    assert run(["stats", str(other)]) == 1
    assert "is not a skbtrace trace" in capsys.readouterr().err


def test_what_takes_long_says_how_far_it_is(trace: Path) -> None:
    program = (
        "from tracer.cli import main, reading\n"
        "reading._PATIENCE_S = reading._NEWS_S = 0.0\n"
        f"main(['stats', {str(trace)!r}])\n"
    )
    with Terminal([sys.executable, "-c", program], height=100) as terminal:
        assert terminal.ends() == 0
        assert b"\rread " in terminal.written
        assert not any(line.startswith("read ") for line in terminal.lines)
