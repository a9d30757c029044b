# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import math
import random
from itertools import combinations
from pathlib import Path

import pytest

from tests.unit.golden import assert_golden
from tests.unit.journeys import CAPTURE, DROPPED, NFT_DROPPED, REPLY, REQUEST, TCP
from tests.unit.screens import look
from tracer.cli import run
from tracer.difference import ALPHA, Side, differences, mann_whitney
from tracer.export.trace_writer import TraceWriter
from tracer.histogram import Histogram
from tracer.model import Hop, Journey, Outcome, Summary
from tracer.view.difference import report
from tracer.view.line import text_of, width_of

SAMPLES = 400


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


def jittered(
    journey: Journey, chance: random.Random, slow: str | None = None, times: float = 1.0
) -> Journey:
    """The same journey with every step's time drawn anew; one step takes longer."""
    at, hops = 0, list[Hop]()
    for number, hop in enumerate(journey.hops):
        hops.append(hop._replace(dt_ns=at))
        if number + 1 < len(journey.hops):
            took = journey.hops[number + 1].dt_ns - hop.dt_ns
            took = int((took + 200) * chance.lognormvariate(0, 0.3))
            at += int(took * times) if hop.function == slow else took
    return journey._replace(hops=tuple(hops))


def steady(seed: int, count: int = SAMPLES, slow: str | None = None) -> list[Journey]:
    chance = random.Random(seed)
    times = 1.2 if slow else 1.0
    kinds = [REQUEST, REPLY, TCP]
    return [jittered(chance.choice(kinds), chance, slow, times) for _ in range(count)]


def side(journeys: list[Journey]) -> Side:
    made = Side()
    made.add_all(journeys)
    return made


def test_the_test_is_that_of_mann_and_whitney_counted_by_hand() -> None:
    a, b = [3, 5, 5, 9, 12], [5, 7, 9, 13, 20, 21]
    pairs = [(y > x) + (y == x) / 2 for x in a for y in b]
    probability, p_value = mann_whitney(histogram(a), histogram(b))
    assert probability == pytest.approx(sum(pairs) / 30)
    # Every way to deal the same values out to both: how often chance goes as far.
    every, far = 0, 0
    values = a + b
    for chosen in combinations(range(11), 5):
        x = [values[n] for n in chosen]
        y = [values[n] for n in range(11) if n not in chosen]
        u = sum((j > i) + (j == i) / 2 for i in x for j in y)
        every += 1
        far += abs(u - 15) >= abs(sum(pairs) - 15) - 1e-9
    assert p_value == pytest.approx(far / every, abs=0.025)  # the normal approximation


def test_alike_is_not_different() -> None:
    assert mann_whitney(histogram([7] * 50), histogram([7] * 30)) == (0.5, 1.0)


def test_two_halves_of_one_steady_run_are_not_different() -> None:
    """At the stated rate: of 200 comparisons two may be wrong, and by chance a few more."""
    alarms = 0
    for seed in range(200):
        journeys = steady(seed, 160)
        alarms += bool(differences(side(journeys[::2]), side(journeys[1::2])))
    allowed = 200 * ALPHA + 3 * math.sqrt(200 * ALPHA)
    assert alarms <= allowed


@pytest.mark.parametrize("seed", range(5))
def test_a_step_that_takes_a_fifth_longer_is_found_and_no_other(seed: int) -> None:
    found = differences(side(steady(seed)), side(steady(seed + 100, slow="br_handle_frame")))
    assert {step.placed.step.function for step in found.steps} == {"br_handle_frame"}
    assert all(step.slower and step.p_value <= ALPHA for step in found.steps)
    assert not found.paths
    assert not found.drops
    back = differences(side(steady(seed + 100, slow="br_handle_frame")), side(steady(seed)))
    assert not any(step.slower for step in back.steps)


