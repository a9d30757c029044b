# SPDX-License-Identifier: GPL-2.0-only
"""Writes the trace file, one line per journey, as journeys end.

A batch is one write of whole lines, so a tracer that is killed leaves a readable file. There
may be thousands of journeys a second, so a line is put together from pieces of JSON made once
per function, device and address, and where journeys are alike only numbers are filled in; the tests
hold it equal to ``json.dumps`` of the documented shape. This module must not know where journeys
come from, nor how the file was opened.
"""

from __future__ import annotations

import contextlib
import errno
import json
from binascii import hexlify
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import TypeVar

from tracer.alike import Alike, Item, One, items
from tracer.errors import TraceFileError
from tracer.export.output import Writable
from tracer.export.trace import FORMAT, VERSION
from tracer.model import (
    NUMBERED,
    Capture,
    Change,
    Counted,
    Device,
    Drop,
    Flow,
    Forwarding,
    Frame,
    Hop,
    Journey,
    Netns,
    Port,
    Reference,
    Route,
    Sampling,
    Socket,
    State,
    Stepped,
    Summary,
    Task,
    Topology,
    TopologyChange,
    Verdict,
)
from tracer.text import printable

_REMEMBERED = 8192
"""Pieces kept per kind; a trace that names more than this many things starts over."""
_ALIKE = 1024
"""... and of all a journey's hops, which are some 3 kB."""

_FIXED_FLOW = Flow._fields.index("ip_id")
"""Members of a flow before this one are the same for all its packets."""
_VARYING = tuple((at, f',"{name}":') for at, name in enumerate(Flow._fields) if at >= _FIXED_FLOW)
_NUMBERED = tuple(map(Flow._fields.index, NUMBERED))
_GAP = "\0"
"""Stands for the % of a conversion in JSON, in which there is no such character."""
_STATE_KEYS = tuple(f'"{name}":' for name in State._fields)
_UNREMARKABLE = State()
_NO_DEVICE = ',"netns":null,"netns_inum":null,"ifname":null,"ifindex":null'
_JSON_BOOL = {False: "false", True: "true"}

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_HopKey = tuple[str, int, int, int, int | None, bool | None, int]
_HopPieces = tuple[str, str, tuple[Device | None, Verdict | None]]


