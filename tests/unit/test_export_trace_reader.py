# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import ALL, CAPTURE, REQUEST, SUMMARY
from tracer.errors import TraceFileError
from tracer.export import trace_reader
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.model import Capture, Journey, Sampling, State, Summary, Verdict


def trace(capture: Capture, journeys: list[Journey], summary: Summary | None) -> bytes:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "trace")
    writer.begin(capture)
    writer.journeys(journeys)
    if summary is not None:
        writer.end(summary)
    return stream.getvalue()


WHOLE = trace(CAPTURE, list(ALL.values()), SUMMARY)
LINES = WHOLE.splitlines(keepends=True)


def read(content: bytes) -> tuple[list[Journey], str]:
    """The journeys, and what was wrong in the end."""
    journeys: list[Journey] = []
    try:
        for journey in TraceReader(io.BytesIO(content), "t.json"):
            journeys.append(journey)
    except TraceFileError as error:
        return journeys, error.message
    return journeys, ""


def test_what_was_written_is_read_back() -> None:
    reader = TraceReader(io.BytesIO(WHOLE), "t.json")
    assert reader.capture == CAPTURE
    assert list(reader) == list(ALL.values())
    assert reader.summary == SUMMARY


@settings(deadline=None, max_examples=60)
@given(any_journey.captures(), st.lists(any_journey.journeys(), max_size=3), st.data())
def test_any_capture_survives_the_file(
    capture: Capture, journeys: list[Journey], data: st.DataObject
) -> None:
    summary = data.draw(any_journey.summaries(len(journeys)))
    reader = TraceReader(io.BytesIO(trace(capture, journeys, summary)), "t.json")
    assert reader.capture == capture
    assert list(reader) == journeys
    assert reader.summary == summary


def test_a_footer_of_a_tracer_that_could_not_select_is_read() -> None:
    assert b',"unselected":0' in WHOLE
    reader = TraceReader(io.BytesIO(WHOLE.replace(b',"unselected":0', b"")), "t.json")
    assert len(list(reader)) == len(ALL)
    assert reader.summary == SUMMARY


def test_a_footer_of_a_tracer_that_followed_all_is_read() -> None:
    assert b'"sampled":[1,1],' in WHOLE
    reader = TraceReader(io.BytesIO(WHOLE.replace(b',"sampled":[1,1]', b"")), "t.json")
    assert len(list(reader)) == len(ALL)
    assert reader.summary == SUMMARY
    for wrong in (b"[2,1]", b"[1]", b"[0,1]", b"[1,1,1]", b"3"):
        _, said = read(WHOLE.replace(b'"sampled":[1,1]', b'"sampled":' + wrong))
        assert "sampled" in said


@settings(deadline=None)
@given(st.lists(any_journey.samplings, max_size=3))
def test_how_much_was_followed_is_read_back(samplings: list[Sampling]) -> None:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "trace")
    writer.begin(CAPTURE)
    for sampling in samplings:
        writer.sampling(sampling)
    writer.end(Summary())
    reader = TraceReader(io.BytesIO(stream.getvalue()), "t.json")
    assert list(reader) == []
    assert reader.samplings == samplings


def test_equal_devices_are_one_object() -> None:
    hops = next(iter(TraceReader(io.BytesIO(WHOLE), "t.json"))).hops
    assert hops[0].device is hops[1].device


