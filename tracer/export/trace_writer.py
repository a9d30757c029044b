# SPDX-License-Identifier: GPL-2.0-only
"""Writes the trace file, one line per journey, as journeys end.

A batch is one write of whole lines, so a tracer that is killed leaves a readable file. There
may be thousands of journeys a second, so a line is put together from pieces of JSON made once
per function, device and address; the tests hold it equal to ``json.dumps`` of the documented
shape. This module must not know where journeys come from, nor how the file was opened.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Mapping, Sequence
from typing import BinaryIO, TypeVar

from tracer.errors import TraceFileError
from tracer.export.trace import FORMAT, VERSION
from tracer.model import Capture, Device, Drop, Flow, Hop, Journey, Summary, Topology

_REMEMBERED = 8192
"""Pieces kept per kind; a trace that names more than this many things starts over."""

_FIXED_FLOW = Flow._fields.index("ip_id")
"""Members of a flow before this one are the same for all its packets."""
_FLOW_KEYS = tuple(f',"{name}":' for name in Flow._fields)
_NO_DEVICE = ',"netns":null,"netns_inum":null,"ifname":null,"ifindex":null'
_JSON_BOOL = {False: "false", True: "true"}

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_HopKey = tuple[str, int, int, int, int, int | None, bool | None]


class TraceWriter:
    """A Sink that writes a trace to ``stream``, a binary stream without a buffer of its own.

    ``name`` is what messages call it. Its methods raise TraceFileError if the disk is full or
    the file cannot be written for another reason; what was written so far is then a readable
    trace, cut at its last whole line, and nothing more is written. BrokenPipeError passes up.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.written = 0
        """Journeys that are whole in the file."""
        self._stream = stream
        self._name = name
        self._failed = False
        self._texts: dict[str, str] = {}
        self._flows: dict[tuple[str | int | None, ...], str] = {}
        self._hops: dict[_HopKey, tuple[str, str, Device | None]] = {}

    def begin(self, capture: Capture) -> None:
        """Write the header."""
        self._write(_line(header(capture)), journeys=False)

    def journeys(self, batch: Sequence[Journey]) -> None:
        """Write one line each, all in one go."""
        self._write("".join([self._journey(j) for j in batch]).encode("ascii"), journeys=True)

    def end(self, summary: Summary) -> None:
        """Write the footer. The stream stays open: closing it is for whoever opened it."""
        self._write(_line(footer(summary)), journeys=False)

    def _journey(self, j: Journey) -> str:
        text = self._text
        parts = [
            f'{{"type":"journey","id":{text(j.id)}'
            f',"parent":{"null" if j.parent is None else text(j.parent)}'
            f',"skb":"{j.skb:#x}","flow":{{{self._flow(j.flow)}}},"start_ns":"{j.start_ns}"'
            f',"duration_ns":{j.duration_ns},"outcome":{text(j.outcome._value_)}'
        ]
        if j.proof is not None:
            parts.append(f',"proof":{text(j.proof)}')
        if j.drop is not None:
            parts.append(f',"drop":{_compact(_drop(j.drop))}')
        if j.damage is not None:
            parts.append(f',"damage":{text(j.damage)}')
        parts.append(f',"hops":[{self._all_hops(j.hops)}]')
        if j.branches:
            branches = ",".join([f'{{"id":{text(b.id)},"hop":{b.hop}}}' for b in j.branches])
            parts.append(f',"branches":[{branches}]')
        parts.append("}\n")
        return "".join(parts)

    def _all_hops(self, hops: tuple[Hop, ...]) -> str:
        # By id: several times faster than the nested hash of a device, or an enum's in Python.
        # The value keeps the device alive, so its id is not given to another one.
        known = self._hops
        out = []
        for function, dt_ns, cpu, device, length, segment, to_cpu, already_running in hops:
            key = (function, cpu, id(device), length, id(segment), to_cpu, already_running)
            try:
                before, after, _ = known[key]
            except KeyError:
                hop = Hop(function, 0, cpu, device, length, segment, to_cpu, already_running)
                before, after, _ = _remember(known, key, (*_around_dt(hop), device))
            out.append(f"{before}{dt_ns}{after}")
        return ",".join(out)

    def _flow(self, flow: Flow) -> str:
        fixed = flow[:_FIXED_FLOW]
        piece = self._flows.get(fixed)
        if piece is None:
            members = {k: v for k, v in zip(Flow._fields, fixed, strict=False) if v is not None}
            piece = _remember(self._flows, fixed, _compact(members)[1:-1])
        parts = [piece]
        for key, value in zip(_FLOW_KEYS[_FIXED_FLOW:], flow[_FIXED_FLOW:], strict=True):
            if value is not None:
                parts.append(key)
                parts.append(self._text(value) if isinstance(value, str) else _number(value))
        return "".join(parts)

    def _text(self, text: str) -> str:
        return self._texts.get(text) or _remember(self._texts, text, json.dumps(text))

    def _write(self, lines: bytes, *, journeys: bool) -> None:
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
        self.written += lines.count(b"\n") if journeys else 0

    def _take_back(self, size: int) -> None:
        """Cut ``size`` bytes of a partial line off again. A pipe cannot be cut."""
        if size:
            with contextlib.suppress(OSError):
                self._stream.truncate(self._stream.tell() - size)


def _remember(known: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
    return value


def _around_dt(hop: Hop) -> tuple[str, str]:
    """Return a hop's JSON before and after the number of ``dt_ns``."""
    where = _NO_DEVICE if hop.device is None else f",{_compact(_device(hop.device))[1:-1]}"
    after = f',"cpu":{hop.cpu}{where},"len":{hop.len}'
    if hop.segment is not None:
        after += f',"segment":"{hop.segment}"'
    if hop.to_cpu is not None:
        after += f',"to_cpu":{hop.to_cpu}'
    if hop.already_running is not None:
        after += f',"already_running":{_JSON_BOOL[hop.already_running]}'
    return f'{{"function":{json.dumps(hop.function)},"dt_ns":', after + "}"


def _number(value: int) -> str:
    return _JSON_BOOL[value] if value.__class__ is bool else str(value)


def header(capture: Capture) -> dict[str, object]:
    """Return the trace's first line as plain values."""
    return {
        "type": "header",
        "format": FORMAT,
        "version": VERSION,
        "tool": capture.tool,
        "kernel": capture.kernel,
        "machine": capture.machine,
        "cpus": capture.cpus,
        "clock": {
            "monotonic_ns": str(capture.monotonic_ns),
            "realtime_ns": str(capture.realtime_ns),
        },
        "topology": None if capture.topology is None else _topology(capture.topology),
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
        "silent": list(summary.silent),
    }


def _topology(topology: Topology) -> dict[str, object]:
    return {
        "name": topology.name,
        "built": topology.built,
        "bridge": None if topology.bridge is None else _device(topology.bridge),
        "ports": [_device(d) for d in topology.ports],
        "ends": [_device(d) for d in topology.ends],
        "addresses": [{**_device(d), "address": address} for d, address in topology.addresses],
    }


def _device(device: Device) -> dict[str, object]:
    return {
        "netns": device.netns.name,
        "netns_inum": device.netns.inum,
        "ifname": device.ifname,
        "ifindex": device.ifindex,
    }


def _drop(drop: Drop) -> dict[str, object]:
    return {"reason": drop.reason, "function": drop.function, "offset": drop.offset}


def _compact(members: Mapping[str, object]) -> str:
    return json.dumps(members, separators=(",", ":"))


def _line(members: Mapping[str, object]) -> bytes:
    return _compact(members).encode("ascii") + b"\n"


def _no_room(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
