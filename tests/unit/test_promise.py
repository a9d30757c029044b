# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.golden import assert_golden
from tests.unit.journeys import (
    ALL,
    C1_IP,
    C2_IP,
    CAPTURE,
    DROPPED,
    ETH0_C1,
    ETH0_C2,
    NAT,
    REPLY,
    REQUEST,
    TCP,
    UDP,
)
from tests.unit.screens import look
from tracer.cli import run
from tracer.errors import UsageError
from tracer.export.junit import junit
from tracer.export.trace_writer import TraceWriter
from tracer.learn import learned
from tracer.model import Frame, Journey, Outcome, Summary, Topology, TopologyChange
from tracer.promise import Judge, Verdict
from tracer.promise_file import promises_of
from tracer.view.line import text_of, width_of
from tracer.view.promise import github, in_words, report

TOPOLOGY = Topology("docker0", addresses=((ETH0_C1, f"{C1_IP}/16"), (ETH0_C2, f"{C2_IP}/16")))


def judged(spec: str, *journeys: Journey) -> list[Verdict]:
    judge = Judge(promises_of(tomllib.loads(spec)), TOPOLOGY)
    judge.add_all(journeys)
    return judge.verdicts()


def only(spec: str, *journeys: Journey) -> list[str]:
    """What breaks the only promise, as ``expected | seen | at``."""
    (verdict,) = judged("[[promise]]\n" + spec, *journeys)
    return [f"{b.expected} | {b.seen} | {b.at}" for b in verdict.breaches]


def test_a_promise_is_kept_by_what_is_as_promised() -> None:
    spec = """
        from = "c1"
        to = "c2"
        path = ["c1/eth0", "host/vethc1", "host/vethc2", "c2/eth0"]
        passes = ["br_forward", "host/vethc2"]
        avoids = ["ip_forward", "host/docker0"]
        outcome = "consumed"
        within = "1ms"
        p99 = "38.5us"
        at_least = 2
        at_most = 2
    """
    assert only(spec, REQUEST, REQUEST, REPLY) == []


@pytest.mark.parametrize(
    ("spec", "journeys", "breaches"),
    [
        ("from = 'c2'", [REQUEST], ["at least 1 journey | 0 journeys | None"]),
        ("at_least = 3", [REQUEST, REPLY], ["at least 3 journeys | 2 journeys | None"]),
        ("at_most = 1\nat_least=0", [REQUEST, REPLY], ["at most 1 journey | 2 journeys | None"]),
        (
            "path = ['c1/eth0', 'host/*', 'c2/eth0']",
            [REQUEST],
            [
                "path c1/eth0 > host/* > c2/eth0 | "
                "path c1/eth0 > host/vethc1 > host/vethc2 > c2/eth0 | veth_xmit at host/vethc2"
            ],
        ),
        ("path = ['c1/eth0', '*', 'c2/eth0']", [REQUEST], []),
        ("path = ['*']", [REQUEST], []),
        ("path = ['*', 'host/docker0', '*']", [DROPPED._replace(outcome=Outcome.CONSUMED)], []),
        (
            "path = ['c1/eth0', '*', 'c2/eth0']\noutcome = 'dropped'",
            [DROPPED],
            [
                "path c1/eth0 > * > c2/eth0 | path c1/eth0 > host/vethc1 > host/docker0 | "
                "__netif_receive_skb_core at host/docker0"
            ],
        ),
        ("passes = 'ip_forward'", [REQUEST], ["passes ip_forward | it does not | None"]),
        (
            "avoids = ['br_forward']",
            [REQUEST],
            ["avoids br_forward | it passes it | br_forward at host/vethc1"],
        ),
        (
            "from = 'c1'",
            [DROPPED],
            [
                "absorbed or consumed or delivered or transmitted | "
                "dropped: NETFILTER_DROP in nf_hook_slow | skb_release_head_state at host/docker0"
            ],
        ),
        (
            "within = '20us'",
            [REQUEST],
            ["within 20.0 us | it takes longer | icmp_rcv at c2/eth0"],
        ),
        ("p99 = '20us'", [REQUEST], ["99 % within 20.0 us | 99 % within 38.4 us | None"]),
        ("nat = { src = '198.51.100.1' }", [NAT], []),
        (
            "nat = { src = '1.2.3.4' }",
            [NAT],
            ["src becomes 1.2.3.4 | src becomes 198.51.100.1 | None"],
        ),
        (
            "nat = { dst = '9.9.9.9' }",
            [REQUEST],
            ["dst becomes 9.9.9.9 | it is not rewritten | None"],
        ),
    ],
)
def test_what_breaks_a_promise_is_told(
    spec: str, journeys: list[Journey], breaches: list[str]
) -> None:
    assert only(spec, *journeys) == breaches


