# SPDX-License-Identifier: GPL-2.0-only
"""The watch: what it tells of what it finds. Real kernels and engines try what it hears."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tracer.errors import TopologyError
from tracer.model import Device, Netns, Topology
from tracer.topology import netns, watch
from tracer.topology.watch import Watch


def of(*names: str) -> Topology:
    """A bridge with a namespace 10, 11 ... for each name."""
    ends = (Device(Netns(10 + n, name), 2, "eth0") for n, name in enumerate(names))
    return Topology("br0", ends=tuple(ends))


class Heard:
    """A watch whose one source of events is this end of a socket pair."""

    def __init__(self, watching: Watch, say: socket.socket) -> None:
        self.watching = watching
        self._say = say

    def event(self) -> None:
        self._say.send(b"event")

    def found(self, count: int = 1) -> list[Topology]:
        """The next topologies it tells."""
        told: list[Topology] = []
        until = time.monotonic() + 10
        while len(told) < count and time.monotonic() < until:
            told += [change.topology for change in self.watching.changes()]
            time.sleep(0.005)
        return told

    def quiet(self) -> None:
        """Wait until it has looked and has nothing to tell."""
        until = time.monotonic() + 10
        while self.watching.unsettled and time.monotonic() < until:
            time.sleep(0.005)
        assert list(self.watching.changes()) == []


@contextmanager
def watched(
    monkeypatch: pytest.MonkeyPatch, before: Topology, look: Callable[[], Topology]
) -> Iterator[Heard]:
    listen, say = socket.socketpair()
    listen.setblocking(False)
    monkeypatch.setattr(netns, "inside", lambda path, work: listen)
    monkeypatch.setattr(watch, "SETTLE_S", 0.01)
    monkeypatch.setattr(watch, "AGAIN_S", (0.05, 0.05, 0.05))
    with Watch(before, look) as watching:
        yield Heard(watching, say)
    assert listen.fileno() == -1
    say.close()


def test_what_has_changed_since_it_was_found_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with watched(monkeypatch, of("web"), lambda: of("web", "db")) as heard:
        assert heard.found() == [of("web", "db")]
        heard.quiet()


def test_each_event_makes_it_look_again_and_only_what_differs_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [of("web")]
    with watched(monkeypatch, of("web"), lambda: now[-1]) as heard:
        heard.quiet()
        heard.event()
        heard.quiet()
        before = time.monotonic_ns()
        now.append(of("www"))
        heard.event()
        (change,) = _next(heard)
        assert before < change[0] < time.monotonic_ns()
        assert change[1] == of("www")


def _next(heard: Heard) -> list[tuple[int, Topology]]:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        told = [(c.at_ns, c.topology) for c in heard.watching.changes()]
        if told:
            return told
        time.sleep(0.005)
    return []


def test_a_name_that_is_not_known_yet_is_asked_for_without_any_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = iter([of("ns:10"), of("ns:10")])
    with watched(monkeypatch, of("ns:10"), lambda: next(looks, of("web"))) as heard:
        assert heard.found() == [of("web")]


def test_an_engine_that_does_not_answer_has_renamed_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([of("0123456789ab", "db")])
    with watched(monkeypatch, of("web"), lambda: next(looks, of("web", "db"))) as heard:
        assert heard.found() == [of("web", "db")]


def test_but_one_that_has_ended_leaves_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(monkeypatch, of("web"), lambda: of("0123456789ab")) as heard:
        assert heard.found() == [of("0123456789ab")]


def test_a_bridge_that_is_gone_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> Topology:
        raise TopologyError("there is no bridge br0 on this host")

    with watched(monkeypatch, of("web"), look) as heard:
        assert heard.found() == [Topology("br0")]


def test_what_vanishes_while_it_is_looked_at_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: Iterator[Exception] = iter([OSError(), KeyError(7)])

    def look() -> Topology:
        for error in looks:
            raise error
        return of("db")

    with watched(monkeypatch, of("web"), look) as heard:
        assert heard.found() == [of("db")]


def test_it_may_be_stopped_twice_and_before_it_began() -> None:
    watching = Watch(of("web"), lambda: of("web"))
    watching.stop()
    watching.stop()
