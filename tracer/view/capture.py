# SPDX-License-Identifier: GPL-2.0-only
"""What stands before the first journey and after the last one, in lines for standard error.

Pure: from a Capture and a Summary to lines. What was lost is said with what that means for the
reader; nothing is lost in silence.
"""

from __future__ import annotations

from tracer.model import Capture, Device, Outcome, Sampling, Summary, Topology
from tracer.view.line import Line, Span

LOSSES = {
    "ring_full": "records found the ring buffer full; these journeys are missing or damaged",
    "table_full": "packets were not followed, too many were being followed already",
    "end_missed": "journeys ended unseen; they are shown as damaged",
    "clone_missed": "clones stand without their parent, which is not known",
    "chunk_lost": "pieces of long journeys are missing; these are shown as damaged",
    "probe_missed": "hits of a probe were passed over, its CPU was inside another one; at most so "
    "many hops are missing",
    "hop_missing": "times a hop is missing between two that do not follow one another",
    "unread": "records, most of them whole journeys, were left unread when told again to end",
    "hop_limit": "hops are left out of packets that passed more probes than a journey may have",
}
"""Loss counter → what its number counts and means."""


def opening(capture: Capture) -> list[Line]:
    """Return what is traced, on which kernel, with how many probes; missing probes by name."""
    topology = capture.topology
    name, found = "this host", ""
    if topology is not None:
        name = topology.name
        found = ", built as a lab," if topology.built else ", found on this host,"
    probes = _count(len(capture.attached), "probe")
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


def _passed_over(summary: Summary) -> list[Line]:
    least, most = summary.sampled
    lines: list[Line] = []
    passed = summary.passed_over
    if passed.get("filter"):
        lines.append(((f"the filter refused {_count(passed['filter'], 'packet')}", ""),))
    if most > 1:
        one_in = f"one in {most}" if least == most else f"one in {least} to {most}"
        count = _count(passed.get("sample", 0), "packet")
        lines.append(((f"sampled: {one_in}, {count} passed over", ""),))
    for name, option in (("max_rate", "--max-rate"), ("per_flow", "--per-flow")):
        if passed.get(name):
            lines.append(((f"{option}: {_count(passed[name], 'packet')} passed over", ""),))
    return lines


def _unseen(summary: Summary) -> list[Line]:
    """What the kernel has counted, where journeys were lost on the way from there."""
    counted = summary.counted
    if counted is None or not summary.lost.get("ring_full"):
        return []
    dropped = sum(ended.packets for ended in counted.ended if ended.drop is not None)
    words = f"counted in the kernel: {_count(counted.packets, 'packet')} ended, {dropped} by a drop"
    return [((words, ""),)]


def _devices(topology: Topology) -> dict[tuple[int, int], Device]:
    others = (device for device in topology.others if device.ifname != "lo")
    return {(device.netns.inum, device.ifindex): device for device in (*topology.own, *others)}


def _words(device: Device, topology: Topology) -> str:
    return "  ".join([device.place, *(a for d, a in topology.addresses if d == device)])


def closing(capture: Capture, summary: Summary) -> list[Line]:
    """Return how many journeys there were, how they ended, and everything that was lost.

    Those that were not asked for are counted apart.
    """
    head: list[Span] = [(_count(summary.journeys, "journey"), "flow")]
    outcomes = [(o, summary.outcomes[o]) for o in Outcome if summary.outcomes.get(o)]
    for number, (outcome, count) in enumerate(outcomes):
        head += [(", " if number else ": ", ""), (f"{count} {outcome}", outcome.value)]
    lost = {name: count for name, count in summary.lost.items() if count}
    if not lost:
        head += [("; ", ""), ("nothing lost", "good")]
    if summary.unselected:
        head.append((f"; {summary.unselected} not selected", ""))
    if summary.untriggered:
        head.append((f"; {summary.untriggered} not triggered", ""))
    lines: list[Line] = [tuple(head)]
    for name, count in lost.items():
        lines.append((("! ", "bad"), (f"{name} {count}: {LOSSES.get(name, 'lost')}", "bad")))
    lines += _passed_over(summary)
    lines += _unseen(summary)
    if summary.beside:
        received = _count(summary.beside, "packet")
        lines.append(((f"{received} of the uplinks did not come here and are not shown", ""),))
    if "probe_missed" not in summary.lost:
        unknown = "hits of probes that were passed over are not counted: this kernel does not tell"
        lines.append((("! ", "warning"), (unknown, "warning")))
    for function in summary.silent:
        lines.append(
            (
                ("! ", "warning"),
                (f"{function} never fired, although its neighbours did", "warning"),
            )
        )
    if summary.unloaded:
        names = ", ".join(summary.unloaded)
        words = f"not seen any more since the module was unloaded: {names}; start skbtrace anew"
        lines.append((("! ", "bad"), (words, "bad")))
    if capture.missing:
        names = ", ".join(dict.fromkeys(p.function for p in capture.missing))
        lines.append((("! ", "warning"), (f"not probed: {names}", "warning")))
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
