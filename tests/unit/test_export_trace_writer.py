# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import ALL, CAPTURE, CLONE, DROPPED, REPLY, REQUEST, SUMMARY, one_of
from tracer.errors import TraceFileError
from tracer.export.trace_writer import TraceWriter
from tracer.model import Device, Drop, Flow, Hop, Journey, Netns, State, Verdict


def there(members: dict[str, Any]) -> dict[str, Any]:
    """Without what is None."""
    return {name: value for name, value in members.items() if value is not None}


def flow_there(flow: Flow) -> dict[str, Any]:
    members = there(flow._asdict())
    if flow.about is not None:
        members["about"] = flow_there(flow.about)
    return members


def netns_of(netns: Netns) -> dict[str, Any]:
    return {"netns": netns.name, "netns_inum": netns.inum}


def documented_hop(hop: Hop) -> dict[str, Any]:
    device = hop.device
    members: dict[str, Any] = {
        "function": hop.function,
        "dt_ns": hop.dt_ns,
        "cpu": hop.cpu,
        "netns": device and device.netns.name,
        "netns_inum": device and device.netns.inum,
        "ifname": device and device.ifname,
        "ifindex": device and device.ifindex,
        "len": hop.len,
    }
    if hop.segment is not None:
        members["segment"] = str(hop.segment)
    for optional in ("to_cpu", "already_running"):
        if getattr(hop, optional) is not None:
            members[optional] = getattr(hop, optional)
    if hop.verdict is not None:
        members["verdict"] = there(hop.verdict._asdict())
    if hop.socket is not None:
        socket = hop.socket._asdict()
        members["socket"] = {**netns_of(socket.pop("netns")), **socket}
    if hop.task is not None:
        members["task"] = {"pid": hop.task.pid, "comm": hop.task.comm}
        if hop.task.netns is not None:
            members["task"].update(netns_of(hop.task.netns))
    if hop.changes:
        members["changes"] = [change._asdict() for change in hop.changes]
    return members


def documented(journey: Journey) -> dict[str, Any]:
    """The documented shape of a journey's line, made the slow and obvious way."""
    line: dict[str, Any] = {
        "type": "journey",
        "id": journey.id,
        "parent": journey.parent,
        "skb": hex(journey.skb),
        "flow": flow_there(journey.flow),
        "start_ns": str(journey.start_ns),
        "duration_ns": journey.duration_ns,
        "outcome": str(journey.outcome),
    }
    if journey.proof is not None:
        line["proof"] = journey.proof
    if journey.drop is not None:
        line["drop"] = journey.drop._asdict()
        del line["drop"]["state"], line["drop"]["egress"]
        if journey.drop.state:
            line["drop"]["state"] = dict(journey.drop.state)
        if journey.drop.egress is not None:
            to = journey.drop.egress
            line["drop"]["egress"] = {
                **netns_of(to.netns),
                "ifname": to.ifname,
                "ifindex": to.ifindex,
            }
    if journey.damage is not None:
        line["damage"] = journey.damage
    if journey.absorbed_into is not None:
        line["absorbed_into"] = journey.absorbed_into
    if journey.references:
        line["references"] = [reference._asdict() for reference in journey.references]
    if journey.state is not None:
        usual = State()._asdict()
        line["state"] = {k: v for k, v in journey.state._asdict().items() if v != usual[k]}
    if journey.frame is not None:
        line["frame"] = {"headers": journey.frame.headers.hex(), "len": journey.frame.len}
        if journey.frame.data:
            line["frame"] |= {"data": journey.frame.data.hex()}
    line["hops"] = [documented_hop(hop) for hop in journey.hops]
    if journey.branches:
        line["branches"] = [branch._asdict() for branch in journey.branches]
    return line


def written(*journeys: Journey) -> bytes:
    stream = io.BytesIO()
    TraceWriter(stream, "trace").journeys(journeys)
    return stream.getvalue()


