# SPDX-License-Identifier: GPL-2.0-only
"""One capture, from attaching to the last journey: the place where the parts are put together.

A source gives record bytes, the correlator makes journeys of them, a sink takes them. It knows
nothing of how a view looks or what was typed, and prints nothing.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from tracer import __version__
from tracer.alike import Batch, Count, Item, made
from tracer.correlate import Names, backlog_of, steps_of
from tracer.exchanges import Exchanges
from tracer.limits import EVERYTHING, Ceiling, Limits
from tracer.model import (
    Capture,
    Counted,
    Device,
    Health,
    Journey,
    Netns,
    ProbePlace,
    Sampling,
    Scope,
    Summary,
    Topology,
    TopologyChange,
)
from tracer.probes import PROBES
from tracer.recurring import Recurring
from tracer.sink import Sink
from tracer.topology.discover import devices, scope
from tracer.trigger import Trigger
from tracer.wire import EndCount, StepCount, decode

QUIET_S = 0.1
"""How long the reader sleeps when nothing more waits: what a live view lags behind. So packets that
come one by one are read some at a time, and waking up takes as long as making a journey."""
SLICE = 256
"""Records made into journeys before the ring buffer is looked at again."""
BACKLOG_BYTES = 64 << 20
"""Records taken from the ring buffer and not yet made into journeys, at most: some 120,000. Taking
is some ten times faster than making journeys, so a burst is saved from the ring buffer first."""
UNSETTLED_MAX_S = 2.0
"""How long journeys may wait for what is known of a change of the topology."""
HEALTH_S = 0.5
"""How often it is told how the capture keeps up. Loss counters are read from the kernel for it."""
STEPS_S = 1.0
"""How often the histograms of steps are read for it, which takes some milliseconds."""
WAITING_S = 2.0
"""How often it is told how much is still to be read at the end."""
DRAIN_S = 0.1
"""How long packets that are under way at the stop may take to end before they are *unfinished*."""


class Source(Protocol):
    """Where records come from; kernel.source.KernelSource is the real one."""

    def start(self) -> tuple[ProbePlace, ...]:
        """Attach everything, then let journeys begin."""

    def rescope(self, scope: Scope) -> None:
        """Let journeys begin at these devices and at no others from now on."""

    def read(self) -> list[bytes]:
        """Records that wait; never blocks."""

    def pause(self) -> None:
        """No journey begins from now on."""

    def stop(self) -> list[bytes]:
        """Detach; the records of packets that had not ended."""

    def lost(self) -> dict[str, int]:
        """Loss counter → how many."""

    def ring_fill(self) -> float:
        """What part of the ring buffer waits to be read, from 0 to 1."""

    def hits(self) -> dict[str, int]:
        """Function → how often the kernel came to it, with any packet."""

    def ends(self) -> list[EndCount]:
        """How packets ended that were followed."""

    def steps(self) -> list[StepCount]:
        """How long packets took from one probe to the next; see ``correlate.backlog_of``, too."""

    def unloaded(self) -> tuple[str, ...]:
        """Attached functions whose module was unloaded since."""

    def beside(self) -> int:
        """Packets received beside the topology that never came to it."""

    def sample(self, one_in: int) -> None:
        """Follow one packet in so many from now on."""

    def passed(self) -> dict[str, int]:
        """What was asked for → packets and journeys left out for it."""

    def close(self) -> None:
        """Give everything back."""

    def symbol(self, address: int) -> tuple[str, int] | None:
        """Code address → (function, offset)."""

    def reason(self, number: int) -> str:
        """Drop reason's name."""

    def table(self, address: int, handle: int) -> tuple[int, str, str, int | None] | None:
        """A chain or table of netfilter → (family, table, chain, hook)."""


class Places(Protocol):
    """What namespaces and devices are called; topology.names.Names is the real one."""

    def device(self, inum: int, ifindex: int, at_ns: int) -> Device:
        """The device of that index in that namespace, as it was then."""

    def netns(self, inum: int, at_ns: int) -> Netns:
        """The namespace of that inode number, as it was then."""

    def renames(self) -> int:
        """Return a number that is as before if all is called as before."""

    def change(self, change: TopologyChange, devices: Iterable[Device]) -> None:
        """From then on these devices are called so, and nothing else is known."""


class Changes(Protocol):
    """What tells how the topology changes; topology.watch.Watch is the real one."""

    def changes(self) -> Iterable[TopologyChange]:
        """Changes since this was last asked."""

    @property
    def unsettled(self) -> bool:
        """Whether it is known that something changed, but not what."""


