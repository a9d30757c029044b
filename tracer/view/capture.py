# SPDX-License-Identifier: GPL-2.0-only
"""What stands before the first journey and after the last one, in lines for standard error.

Pure: from a Capture and a Summary to lines. What was lost is said with what that means for the
reader; nothing is lost in silence.
"""

from __future__ import annotations

from tracer.completeness import Weight, counted, remarks
from tracer.model import Capture, Device, Outcome, Sampling, Summary, Topology
from tracer.view.line import Line, Span


def opening(capture: Capture) -> list[Line]:
    """Return what is traced, on which kernel, with how many probes; missing probes by name."""
    topology = capture.topology
    name, found = "this host", ""
    if topology is not None:
        name = topology.name
        found = ", built as a lab," if topology.built else ", found on this host,"
    probes = counted(len(capture.attached), "probe")
    where = f"{found} on Linux {capture.kernel} ({capture.machine}): {probes} attached"
    lines: list[Line] = [((name, "flow"), (where, ""))]
    for option, words in capture.asked.items():
        lines.append(((f"{option}: ", ""), (words, "flow")))
    for place in capture.missing:
        why = "" if place.why_missing is None else f": {place.why_missing}"
        lines.append((("! ", "warning"), (f"no probe on {place.function}{why}", "warning")))
    return lines


def changed(before: Topology, now: Topology) -> list[Line]:
    """Return what has come, gone or is called otherwise, a line each; nothing for other changes."""
    was, is_ = _devices(before), _devices(now)
    lines: list[Line] = []
    for key in sorted(is_.keys() - was.keys()):
        lines.append((("+ ", "good"), (_words(is_[key], now), "")))
    for key in sorted(was.keys() - is_.keys()):
        lines.append((("- ", "warning"), (_words(was[key], before), "")))
    for key in sorted(was.keys() & is_.keys()):
        old, new = was[key].place, is_[key].place
        if old != new:
            lines.append((("= ", ""), (f"{new}, was {old}", "")))
    return lines


def sampling(now: Sampling) -> Line:
    """Return how much is followed from now on, and why."""
    words = f"sampling one in {now.one_in}" if now.one_in > 1 else "sampling no more"
    if now.cpu_percent is not None:
        words += f": this traffic took {now.cpu_percent} % of a CPU, the limit is {now.cpu_limit} %"
    return ((words, "" if now.cpu_percent is None else "warning"),)


def _devices(topology: Topology) -> dict[tuple[int, int], Device]:
    others = (device for device in topology.others if device.ifname != "lo")
    return {(device.netns.inum, device.ifindex): device for device in (*topology.own, *others)}


def _words(device: Device, topology: Topology) -> str:
    return "  ".join([device.place, *(a for d, a in topology.addresses if d == device)])


def closing(capture: Capture, summary: Summary) -> list[Line]:
    """Return how many journeys there were, how they ended, and everything that was lost.

    Those that were not asked for are counted apart.
    """
    head: list[Span] = [(counted(summary.journeys, "journey"), "flow")]
    outcomes = [(o, summary.outcomes[o]) for o in Outcome if summary.outcomes.get(o)]
    for number, (outcome, count) in enumerate(outcomes):
        head += [(", " if number else ": ", ""), (f"{count} {outcome}", outcome.value)]
    if not any(summary.lost.values()):
        head += [("; ", ""), ("nothing lost", "good")]
    if summary.unselected:
        head.append((f"; {summary.unselected} not selected", ""))
    if summary.untriggered:
        head.append((f"; {summary.untriggered} not triggered", ""))
    lines: list[Line] = [tuple(head)]
    for weight, said in remarks(capture, summary):
        mark: list[Span] = [("! ", weight.value)] if weight is not Weight.PLAIN else []
        lines.append((*mark, (said, weight.value)))
    return lines
