# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.unit import any_journey
from tests.unit.journeys import ALL, CAPTURE, SUMMARY
from tracer.cli.schema import schema
from tracer.export.trace import SCHEMA, VERSION
from tracer.export.trace_writer import TraceWriter
from tracer.model import (
    Capture,
    Change,
    Flow,
    Forwarding,
    Frame,
    Journey,
    Outcome,
    Port,
    Reference,
    Rewrite,
    Route,
    Sampling,
    Segment,
    State,
    TopologyChange,
    Verdict,
)

PUBLISHED = json.loads(SCHEMA.read_text(encoding="utf-8"))


def closed(node: Any) -> Any:
    """The schema with no member allowed that it does not name."""
    if isinstance(node, dict):
        shut = {key: closed(value) for key, value in node.items()}
        if "properties" in node:
            shut["unevaluatedProperties"] = False
        return shut
    return [closed(item) for item in node] if isinstance(node, list) else node


OPEN = Draft202012Validator(PUBLISHED)
STRICT = Draft202012Validator(
    {
        **closed(PUBLISHED),
        # These are also part of what has more members: an address, a route.
        "$defs": closed(PUBLISHED)["$defs"]
        | {name: PUBLISHED["$defs"][name] for name in ("device", "netns")},
    }
)


def lines(capture: Capture, journeys: list[Journey]) -> list[Any]:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "trace")
    writer.begin(capture)
    writer.journeys(journeys)
    if capture.topology is not None:
        writer.topology(TopologyChange(1, capture.topology))
    writer.sampling(Sampling(1, 8))
    writer.sampling(Sampling(1 << 62, 64, 120, 50))
    writer.end(SUMMARY)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["$defs"]["header"]["properties"]["version"]["const"] == VERSION


def members(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "properties":
            for name, member in value.items():
                yield f"{path}/{name}", member
        if isinstance(value, dict | list):
            yield from members(value, f"{path}/{key}")


def test_every_member_is_described() -> None:
    assert [path for path, member in members(PUBLISHED) if not member.get("description")] == []


@settings(deadline=None, max_examples=30)
@given(any_journey.captures(), st.lists(any_journey.journeys(), max_size=2))
def test_everything_written_is_valid_and_described(
    capture: Capture, journeys: list[Journey]
) -> None:
    for line in lines(capture, journeys):
        STRICT.validate(line)


def test_every_journey_of_the_lab_is_valid() -> None:
    for line in lines(CAPTURE, list(ALL.values())):
        STRICT.validate(line)


@pytest.mark.parametrize("member", ["type", "id", "parent", "flow", "outcome", "start_ns", "hops"])
def test_a_journey_without_a_member_others_rely_on_is_not_valid(member: str) -> None:
    line = lines(CAPTURE, [ALL["request"]])[1]
    assert OPEN.is_valid(line)
    del line[member]
    assert not OPEN.is_valid(line)


def test_times_beyond_2_53_are_not_numbers() -> None:
    line = lines(CAPTURE, [ALL["request"]])[1]
    line["start_ns"] = int(line["start_ns"])
    assert not OPEN.is_valid(line)


def test_the_schema_knows_the_model() -> None:
    journey, hop = PUBLISHED["$defs"]["journey"], PUBLISHED["$defs"]["hop"]
    assert journey["properties"]["outcome"]["enum"] == [o.value for o in Outcome]
    assert hop["properties"]["segment"]["enum"] == [s.value for s in Segment]
    named = {"flow": Flow._fields, "state": State._fields}
    named |= {"verdict": Verdict._fields, "change": Change._fields}
    for name, fields in named.items():
        assert tuple(PUBLISHED["$defs"][name]["properties"]) == fields
    parts = {"port": {*Port._fields}, "forwarding": {*Forwarding._fields}}
    parts |= {"route": {*Route._fields}, "rewrite": {*Rewrite._fields}}
    for name, its in parts.items():
        described = PUBLISHED["$defs"][name]
        base = described["$ref"].rpartition("/")[2]
        assert {base, *described["properties"]} == its
    assert tuple(journey["properties"]["frame"]["properties"]) == Frame._fields
    references = journey["properties"]["references"]["items"]
    assert tuple(references["properties"]) == Reference._fields


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(schema)
    assert result.exit_code == 0
    assert json.loads(result.output) == PUBLISHED
