# SPDX-License-Identifier: GPL-2.0-only
"""Chrome's Trace Event Format, JSON: what Perfetto and chrome://tracing open.

A namespace is a process and a device a thread. A journey's stay at a device is a slice, and each
hop a slice within it; arrows lead from stay to stay, and from a journey to what was made of it.
Slices of one thread may not overlap unless one lies within the other: where several packets are at
a device at once it has several threads, its lanes. Times are microseconds since the capture began,
exact to the nanosecond for 50 days: the numbers are floats in JSON, and to those who read it.
"""

from __future__ import annotations

import json
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from operator import itemgetter

from tracer.export.formats import Exported
from tracer.export.stays import Stay, stays
from tracer.model import Capture, Device, Drop, Flow, Hop, Journey, Netns, Outcome
from tracer.words import change_words, ending, flow_words, socket_words, task_words, verdict_words

_BATCH = 512
"""Journeys in a piece."""
_WAITING = 65536
"""Branches whose other end has not come yet."""
_PIECES = 65536


def chrome(trace: Exported) -> Iterator[bytes]:
    """Give the pieces of the file."""
    capture = trace.capture
    yield (
        f'{{"displayTimeUnit":"ns","otherData":{_text(_about(capture))},"traceEvents":[\n'
        '{"ph":"M","name":"trace","pid":0,"tid":0,"args":{}}'
    ).encode()
    events = _Events(capture)
    pieces: list[str] = []
    for number, journey in enumerate(trace, start=1):
        pieces += events.of(journey)
        if not number % _BATCH:
            yield "".join(pieces).encode()
            pieces.clear()
    yield "".join([*pieces, "\n]}\n"]).encode()


def _about(capture: Capture) -> dict[str, str]:
    topology = "" if capture.topology is None else capture.topology.name
    return {"tool": capture.tool, "kernel": capture.kernel, "topology": topology}


class _Place:
    """A device: its process and its threads."""

    __slots__ = ("lanes", "name", "order", "pid")

    def __init__(self, name: str, pid: int, order: int) -> None:
        self.name = name
        self.pid = pid
        self.order = order
        self.lanes: list[tuple[int, str]] = []
        """When the last slice of each ends, rising, and its process and thread as JSON."""

    def free(self, start: int) -> str | None:
        """Take the lane out that was left last before that; None if there is none."""
        at = bisect_right(self.lanes, start, key=_END)
        return self.lanes.pop(at - 1)[1] if at else None

    def keep(self, end: int, where: str) -> None:
        """Put a lane in, which has a slice until then."""
        insort(self.lanes, (end, where), key=_END)


_END = itemgetter(0)


