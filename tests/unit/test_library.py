# SPDX-License-Identifier: GPL-2.0-only
"""Traces for programs: the library, and pytest's fixture as far as it needs no kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.unit.exported import REAL, real
from tracer.cli import run
from tracer.errors import TraceFileError, UsageError
from tracer.library import journey_members, open_trace, statistics_members

pytest_plugins = ["pytester"]


def test_a_trace_can_be_gone_through_again() -> None:
    trace = open_trace(REAL)
    assert trace.capture.topology is not None
    assert trace.capture.topology.name == "nat"
    known = [trace.summary]
    assert list(trace) == list(trace) == real()
    known.append(trace.summary)
    assert [summary and summary.journeys for summary in known] == [None, 45]
    with_itself = [(a.id, b.id) for a, b in zip(trace, trace, strict=True)]
    assert all(a == b for a, b in with_itself)


def test_journeys_are_chosen() -> None:
    trace = open_trace(str(REAL))
    every = real()
    assert list(trace.journeys("udp")) == [j for j in every if j.flow.proto == "udp"]
    begun = list(trace.journeys(origin="net1"))
    assert 0 < len(begun) < len(every)
    assert set(trace.journeys(target="outside")) | set(trace.journeys(target="net1")) <= set(every)
    assert list(trace.journeys(device="router/uplink")) == [
        j for j in every if any(h.device and h.device.place == "router/uplink" for h in j.hops)
    ]
    assert not list(trace.journeys(netns="nowhere"))
    with pytest.raises(UsageError, match="porto"):
        list(trace.journeys("tcp porto 80"))


def test_statistics_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    trace = open_trace(REAL)
    statistics = trace.statistics("icmp", by="path", origin="net1")
    assert run(["stats", "--json", "--by", "path", "--from", "net1", str(REAL), "icmp"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert json.loads(json.dumps(statistics_members(statistics, trace))) == told
    with pytest.raises(ValueError, match="colour"):
        trace.statistics(by="colour")


def test_a_journey_is_a_dict_as_in_the_file() -> None:
    lines = [json.loads(line) for line in REAL.read_text().splitlines()]
    written = [line for line in lines if line["type"] == "journey"]
    assert [journey_members(journey) for journey in open_trace(REAL)] == written


def test_it_is_held_to_promises(tmp_path: Path) -> None:
    trace = open_trace(REAL)
    pings = Counter(j.outcome for j in trace.journeys("icmp[icmptype] = icmp-echo", origin="net1"))
    assert pings
    promise = {"from": "net1", "filter": "icmp[icmptype] = icmp-echo"}
    (verdict,) = trace.verdicts(promise)
    assert verdict.kept
    (verdict,) = trace.verdicts({**promise, "path": ["net1/veth1", "host/docker0"]})
    assert not verdict.kept
    spec = tmp_path / "spec.toml"
    spec.write_text('[[promise]]\nto = "outside"\nfilter = "udp"\n')
    assert [v.promise.name for v in trace.verdicts(spec)] == ["promise 1"]
    with pytest.raises(UsageError, match="there is no colour"):
        trace.verdicts({"colour": "red"})


def test_what_is_wrong_is_raised_after_what_is_right(tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_bytes(REAL.read_bytes()[:-20_000])
    with pytest.raises(TraceFileError, match="cut off"):
        list(open_trace(cut))
    trace = open_trace(cut)
    journeys = iter(trace)
    assert [next(journeys).id for _ in range(30)] == [j.id for j in real()][:30]
    assert trace.summary is None
    with pytest.raises(TraceFileError, match="cannot open"):
        open_trace(tmp_path / "none.json")


def test_neither_bcc_nor_a_terminal_is_imported() -> None:
    ask = f"""if True:
        import sys
        from tracer.library import open_trace
        trace = open_trace({str(REAL)!r})
        trace.statistics("udp")
        trace.verdicts({{"from": "net1"}})
        print({{"bcc", "pyroute2", "rich", "textual", "click"}} & set(sys.modules))
    """
    said = subprocess.run(
        [sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert said == "set()\n"


# -- pytest's fixture ------------------------------------------------------------------------------

_STUB = """
import pytest, tracer.pytest_plugin as plugin

@pytest.fixture
def finished(tmp_path):
    tracing = plugin.Tracing([], tmp_path)
    tracing.path = {path!r}
    tracing._process = type("Ended", (), {{"poll": lambda self: 0}})()
    return tracing
"""


def test_what_a_test_expects_of_a_trace(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(_STUB.format(path=str(REAL)))
    pytester.makepyfile("""
        def test_kept(finished):
            finished.expect({"from": "net1", "filter": "udp"})
            assert len(list(finished)) == 45
            assert list(finished.journeys("udp"))
            assert finished.capture.topology.name == "nat"

        def test_broken(finished):
            finished.expect({"name": "over docker0", "from": "net1", "passes": ["host/docker0"]})
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*over docker0: broken*", "*expected: passes host/docker0*"])


def test_where_nothing_can_be_traced_the_test_fails_with_the_reason(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("""
        def test_it(skbtrace):
            with skbtrace("docker0", "--layers", "colour"):
                raise RuntimeError("this is not reached")
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*skbtrace could not trace:*", "*there is no layer colour*"])


def test_before_the_end_there_is_no_trace(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest
        from tracer.pytest_plugin import Tracing

        def test_it(tmp_path):
            with pytest.raises(RuntimeError, match="leave the block"):
                Tracing([], tmp_path).trace
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
