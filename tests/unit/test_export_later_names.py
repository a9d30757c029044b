# SPDX-License-Identifier: GPL-2.0-only
"""A topology that changes, in the trace file; and names that became known too late."""

from __future__ import annotations

import io
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import ALL, CAPTURE, SUMMARY
from tracer.export.later_names import LaterNames
from tracer.export.trace_reader import TraceReader
from tracer.export.trace_writer import TraceWriter
from tracer.model import Device, Hop, Journey, Netns, Topology, TopologyChange

HOST = Netns(1, "host")


def at(netns: Netns) -> Journey:
    """A journey that starts at 100, with one hop there."""
    device = Device(netns, 2, "eth0")
    hop = Hop("veth_xmit", 0, 0, device, 98, None)
    return ALL["request"]._replace(start_ns=100, hops=(hop,))


def names(*changes: tuple[int, Netns | None]) -> LaterNames:
    return LaterNames(
        [
            TopologyChange(
                at_ns, Topology("br0", ends=() if n is None else (Device(n, 2, "eth0"),))
            )
            for at_ns, n in changes
        ]
    )


def called(later: LaterNames, netns: Netns) -> str:
    device = later.filled(at(netns)).hops[0].device
    assert device is not None
    return device.netns.name


def test_a_name_that_became_known_later_is_filled_in() -> None:
    later = names((90, Netns(7, "ns:7")), (200, Netns(7, "sh:81")), (300, Netns(7, "web")))
    assert called(later, Netns(7, "ns:7")) == "web"
    assert called(later, Netns(8, "ns:8")) == "ns:8"
    assert called(later, Netns(7, "db")) == "db"


def test_but_not_that_of_another_namespace_with_the_same_number() -> None:
    later = names((200, None), (300, Netns(7, "web")))
    assert called(later, Netns(7, "ns:7")) == "ns:7"


def test_nor_one_from_before() -> None:
    assert called(names((90, Netns(7, "web")), (100, None)), Netns(7, "ns:7")) == "ns:7"


@given(st.lists(st.tuples(any_journey.moments, any_journey.topologies), max_size=3))
def test_changes_are_read_as_they_were_written(changes: list[tuple[int, Topology]]) -> None:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "t.json")
    writer.begin(CAPTURE)
    told = [TopologyChange(*change) for change in changes]
    for change in told:
        writer.topology(change)
    writer.end(replace(SUMMARY, journeys=0))
    stream.seek(0)
    reader = TraceReader(stream, "t.json")
    assert list(reader) == []
    assert reader.changes == told