class _Events:
    """Makes the events of journeys; each begins with the comma that parts it from the one before.

    Nearly all of a hop's event is the same for thousands of hops: those pieces are kept.
    """

    def __init__(self, capture: Capture) -> None:
        self._began = capture.monotonic_ns
        self._since: int | None = None
        self._pids: dict[Netns | None, int] = {}
        self._devices: dict[Device | None, _Place] = {}
        self._places: dict[int, tuple[_Place, Device | None]] = {}
        self._tids = 0
        self._hops: dict[tuple[object, ...], tuple[str, Device | None]] = {}
        self._flows: dict[Flow, str] = {}
        self._ends: dict[tuple[Outcome, Drop | None], str] = {}
        self._arrows = 0
        # Child's id → where it begins, or where it leaves its parent, whichever is known.
        self._open: OrderedDict[str, tuple[bool, str]] = OrderedDict()

    def of(self, journey: Journey) -> list[str]:
        """Return the events of a journey."""
        out: list[str] = []
        if not journey.hops:
            return out
        if self._since is None:
            self._since = min(self._began, journey.start_ns)
        base = journey.start_ns - self._since
        parts = stays(journey)
        name = self._name(journey)
        about = self._about(journey)
        self._arrows += 1
        wheres: list[str] = []
        for number, stay in enumerate(parts):
            where = self._where(stay, base, out)
            wheres += [where] * (stay.end - stay.first)
            arrows = ""
            if len(parts) > 1:  # one id for the whole chain
                arrows = f',"bind_id":"{self._arrows:#x}"'
                arrows += ',"flow_in":true' if number else ""
                arrows += ',"flow_out":true' if number + 1 < len(parts) else ""
            took = max(stay.end_ns - stay.start_ns, 0)
            out.append(
                f',\n{{"ph":"X","cat":"stay","name":{name}{where}'
                f',"ts":{_us(base + stay.start_ns)},"dur":{_us(took)}'
                f'{arrows},"args":{about}}}'
            )
            self._add_hops(journey, stay, base, where, out)
        if journey.drop is not None:
            out.append(
                f',\n{{"ph":"i","s":"t","cat":"drop","name":{_text(ending(journey))}{wheres[-1]}'
                f',"ts":{_us(base + journey.hops[-1].dt_ns)},"args":{about}}}'
            )
        self._add_branches(journey, base, wheres, out)
        return out

    def _where(self, stay: Stay, base: int, out: list[str]) -> str:
        """Return the process and the thread of a stay; introduce them, if they are new."""
        device = stay.device
        # By id: a device's own hash costs more than all the rest.
        known = self._places.get(id(device))
        place = self._place(device, out) if known is None else known[0]
        start = base + stay.start_ns
        end = max(base + stay.end_ns, start + 1)
        where = place.free(start) or self._lane(place, out)
        place.keep(end, where)
        return where

    def _place(self, device: Device | None, out: list[str]) -> _Place:
        if len(self._places) >= _PIECES:
            self._places.clear()
        place = self._devices.get(device)
        if place is None:
            netns = None if device is None else device.netns
            pid = self._pids.get(netns)
            if pid is None:
                pid = self._pids[netns] = len(self._pids) + 1
                called = "no namespace" if netns is None else netns.name
                out.append(_meta("process_name", pid, 0, f'"name":{_text(called)}'))
                out.append(_meta("process_sort_index", pid, 0, f'"sort_index":{pid}'))
            called = "no device" if device is None else device.ifname
            place = self._devices[device] = _Place(called, pid, len(self._devices))
        # The device is kept, so that its id does not become another one's.
        self._places[id(device)] = (place, device)
        return place

    def _lane(self, place: _Place, out: list[str]) -> str:
        self._tids += 1
        where = f',"pid":{place.pid},"tid":{self._tids}'
        number = len(place.lanes) + 1
        called = place.name if number == 1 else f"{place.name} ({number})"
        order = place.order * 1000 + min(number, 999)
        out.append(_meta("thread_name", place.pid, self._tids, f'"name":{_text(called)}'))
        out.append(_meta("thread_sort_index", place.pid, self._tids, f'"sort_index":{order}'))
        return where

    def _add_hops(
        self, journey: Journey, stay: Stay, base: int, where: str, out: list[str]
    ) -> None:
        hops = journey.hops
        known = self._hops
        last = len(hops) - 1
        for number in range(stay.first, stay.end):
            hop = hops[number]
            fn, dt_ns, cpu, device, size, segment, to_cpu, running, verdict, socket, task, new = hop
            took = hops[number + 1].dt_ns - dt_ns if number < last else 0
            key = (fn, cpu, size, id(device), id(segment), to_cpu, running, verdict)
            kept = known.get(key)
            if kept is None:
                if len(known) >= _PIECES:
                    known.clear()
                # The device is kept, so that its id does not become another one's.
                kept = known[key] = (_alike(hop), device)
            piece = kept[0]
            if socket is not None or task is not None or new:
                piece = f"{piece[:-2]}{_rarer(hop)}}}}}"
            out.append(
                f',\n{{"ph":"X"{where},"ts":{(base + dt_ns) / 1000:.3f}'
                f',"dur":{took / 1000 if took > 0 else 0:.3f}{piece}'
            )

    def _add_branches(self, journey: Journey, base: int, wheres: list[str], out: list[str]) -> None:
        if journey.parent is not None:
            self._meet(journey.id, True, f'{wheres[0]},"ts":{_us(base)}', out)
        for branch in journey.branches:
            at = min(branch.hop, len(wheres) - 1)
            where = f'{wheres[at]},"ts":{_us(base + journey.hops[at].dt_ns)}'
            self._meet(branch.id, False, where, out)

    def _meet(self, child: str, begins: bool, where: str, out: list[str]) -> None:
        """Draw the arrow to a branch once both its ends are known; without one there is none."""
        other = self._open.pop(child, None)
        if other is None or other[0] == begins:
            self._open[child] = (begins, where)
            if len(self._open) > _WAITING:
                self._open.popitem(last=False)
            return
        source, target = (other[1], where) if begins else (where, other[1])
        name = f'"cat":"branch","name":"branch","id":{_text(child)}'
        out.append(f',\n{{"ph":"s",{name}{source}}}')
        out.append(f',\n{{"ph":"f","bp":"e",{name}{target}}}')

    def _name(self, journey: Journey) -> str:
        flow = journey.flow
        name = self._flows.get(flow)
        if name is None:
            if len(self._flows) >= _PIECES:
                self._flows.clear()
            name = self._flows[flow] = _text(" ".join(flow_words(flow)))
        return name

    def _about(self, journey: Journey) -> str:
        end = self._ends.get(key := (journey.outcome, journey.drop))
        if end is None:
            if len(self._ends) >= _PIECES:
                self._ends.clear()
            end = self._ends[key] = _text(ending(journey))
        parent = "" if journey.parent is None else f',"parent":{_text(journey.parent)}'
        return f'{{"journey":{_text(journey.id)},"outcome":{end}{parent}}}'


def _alike(hop: Hop) -> str:
    """Return what all hops have that differ from this one only in their time."""
    args = f'"cpu":{hop.cpu},"len":{hop.len}'
    if hop.to_cpu is not None:
        args += f',"to_cpu":{hop.to_cpu}'
    if hop.already_running is not None:
        args += f',"already_running":{_text(hop.already_running)}'
    if hop.verdict is not None:
        args += f',"verdict":{_text(verdict_words(hop.verdict)[0])}'
    segment = "end" if hop.segment is None else hop.segment.value
    return f',"cat":{_text(segment)},"name":{_text(hop.function)},"args":{{{args}}}}}'


def _rarer(hop: Hop) -> str:
    said = ""
    if hop.socket is not None:
        said += f',"socket":{_text(socket_words(hop.socket))}'
    if hop.task is not None:
        said += f',"task":{_text(task_words(hop.task))}'
    if hop.changes:
        changes = [" ".join(change_words(change, "->")) for change in hop.changes]
        said += f',"changes":{_text(changes)}'
    return said


def _meta(kind: str, pid: int, tid: int, args: str) -> str:
    return f',\n{{"ph":"M","name":"{kind}","pid":{pid},"tid":{tid},"args":{{{args}}}}}'


def _us(ns: int) -> str:
    return f"{ns / 1000:.3f}"


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
