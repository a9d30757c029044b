# SPDX-License-Identifier: GPL-2.0-only
"""Summaries of captures that follow each other: all of them together, and what one adds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tracer.model import Backlog, Counted, Device, Drop, Ended, Stepped, Summary

_Key = tuple[str | None, Device | None, bool, Drop | None]


def total(summaries: Sequence[Summary]) -> Summary:
    """Return what is counted in all of them together. There must be one."""
    first, *others = summaries
    for other in others:
        first = _sum(first, other, 1)
    return first


def since(whole: Summary, before: Summary) -> Summary:
    """Return what ``whole`` counts that ``before``, an earlier one of the same capture, does not.

    What ``before`` does not tell of, it takes nothing away from. What is no number, and how much
    was followed, is as ``whole`` says it.
    """
    less = _sum(whole, before, -1)
    return replace(less, silent=whole.silent, unloaded=whole.unloaded, sampled=whole.sampled)


def _sum(one: Summary, other: Summary, sign: int) -> Summary:
    def sums(ones: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
        names = dict.fromkeys([*ones, *others])
        return {name: max(ones.get(name, 0) + sign * others.get(name, 0), 0) for name in names}

    hits = sums(one.hits, other.hits)
    return Summary(
        journeys=max(one.journeys + sign * other.journeys, 0),
        hops=max(one.hops + sign * other.hops, 0),
        lost=sums(one.lost, other.lost),
        outcomes=sums(one.outcomes, other.outcomes),
        hits=hits,
        beside=max(one.beside + sign * other.beside, 0),
        silent=tuple(f for f in dict.fromkeys((*one.silent, *other.silent)) if not hits.get(f)),
        unloaded=tuple(dict.fromkeys((*one.unloaded, *other.unloaded))),
        unselected=max(one.unselected + sign * other.unselected, 0),
        sampled=(min(one.sampled[0], other.sampled[0]), max(one.sampled[1], other.sampled[1])),
        passed_over=sums(one.passed_over, other.passed_over),
        untriggered=max(one.untriggered + sign * other.untriggered, 0),
        counted=_counted(one.counted, other.counted, sign),
    )


def _counted(one: Counted | None, other: Counted | None, sign: int) -> Counted | None:
    if other is None and sign < 0:
        return one
    if one is None or other is None:
        return None  # some of it was not counted, so all of it is not known
    hits: Counter[str] = Counter()
    packets: Counter[_Key] = Counter()
    size: Counter[_Key] = Counter()
    kinds: dict[_Key, Ended] = {}
    for times, counted in ((1, one), (sign, other)):
        for name, count in counted.hits.items():
            hits[name] += times * count
        for ended in counted.ended:
            key = (ended.function, ended.device, ended.branch, ended.drop)
            kinds.setdefault(key, ended)
            packets[key] += times * ended.packets
            size[key] += times * ended.bytes
    steps = one.steps if not other.steps and sign < 0 else _steps(one.steps, other.steps, sign)
    return Counted(
        {name: max(count, 0) for name, count in hits.items()},
        tuple(
            ended._replace(packets=packets[key], bytes=max(size[key], 0))
            for key, ended in kinds.items()
            if packets[key] > 0
        ),
        steps,
        _backlog(one.backlog, other.backlog, sign),
    )


def _backlog(one: Backlog | None, other: Backlog | None, sign: int) -> Backlog | None:
    """Return the sum or the difference; of a difference, the longest is at most what is told."""
    if one is None or other is None:
        return one if sign < 0 else None
    counts = Counter(dict(one.classes))
    for least, count in other.classes:
        counts[least] += sign * count
    return Backlog(
        max(one.total + sign * other.total, 0),
        max(one.longest, other.longest),
        tuple(sorted((+counts).items())),
    )


def _steps(one: Sequence[Stepped], other: Sequence[Stepped], sign: int) -> tuple[Stepped, ...]:
    """Return sums or differences; of a difference, the longest time is at most what is told."""
    kinds: dict[tuple[object, ...], Stepped] = {}
    total: Counter[tuple[object, ...]] = Counter()
    longest: Counter[tuple[object, ...]] = Counter()
    classes: dict[tuple[object, ...], Counter[int]] = {}
    for times, steps in ((1, one), (sign, other)):
        for step in steps:
            key = step[:3]
            kinds.setdefault(key, step)
            total[key] += times * step.total_ns
            longest[key] = max(longest[key], step.longest_ns)
            counts = classes.setdefault(key, Counter())
            for least, count in step.classes:
                counts[least] += times * count
    found = [
        step._replace(
            total_ns=max(total[key], 0),
            longest_ns=longest[key],
            classes=tuple(sorted((least, count) for least, count in there.items())),
        )
        for key, step in kinds.items()
        if (there := +classes[key])
    ]
    return tuple(sorted(found, key=lambda step: -step.total_ns))