class TraceWriter:
    """A Sink that writes a trace to ``stream``, which has no buffer of its own.

    ``name`` is what messages call it. Its methods raise TraceFileError if the disk is full or
    the file cannot be written for another reason; what was written so far is then a readable
    trace, cut at its last whole line, and nothing more is written. BrokenPipeError passes up.
    """

    def __init__(self, stream: Writable, name: str) -> None:
        self.written = 0
        """Journeys that are whole in the file."""
        self._stream = stream
        self._name = printable(name)
        self._failed = False
        self._flows: dict[tuple[object, ...], str] = {}
        self._hops: dict[_HopKey, _HopPieces] = {}
        self._ends: dict[Socket | Task, str] = {}
        self._alike: dict[tuple[Alike, tuple[int, ...]], bytes] = {}

    def begin(self, capture: Capture) -> None:
        """Write the header."""
        self._write(_line(header(capture)), journeys=0)

    def topology(self, change: TopologyChange) -> None:
        """Write what the topology is now."""
        self._write(_line(topology_line(change)), journeys=0)

    def sampling(self, now: Sampling) -> None:
        """Write how many packets are followed from now on."""
        self._write(_line(sampling_line(now)), journeys=0)

    def journeys(self, batch: Sequence[Journey]) -> None:
        """Write one line each, all in one go."""
        self._write(b"".join([self.line(item) for item in items(batch)]), journeys=len(batch))

    def end(self, summary: Summary) -> None:
        """Write the footer. The stream stays open: closing it is for whoever opened it."""
        self._write(_line(footer(summary)), journeys=0)

    def line(self, item: Item) -> bytes:
        """Return the line of a journey."""
        if not isinstance(item, One):
            return self._line(item)
        alike, id_, parent, skb, at, times, lengths, counts, headers, size, data, made, told = item
        form = self._alike.get((alike, lengths)) or self._remember_form(item)
        return form % (
            quoted(id_).encode(),
            b"null" if parent is None else quoted(parent).encode(),
            skb,
            *counts,
            at,
            times[-1],
            _references(told) if told else b"",
            hexlify(headers),
            size,
            _data(data) if data else b"",
            *times,
            *(_quoted(made) if made else ()),
        )

    def _remember_form(self, one: One) -> bytes:
        form = self._form(one.made(), one.alike.counted)
        return _remember(self._alike, (one.alike, one.lengths), form, most=_ALIKE)

    def _line(self, j: Journey) -> bytes:
        counted = [at for at in _NUMBERED if j.flow[at] is not None]
        return self._form(j, counted) % (
            quoted(j.id).encode(),
            b"null" if j.parent is None else quoted(j.parent).encode(),
            j.skb,
            *[j.flow[at] for at in counted],
            j.start_ns,
            j.duration_ns,
            _references(j.references) if j.references else b"",
            *(_frame(j.frame) if j.frame is not None else ()),
            *[hop.dt_ns for hop in j.hops],
            *_quoted([branch.id for branch in j.branches]),
        )

    def _form(self, j: Journey, counted: Sequence[int]) -> bytes:
        """Return what the lines of journeys that are alike have in common, for ``%`` to fill in.

        ``counted``: the members of the flow that are not.
        """
        form = f'{{"type":"journey","id":{_GAP}b,"parent":{_GAP}b,"skb":"{_GAP}#x","flow":{{'
        form += f'{self._flow(j.flow, counted)}}},"start_ns":"{_GAP}d","duration_ns":{_GAP}d'
        form += f',"outcome":{quoted(j.outcome._value_)}'
        if j.proof is not None:
            form += f',"proof":{quoted(j.proof)}'
        if j.drop is not None:
            form += f',"drop":{_compact(_drop(j.drop))}'
        if j.damage is not None:
            form += f',"damage":{quoted(j.damage)}'
        if j.absorbed_into is not None:
            form += f',"absorbed_into":{quoted(j.absorbed_into)}'
        form += f"{_GAP}b"
        if j.state is not None:
            form += f',"state":{{{self._state(j.state)}}}'
        if j.frame is not None:
            form += f',"frame":{{"headers":"{_GAP}b","len":{_GAP}d{_GAP}b}}'
        form += f',"hops":[{",".join(self._hop_forms(j.hops))}]'
        if j.branches:
            made = [f'{{"id":{_GAP}b,"hop":{branch.hop}}}' for branch in j.branches]
            form += f',"branches":[{",".join(made)}]'
        return f"{form}}}\n".replace("%", "%%").replace(_GAP, "%").encode("ascii")

    def _hop_forms(self, hops: Sequence[Hop]) -> Iterator[str]:
        """Give each hop's JSON with a gap for ``dt_ns``."""
        # By id: several times faster than the nested hash of a device, or an enum's in Python.
        # The value keeps device and verdict alive, so their ids are not given to others.
        known = self._hops
        for fn, _, cpu, device, size, segment, to_cpu, running, verdict, end, task, new in hops:
            key = (fn, cpu, id(device), id(segment), to_cpu, running, id(verdict))
            try:
                before, after, _ = known[key]
            except KeyError:
                hop = Hop(fn, 0, cpu, device, size, segment, to_cpu, running, verdict)
                pieces = (*_around_len(hop), (device, verdict))
                before, after, _ = _remember(known, key, pieces)
            if task is not None or new or end is not None:
                after = f"{after[:-1]}{self._rarer(end, task, new)}}}"
            yield f"{before}{size}{after}"

    def _rarer(self, socket: Socket | None, task: Task | None, changes: tuple[Change, ...]) -> str:
        """Return members that few hops have, and so are not kept with the hop's piece."""
        members = "" if socket is None else f',"socket":{self._end(socket)}'
        if task is not None:
            members += f',"task":{self._end(task)}'
        if changes:
            members += f',"changes":[{",".join([self._change(c) for c in changes])}]'
        return members

    def _end(self, end: Socket | Task) -> str:
        piece = self._ends.get(end)
        if piece is None:
            piece = _remember(self._ends, end, _compact(_members(end)))
        return piece

    def _change(self, change: Change) -> str:
        field, old, new = change
        return f'{{"field":{quoted(field)},"old":{self._any(old)},"new":{self._any(new)}}}'

    def _state(self, state: State) -> str:
        if state == _UNREMARKABLE:
            return ""
        return ",".join(
            [
                key + self._any(value)
                for key, value, usual in zip(_STATE_KEYS, state, _UNREMARKABLE, strict=True)
                if value != usual
            ]
        )

    def _any(self, value: int | str | bool | None) -> str:
        if value is None:
            return "null"
        return quoted(value) if isinstance(value, str) else _number(value)

    def _flow(self, flow: Flow, counted: Sequence[int]) -> str:
        """Return the members' JSON, with gaps for those."""
        fixed = flow[:_FIXED_FLOW]
        piece = self._flows.get(fixed)
        if piece is None:
            piece = _remember(self._flows, fixed, _compact(_of_flow(fixed))[1:-1])
        for at, key in _VARYING:
            value = flow[at]
            if value is None:
                continue
            if at in counted:
                piece += f"{key}{_GAP}d"
            elif isinstance(value, Flow):
                piece += f"{key}{_compact(_of_flow(value))}"
            else:
                piece += key + self._any(value)
        return piece

    def _write(self, lines: bytes, *, journeys: int) -> None:
        if self._failed:
            return
        left = memoryview(lines)
        try:
            while left:
                left = left[self._stream.write(left) :]
        except BrokenPipeError:
            self._failed = True
            raise
        except OSError as error:
            self._failed = True
            done = len(lines) - len(left)
            whole = lines.rfind(b"\n", 0, done) + 1
            self.written += lines.count(b"\n", 0, whole) if journeys else 0
            self._take_back(done - whole)
            raise TraceFileError(
                f"cannot write {self._name}: {error.strerror or error}; "
                f"the journeys written before that ({self.written}) can be read",
                hint="give -w a file where there is more room" if _no_room(error) else None,
            ) from error
        self.written += journeys

    def _take_back(self, size: int) -> None:
        """Cut ``size`` bytes of a partial line off again. A pipe cannot be cut."""
        if size:
            with contextlib.suppress(OSError):
                self._stream.truncate(self._stream.tell() - size)


