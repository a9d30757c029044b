# SPDX-License-Identifier: GPL-2.0-only
"""Differences as the members of a JSON object. Times are nanoseconds."""

from __future__ import annotations

from tracer.difference import ALPHA, EFFECT, Differences
from tracer.export.statistics import place


def members(found: Differences) -> dict[str, object]:
    """Return all of them; ``journeys`` and ``p50_ns`` are of A and of B."""
    return {
        "different": bool(found),
        "steps_compared": found.judged,
        "alpha": ALPHA,
        "effect": EFFECT,
        "steps": [
            {
                "function": each.placed.step.function,
                "following": each.placed.step.following,
                **place(each.placed.device),
                "slower": each.slower,
                "count": list(each.counts),
                "p50_ns": list(each.medians_ns),
                "probability": each.probability,
                "p_value": each.p_value,
            }
            for each in found.steps
        ],
        "drops": [
            {
                "reason": where.reason,
                "function": where.function,
                **place(where.device),
                "journeys": [here, there],
            }
            for where, here, there in found.drops
        ],
        "paths": [
            {"path": list(path), "journeys": [here, there]} for path, here, there in found.paths
        ],
        "flows": [
            {
                "flow": each.flow._asdict(),
                "after": None if each.after is None else list(each.after),
                "goes_on": [None if hop is None else list(hop) for hop in each.goes_on],
            }
            for each in found.partings
        ],
    }
