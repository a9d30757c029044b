# SPDX-License-Identifier: GPL-2.0-only
"""Chrome's trace, held against the rules of the format: nesting, threads, flows."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.exported import NAMES, Given, exported, exported_real, real
from tests.unit.journeys import ALL, CAPTURE, CLONE, DROPPED, REQUEST
from tracer.model import Device, Journey, Netns

Event = dict[str, Any]


def events(data: bytes) -> list[Event]:
    found: list[Event] = json.loads(data, parse_float=Decimal)["traceEvents"]
    return found


def rules(found: list[Event]) -> None:
    """What chrome://tracing and Perfetto ask of such a file."""
    slices = [e for e in found if e["ph"] == "X"]
    # A thread belongs to one process, has one name, and is introduced.
    processes: dict[int, set[int]] = defaultdict(set)
    for event in found:
        if event["ph"] != "M":
            processes[event["tid"]].add(event["pid"])
    assert all(len(pids) == 1 for pids in processes.values())
    names = Counter(
        (e["name"], e["pid"], e["tid"]) for e in found if e["ph"] == "M" and "_name" in e["name"]
    )
    assert set(names.values()) <= {1}
    for tid, (pid,) in processes.items():
        assert names["thread_name", pid, tid] == 1
        assert names["process_name", pid, 0] == 1
    # Of two slices of a thread one is within the other, or they do not overlap.
    threads: dict[int, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for event in slices:
        assert event["dur"] >= 0
        threads[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in threads.values():
        stack: list[Decimal] = []
        for start, end in sorted(spans, key=lambda s: (s[0], -s[1])):
            while stack and stack[-1] <= start:
                stack.pop()
            assert not stack or end <= stack[-1]
            stack.append(end)
    # An arrow has a beginning and an end.
    chains: dict[str, list[Event]] = defaultdict(list)
    for event in slices:
        if "bind_id" in event:
            chains[event["bind_id"]].append(event)
    for chain in chains.values():
        first, *middle, last = sorted(chain, key=lambda e: e["ts"])
        assert (first.get("flow_in"), first.get("flow_out")) == (None, True)
        assert (last.get("flow_in"), last.get("flow_out")) == (True, None)
        assert all(e["flow_in"] and e["flow_out"] for e in middle)
    sources = Counter(e["id"] for e in found if e["ph"] == "s")
    targets = Counter(e["id"] for e in found if e["ph"] == "f")
    assert sources == targets
    assert all(e["bp"] == "e" for e in found if e["ph"] == "f")


def test_a_real_trace() -> None:
    found = events(exported_real("chrome"))
    rules(found)
    journeys = real()
    hops = [e for e in found if e["ph"] == "X" and e["cat"] != "stay"]
    assert Counter(e["name"] for e in hops) == Counter(h.function for j in journeys for h in j.hops)
    called = {e["args"]["name"] for e in found if e["ph"] == "M" and e["name"] == "process_name"}
    assert called == {"net1", "router", "outside"}
    assert any("src 192.168.0.2 -> 203.0.113.1" in e["args"].get("changes", []) for e in hops)
    branches = sum(e["ph"] == "s" for e in found)
    ids = {j.id for j in journeys}
    assert branches == sum(j.parent in ids for j in journeys) > 0


def test_times_are_microseconds_since_the_capture_began_to_the_nanosecond() -> None:
    found = events(exported("chrome", Given([REQUEST])))
    first, *_ = (e for e in found if e["ph"] == "X" and e["cat"] != "stay")
    assert first["ts"] * 1000 == REQUEST.start_ns - CAPTURE.monotonic_ns
    assert first["dur"] * 1000 == REQUEST.hops[1].dt_ns


def test_a_drop_is_an_instant_at_its_end() -> None:
    (drop,) = (e for e in events(exported("chrome", Given([DROPPED]))) if e["ph"] == "i")
    assert drop["name"] == "DROP NETFILTER_DROP"
    assert drop["ts"] * 1000 == DROPPED.start_ns - CAPTURE.monotonic_ns + DROPPED.duration_ns


@pytest.mark.parametrize("turned", [False, True])
def test_an_arrow_leads_to_a_branch_whichever_comes_first(turned: bool) -> None:
    parent = next(j for j in ALL.values() if j.id == CLONE.parent)
    assert any(b.id == CLONE.id for b in parent.branches)
    both = [CLONE, parent] if turned else [parent, CLONE]
    found = events(exported("chrome", Given(both)))
    rules(found)
    (source,) = (e for e in found if e["ph"] == "s")
    (target,) = (e for e in found if e["ph"] == "f")
    assert target["ts"] * 1000 == CLONE.start_ns - CAPTURE.monotonic_ns
    assert source["ts"] <= target["ts"]
    rules(events(exported("chrome", Given([CLONE]))))  # without its parent there is no arrow


def test_packets_at_a_device_at_once_have_lanes() -> None:
    at_once = [REQUEST._replace(id=str(n), start_ns=REQUEST.start_ns + n) for n in range(3)]
    found = events(exported("chrome", Given(at_once)))
    rules(found)
    names = [e["args"]["name"] for e in found if e["name"] == "thread_name"]
    assert {"eth0", "eth0 (2)", "eth0 (3)"} <= set(names)
    later = [REQUEST._replace(id=str(n), start_ns=REQUEST.start_ns + n * 10**9) for n in range(3)]
    names = [
        e["args"]["name"]
        for e in events(exported("chrome", Given(later)))
        if e["name"] == "thread_name"
    ]
    assert not any("(" in name for name in names)


def within_fifty_days(journey: Journey) -> Journey:
    """The same at another time: longer captures have more digits than a float."""
    most = 1 << 50
    return journey._replace(
        start_ns=journey.start_ns % most,
        hops=tuple(hop._replace(dt_ns=min(hop.dt_ns, most)) for hop in journey.hops),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(any_journey.journeys(), max_size=6, unique_by=lambda j: j.id))
def test_any_journeys_keep_the_rules(journeys: list[Journey]) -> None:
    journeys = [within_fifty_days(journey) for journey in journeys]
    # An id that is said twice to be a branch has an arrow too few, as it should.
    rules([e for e in events(exported("chrome", Given(journeys))) if e["ph"] not in "sf"])


def test_what_began_before_the_clock_was_read_is_no_special_case() -> None:
    early = [
        REQUEST._replace(id=str(n), start_ns=CAPTURE.monotonic_ns - 10**9 + n * 10**6)
        for n in range(50)
    ]
    found = events(exported("chrome", Given([*early[10:], *early[:10]])))
    rules(found)
    assert len([e for e in found if e["name"] == "thread_name"]) <= 8


def test_a_thousand_journeys_out_of_order_keep_the_rules() -> None:
    many = [
        REQUEST._replace(id=str(n), start_ns=REQUEST.start_ns + (n * 7919 % 1499) * 3_000)
        for n in range(1499)
    ]
    rules(events(exported("chrome", Given(many))))


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names(name: str) -> None:
    device = Device(Netns(1, name), 2, name[:15])
    hop = REQUEST.hops[0]._replace(device=device, function=name)
    found = events(exported("chrome", Given([REQUEST._replace(hops=(hop,))])))
    assert {e["args"]["name"] for e in found if e["name"].endswith("_name")} == {name, name[:15]}
