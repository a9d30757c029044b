# SPDX-License-Identifier: GPL-2.0-only
"""Which journeys were asked for: by names of namespaces and devices, or by a trace's filter."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tracer.errors import TopologyError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.model import Journey, Topology
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

    netns: tuple[str, ...]
    container: tuple[str, ...]
    origin: tuple[str, ...]
    device: tuple[str, ...]
    target: tuple[str, ...]


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; its parameters are the fields of ``Typed``."""
    for (option, text), name in reversed([*zip(_HELP.items(), Typed._fields, strict=True)]):
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
    from tracer.selection import Namespaces, Selection

    def all_of(typed: Iterable[str], find: Callable[[str], frozenset[int]]) -> Namespaces:
        return Namespaces(frozenset().union(*map(find, typed)))

    target = all_of(typed.target, names.find)
    return Selection(
        netns=all_of(typed.netns, names.find),
        container=all_of(typed.container, names.container),
        origin=all_of(typed.origin, names.find),
        target=target,
        addresses=_addresses(topology, target),
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


class InATrace:
    """What the names mean in a trace: its own namespaces have these names or inode numbers."""

    def __init__(self, typed: Typed, topology: Topology | None) -> None:
        from tracer.selection import Selection

        self._typed = typed
        target = _named(typed.target)
        self._selection = Selection(
            netns=_named(typed.netns),
            container=_named(typed.container),
            origin=_named(typed.origin),
            target=target,
            addresses=_addresses(topology, target),
            devices=frozenset(map(printable, typed.device)),
        )
        own = () if topology is None else topology.own
        self._met = {device.netns for device in own}
        self._met_devices = set(own)

    @property
    def wants(self) -> Callable[[Journey], bool]:
        """What says of a journey whether it is wanted."""
        return self._selection

    def chosen(self, journeys: Iterable[Journey]) -> Iterator[Journey]:
        """Give those that are wanted."""
        from tracer.selection import met

        for journey in journeys:
            self._met.update(met(journey))
            if self._typed.device:
                self._met_devices.update(h.device for h in journey.hops if h.device is not None)
            if self._selection(journey):
                yield journey

    def check(self, file: str) -> None:
        """Raise TopologyError for a name that no namespace had in the journeys so far."""
        typed = self._typed
        self._check_devices(file)
        for name in (*typed.netns, *typed.container, *typed.origin, *typed.target):
            wanted = _named([name])
            if not any(netns in wanted for netns in self._met):
                from tracer.topology.names import few

                called = sorted({netns.name for netns in self._met})
                raise TopologyError(
                    f"no namespace of this trace is called {printable(name)}{few(called)}",
                    hint=f"skbtrace show --netns {shlex.quote(called[0])} "
                    f"{printable(shlex.quote(file))}"
                    if called
                    else None,
                )

    def _check_devices(self, file: str) -> None:
        from tracer.selection import called

        unknown = self._selection.devices.difference(*map(called, self._met_devices))
        if unknown:
            from tracer.topology.names import few

            every = sorted(d.place for d in self._met_devices)
            name = printable(shlex.quote(file))
            raise TopologyError(
                f"no device of this trace is called {min(unknown)}{few(every)}",
                hint=f"skbtrace show --device {shlex.quote(every[0])} {name}" if every else None,
            )


class Filtered:
    """What a filter accepts of a trace's journeys. Raises what ``filter_of`` raises."""

    def __init__(self, words: Sequence[str]) -> None:
        from tracer.filter import filter_of

        self._filter = filter_of(words)
        self.unknown: set[str] = set()
        """Ids of journeys of which it cannot be told, for the trace does not hold enough."""

    def chosen(self, journeys: Iterable[Journey]) -> Iterator[Journey]:
        """Give those that it accepts."""
        from tracer.selection import accepted

        for journey in journeys:
            verdict = accepted(self._filter, journey)
            if verdict:
                yield journey
            elif verdict is None:
                self.unknown.add(journey.id)


def _named(typed: Iterable[str]) -> Namespaces:
    from tracer.selection import Namespaces

    numbers = {name.removeprefix("ns:") for name in typed}
    return Namespaces(
        frozenset(int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) < 20),
        frozenset(map(printable, typed)),
    )


def _addresses(topology: Topology | None, target: Namespaces) -> frozenset[str]:
    given = () if topology is None else topology.addresses
    return frozenset(a.split("/")[0] for device, a in given if device.netns in target)
