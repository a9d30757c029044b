# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of a topology while it is traced: devices and containers that come, go, are renamed.

When netlink or a container engine says that something has changed, the topology is looked at again
as a whole. Nothing is kept up to date piece by piece, so no event can be misunderstood, and events
that the kernel had no room for are no loss. Of several events in short time the first one's time
counts for all.

One socket hears all: NETLINK_LISTEN_ALL_NSID gives it the events of every namespace that has an id
in its own, and the other end of a veth always has one. This module does not know what a packet is.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tracer.errors import TopologyError
from tracer.model import Topology, TopologyChange
from tracer.topology import netns
from tracer.topology.discover import devices

SETTLE_S = 0.1
"""A container that starts changes a dozen things; so long more of them are waited for."""
SHARE = 4
"""After a look, so many times as long as it took nothing is looked at."""
AGAIN_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""When a name that is not known yet is asked for again: an engine tells it late, and no event."""

_SOL_NETLINK = 270
_NETLINK_LISTEN_ALL_NSID = 8
_RTNLGRP_LINK, _RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV6_IFADDR, _RTNLGRP_NSID = 1, 5, 9, 28
_GROUPS = (_RTNLGRP_LINK, _RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV6_IFADDR, _RTNLGRP_NSID)


class Watch:
    """Follows a topology from ``start`` until ``stop``, or while it is a context.

    ``look`` finds the topology as it is now; it is called in a thread of the watch's own, and may
    raise TopologyError if it is gone. ``path``: the namespace to listen in. ``others``: more
    sockets to listen to; what they say is not read, only that they say something. They are closed
    at the end.
    """

    def __init__(
        self,
        topology: Topology,
        look: Callable[[], Topology],
        *,
        path: str = netns.OWN,
        others: Iterable[socket.socket] = (),
    ) -> None:
        self._topology = topology
        self._look = look
        self._path = path
        self._listened = list(others)
        self._found: deque[TopologyChange] = deque()
        self._lock = threading.Lock()
        self._heard_ns: int | None = None  # the first event since the last look began
        self._looked_ns: int | None = None  # the one that is looked after now
        self._event = threading.Event()
        self._over = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._threads = [
            threading.Thread(target=work, name="skbtrace-watch", daemon=True)
            for work in (self._listen, self._follow)
        ]

    def start(self) -> None:
        """Begin. Raises OSError if nothing can be listened to."""
        self._listened.append(netns.inside(self._path, _events))
        self._hear()  # something may have happened since the topology was found
        for thread in self._threads:
            thread.start()

    def changes(self) -> Iterator[TopologyChange]:
        """Give what was found since this was last asked. Never blocks."""
        while self._found:
            yield self._found.popleft()

    @property
    def unsettled(self) -> bool:
        """Whether it is known that something changed, but not yet what."""
        with self._lock:
            return self._looked_ns is not None or self._heard_ns is not None

    def stop(self) -> None:
        """End it and wait until it has ended. Harmless when called twice, or before start."""
        self._over.set()
        self._event.set()
        with contextlib.suppress(OSError):
            self._wake.send(b".")
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for each in (*self._listened, self._wake, self._woken):
            each.close()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the thread that listens, and does nothing else: the time is of use only if it is right --

    def _listen(self) -> None:
        while True:
            ready = select.select([self._woken, *self._listened], [], [])[0]
            if self._woken in ready:
                return
            self._hear()
            for each in ready:
                if not _drained(each):
                    self._listened.remove(each)
                    each.close()

    def _hear(self) -> None:
        with self._lock:
            if self._heard_ns is None:
                self._heard_ns = time.monotonic_ns()
        self._event.set()

    # -- the thread that looks -------------------------------------------------------------------

    def _follow(self) -> None:
        tries = 0
        doubtful = False
        while not self._over.is_set():
            unnamed = any(device.netns.provisional for device in devices(self._topology))
            again = (unnamed or doubtful) and tries < len(AGAIN_S)
            wait = AGAIN_S[tries] if again else None
            heard = self._event.wait(wait)
            tries = 0 if heard else tries + 1
            if self._over.wait(SETTLE_S if heard else 0):
                return
            began = time.monotonic()
            doubtful = self._look_again(doubtful=tries < len(AGAIN_S))
            if self._over.wait(SHARE * (time.monotonic() - began)):
                return

    def _look_again(self, *, doubtful: bool) -> bool:
        """Look, and tell if it is another.

        An engine that does not answer has not renamed its containers: if ``doubtful``, a topology
        in which names are unknown that were known is not believed. Return whether to look again
        without any event: that was so, or something vanished while it was looked at.
        """
        with self._lock:
            self._event.clear()
            self._looked_ns, self._heard_ns = self._heard_ns, None
            at_ns = self._looked_ns or time.monotonic_ns()
        try:
            now = self._look()
        except TopologyError:
            now = Topology(self._topology.name, built=self._topology.built)
        except Exception:  # whatever it may be, it must not end the watch
            now, doubtful = self._topology, True
        else:
            doubtful = doubtful and _has_forgotten(self._topology, now)
            if doubtful:
                now = self._topology
        if replace(now, fdb=()) != replace(self._topology, fdb=()):  # which learns all the time
            self._topology = now
            self._found.append(TopologyChange(at_ns, now))
        with self._lock:
            self._looked_ns = None
        return doubtful


def _has_forgotten(before: Topology, now: Topology) -> bool:
    """Whether a device is still there whose namespace had a name and has none now."""
    known = {(d.netns.inum, d.ifindex) for d in devices(before) if not d.netns.provisional}
    return any(d.netns.provisional and (d.netns.inum, d.ifindex) in known for d in devices(now))


def _events() -> socket.socket:
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        with contextlib.suppress(PermissionError):  # then only this namespace's are heard
            events.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
        events.bind((0, sum(1 << (group - 1) for group in _GROUPS)))
        events.setblocking(False)
    except BaseException:
        events.close()
        raise
    return events


def _drained(ready: socket.socket) -> bool:
    """Throw away what it has said. Return False if it will say nothing more."""
    while True:
        try:
            if not ready.recv(65_536, socket.MSG_DONTWAIT):
                return False
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more events than it can hold: they count as one
                return False
