# SPDX-License-Identifier: GPL-2.0-only
"""A journey as its stays: how long it was at which device. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tracer.model import Device, Journey


class Stay(NamedTuple):
    """The hops of a journey from its coming to a device until it is at another one."""

    device: Device | None
    """None: the journey was never seen at a device."""
    first: int
    """Index in ``hops`` of the first hop."""
    end: int
    """Index in ``hops`` of the first hop that is no more of this stay."""
    start_ns: int
    """Since the journey's first hop."""
    end_ns: int
    """When it was at the next device; of the last stay: its last hop."""


def stays(journey: Journey) -> list[Stay]:
    """Return them in order; every hop is in exactly one of them.

    A hop at no device counts to where the packet was before, one before the first device to that.
    """
    hops = journey.hops
    found: list[Stay] = []
    device: Device | None = None
    first = 0
    for number, hop in enumerate(hops):
        here = hop.device
        if here is None or here is device or here == device:  # mostly the very same object
            continue
        if device is not None:
            found.append(Stay(device, first, number, hops[first].dt_ns, hop.dt_ns))
            first = number
        device = here
    if hops:
        found.append(Stay(device, first, len(hops), hops[first].dt_ns, hops[-1].dt_ns))
    return found