@settings(deadline=None, max_examples=60)
@given(st.lists(any_journey.journeys(), max_size=3))
def test_every_line_is_exactly_the_documented_shape(journeys: list[Journey]) -> None:
    lines = [json.dumps(documented(j), separators=(",", ":")) for j in journeys]
    assert written(*journeys, *journeys).decode("ascii") == "".join(f"{x}\n" for x in lines * 2)


@settings(deadline=None)
@given(st.lists(any_journey.journeys(), max_size=3))
def test_journeys_that_are_like_others_are_written_like_others(journeys: list[Journey]) -> None:
    writer = TraceWriter(io.BytesIO(), "t.json")
    for journey in journeys:
        if not journey.hops or journey.frame is None:
            continue
        alike = one_of(journey).alike
        for more in (0, 7, 10**9):
            hops = tuple(
                h._replace(dt_ns=h.dt_ns + more, len=h.len + number * more)
                for number, h in enumerate(journey.hops)
            )
            numbers = {
                name: getattr(journey.flow, name) + more
                for name in ("ip_id", "tcp_seq", "tcp_ack", "icmp_seq")
                if getattr(journey.flow, name) is not None
            }
            expected = journey._replace(
                id=f"{more}-%d",
                parent=None if more else journey.parent,
                skb=journey.skb + more,
                flow=journey.flow._replace(**numbers),
                start_ns=journey.start_ns + more,
                hops=hops,
                branches=tuple(b._replace(id=f"{b.id}{more}") for b in journey.branches),
                references=journey.references if more else (),
                frame=journey.frame and journey.frame._replace(headers=b"%d", len=more),
            )
            like = one_of(expected, alike)
            assert like.made() == expected
            assert writer.line(like) == writer.line(expected)
            assert json.loads(writer.line(like)) == json.loads(json.dumps(documented(expected)))


def test_the_members_other_tools_rely_on_have_their_names() -> None:
    line = json.loads(written(REQUEST))
    assert line["type"] == "journey"
    assert line["parent"] is None
    assert line["flow"]["proto"] == "icmp"
    assert (line["flow"]["src"], line["flow"]["dst"]) == ("172.17.0.2", "172.17.0.3")
    assert line["outcome"] == "consumed"
    assert line["start_ns"] == "1234567890123"
    assert line["duration_ns"] == 38_400
    first = {"function": "veth_xmit", "dt_ns": 0, "cpu": 0, "netns": "c1", "ifname": "eth0"}
    assert line["hops"][0].items() >= {**first, "ifindex": 4, "len": 98}.items()


def test_a_clone_names_its_parent_and_its_parent_names_it() -> None:
    assert json.loads(written(CLONE))["parent"] == REPLY.id
    branch = json.loads(written(REPLY))["branches"][0]
    assert branch["id"] == CLONE.id
    assert REPLY.hops[branch["hop"]].function == "skb_clone"


def test_a_drop_says_why_and_where() -> None:
    line = json.loads(written(DROPPED))
    assert line["drop"] == {"reason": "NETFILTER_DROP", "function": "nf_hook_slow", "offset": 0xA5}


def test_a_hop_without_a_device_says_null() -> None:
    hop = json.loads(written(CLONE))["hops"][-1]
    assert [hop[k] for k in ("netns", "netns_inum", "ifname", "ifindex")] == [None] * 4


def test_two_devices_that_look_alike_but_for_one_thing_are_told_apart() -> None:
    """What is remembered about a device is never given to another one."""
    for ifindex in range(20_000):  # more than are remembered; each is freed before the next
        hop = REQUEST.hops[0]._replace(device=Device(REQUEST.hops[0].device.netns, ifindex, "d"))  # type: ignore[union-attr]
        line = json.loads(written_by_one(REQUEST._replace(hops=(hop,))))
        assert line["hops"][0]["ifindex"] == ifindex


def test_what_looks_like_a_conversion_is_none() -> None:
    names = Netns(7, "%d%%b")
    hops = tuple(
        hop._replace(device=Device(names, 1, "%(x)s%"), function="%c") for hop in DROPPED.hops
    )
    journey = DROPPED._replace(hops=hops, proof="%x", drop=Drop("100 %", "%s\0%"))
    assert json.loads(written(journey)) == json.loads(json.dumps(documented(journey)))