def _remember(
    known: dict[_Key, _Value], key: _Key, value: _Value, *, most: int = _REMEMBERED
) -> _Value:
    if len(known) >= most:
        known.clear()
    known[key] = value
    return value


def _around_len(hop: Hop) -> tuple[str, str]:
    """A hop's JSON up to the value of ``len``, with a gap for ``dt_ns``; then the rest."""
    where = _NO_DEVICE if hop.device is None else f",{_compact(_device(hop.device))[1:-1]}"
    after = ""
    if hop.segment is not None:
        after += f',"segment":"{hop.segment}"'
    if hop.to_cpu is not None:
        after += f',"to_cpu":{hop.to_cpu}'
    if hop.already_running is not None:
        after += f',"already_running":{_JSON_BOOL[hop.already_running]}'
    if hop.verdict is not None:
        after += f',"verdict":{_compact(_there(hop.verdict._asdict()))}'
    before = f'{{"function":{quoted(hop.function)},"dt_ns":{_GAP}d,"cpu":{hop.cpu}{where}'
    return f'{before},"len":', after + "}"


def _of_flow(members: Sequence[object]) -> dict[str, object]:
    return {
        name: _of_flow(value) if isinstance(value, Flow) else value
        for name, value in zip(Flow._fields, members, strict=False)
        if value is not None
    }


def _quoted(ids: Sequence[str]) -> list[bytes]:
    return [quoted(each).encode() for each in ids]


def _frame(frame: Frame) -> tuple[bytes, int, bytes]:
    return hexlify(frame.headers), frame.len, _data(frame.data) if frame.data else b""


def _data(data: bytes) -> bytes:
    return b',"data":"%b"' % hexlify(data)


def _references(references: Sequence[Reference]) -> bytes:
    each = [{"kind": r.kind, "id": r.id, "after_ns": r.after_ns} for r in references]
    return b',"references":' + _compact(each).encode("ascii")


def _number(value: int) -> str:
    return _JSON_BOOL[value] if value.__class__ is bool else str(value)


def header(capture: Capture) -> dict[str, object]:
    """Return the trace's first line as plain values."""
    return {
        "type": "header",
        "format": FORMAT,
        "version": VERSION,
        **({} if capture.part is None else {"part": capture.part}),
        "tool": capture.tool,
        "kernel": capture.kernel,
        "machine": capture.machine,
        "cpus": capture.cpus,
        "asked": dict(capture.asked),
        "clock": {
            "monotonic_ns": str(capture.monotonic_ns),
            "realtime_ns": str(capture.realtime_ns),
        },
        "topology": None if capture.topology is None else topology_members(capture.topology),
        "probes": {
            "attached": list(capture.attached),
            "missing": [p.function for p in capture.missing],
            "symbols": {
                p.function: p.symbol
                for p in capture.probes
                if p.symbol is not None and p.symbol != p.function
            },
            "why_missing": {
                p.function: p.why_missing for p in capture.missing if p.why_missing is not None
            },
        },
    }


