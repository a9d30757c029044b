# SPDX-License-Identifier: GPL-2.0-only
"""Which journeys of a trace are asked for: the same words and options for every command."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from tracer.cli import say
from tracer.cli.select import Typed, selecting
from tracer.errors import TopologyError, TraceFileError, UsageError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.model import Capture, Journey

    Wants = Callable[[Journey], bool]


def picking(command: Callable[..., Any], but: str | None = None) -> Callable[..., Any]:
    """Give a command FILTER and the options; its parameters are those of ``Pick``.

    ``but``: an option that means something else there.
    """
    command = click.option(
        "--before", metavar="TIME", help="Only journeys that began before that; as --after."
    )(command)
    command = click.option(
        "--after",
        metavar="TIME",
        help="Only journeys that began so long after the capture did (1.5s, 200ms) or later, or "
        "at this time of day (2026-11-21T20:08:01.25) or later.",
    )(command)
    command = click.option(
        "--journey",
        "ids",
        multiple=True,
        metavar="ID",
        help="Only the journey with this id. May be given again: any of them.",
    )(command)
    command = selecting(command, but)
    return click.argument("words", metavar="[FILTER...]", nargs=-1)(command)


class Pick:
    """What was typed. Raises UsageError for what cannot be meant."""

    def __init__(
        self,
        words: Sequence[str] = (),
        ids: Sequence[str] = (),
        after: str | None = None,
        before: str | None = None,
        **names: tuple[str, ...],
    ) -> None:
        from tracer.filter import filter_of

        self.names = Typed(**names)
        self.ids = frozenset(id.removeprefix("#") for id in ids)
        self.filter = filter_of(words) if words else None
        self.after = None if after is None else _moment(after)
        self.before = None if before is None else _moment(before)

    def __bool__(self) -> bool:
        asked = (self.filter, self.after, self.before)
        return bool(self.ids or any(self.names) or any(a is not None for a in asked))


class Picked:
    """What was typed, in one trace: its namespaces and devices have these names."""

    def __init__(self, pick: Pick, capture: Capture) -> None:
        self._pick = pick
        self._names = _Names(pick.names, capture) if any(pick.names) else None
        self._met: set[str] = set()
        self._unknown: set[str] = set()
        self._tests = list(self._made(capture))

    def __call__(self, journey: Journey) -> bool:
        """Say whether the journey is asked for."""
        return all(test(journey) for test in self._tests)

    @property
    def ids(self) -> frozenset[str] | None:
        """The ids that are asked for, if any are: no other journey need be read."""
        return self._pick.ids or None

    def chosen(self, journeys: Iterable[Journey]) -> Iterator[Journey]:
        """Give those that are asked for."""
        for journey in journeys:
            if self._pick.ids:
                self._met.add(journey.id)
            if self(journey):
                yield journey

    def check(self, file: str) -> None:
        """Raise if something that was asked for by name was not in the journeys so far.

        TraceFileError for an id, TopologyError for a namespace or a device. Say what could not be
        told of some journeys.
        """
        name = printable(shlex.quote(file))
        if missing := sorted(self._pick.ids - self._met):
            raise TraceFileError(
                f"no journey of this trace has the id {printable(missing[0])}",
                hint=f"skbtrace show {name}   # its journeys and their ids",
            )
        if self._names is not None:
            self._names.check(name)
        if self._unknown:
            say(
                f"{len(self._unknown)} of those not selected depend on what a trace does not "
                "keep: what the headers carry"
            )

    def _made(self, capture: Capture) -> Iterator[Wants]:
        """Give what must hold, the cheapest first."""
        pick = self._pick
        if pick.ids:
            yield lambda journey: journey.id in pick.ids
        if pick.after is not None:
            first = pick.after(capture)
            yield lambda journey: journey.start_ns >= first
        if pick.before is not None:
            last = pick.before(capture)
            yield lambda journey: journey.start_ns < last
        if self._names is not None:
            yield self._names
        if pick.filter is not None:
            yield self._accepts

    def _accepts(self, journey: Journey) -> bool:
        from tracer.selection import accepted

        assert self._pick.filter is not None
        verdict = accepted(self._pick.filter, journey)
        if verdict is None:
            self._unknown.add(journey.id)
        return bool(verdict)


class _Names:
    """What says whether a journey goes where the names say; remembers what names there were."""

    def __init__(self, typed: Typed, capture: Capture) -> None:
        from tracer.selection import selection_of

        self._typed = typed
        topology = capture.topology
        self._selection = selection_of(topology, **typed._asdict())
        own = () if topology is None else topology.own
        self._met = {device.netns for device in own}
        self._met_devices = set(own)

    def __call__(self, journey: Journey) -> bool:
        from tracer.selection import met

        self._met.update(met(journey))
        if self._typed.device:
            self._met_devices.update(h.device for h in journey.hops if h.device is not None)
        return self._selection(journey)

    def check(self, file: str) -> None:
        """Raise TopologyError for a name that nothing had so far."""
        from tracer.selection import called, named
        from tracer.topology.names import few

        typed = self._typed
        if unknown := self._selection.devices.difference(*map(called, self._met_devices)):
            every = sorted(d.place for d in self._met_devices)
            raise TopologyError(
                f"no device of this trace is called {min(unknown)}{few(every)}",
                hint=f"skbtrace show --device {shlex.quote(every[0])} {file}" if every else None,
            )
        for name in (*typed.netns, *typed.container, *typed.origin, *typed.target):
            wanted = named([name])
            if not any(netns in wanted for netns in self._met):
                every = sorted({netns.name for netns in self._met})
                raise TopologyError(
                    f"no namespace of this trace is called {printable(name)}{few(every)}",
                    hint=f"skbtrace show --netns {shlex.quote(every[0])} {file}" if every else None,
                )


def _moment(typed: str) -> Callable[[Capture], int]:
    """Return what says when that was on the clock of a trace, in ns. Raises UsageError."""
    from tracer.duration import nanoseconds

    since = nanoseconds(typed)
    if since is not None:
        return lambda capture: capture.monotonic_ns + since
    try:
        moment = datetime.fromisoformat(typed).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{printable(typed)} is no time: say how long after the capture began, or when",
            hint="--after 1.5s   # or 2026-11-21T20:08:01.25",
        ) from error
    whole = int(moment.replace(microsecond=0).timestamp())
    at_ns = whole * 1_000_000_000 + moment.microsecond * 1000
    return lambda capture: at_ns - capture.realtime_ns + capture.monotonic_ns