def test_paths_and_drops_that_one_side_has() -> None:
    found = differences(side([REQUEST, DROPPED]), side([REQUEST, NFT_DROPPED, NFT_DROPPED]))
    assert {(place.function, here, there) for place, here, there in found.drops} == {
        ("nf_hook_slow", 1, 0),
        ("nft_do_chain", 0, 2),
    }
    assert differences(side([REQUEST, DROPPED]), side([DROPPED, REQUEST, REQUEST])).paths == ()
    gone = differences(side([REQUEST, REPLY]), side([REQUEST]))
    assert [(len(path), here, there) for path, here, there in gone.paths] == [(4, 1, 0)]


def test_the_first_hop_at_which_a_flow_goes_another_way() -> None:
    blocked = REQUEST._replace(hops=REQUEST.hops[:6])
    (parting,) = differences(side([REQUEST] * 3), side([blocked] * 3)).partings
    assert parting.after == (REQUEST.hops[5].function, "host/vethc1")
    assert parting.goes_on == ((REQUEST.hops[6].function, "host/vethc1"), None)
    assert parting.flow.src == REQUEST.flow.src
    # Both know both ways: they only took turns.
    mixed = side([REQUEST, REQUEST, blocked]), side([REQUEST, blocked, blocked])
    assert differences(*mixed).partings == ()


def test_a_client_s_port_does_not_make_another_flow() -> None:
    other = TCP._replace(flow=TCP.flow._replace(sport=50_000), hops=TCP.hops[:5])
    (parting,) = differences(side([TCP]), side([other])).partings
    assert (parting.flow.sport, parting.flow.dport) == (None, TCP.flow.dport)


def test_nothing_compared_is_nothing_different() -> None:
    found = differences(Side(), Side())
    assert not found
    lines = [text_of(line) for line in report(found, 80, look(), most=5)]
    assert lines[-1] == "no difference found"


def test_the_report_looks_as_accepted() -> None:
    one = [*steady(1), DROPPED]
    cut_short = [TCP._replace(hops=TCP.hops[:5])] * 500
    other = [*steady(2, slow="br_handle_frame"), NFT_DROPPED, *cut_short]
    found = differences(side(one), side(other))
    for width in (60, 80, 132):
        lines = list(report(found, width, look(), most=5))
        assert all(width_of(line) <= width for line in lines)
    text = "\n".join(text_of(line) for line in lines) + "\n"
    assert_golden("difference-132.txt", text)


def write(path: Path, journeys: list[Journey]) -> str:
    with path.open("wb", buffering=0) as stream:
        writer = TraceWriter(stream, "x")
        writer.begin(CAPTURE)
        writer.journeys(journeys)
        outcomes = {o.value: sum(j.outcome is o for j in journeys) for o in Outcome}
        writer.end(Summary(journeys=len(journeys), outcomes=outcomes))
    return str(path)


def test_the_exit_code_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.json", steady(1, 100))
    b = write(tmp_path / "b.json", [*steady(1, 100), DROPPED])
    assert run(["diff", a, a]) == 0
    assert "no difference found" in capsys.readouterr().out
    assert run(["diff", a, b]) == 4
    assert "only in B, 1 journey: NETFILTER_DROP in nf_hook_slow" in capsys.readouterr().out
    assert run(["diff", a, b, "icmp"]) == 0  # the drop is TCP's
    capsys.readouterr()
    assert run(["diff", "--json", a, b]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["different"] is True
    assert told["drops"][0]["journeys"] == [0, 1]
    assert run(["diff", a, str(tmp_path / "none.json")]) == 1


def test_traces_that_are_cut_off_are_compared_as_far_as_they_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.json", steady(1, 100))
    b = write(tmp_path / "b.json", [*steady(1, 100), DROPPED])
    Path(b).write_bytes(Path(b).read_bytes()[:-50])
    assert run(["diff", a, b]) == 1
    out, err = capsys.readouterr()
    assert "only in B, 1 journey: NETFILTER_DROP in nf_hook_slow" in out
    assert "b.json: line 103 is cut off" in err
    Path(a).write_bytes(Path(a).read_bytes()[:-50])
    assert run(["diff", "--json", a, b]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["different"] is True
    assert "a.json: line 102 is cut off" in err
    assert "b.json: line 103 is cut off" in err