@settings(deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
@example(len(LINES[0]))
@example(len(LINES[0]) + len(LINES[1]))
def test_a_trace_cut_off_anywhere_gives_its_whole_journeys_and_one_sentence(size: int) -> None:
    journeys, wrong = read(WHOLE[:size])
    parses = WHOLE[:size].count(b"\n") - 1
    assert journeys[:parses] == list(ALL.values())[: max(0, parses)]
    assert len(journeys) - parses in {0, 1, 2} if parses >= 0 else not journeys
    if size < len(WHOLE) - 1:  # only the last line break missing is no harm
        assert wrong
        assert "\n" not in wrong


def test_a_missing_footer_is_told_after_the_last_journey() -> None:
    journeys, wrong = read(b"".join(LINES[:-1]))
    assert len(journeys) == len(ALL)
    assert wrong == (
        "t.json has no footer: the tracer was stopped before it could finish; "
        f"its journeys ({len(ALL)}) are whole"
    )


def test_a_last_line_that_is_cut_off_is_told_by_its_number() -> None:
    journeys, wrong = read(b"".join(LINES[:3]) + LINES[3][:-20])
    assert len(journeys) == 2
    assert wrong == (
        "t.json: line 4 is cut off: the tracer was stopped while it wrote it; "
        "the journeys before it (2) are whole"
    )


def test_a_later_version_is_refused_with_both_numbers() -> None:
    header = json.dumps({"type": "header", "format": "skbtrace", "version": 7, "new": {}})
    with pytest.raises(TraceFileError) as caught:
        TraceReader(io.BytesIO(header.encode()), "t.json")
    assert caught.value.message == "t.json is version 7; this skbtrace reads traces up to 1"
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "t.json is empty, not a trace"),
        (b"hello\n", "is not a skbtrace trace"),
        (b'{"type":"journey"}\n', "is not a skbtrace trace"),
        (b'{"type":"header","format":"pcap"}\n', "is not a skbtrace trace"),
        (b"[]\n", "line 1 is not a JSON object"),
        (b'{"type":"header","format":"skbtrace","version":"1"}\n', "no whole number in 'version'"),
        (b'{"type":"header","format":"skbtrace","version":true}\n', "no whole number"),
        (b'{"type":"header","format":"skbtrace","version":0}\n', "no whole number in 'version'"),
        (b'{"type":"header","format":"skbtrace","version":1}\n', "line 1 has no object in 'clock'"),
        (LINES[0] + b"\n", "line 2 is not JSON"),
        (
            LINES[0] + b'{"type":"weather"}\n',
            "line 2 is no journey, no topology, no sampling and no footer",
        ),
        (LINES[0] + LINES[0], "t.json holds 2 traces, of which some have no footer (1, 2)"),
        (LINES[0] + b"[" * 100_000 + b"\n", "line 2 is not JSON"),
        (LINES[0] + b'{"type":' + b"9" * 10_000 + b"}\n", "line 2 is not JSON"),
        (LINES[0] + b'{"type":"journey","id":NaN}\n', "line 2 is not JSON"),
        (WHOLE + LINES[1], f"line {len(LINES) + 1} comes after the footer"),
        (LINES[0] + LINES[1] + LINES[-1], "lines were added or removed"),
    ],
)
def test_one_clear_sentence_for_each_kind_of_wrong(content: bytes, sentence: str) -> None:
    _, wrong = read(content)
    assert sentence in wrong


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("id",), 7, "has no text in 'id'"),
        (("skb",), "1234", "has no hexadecimal text in 'skb'"),
        (("skb",), "0x", "has no hexadecimal text in 'skb'"),
        (("start_ns",), 12, "has no number as text in 'start_ns'"),
        (("start_ns",), "-1", "has no number as text in 'start_ns'"),
        (("start_ns",), "１", "has no number as text in 'start_ns'"),
        (("duration_ns",), 1, "has a duration_ns that is not its last hop's dt_ns"),
        (("outcome",), "happy", "has an outcome this version does not know"),
        (("hops",), {}, "has no list in 'hops'"),
        (("hops",), [1], "has something else than objects in 'hops'"),
        (("hops", 0, "dt_ns"), 1.5, "has no whole number in 'dt_ns'"),
        (("hops", 0, "dt_ns"), -1, "has no whole number in 'dt_ns'"),
        (("hops", 0, "len"), 2**63, "has no whole number in 'len'"),
        (("hops", 0, "cpu"), True, "has no whole number in 'cpu'"),
        (("hops", 0, "netns"), None, "has no text in 'netns'"),
        (("hops", 0, "segment"), "sleep", "has a segment this version does not know"),
        (("hops", 3, "already_running"), 1, "has neither true nor false in 'already_running'"),
        (("flow",), None, "has no object in 'flow'"),
        (("flow", "proto"), None, "has no text in 'proto'"),
        (("flow", "icmp_id"), "7", "has no whole number in 'icmp_id'"),
        (("branches",), [{"id": "9", "hop": -1}], "has no whole number in 'hop'"),
        (("references",), [{"kind": "answers", "id": "3"}], "has no whole number in 'after_ns'"),
        (("state",), {"ct": 1}, "has no text in 'ct'"),
        (("state",), {"sk": 1}, "has neither true nor false in 'sk'"),
        (("hops", 0, "verdict"), {"hook": "FORWARD"}, "has no text in 'family'"),
        (("hops", 0, "socket"), {}, "has no whole number in 'netns_inum'"),
        (("hops", 0, "task"), {"pid": "1", "comm": "x"}, "has no whole number in 'pid'"),
        (("hops", 0, "changes"), [{"field": "ttl", "old": []}], "has no plain value in 'old'"),
    ],
)
def test_a_journey_with_a_wrong_member_is_refused_by_line_and_member(
    path: tuple[Any, ...], value: object, sentence: str
) -> None:
    line = json.loads(LINES[1])
    target = line
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    journeys, wrong = read(LINES[0] + json.dumps(line).encode() + b"\n")
    assert wrong == f"t.json: line 2 {sentence}"
    assert journeys == []


