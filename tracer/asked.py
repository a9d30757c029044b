# SPDX-License-Identifier: GPL-2.0-only
"""What a run is asked to trace, and how much of it: what the kernel program is compiled for.

What is not asked for is not compiled. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tracer.filter import Filter
from tracer.limits import EVERYTHING, Limits
from tracer.model import Layer
from tracer.probes import DEFAULT_LAYERS
from tracer.trigger import Trigger
from tracer.wanted import ANYTHING, Wanted


@dataclass(frozen=True, slots=True)
class Asked:
    """By default every packet, with the default layers."""

    layers: Collection[Layer] = DEFAULT_LAYERS
    """Probes beside those that are always there."""
    changes: bool = True
    """Whether every hop looks at what is different about the packet."""
    filter: Filter | None = None
    """Which packets begin a journey, by their bytes ..."""
    wanted: Wanted = ANYTHING
    """... and by what else is known of them."""
    limits: Limits = EVERYTHING
    """How many of these are followed."""
    trigger: Trigger | None = None
    """Which journeys are kept at their end; None: all."""
    snaplen: int | None = None
    """Bytes kept of each packet, from 1 to wire.SNAPLEN_MAX; None: only its headers."""

    @property
    def passes_over(self) -> bool:
        """Whether there may be packets that are not followed."""
        return self.filter is not None or bool(self.wanted) or not self.limits.takes_all
