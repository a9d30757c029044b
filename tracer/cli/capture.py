# SPDX-License-Identifier: GPL-2.0-only
"""A capture from attaching to its last word: as lines on a terminal or on the whole screen.

It is handed what is traced, what was asked for and where journeys go; it must not know how options
are typed, nor how a topology is found or built.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tracer.cli import options, say
from tracer.cli.found import watching
from tracer.cli.select import on_this_host
from tracer.errors import UsageError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.asked import Asked
    from tracer.cli.found import Found
    from tracer.cli.load import Load
    from tracer.cli.signals import Signals
    from tracer.cli.trace import Options
    from tracer.filter import Filter
    from tracer.model import (
        Capture,
        Health,
        Journey,
        Sampling,
        Summary,
        Topology,
        TopologyChange,
    )
    from tracer.session import Session
    from tracer.sink import Sink


class Run:
    """A capture from attaching to its last word, as lines or on the screen."""

    def __init__(self, typed: Options, asked: Asked, found: Found, load: Load) -> None:
        self._typed = typed
        self._asked = asked
        self._found = found
        self._load = load
        self._selection = on_this_host(typed.ends, found.names, found.topology)
        self._chosen = dict(typed.chosen)
        self._session: Session | None = None
        self._capture: Capture | None = None
        self._next: tuple[Filter | None, str] | None = None
        """The filter that is to be handed to the kernel, and its words."""
        self._ended: list[tuple[Capture, Summary]] = []

    def as_lines(self, sinks: list[Sink], signals: Signals) -> None:
        """Trace; journeys go to the sinks, all else that is to be said to standard error."""
        from tracer.view.capture import opening
        from tracer.view.line_view import write_lines

        typed = self._typed
        colored = options.is_colored(typed.color, sys.stderr)

        def ready(capture: Capture) -> None:
            if not typed.quiet:
                write_lines(sys.stderr, opening(capture), color=colored)
            if typed.verbose:
                for place in capture.probes:
                    say(f"{place.function}: {place.symbol or place.why_missing}")

        def waiting(records: int) -> None:
            typed.notice(f"{records} journeys wait to be read; Ctrl-C leaves them, and counts them")

        typed.notice("compiling and attaching the probes")
        with self._load, signals.call(self.stop):
            self._trace(sinks, ready=ready, waiting=waiting)
        self._say_the_end()

    def on_screen(self, sinks: list[Sink], signals: Signals) -> None:
        """Trace; what there is to be seen is on the whole screen until that is left."""
        from tracer.capabilities import give_up, taken_up
        from tracer.cli.feeding import Feeding
        from tracer.cli.screen import look_at
        from tracer.journal import Journal

        typed = self._typed
        journal = Journal()

        def health(now: Health) -> None:
            journal.health = now

        def feed() -> None:
            self._trace([*sinks, journal], health=health)
            while self._next is not None:
                accepts, words = self._next
                self._next = None
                self._asked = replace(self._asked, filter=accepts)
                self._chosen = {**self._chosen, "filter": printable(words)}
                self._trace([*sinks, journal], health=health)

        def to_kernel(words: str) -> str:
            if sinks:
                raise UsageError("not while a trace is written or judged: it is of one filter")
            return self._hand_over(words)

        feeding = Feeding(feed, self.stop, lambda: journal.capture, to_kernel)
        try:
            with self._load, taken_up():
                give_up(lambda: True)  # of this thread, which draws what strangers have sent
                look_at(
                    self._found.topology.name,
                    journal,
                    feeding,
                    live=True,
                    color=typed.color,
                    ascii_only=typed.ascii_only,
                    signals=signals,
                )
        finally:
            self._say_the_end()

    def so_far(self) -> Summary:
        """See ``Session.so_far``."""
        assert self._session is not None
        return self._session.so_far()

    def stop(self) -> None:
        """End it; see ``Session.stop``."""
        if self._session is not None:
            self._session.stop()

    def _trace(
        self,
        sinks: list[Sink],
        *,
        ready: Callable[[Capture], None] = lambda _: None,
        waiting: Callable[[int], None] = lambda _: None,
        health: Callable[[Health], None] | None = None,
    ) -> None:
        from tracer.capabilities import give_up, taken_up
        from tracer.kernel.source import KernelSource
        from tracer.session import Session
        from tracer.sink import Tee
        from tracer.topology.discover import scope

        typed, found, asked, load = self._typed, self._found, self._asked, self._load
        watch = watching(found)
        source = KernelSource(scope(found.topology), asked)
        session = Session(
            source,
            found.names,
            Tee(*sinks),
            found.topology,
            watch=watch,
            selects=self._selection,
            limits=asked.limits,
            trigger=asked.trigger,
            typed=self._chosen,
            ids=f"{len(self._ended) + 1}-" if self._ended else "",
        )
        # What is made per packet holds no cycles; looking for some costs more than making journeys.
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)

        def all_attached(capture: Capture) -> None:
            self._capture = capture
            ready(capture)
            if not load.started:
                load.start()
            give_up(source.is_readable)

        self._session = session
        with watch, taken_up():
            summary = session.run(
                ready=all_attached,
                waiting=waiting,
                health=health,
                go_on=load.go_on,
                most=typed.count,
                seconds=typed.seconds,
            )
        if self._capture is not None:
            self._ended.append((self._capture, summary))

    def _hand_over(self, words: str) -> str:
        """Have the capture begin again with that filter."""
        from tracer.filter import filter_of

        self._next = (filter_of(words.split()) if words else None, words)
        self.stop()
        return (
            "the kernel is given the filter ..." if words else "the kernel's filter is taken away"
        )

    def _say_the_end(self) -> None:
        from tracer.view.capture import closing
        from tracer.view.line_view import write_lines

        if not self._typed.quiet:
            colored = options.is_colored(self._typed.color, sys.stderr)
            for capture, summary in self._ended:
                write_lines(sys.stderr, closing(capture, summary), color=colored)


class Notices:
    """A sink that says on standard error what changes: the topology, how much is followed."""

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._topology: Topology | None = None

    def begin(self, capture: Capture) -> None:
        """See Sink."""
        self._topology = capture.topology

    def topology(self, change: TopologyChange) -> None:
        """See Sink."""
        from tracer.view.capture import changed
        from tracer.view.line_view import write_lines

        if self._topology is not None:
            write_lines(sys.stderr, changed(self._topology, change.topology), color=self._color)
        self._topology = change.topology

    def sampling(self, now: Sampling) -> None:
        """See Sink."""
        from tracer.view.capture import sampling
        from tracer.view.line_view import write_lines

        write_lines(sys.stderr, [sampling(now)], color=self._color)

    def journeys(self, batch: Sequence[Journey]) -> None:
        """See Sink. They are not said here."""

    def end(self, summary: Summary) -> None:
        """See Sink. The last word is ``Run``'s."""
