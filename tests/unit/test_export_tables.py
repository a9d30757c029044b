# SPDX-License-Identifier: GPL-2.0-only
"""CSV and JSON as DuckDB reads them, folded stacks, sequence diagrams, OTLP."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.exported import NAMES, Given, exported, exported_real, real
from tests.unit.journeys import ALL, CAPTURE, CLONE, DROPPED, REQUEST
from tracer.export.csv import COLUMNS
from tracer.model import Device, Journey, Netns

duckdb = import_module("duckdb")  # its types are not complete


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


# -- csv -----------------------------------------------------------------------------------------


def test_duckdb_reads_the_table(tmp_path: Path) -> None:
    path = tmp_path / "hops.csv"
    path.write_bytes(exported_real("csv"))
    hops = duckdb.read_csv(str(path))
    assert tuple(hops.columns) == COLUMNS
    journeys = real()
    ((count, took),) = duckdb.sql("SELECT count(*), sum(took_ns) FROM hops").fetchall()
    assert count == sum(len(j.hops) for j in journeys)
    assert took == sum(j.duration_ns for j in journeys)
    found = duckdb.sql("SELECT function, count(*) FROM hops GROUP BY function").fetchall()
    assert dict(found) == Counter(hop.function for j in journeys for hop in j.hops)


def test_a_row_is_a_hop() -> None:
    found = rows(exported("csv", Given([DROPPED])))
    assert [row["function"] for row in found] == [hop.function for hop in DROPPED.hops]
    first, last = found[0], found[-1]
    at_ns = DROPPED.start_ns + CAPTURE.realtime_ns - CAPTURE.monotonic_ns
    assert int(first["start_ns"]) == at_ns
    assert int(first["took_ns"]) == DROPPED.hops[1].dt_ns
    assert last["took_ns"] == ""
    assert first["drop_reason"] == "NETFILTER_DROP"
    assert (first["netns"], first["ifname"]) == ("c1", "eth0")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_formula_and_no_separator(name: str) -> None:
    hop = REQUEST.hops[0]._replace(device=Device(Netns(1, name), 2, name))
    (row,) = rows(exported("csv", Given([REQUEST._replace(hops=(hop,))])))
    assert row["netns"] == (f"'{name}" if name[0] in "=+-@" else name)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(any_journey.journeys(), max_size=4))
def test_any_journeys_make_a_table(journeys: list[Journey]) -> None:
    found = rows(exported("csv", Given(journeys)))
    assert len(found) == sum(len(j.hops) for j in journeys)
    assert all(None not in row and None not in row.values() for row in found)
    assert not any(value.startswith(("=", "@")) for row in found for value in row.values())


# -- json ----------------------------------------------------------------------------------------


def test_duckdb_reads_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(exported_real("json"))
    found = duckdb.sql(f"""
        SELECT outcome, count(*) FROM read_json('{path}', format = 'newline_delimited')
        WHERE type = 'journey' GROUP BY outcome
    """).fetchall()
    assert dict(found) == Counter(j.outcome.value for j in real())


# -- folded --------------------------------------------------------------------------------------


def test_stacks_have_all_the_time_of_the_journeys() -> None:
    lines = exported_real("folded").decode().splitlines()
    took: Counter[str] = Counter()
    for line in lines:
        stack, ns = re.fullmatch(r"(\S.*) (\d+)", line).groups()  # type: ignore[union-attr]
        took[stack] += int(ns)
        assert 3 <= stack.count(";") + 1 <= 4
    assert took.total() == sum(j.duration_ns for j in real())
    assert sum(ns for stack, ns in took.items() if stack.startswith("router;")) > 0
    assert any(stack.endswith(";backlog wait") for stack in took)
    assert len(took) == len(lines)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_frame(name: str) -> None:
    hops = tuple(h._replace(device=Device(Netns(1, name), 2, name)) for h in REQUEST.hops[:2])
    (line,) = exported("folded", Given([REQUEST._replace(hops=hops)])).decode().splitlines()
    assert line.count(";") == 2


# -- mermaid -------------------------------------------------------------------------------------

_LINES = re.compile(
    r"sequenceDiagram|  title [^;]*(#\d+;[^;]*)*|  box transparent .*|    participant d\d+ as .*"
    r"|  end|  d\d+->>d\d+: .*|  Note over d\d+: .*|  d\d+(->>|--x)d\d+: .*"
)


def test_a_diagram_tells_the_way() -> None:
    said = exported("mermaid", Given([DROPPED])).decode()
    assert said.splitlines()[0] == "sequenceDiagram"
    assert "  box transparent c1\n    participant d0 as eth0\n  end\n" in said
    assert "__netif_receive_skb_core" in said
    assert re.search(r"--xd\d: DROP NETFILTER_DROP after ", said)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(any_journey.journeys())
def test_a_diagram_has_only_lines_of_the_language(journey: Journey) -> None:
    for line in exported("mermaid", Given([journey])).decode().splitlines():
        assert _LINES.fullmatch(line), line
        said = line.partition(": ")[2] or line.partition(" as ")[2]
        left = re.sub(r"#\d+;|<br/>", "", said)
        assert not set(left) & set("#;<%{}()[]\"'`:&|"), line


# -- otlp ----------------------------------------------------------------------------------------


def spans(data: bytes) -> list[dict[str, Any]]:
    return [
        span
        for line in data.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def test_the_names_are_those_of_the_published_proto() -> None:
    json_format = import_module("google.protobuf.json_format")
    service = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    for data in (exported_real("otlp"), exported("otlp")):
        for line in data.splitlines():
            # Raises for a name or a type that the proto does not have.
            request = json_format.Parse(line, service.ExportTraceServiceRequest())
            assert request.resource_spans[0].scope_spans[0].spans[0].name


def test_a_journey_is_a_trace_and_a_stay_a_span() -> None:
    found = spans(exported_real("otlp"))
    journeys = {j.id: j for j in real()}
    roots = [span for span in found if "parentSpanId" not in span]
    assert len(roots) == len(journeys)
    assert len({span["traceId"] for span in roots}) == len(roots)
    assert len({(span["traceId"], span["spanId"]) for span in found}) == len(found)
    for root in roots:
        attributes = {a["key"]: next(iter(a["value"].values())) for a in root["attributes"]}
        journey = journeys[attributes["skbtrace.journey"]]
        assert re.fullmatch("[0-9a-f]{32}", root["traceId"])
        assert re.fullmatch("[0-9a-f]{16}", root["spanId"])
        took = int(root["endTimeUnixNano"]) - int(root["startTimeUnixNano"])
        assert took == journey.duration_ns
        stays = [s for s in found if s.get("parentSpanId") == root["spanId"]]
        assert all(s["traceId"] == root["traceId"] for s in stays)
        assert [s["name"] for s in stays] == [d.place for d, _ in journey.arrivals()]
        events = [e["name"] for s in stays for e in s["events"]]
        assert events == [hop.function for hop in journey.hops]
        assert int(stays[0]["startTimeUnixNano"]) == int(root["startTimeUnixNano"])
        assert int(stays[-1]["endTimeUnixNano"]) == int(root["endTimeUnixNano"])


def test_a_drop_is_an_error_and_a_parent_a_link() -> None:
    parent = next(j for j in ALL.values() if j.id == CLONE.parent)
    found = spans(exported("otlp", Given([DROPPED, parent, CLONE])))
    dropped, first, clone = (span for span in found if "parentSpanId" not in span)
    assert dropped["status"] == {"code": 2, "message": "DROP NETFILTER_DROP at host/docker0"}
    assert first["status"] == {"code": 1}
    (link,) = clone["links"]
    assert (link["traceId"], link["spanId"]) == (first["traceId"], first["spanId"])


def test_the_same_trace_gives_the_same_ids() -> None:
    assert exported_real("otlp") == exported_real("otlp")
