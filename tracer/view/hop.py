# SPDX-License-Identifier: GPL-2.0-only
"""All that is known of one hop of a journey, and of a probed function, in lines.

Pure: values and a width in, lines out. What a function does is the word of the probe table.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tracer.duration import words
from tracer.model import Hop, Journey, Outcome, Segment
from tracer.probes import PROBES, Attach, Probe
from tracer.view.line import Line, Span, clip, fill, left
from tracer.view.look import Look
from tracer.words import change_words, socket_words, task_words, verdict_words

_LABEL = 11
_SEGMENTS = {
    Segment.WORK: "work, until the next function",
    Segment.SOFTIRQ_WAIT: "waiting for the softirq of the CPU",
    Segment.BACKLOG_WAIT: "waiting behind others in the CPU's input queue",
    Segment.QDISC_WAIT: "queueing discipline, waiting there included",
    Segment.GRO_WAIT: "GRO, waiting for others to merge with included",
    Segment.SOCKET: "in the socket's queue, until somebody reads it",
}


def hop_lines(journey: Journey, number: int, width: int, look: Look) -> list[Line]:
    """Return what is known of the journey's hop of that index; nothing if there is none."""
    if not 0 <= number < len(journey.hops):
        return []
    hop = journey.hops[number]
    which = f"hop {number + 1} of {len(journey.hops)}  "
    name = clip(look.name(hop.function), max(width - len(which), 0), look.signs.cut)
    lines: list[Line] = [((which, "dim"), (name, "flow"))]
    probe = _probes().get(hop.function)
    if probe is not None:
        said = [(word, "dim") for word in probe.text.split()]
        lines += fill(said, width, look.signs.cut, indent=0)
    for label, known in _facts(journey, number, look):
        beside = max(width - _LABEL, 1)
        first = left(label, _LABEL, look.signs.cut)
        for line in fill(known, beside, look.signs.cut, indent=0):
            lines.append(((first, "heading"), *line))
            first = " " * _LABEL
    return lines


def function_lines(function: str, width: int, look: Look) -> list[Line]:
    """Return what is known of a function that may be probed, whatever packet is at it."""
    lines: list[Line] = [((clip(look.name(function), width, look.signs.cut), "flow"),), ()]
    probe = _probes().get(function)
    if probe is None:
        return [*lines, (("This skbtrace does not know this function.", "dim"),)]
    lines += fill(
        [(word, "") for word in f"{probe.text}.".split()], width, look.signs.cut, indent=0
    )
    lines.append(())
    for label, said in _about(probe):
        text = [(word, "") for word in said.split()]
        first = left(label, _LABEL, look.signs.cut)
        for line in fill(text, max(width - _LABEL, 1), look.signs.cut, indent=0):
            lines.append(((first, "heading"), *line))
            first = " " * _LABEL
    return lines


@cache
def _probes() -> dict[str, Probe]:
    """Function → the entry that begins something there; a return comes later in the table."""
    found: dict[str, Probe] = {}
    for probe in PROBES:
        found.setdefault(probe.function, probe)
    return found


def _about(probe: Probe) -> Iterator[tuple[str, str]]:
    yield "layer", probe.layer.value + (", always probed" if probe.always else "")
    kinds = {
        Attach.KPROBE: "kprobe",
        Attach.KRETPROBE: "kretprobe",
        Attach.RAW_TRACEPOINT: "raw tracepoint",
    }
    yield "seen by", kinds[probe.attach]
    if probe.alternatives:
        yield "or called", ", ".join(probe.alternatives)
    yield "after it", _SEGMENTS[probe.segment]
    if probe.then is not None:
        yield "next", probe.then
    if probe.module is not None:
        yield "module", probe.module
    if probe.since is not None:
        yield "since", f"Linux {probe.since}"


def _facts(journey: Journey, number: int, look: Look) -> Iterator[tuple[str, list[Span]]]:
    hop = journey.hops[number]
    device = hop.device
    if device is None:
        yield "device", [("none", "unknown")]
    else:
        place = look.name(device.place)
        yield "device", [(place, look.style_of(device.netns)), (f"ifindex {device.ifindex}", "dim")]
    if number == len(journey.hops) - 1 and journey.outcome is Outcome.DROPPED:
        yield from _drop(journey, look)
    yield "CPU", [(word, "") for word in _cpu(journey, number).split()]
    yield "at", [(words(hop.dt_ns), ""), ("after the first hop", "dim")]
    yield from _took(journey, number)
    yield "length", [(f"{hop.len} bytes", "")]
    if hop.task is not None:
        yield "process", [(look.name(task_words(hop.task)), "task")]
    if hop.verdict is not None:
        yield "verdict", [(look.name(verdict_words(hop.verdict)[0]), "verdict")]
    if hop.socket is not None:
        yield "socket", [(look.name(socket_words(hop.socket)), "socket")]
    for change in hop.changes:
        said = " ".join(change_words(change, look.signs.across))
        yield "changed", [(look.name(said), "change")]
    leaving = [f"#{look.name(branch.id)}" for branch in journey.branches if branch.hop == number]
    if leaving:
        yield "branches", [(each, "branch") for each in leaving]
    yield "skb", [(f"{journey.skb:#x}", "dim")]


def _took(journey: Journey, number: int) -> Iterator[tuple[str, list[Span]]]:
    if number + 1 >= len(journey.hops):
        yield "ends", [(journey.outcome.value, journey.outcome.value)]
        return
    hop, following = journey.hops[number : number + 2]
    took = max(following.dt_ns - hop.dt_ns, 0)
    share = f"{100 * took / journey.duration_ns:.0f} %" if journey.duration_ns else ""
    kind = "" if hop.segment is None else _SEGMENTS[hop.segment]
    said: list[Span] = [(f"{words(took)}", ""), (share, "dim"), (kind, "dim")]
    yield "took", [span for span in said if span[0]]


def _cpu(journey: Journey, number: int) -> str:
    hop: Hop = journey.hops[number]
    said = str(hop.cpu)
    if hop.to_cpu is not None:
        said += f", put on the input queue of CPU {hop.to_cpu}"
    if hop.already_running:
        said += ", whose softirq was running already"
    return said


def _drop(journey: Journey, look: Look) -> Iterator[tuple[str, list[Span]]]:
    drop = journey.drop
    if drop is None:
        return
    if drop.reason is not None:
        yield "reason", [(look.name(drop.reason), "dropped")]
    if drop.function is not None:
        yield "dropped by", [(look.name(f"{drop.function}+{drop.offset:#x}"), "dropped")]
    for name, value in drop.state:
        yield "state", [(look.name(f"{name} {value}"), "state")]
