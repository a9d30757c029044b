# SPDX-License-Identifier: GPL-2.0-only
"""Folded stacks, for flame graphs: where the journeys' time went.

A line is ``netns;ifname;function NANOSECONDS``, what waiting there took has its kind behind the
function. Flame graphs of it: flamegraph.pl, inferno, speedscope. Memory grows with how different
the hops are, not with how many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tracer.export.formats import Exported
from tracer.model import Device, Hop, Segment

Key = tuple[str, Segment | None, Device | None]


def folded(trace: Exported) -> Iterator[bytes]:
    """Give the lines, sorted."""
    took: Counter[Key] = Counter()
    for journey in trace:
        last: Hop | None = None
        device: Device | None = journey.first_device
        for hop in journey.hops:
            if last is not None:
                took[last.function, last.segment, device] += max(hop.dt_ns - last.dt_ns, 0)
            device = hop.device or device
            last = hop
    lines = [f"{_stack(*key)} {ns}\n" for key, ns in took.items() if ns]
    yield "".join(sorted(lines)).encode()


def _stack(function: str, segment: Segment | None, device: Device | None) -> str:
    where = ("no namespace", "no device")
    if device is not None:
        where = (device.netns.name, device.ifname)
    waits = segment not in {None, Segment.WORK}
    frames = (*where, function, *([segment.value.replace("_", " ")] if waits and segment else []))
    return ";".join(frame.replace(";", ":") for frame in frames)