def test_two_verdicts_that_look_alike_but_for_one_thing_are_told_apart() -> None:
    for rule in range(10_000):
        hop = REQUEST.hops[0]._replace(verdict=Verdict("ipv4", "FORWARD", rule=rule))
        line = json.loads(written_by_one(REQUEST._replace(hops=(hop,))))
        assert line["hops"][0]["verdict"]["rule"] == rule


_ONE = io.BytesIO()
_WRITER = TraceWriter(_ONE, "trace")


def written_by_one(journey: Journey) -> bytes:
    _ONE.seek(0)
    _ONE.truncate()
    _WRITER.journeys((journey,))
    return _ONE.getvalue()


def test_header_and_footer_enclose_the_journeys() -> None:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "trace")
    writer.begin(CAPTURE)
    writer.journeys(list(ALL.values()))
    writer.end(SUMMARY)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["type"] for line in lines] == ["header", *["journey"] * len(ALL), "footer"]
    header, footer = lines[0], lines[-1]
    assert (header["format"], header["version"]) == ("skbtrace", 1)
    assert "veth_xmit" in header["probes"]["attached"]
    assert header["probes"]["missing"] == ["icmpv6_rcv"]
    assert header["clock"]["realtime_ns"] == "1760000000123456789"
    assert footer["journeys"] == len(ALL) == writer.written
    assert footer["lost"] == {"ring_full": 0, "table_full": 0, "end_missed": 1, "probe_missed": 0}


class Disk(io.BytesIO):
    """A file on a disk with room for so many bytes; writes in small pieces, as the kernel may."""

    def __init__(self, room: int, number: int = errno.ENOSPC) -> None:
        super().__init__()
        self.room = room
        self.number = number

    def write(self, data: Any, /) -> int:
        size = min(len(data), self.room - self.tell(), 1000)
        if size <= 0:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(data[:size])


def test_a_full_disk_leaves_whole_lines_and_says_how_many() -> None:
    whole = written(REQUEST)
    disk = Disk(room=len(whole) * 2 + 700)
    writer = TraceWriter(disk, "t.json")
    with pytest.raises(TraceFileError) as caught:
        writer.journeys([REQUEST] * 5)
    assert caught.value.message == (
        "cannot write t.json: No space left on device; "
        "the journeys written before that (2) can be read"
    )
    assert caught.value.hint is not None
    assert disk.getvalue() == whole * 2
    assert writer.written == 2


def test_after_a_full_disk_nothing_more_is_written() -> None:
    disk = Disk(room=100)
    writer = TraceWriter(disk, "t.json")
    with pytest.raises(TraceFileError):
        writer.journeys([REQUEST])
    disk.room = 10**6
    writer.journeys([REQUEST])
    writer.end(SUMMARY)
    assert disk.getvalue() == b""


def test_the_partial_line_is_cut_even_where_the_file_began_before_the_trace() -> None:
    """Standard output may be a file that others wrote to before."""
    disk = Disk(room=10**6)
    disk.write(b"something else\n")
    disk.room = disk.tell() + 50
    with pytest.raises(TraceFileError):
        TraceWriter(disk, "standard output").journeys([REQUEST])
    assert disk.getvalue() == b"something else\n"


def test_another_error_is_told_without_the_hint_on_room() -> None:
    with pytest.raises(TraceFileError) as caught:
        TraceWriter(Disk(room=0, number=errno.EIO), "t.json").begin(CAPTURE)
    assert "Input/output error" in caught.value.message
    assert caught.value.hint is None


def test_a_broken_pipe_is_passed_up() -> None:
    with pytest.raises(BrokenPipeError):
        TraceWriter(Disk(room=0, number=errno.EPIPE), "-").begin(CAPTURE)


def test_a_real_full_device_is_told() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(TraceFileError, match="No space left"),
    ):
        TraceWriter(full, "/dev/full").begin(CAPTURE)