def footer(summary: Summary) -> dict[str, object]:
    """Return the trace's last line as plain values."""
    return {
        "type": "footer",
        "journeys": summary.journeys,
        "hops": summary.hops,
        "lost": summary.lost,
        "outcomes": summary.outcomes,
        "hits": summary.hits,
        "beside": summary.beside,
        "silent": list(summary.silent),
        "unloaded": list(summary.unloaded),
        "unselected": summary.unselected,
        **({} if summary.counted is None else {"counted": _counted(summary.counted)}),
        "sampled": list(summary.sampled),
        "passed_over": summary.passed_over,
        "untriggered": summary.untriggered,
    }


def sampling_line(now: Sampling) -> dict[str, object]:
    """Return the line of a changed sampling as plain values."""
    return _there({"type": "sampling", **now._asdict(), "at_ns": str(now.at_ns)})


def _counted(counted: Counted) -> dict[str, object]:
    return {
        "hits": counted.hits,
        "ended": [
            _there(
                {
                    "function": ended.function,
                    **({} if ended.device is None else _device(ended.device)),
                    "branch": ended.branch,
                    "drop": None if ended.drop is None else _drop(ended.drop),
                    "packets": ended.packets,
                    "bytes": ended.bytes,
                }
            )
            for ended in counted.ended
        ],
        **({"steps": list(map(_stepped, counted.steps))} if counted.steps else {}),
        **({} if counted.backlog is None else {"backlog": counted.backlog._asdict()}),
    }


def _stepped(step: Stepped) -> dict[str, object]:
    return _there(
        {
            "function": step.function,
            "following": step.following,
            "segment": step.segment,
            "total_ns": str(step.total_ns),
            "longest_ns": step.longest_ns,
            "classes": [list(each) for each in step.classes],
        }
    )


def topology_line(change: TopologyChange) -> dict[str, object]:
    """Return the line of a changed topology as plain values."""
    return {
        "type": "topology",
        "at_ns": str(change.at_ns),
        "topology": topology_members(change.topology),
    }


def topology_members(topology: Topology) -> dict[str, object]:
    """Return what the header says of a topology."""
    return {
        "name": topology.name,
        "built": topology.built,
        "bridge": None if topology.bridge is None else _device(topology.bridge),
        "ports": [_device(d) for d in topology.ports],
        "ends": [_device(d) for d in topology.ends],
        "addresses": [{**_device(d), "address": address} for d, address in topology.addresses],
        "pairs": [{"one": _device(one), "other": _device(far)} for one, far in topology.pairs],
        "others": [_device(d) for d in topology.others],
        "uplinks": [_device(d) for d in topology.uplinks],
        "macs": [{**_device(d), "mac": mac} for d, mac in topology.macs],
        "down": [_device(d) for d in topology.down],
        "states": [_placed(port) for port in topology.states],
        "fdb": [_placed(entry) for entry in topology.fdb],
        "routes": [_route(route) for route in topology.routes],
        "rewrites": [
            _there({**_netns(r.netns), **r._asdict(), "netns": r.netns.name})
            for r in topology.rewrites
        ],
        "forwards": [_netns(netns) for netns in topology.forwards],
    }


def _placed(what: Port | Forwarding) -> dict[str, object]:
    return _there({**_device(what.device), **what._asdict(), "device": None})


def _route(route: Route) -> dict[str, object]:
    device = None if route.device is None else _device(route.device)
    members = {**_netns(route.netns), **route._asdict(), "netns": route.netns.name}
    return _there({**members, "device": device})


def _device(device: Device) -> dict[str, object]:
    return {**_netns(device.netns), "ifname": device.ifname, "ifindex": device.ifindex}


def _netns(netns: Netns) -> dict[str, object]:
    return {"netns": netns.name, "netns_inum": netns.inum}


def _members(end: Socket | Task) -> dict[str, object]:
    if isinstance(end, Socket):
        return {
            **_netns(end.netns),
            "family": end.family,
            "type": end.type,
            "proto": end.proto,
        }
    return {
        "pid": end.pid,
        "comm": end.comm,
        **({} if end.netns is None else _netns(end.netns)),
    }


def _drop(drop: Drop) -> dict[str, object]:
    known: dict[str, object] = {"state": dict(drop.state)} if drop.state else {}
    if drop.egress is not None:
        known["egress"] = _device(drop.egress)
    return {"reason": drop.reason, "function": drop.function, "offset": drop.offset, **known}


def _there(members: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def _compact(members: Mapping[str, object] | Sequence[object]) -> str:
    return json.dumps(members, separators=(",", ":"))


def _line(members: Mapping[str, object]) -> bytes:
    return _compact(members).encode("ascii") + b"\n"


def _no_room(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