def test_alike_breaches_are_counted_and_the_first_is_named() -> None:
    again = DROPPED._replace(id="900")
    (verdict,) = judged("[[promise]]\nfrom = 'c1'", DROPPED, again, REQUEST)
    (breach,) = verdict.breaches
    assert (verdict.journeys, breach.journeys, breach.journey) == (3, 2, DROPPED.id)


def test_a_branch_is_not_judged() -> None:
    branch = DROPPED._replace(parent=REQUEST.id)
    (verdict,) = judged("[[promise]]\nfrom = 'c1'", REQUEST, branch)
    assert verdict.kept
    assert verdict.journeys == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "there is no promise in it"),
        ("promise = 3", "there is no promise in it"),
        ("promise = [3]", "promise 1 is no table"),
        ("[[promise]]\n[extra]", "there is no extra in a file of promises"),
        ("[[promise]]\nfrm = 'c1'", "promise 1: there is no frm (there are: name, from"),
        ("[[promise]]\nname = 'x'\nfrom = 3", "x: from is a text"),
        ("[[promise]]\npath = 3", "path is a list of texts"),
        ("[[promise]]\npasses = ['br_forwrd']", "br_forwrd is neither a function"),
        ("[[promise]]\noutcome = ['lost']", "there is no outcome lost"),
        ("[[promise]]\nat_least = true", "at_least is a whole number"),
        ("[[promise]]\nat_most = -1", "at_most is a whole number"),
        ("[[promise]]\nwithin = '5'", 'within is a time: within = "500us"'),
        ("[[promise]]\nnat = { ttl = 3 }", "nat is a table of src, dst, sport, dport"),
        ("[[promise]]\nfilter = 'tcp prot 80'", "the filter cannot be understood"),
    ],
)
def test_what_cannot_be_meant_is_refused(spec: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        promises_of(tomllib.loads(spec))
    assert said in caught.value.message


def framed(journey: Journey) -> Journey:
    """With headers, as a trace has them: only these a filter can look at."""
    return journey._replace(frame=journey.frame or Frame(bytes(64), 64))


@settings(max_examples=60, deadline=None)
@given(st.lists(any_journey.journeys(), max_size=8))
def test_what_was_learned_from_a_trace_it_can_be_read(journeys: list[Journey]) -> None:
    text = learned(map(framed, journeys))
    members = tomllib.loads(text)
    if members:
        assert len(promises_of(members)) == text.count("[[promise]]")


def spec_of(folder: Path, text: str) -> str:
    path = folder / "spec.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.json"
    journeys = list(ALL.values())
    with path.open("wb", buffering=0) as stream:
        writer = TraceWriter(stream, "x")
        writer.begin(CAPTURE)
        writer.journeys(journeys)
        outcomes = {o.value: sum(j.outcome is o for j in journeys) for o in Outcome}
        writer.end(Summary(journeys=len(journeys), outcomes=outcomes, lost={"ring_full": 1}))
    return str(path)


def test_the_exit_code_tells_and_reports_are_written(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = spec_of(
        tmp_path,
        "[[promise]]\nname = 'c1 to c2'\nfrom = 'c1'\npasses=['veth_xmit']\n"
        "outcome=['consumed','delivered','dropped','transmitted','unfinished','damaged']",
    )
    assert run(["expect", trace, kept]) == 0
    out, err = capsys.readouterr()
    assert "all 1 promises kept" in out
    assert "has lost 1" in err
    broken = spec_of(tmp_path, "[[promise]]\nname = 'all: good, 100%'\nfrom = 'c1'\n")
    report_file = tmp_path / "report.xml"
    assert run(["expect", trace, broken, "--junit", str(report_file), "--github"]) == 4
    out = capsys.readouterr().out
    assert "1 of 1 promises broken" in out
    assert "::error title=all%3A good%2C 100%25::expected: absorbed or consumed" in out
    suite = ET.parse(report_file).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert run(["expect", trace, broken, "--junit", str(report_file)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_trace_that_is_cut_off_is_judged_as_far_as_it_goes_and_proves_nothing(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Path(trace).read_bytes()
    Path(trace).write_bytes(content[: content.rindex(b'{"type":"footer"')])
    every = "outcome=['consumed','delivered','dropped','transmitted','unfinished','damaged']"
    for words in (every, ""):
        spec = spec_of(tmp_path, f"[[promise]]\nname = 'all'\nfrom = 'c1'\n{words}")
        report_file = tmp_path / "report.xml"
        assert run(["expect", trace, spec, "-f", "--junit", str(report_file)]) == 1
        out, err = capsys.readouterr()
        assert ("promises kept" in out) == (words == every)
        assert "has no footer" in err
        suite = ET.parse(report_file).getroot().find("testsuite")
        assert suite is not None
        assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
        assert "has no footer" in report_file.read_text()
    learned = tmp_path / "learned.toml"
    assert run(["expect", "--learn", trace, str(learned)]) == 1
    assert not learned.exists()


def test_learning_writes_a_file_that_is_not_overwritten(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "learned.toml"
    assert run(["expect", "--learn", trace, str(spec)]) == 0
    assert "written: look at it" in capsys.readouterr().err
    assert run(["expect", "--learn", trace, str(spec)]) == 1
    assert run(["expect", "--learn", "-f", trace, str(spec)]) == 0


def test_what_is_no_file_of_promises_is_said(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["expect", trace, str(tmp_path / "none.toml")]) == 1
    assert "expect --learn TRACE SPEC" in capsys.readouterr().err
    assert run(["expect", trace, spec_of(tmp_path, "[[promise")]) == 2
    assert "is not TOML" in capsys.readouterr().err
    assert run(["expect", trace, spec_of(tmp_path, "a = " + "[" * 100_000)]) == 2
    assert "is not TOML" in capsys.readouterr().err
    assert run(["expect", trace, spec_of(tmp_path, "[[promise]]\nat_least = 'x'")]) == 2
    assert "spec.toml: promise 1: at_least is a whole number" in capsys.readouterr().err


def test_the_report_looks_as_accepted() -> None:
    spec = """
        [[promise]]
        name = "c1 reaches c2"
        from = "c1"
        to = "c2"
        outcome = ["consumed", "delivered"]
        [[promise]]
        name = "nothing of c1 is lost, and all of it is fast"
        from = "c1"
        within = "30us"
        path = ["c1/eth0", "host/vethc1", "*", "c2/eth0"]
    """
    verdicts = judged(spec, REQUEST, TCP, UDP, DROPPED)
    for width in (40, 80):
        lines = list(report(verdicts, width, look()))
        assert all(width_of(line) <= width for line in lines)
    assert_golden("promises-80.txt", "\n".join(text_of(line) for line in lines) + "\n")


def test_hostile_names_are_inert() -> None:
    name = 'x\\u001b[31m</failure>\\"&%0A::error::'
    (verdict,) = judged(f'[[promise]]\nname = "{name}"\nfrom = "nobody"')
    assert "\x1b" not in verdict.promise.name
    assert '</failure>"&%0A::error::' in verdict.promise.name
    case = ET.fromstring(junit([verdict], "t", in_words)).find("testsuite/testcase")
    assert case is not None
    assert case.get("name") == verdict.promise.name
    (line,) = github([verdict])
    command, title, said = line.split("::", 2)[0], *line.split("::", 2)[1:]
    assert (command, title.split(" title=")[0]) == ("", "error")
    assert "%250A%3A%3Aerror%3A%3A" in title
    assert "\n" not in said


def test_whose_an_address_is_may_become_known_while_journeys_come() -> None:
    lost = REQUEST._replace(outcome=Outcome.DROPPED, hops=REQUEST.hops[:3])  # on its way to c2
    promises = promises_of({"promise": [{"to": "c2", "at_least": 0, "at_most": 0}]})
    unknown = Judge(promises, None)
    unknown.add_all([lost])
    assert unknown.verdicts()[0].kept
    known = Judge(promises, None)
    known.add_all([lost], [TopologyChange(0, TOPOLOGY)])
    assert not known.verdicts()[0].kept