def test_equal_verdicts_are_one_object() -> None:
    verdict = Verdict("ipv4", "FORWARD", "accept", "filter", "FORWARD")
    hops = [h._replace(verdict=Verdict(*verdict)) for h in REQUEST.hops[:2]]
    content = trace(CAPTURE, [REQUEST._replace(hops=tuple(hops))], None)
    first, second = next(iter(TraceReader(io.BytesIO(content), "t.json"))).hops
    assert first.verdict == verdict
    assert first.verdict is second.verdict


def test_a_state_that_is_as_usual_is_not_one_that_nobody_looked_at() -> None:
    journeys = [REQUEST._replace(state=state) for state in (State(), None)]
    content = trace(CAPTURE, journeys, None)
    assert json.loads(content.splitlines()[1])["state"] == {}
    assert "state" not in json.loads(content.splitlines()[2])
    assert [journey.state for journey in read(content)[0]] == [State(), None]


def test_members_of_a_later_writer_are_passed_over() -> None:
    line = json.loads(LINES[1])
    line["colour"] = "red"
    line["hops"][0]["gro"] = {"merged": 3}
    journeys, _ = read(LINES[0] + json.dumps(line).encode() + b"\n")
    assert journeys == [REQUEST]


def test_names_that_would_control_a_terminal_are_escaped() -> None:
    line = json.loads(LINES[1])
    line["hops"][0]["ifname"] = "v\x1b[31mx"
    line["flow"]["src"] = "\u202e1.2.3.4"
    line["damage"] = "two\nlines"
    line["hops"][0]["task"] = {"pid": 7, "comm": "x\x1b]0;y\x07"}
    line["hops"][0]["verdict"] = {"family": "ipv4", "hook": "FORWARD", "chain": "a\u202eb"}
    [journey], _ = read(LINES[0] + json.dumps(line).encode() + b"\n")
    assert journey.hops[0].device is not None
    assert journey.hops[0].device.ifname == r"v\x1b[31mx"
    assert journey.flow.src == r"\u202e1.2.3.4"
    assert journey.damage == r"two\x0alines"
    assert journey.hops[0].task is not None
    assert journey.hops[0].task.comm == r"x\x1b]0;y\x07"
    assert journey.hops[0].verdict is not None
    assert journey.hops[0].verdict.chain == r"a\u202eb"


def test_a_line_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_reader, "LONGEST_LINE", 1 << 20)
    _, wrong = read(LINES[0] + b'{"a":"' + b"x" * (1 << 21))
    assert wrong == "t.json: line 2 is longer than 1 MiB"


def test_a_file_that_cannot_be_read_is_told() -> None:
    class Broken(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(TraceFileError, match=r"cannot read t\.json: Input/output error"):
        TraceReader(Broken(), "t.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_records_or_one_sentence(content: bytes) -> None:
    read(content)
    read(LINES[0] + content)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_line_changed_anywhere_gives_records_or_one_sentence(data: st.DataObject) -> None:
    """Header, journey and footer with one member replaced by, or joined with, any JSON."""
    number = data.draw(st.sampled_from([0, 1, 3, len(LINES) - 1]))
    line = json.loads(LINES[number])
    target: Any = line
    while isinstance(target, dict | list) and target:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(target[key], dict | list) or data.draw(st.booleans()):
            target[key] = data.draw(json_values)
            break
        target = target[key]
    lines = [*LINES[:number], json.dumps(line).encode() + b"\n", *LINES[number + 1 :]]
    journeys, wrong = read(b"".join(lines))
    assert "\n" not in wrong
    assert wrong or len(journeys) == len(ALL)
