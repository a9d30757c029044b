# SPDX-License-Identifier: GPL-2.0-only
"""Statistics as the members of a JSON object. Times are nanoseconds, ids are texts."""

from __future__ import annotations

from tracer.histogram import ERROR, Histogram
from tracer.model import Capture, Device, Summary
from tracer.statistics import GroupKey, Statistics
from tracer.tally import FlowKey

_PARTS = {"p50_ns": 0.5, "p90_ns": 0.9, "p99_ns": 0.99, "p999_ns": 0.999}


def members(statistics: Statistics, capture: Capture, summary: Summary | None) -> dict[str, object]:
    """Return all of it. ``summary``: of the trace; None if that was not whole."""
    s = statistics
    return {
        "journeys": s.journeys,
        "hops": s.hops,
        "bytes": s.bytes,
        "branches": s.branches,
        "seconds": s.seconds,
        "outcomes": {outcome.value: count for outcome, count in s.outcomes.items()},
        "took": _times(s.took),
        "percentile_error": ERROR,
        "kinds": {kind.value: _times(took) for kind, took in s.kinds.items()},
        "steps": [
            {
                "function": step.function,
                "following": step.following,
                "segment": None if step.segment is None else step.segment.value,
                **place(device),
                **_times(took),
            }
            for (step, device), took in sorted(s.steps.items(), key=lambda item: -item[1].total)
        ],
        "counted_steps": _counted(summary),
        "backlog": _backlog(summary),
        "by": s.by.value,
        "groups": [
            {
                **_key(key, s.by.value),
                "journeys": group.journeys,
                "bytes": group.bytes,
                "dropped": group.dropped,
                "first": group.first,
                **_times(group.took),
            }
            for key, group in sorted(s.groups.items(), key=lambda item: -item[1].journeys)
        ],
        "drops": [
            {
                "reason": where.reason,
                "function": where.function,
                **place(where.device),
                "journeys": dropped.journeys,
                "last": dropped.last.id,
            }
            for where, dropped in sorted(s.drops.items(), key=lambda item: -item[1].journeys)
        ],
        "slowest": [{"id": journey_id, "took_ns": took} for took, journey_id in s.slowest],
        "capture": {
            "kernel": capture.kernel,
            "missing": [probe.function for probe in capture.missing],
            "whole": summary is not None,
            "lost": None if summary is None else summary.lost,
            "passed_over": None if summary is None else summary.passed_over,
        },
    }


def _counted(summary: Summary | None) -> list[dict[str, object]] | None:
    """Of all packets that were followed, whichever journeys were asked for here."""
    if summary is None or summary.counted is None or not summary.counted.steps:
        return None
    return [
        {
            "function": step.function,
            "following": step.following,
            "segment": None if step.segment is None else step.segment.value,
            **_times(step.took),
        }
        for step in summary.counted.steps
    ]


def _backlog(summary: Summary | None) -> dict[str, object] | None:
    """Of the input queues of this host's CPUs."""
    if summary is None or summary.counted is None or summary.counted.backlog is None:
        return None
    lengths = summary.counted.backlog.lengths
    found = lengths.percentiles(*_PARTS.values())
    names = (name.removesuffix("_ns") for name in _PARTS)
    return {
        "served": lengths.count,
        "total": lengths.total,
        **dict(zip(names, found, strict=True)),
        "max": lengths.largest,
    }


def _times(took: Histogram) -> dict[str, object]:
    found = took.percentiles(*_PARTS.values())
    return {
        "count": took.count,
        "total_ns": took.total,
        **dict(zip(_PARTS, found, strict=True)),
        "max_ns": took.largest,
    }


def place(device: Device | None) -> dict[str, object]:
    """Return the members that tell a device."""
    if device is None:
        return {"netns": None, "ifname": None}
    return {"netns": device.netns.name, "ifname": device.ifname}


def _key(key: GroupKey, by: str) -> dict[str, object]:
    if isinstance(key, FlowKey):
        return {by: key._asdict()}
    return {by: list(key) if isinstance(key, tuple) else key}
