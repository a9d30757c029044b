# SPDX-License-Identifier: GPL-2.0-only
"""What ``--topology NAME`` names: a bridge, a lab that stands or is built for the run, this host.

It must not know what is traced of it, nor who looks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tracer.errors import TopologyError

if TYPE_CHECKING:
    from tracer.model import Topology
    from tracer.topology.names import Names
    from tracer.topology.spec import Lab
    from tracer.topology.watch import Watch


class Found(NamedTuple):
    """What is traced."""

    topology: Topology
    names: Names
    built: Lab | None
    """The lab, if it was built for this capture."""
    look: Callable[[], Topology]
    """Finds it as it is now."""


def find(stack: ExitStack, name: str, notice: Callable[[str], None]) -> Found:
    """Find what has that name on this host; a lab that is not there is built until the stack ends.

    ``notice`` is told which it is. Raises TopologyError.
    """
    from tracer.topology import discover
    from tracer.topology.build import standing
    from tracer.topology.names import Names

    names = Names()
    if name == discover.AUTO:
        notice("tracing every device of this host")
        return Found(discover.everything(names), names, None, lambda: discover.everything(Names()))
    lab = discover.lab_called(name)
    if lab is not None:
        built = stack.enter_context(standing(lab))
        if built:
            where = f"no {name} on this host: the lab {name}" if lab.on_host else f"the lab {name}"
            notice(f"{where} is built, and taken down at the end")
        elif not lab.on_host:
            notice(f"found the lab {name}")
        if built or not lab.on_host:
            whole = replace(discover.discover_lab(lab, names), built=built)

            def look() -> Topology:
                try:
                    return replace(discover.discover_lab(lab, Names()), built=built)
                except TopologyError:  # somebody has taken a part of it away
                    if not lab.on_host:
                        return whole
                    return replace(discover.discover(name, Names()), built=built)

            return Found(whole, names, lab if built else None, look)
    topology = discover.discover(name, names)
    ports = len(topology.ports)
    notice(f"found {topology.name}: {ports} port{'' if ports == 1 else 's'}")
    return Found(topology, names, None, lambda: discover.discover(name, Names()))


def watching(found: Found) -> Watch:
    """Return what notices how it changes while it is traced."""
    from tracer.topology.discover import root
    from tracer.topology.engines import listen
    from tracer.topology.watch import Watch

    path = root(found.topology, found.names)
    return Watch(found.topology, found.look, path=path, others=listen())
