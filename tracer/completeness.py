# SPDX-License-Identifier: GPL-2.0-only
"""How complete a capture was, in words: what was lost, left out or not seen, and what that means.

Pure: from a Capture and a Summary to sentences. Nothing is lost in silence. Knows no signs and
styles.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from tracer.model import Capture, Summary

LOSSES = {
    "ring_full": "records found the ring buffer full; these journeys are missing or damaged",
    "table_full": "times there was no room to follow a packet, once at each function that it met; "
    "at most so many journeys are missing, or begin late",
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


class Weight(StrEnum):
    """How much a remark matters."""

    BAD = "bad"
    """Something is missing that was there."""
    WARNING = "warning"
    """Something may be missing."""
    PLAIN = ""
    """It is as was asked for."""


class Remark(NamedTuple):
    """A sentence about a capture."""

    weight: Weight
    said: str


def remarks(capture: Capture, summary: Summary) -> Iterator[Remark]:
    """Give all there is to say; nothing about losses if nothing was lost."""
    for name, count in summary.lost.items():
        if count:
            yield Remark(Weight.BAD, f"{name} {count}: {LOSSES.get(name, 'lost')}")
    for said in (*_passed_over(summary), *_unseen(summary)):
        yield Remark(Weight.PLAIN, said)
    if summary.beside:
        received = counted(summary.beside, "packet")
        said = f"{received} of the uplinks did not come here and are not shown"
        yield Remark(Weight.PLAIN, said)
    if "probe_missed" not in summary.lost:
        said = "hits of probes that were passed over are not counted: this kernel does not tell"
        yield Remark(Weight.WARNING, said)
    for function in summary.silent:
        said = f"{function} never fired, although its neighbours did"
        yield Remark(Weight.WARNING, said)
    if summary.unloaded:
        names = ", ".join(summary.unloaded)
        said = f"not seen any more since the module was unloaded: {names}; start skbtrace anew"
        yield Remark(Weight.BAD, said)
    if capture.missing:
        names = ", ".join(dict.fromkeys(p.function for p in capture.missing))
        yield Remark(Weight.WARNING, f"not probed: {names}")


def _passed_over(summary: Summary) -> Iterator[str]:
    least, most = summary.sampled
    passed = summary.passed_over
    if passed.get("filter"):
        yield f"the filter refused {counted(passed['filter'], 'packet')}"
    if most > 1:
        one_in = f"one in {most}" if least == most else f"one in {least} to {most}"
        yield f"sampled: {one_in}, {counted(passed.get('sample', 0), 'packet')} passed over"
    for name, option in (("max_rate", "--max-rate"), ("per_flow", "--per-flow")):
        if passed.get(name):
            yield f"{option}: {counted(passed[name], 'packet')} passed over"


def _unseen(summary: Summary) -> Iterator[str]:
    """What the kernel has counted, where journeys were lost on the way from there."""
    totals = summary.counted
    if totals is not None and summary.lost.get("ring_full"):
        dropped = sum(ended.packets for ended in totals.ended if ended.drop is not None)
        ended = f"{counted(totals.packets, 'packet')} ended, {dropped} by a drop"
        yield f"counted in the kernel: {ended}"


def counted(number: int, noun: str) -> str:
    """Return ``1 packet``, ``2 packets``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
