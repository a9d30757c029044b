# SPDX-License-Identifier: GPL-2.0-only
"""Names: what a namespace and a device are called, looked up at every hop.

A lookup that succeeds is one access to a dict. One that fails reads the links of that namespace
over netlink, but no more often than once a second per namespace, so that an ifindex nobody knows
cannot stop the trace. It must not know what a packet or a lab is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import NamedTuple

from tracer.model import Device, Netns
from tracer.text import printable
from tracer.topology import links, netns
from tracer.topology.spec import PREFIX

PATIENCE_S = 1.0
"""How long what could not be found is taken as not findable."""
MOST_DEVICES = 65_536
"""More are not remembered: on a host where containers come and go, everything starts afresh."""


class Place(NamedTuple):
    """Where a namespace can be entered, and its name."""

    path: str
    netns: Netns


class Names(dict[tuple[int, int], Device]):
    """(namespace's inode number, ifindex) → Device; every key has one.

    The same key gives the same object as long as the device keeps its name. ``clock`` counts
    seconds. Not to be used in two threads at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._host = netns.inum(netns.OWN)
        self._named: dict[int, Place] = {}
        self._of_processes: dict[int, Place] = {}
        self._listed_at = float("-inf")
        self._read_at: dict[int, float] = {}
        self._unknown: dict[tuple[int, int], Device] = {}

    def device(self, inum: int, ifindex: int) -> Device:
        """Return the device, named ``if<ifindex>`` if nobody knows its name. Raises nothing."""
        return self[inum, ifindex]

    def netns(self, inum: int) -> Netns:
        """Return the namespace, named ``ns:<inum>`` if nobody knows its name. Raises nothing."""
        place = self._place(inum)
        return place.netns if place else Netns(inum, f"ns:{inum}")

    @property
    def host(self) -> Netns:
        """The namespace the tracer runs in."""
        return Netns(self._host, "host")

    def places(self) -> dict[int, Place]:
        """Return every namespace that can be entered now, by inode number; named ones first."""
        self._named = _named_places(self._host)
        self._of_processes = _places_of_processes(known=self._named)
        return self._named | self._of_processes

    def refresh(self) -> None:
        """Read everything again: namespaces, and the links of those that were asked for."""
        self._named = _named_places(self._host)
        self._of_processes.clear()
        self._listed_at = float("-inf")
        self._unknown.clear()
        for inum in tuple(self._read_at):
            self._read(inum)

    def __missing__(self, key: tuple[int, int]) -> Device:
        inum, ifindex = key
        if self._clock() - self._read_at.get(inum, float("-inf")) >= PATIENCE_S:
            self._read(inum)
            device = self.get(key)
            if device is not None:
                return device
        unknown = self._unknown.get(key)
        if unknown is None:
            if len(self._unknown) >= MOST_DEVICES:
                self._unknown.clear()
            unknown = self._unknown[key] = Device(self.netns(inum), ifindex, f"if{ifindex}")
        return unknown

    def _read(self, inum: int) -> None:
        if len(self) + len(self._read_at) >= MOST_DEVICES:
            self.clear()
            self._read_at.clear()
        self._read_at[inum] = self._clock()
        place = self._place(inum)
        if place is None:
            return
        try:
            found = netns.inside(place.path, lambda: _links_of(inum))
        except Exception:  # it may vanish at any time; then its names stay unknown
            self._named.pop(inum, None)
            self._of_processes.pop(inum, None)
            return
        for key in [key for key in self._unknown if key[0] == inum]:
            del self._unknown[key]
        for link in found:
            device = Device(place.netns, link.ifindex, printable(link.ifname))
            if self.get((inum, link.ifindex)) != device:
                self[inum, link.ifindex] = device

    def _place(self, inum: int) -> Place | None:
        known = self._named.get(inum) or self._of_processes.get(inum)
        if known is not None or self._clock() - self._listed_at < PATIENCE_S:
            return known
        self._listed_at = self._clock()
        self._named = _named_places(self._host)
        if inum not in self._named:  # only then is it worth asking every process
            self._of_processes = _places_of_processes(known=self._named)
        return self._named.get(inum) or self._of_processes.get(inum)


def _links_of(inum: int) -> list[links.Link]:
    # Inode numbers are used again: the path may lead somewhere else by now.
    if netns.inum("/proc/thread-self/ns/net") != inum:
        return []
    return links.read()


def _named_places(host: int) -> dict[int, Place]:
    files: dict[int, Path] = {}
    device = Path(netns.OWN).stat().st_dev
    for folder in (netns.RUN_NETNS, netns.RUN_DOCKER_NETNS):
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat()
            except OSError:
                continue
            if status.st_dev == device:  # else an empty file, left by an interrupted `ip netns`
                files.setdefault(status.st_ino, entry)
    taken = {entry.name for entry in files.values()}
    places = {
        inum: Place(str(entry), Netns(inum, printable(_short(entry.name, taken))))
        for inum, entry in files.items()
    }
    places[host] = Place(netns.OWN, Netns(host, "host"))
    return places


def _short(name: str, taken: set[str]) -> str:
    short = name.removeprefix(PREFIX)
    return name if short in taken or short in {"", "host"} else short


def _places_of_processes(known: Container[int]) -> dict[int, Place]:
    places: dict[int, Place] = {}
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        path = f"/proc/{pid}/ns/net"
        try:
            inum = netns.inum(path)
            if inum in known or inum in places:
                continue
            comm = Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
        except OSError:  # it ended, or is not ours to look at
            continue
        places[inum] = Place(path, Netns(inum, f"{printable(comm)}:{pid}"))
    return places


def path_of(netns_: Netns) -> str | None:
    """Return the file under /run/netns that is this namespace on this host, or None.

    The name for people is shorter for a lab's, and a trace may come from another host: the inode
    number decides.
    """
    for name in (PREFIX + netns_.name, netns_.name):
        path = netns.RUN_NETNS / name
        try:
            if netns.inum(str(path)) == netns_.inum:
                return str(path)
        except (OSError, ValueError):  # no such file; a name that no file can have
            continue
    return None
