# SPDX-License-Identifier: GPL-2.0-only
"""Which journeys are asked for by names of namespaces, containers and devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tracer.errors import TopologyError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.model import Topology
    from tracer.selection import Namespaces, Selection
    from tracer.topology.names import Names

_HELP = {
    "--netns": "Only journeys that pass through this namespace: one of `ip netns`, a name as "
    "skbtrace shows it, ns:<inum>, host, a container or a systemd service.",
    "--container": "Only journeys that pass through this container's namespace: its name, or the "
    "beginning of its id.",
    "--from": "Only journeys that begin in this namespace or container.",
    "--device": "Only journeys that pass this device: vethc1, or with its namespace host/vethc1.",
    "--to": "Only journeys that end in this namespace or container, or were on their way there.",
}


class Typed(NamedTuple):
    """The names behind each of the options."""

    netns: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    origin: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    target: tuple[str, ...] = ()


def selecting(command: Callable[..., Any], but: str | None = None) -> Callable[..., Any]:
    """Give a command the options; its parameters are the fields of ``Typed``.

    ``but``: an option that means something else there.
    """
    for (option, text), name in reversed([*zip(_HELP.items(), Typed._fields, strict=True)]):
        if option == but:
            continue
        more = " May be given again: any of them." if option == "--netns" else ""
        command = click.option(option, name, multiple=True, metavar="NAME", help=text + more)(
            command
        )
    return command


def on_this_host(typed: Typed, names: Names, topology: Topology) -> Selection | None:
    """Return what the names mean on this host now; None if nothing was typed.

    Raises TopologyError for a name that means nothing.
    """
    if not any(typed):
        return None
    from tracer.selection import Namespaces, Selection, addresses_of

    def all_of(typed: Iterable[str], find: Callable[[str], frozenset[int]]) -> Namespaces:
        return Namespaces(frozenset().union(*map(find, typed)))

    target = all_of(typed.target, names.find)
    return Selection(
        netns=all_of(typed.netns, names.find),
        container=all_of(typed.container, names.container),
        origin=all_of(typed.origin, names.find),
        target=target,
        addresses=addresses_of(topology, target),
        devices=_devices(typed.device, topology),
    )


def _devices(typed: Iterable[str], topology: Topology) -> frozenset[str]:
    from tracer.selection import called

    names = frozenset(map(printable, typed))
    there = (*topology.own, *topology.others, *topology.uplinks)
    unknown = sorted(names.difference(*map(called, there)))
    if unknown:
        from tracer.topology.names import few

        every = {device.place for device in there}
        raise TopologyError(
            f"{printable(topology.name)} has no device {unknown[0]}{few(every)}",
            hint="sudo skbtrace topo   # what there is",
        )
    return names