class Session:
    """A capture. ``run`` once; ``stop`` may be called at any time, also from a signal handler.

    ``selects``: says of a journey whether it is to be handed over. The others are counted only; so
    are those that ``trigger`` does not want. ``limits``: how much is followed; ``ceiling`` is what
    watches over them, for tests. ``typed``: what the trace says was asked for (``Capture.asked``).
    ``ids`` stands before every journey's id, where there are journeys of another session as well.
    """

    def __init__(
        self,
        source: Source,
        places: Places,
        sink: Sink,
        topology: Topology | None = None,
        *,
        watch: Changes | None = None,
        selects: Callable[[Journey], bool] | None = None,
        limits: Limits = EVERYTHING,
        trigger: Trigger | None = None,
        ceiling: Callable[[Limits], Ceiling] = Ceiling,
        typed: Mapping[str, str] | None = None,
        ids: str = "",
    ) -> None:
        self._source = source
        self._places = places
        self._sink = sink
        self._selects = selects
        self._limits = limits
        self._trigger = trigger
        self._ceiling = ceiling
        self._typed = typed or {}
        self._topology = topology
        self._watch = watch
        self._unsettled_since: float | None = None
        kernel = source.symbol, source.reason, source.table
        self._recurring = Recurring(
            Names(places.device, places.netns, *kernel, places.renames), ids
        )
        self._correlator = self._recurring.correlator
        self._exchanges = Exchanges()
        self._begun: Capture | None = None
        # Not threading.Event: who waits for it holds its lock for a moment, and a signal's handler,
        # which runs in the same thread, would wait for ever then. This put() may interrupt get().
        self._stop: SimpleQueue[None] = SimpleQueue()
        self._stopped = False
        self._draining = False
        self._hurried = False
        self._unread = 0
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._arrived = 0  # records, from the ring buffer
        self._made = 0  # records, into journeys
        self._sampled = (limits.one_in, limits.one_in)
        self._untriggered = 0
        self._steps: list[StepCount] = []
        self._steps_at = -math.inf
        self._journeys = 0
        self._count = Count()
        self._unselected = 0

    def stop(self) -> None:
        """End the capture: soon, in order, with everything that was seen.

        Said again while what was seen is still being read, the rest is left and counted as lost.
        """
        if self._draining:
            self._hurried = True
        self._stopped = True
        self._stop.put(None)

    def run(
        self,
        *,
        ready: Callable[[Capture], None] = lambda _: None,
        waiting: Callable[[int], None] = lambda _: None,
        health: Callable[[Health], None] | None = None,
        go_on: Callable[[], bool] = lambda: True,
        most: int | None = None,
        seconds: float | None = None,
    ) -> Summary:
        """Attach, hand journeys to the sink until told to stop, and detach on every way out.

        ``ready`` is called when every probe is attached; ``go_on`` is asked some ten times a
        second; ``most`` journeys or ``seconds`` after ready are the end, too. ``waiting`` is told
        once in WAITING_S how many records are still to be read after that, ``health`` once in
        HEALTH_S how the capture keeps up. Raises what the source and the sink raise; the probes
        are gone then as well.
        """
        try:
            self._begun = capture = self._capture(self._source.start())
            self._sink.begin(capture)
            if self._limits.samples:
                self._sink.sampling(Sampling(capture.monotonic_ns, self._limits.one_in))
            ready(capture)
            ceiling = self._ceiling(self._limits)
            end = None if seconds is None else time.monotonic() + seconds
            told = -math.inf
            while not self._stopped and go_on():
                more = self._read(most)
                self._sample(ceiling.look(self._arrived, self._made))
                if health is not None and time.monotonic() - told > HEALTH_S:
                    told = time.monotonic()
                    health(self._health())
                left = math.inf if end is None else end - time.monotonic()
                if left <= 0 or self._journeys == most:
                    break
                if not more:
                    with suppress(Empty):
                        self._stop.get(timeout=min(QUIET_S, left))
            self._drain(most, waiting)
            summary = self._summary(capture)
            self._sink.end(summary)
            return summary
        finally:
            self._source.close()

    def so_far(self) -> Summary:
        """Return what the capture's end would say now. For a sink, from the thread it runs in."""
        assert self._begun is not None
        return self._summary(self._begun)

    def _health(self) -> Health:
        lost = self._source.lost() | self._correlator.lost
        now = time.monotonic()
        if now - self._steps_at >= STEPS_S:
            self._steps_at, self._steps = now, self._source.steps()
        fill = self._source.ring_fill()
        counted = steps_of(self._steps), backlog_of(self._steps)
        filled = self._backlog_bytes / BACKLOG_BYTES
        return Health(lost, fill, len(self._backlog), filled, *counted)

    def _read(self, most: int | None, *, at_once: bool = False) -> bool:
        """Save what waits in the ring buffer, then make a slice of it into journeys.

        Return whether more waits.
        """
        backlog = self._backlog
        while self._backlog_bytes < BACKLOG_BYTES and (batch := self._source.read()):
            backlog.extend(batch)
            self._backlog_bytes += sum(map(len, batch))
            self._arrived += len(batch)
        if not self._is_settled() and not at_once:
            return False
        if backlog:
            records = [backlog.popleft() for _ in range(min(SLICE, len(backlog)))]
            self._backlog_bytes -= sum(map(len, records))
            self._made += len(records)
            self._hand_over(self._recurring.take(records), most)
        return bool(backlog)

    def _sample(self, sampling: Sampling | None) -> None:
        if sampling is None:
            return
        self._source.sample(sampling.one_in)
        least, most = self._sampled
        self._sampled = (min(least, sampling.one_in), max(most, sampling.one_in))
        self._sink.sampling(sampling)

    def _is_settled(self) -> bool:
        """Take over what has changed in the topology. Return False if that is not known yet.

        Journeys wait meanwhile, for they may be of what is new; but not for ever.
        """
        watch = self._watch
        if watch is None:
            return True
        unsettled = watch.unsettled  # before what was found is taken: there may be more by then
        for change in watch.changes():
            self._places.change(change, devices(change.topology))
            self._recurring.renamed(change.at_ns)
            found = scope(change.topology)
            if found is not None:
                self._source.rescope(found)
            self._sink.topology(change)
        if not unsettled:
            self._unsettled_since = None
            return True
        # Where containers come and go all the time, it is never settled.
        now = time.monotonic()
        self._unsettled_since = since = self._unsettled_since or now
        return now - since > UNSETTLED_MAX_S

    def _drain(self, most: int | None, waiting: Callable[[int], None]) -> None:
        """Let what is under way end, detach, read the rest."""
        self._source.pause()
        time.sleep(DRAIN_S)
        alive = self._source.stop()
        self._draining = True
        told = time.monotonic()
        while self._journeys != most and not self._hurried and self._read(most, at_once=True):
            if time.monotonic() - told > WAITING_S:
                told = time.monotonic()
                waiting(len(self._backlog))
        if self._hurried:
            self._unread = len(self._backlog)
            self._backlog.clear()
            self._backlog_bytes = 0
            while batch := self._source.read():
                self._unread += len(batch)
        self._hand_over(self._correlator.finish(map(decode, alive)), most)

    def _hand_over(self, items: Iterable[Item], most: int | None) -> None:
        refer = self._exchanges.refer
        batch = [refer(item) for item in items]
        if self._selects is not None or self._trigger is not None:
            batch = self._wanted(batch, most)
        if most is not None:
            del batch[max(most - self._journeys, 0) :]
        if not batch:
            return
        self._journeys += len(batch)
        self._count.add(batch)
        self._sink.journeys(Batch(batch))

    def _wanted(self, batch: list[Item], most: int | None) -> list[Item]:
        selects, trigger = self._selects, self._trigger
        kept: list[Item] = []
        for item in batch:
            if self._journeys + len(kept) == most:
                break  # what ended after the last one is not counted
            journey = made(item)
            if trigger is not None and not trigger(journey):
                self._untriggered += 1
            elif selects is not None and not selects(journey):
                self._unselected += 1
            else:
                kept.append(item)
        return kept

    def _capture(self, places: tuple[ProbePlace, ...]) -> Capture:
        system = os.uname()
        return Capture(
            kernel=system.release,
            machine=system.machine,
            probes=places,
            monotonic_ns=time.monotonic_ns(),
            realtime_ns=time.time_ns(),
            topology=self._topology,
            tool=f"skbtrace {__version__}",
            cpus=os.cpu_count() or 1,
            asked=self._typed,
        )

    def _summary(self, capture: Capture) -> Summary:
        attached = set(capture.attached)
        passed_over = self._source.passed()
        held_back = passed_over.pop("trigger")
        hits, steps = self._source.hits(), self._source.steps()
        seen = self._count.hits
        return Summary(
            journeys=self._journeys,
            hops=sum(seen.values()),
            lost=self._source.lost() | self._correlator.lost | {"unread": self._unread},
            outcomes=self._count.outcomes,
            beside=self._source.beside(),
            hits={p.function: seen.get(p.function, 0) for p in PROBES},
            silent=tuple(
                p.function
                for p in PROBES
                if p.function in attached
                and p.neighbour is not None
                and hits.get(p.neighbour)
                and not hits.get(p.function)
            ),
            unloaded=self._source.unloaded(),
            unselected=self._unselected,
            sampled=self._sampled,
            passed_over=passed_over,
            untriggered=held_back + self._untriggered,
            counted=Counted(
                hits=hits,
                ended=self._correlator.ended(self._source.ends(), time.monotonic_ns()),
                steps=steps_of(steps),
                backlog=backlog_of(steps),
            ),
        )
