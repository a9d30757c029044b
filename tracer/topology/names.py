# SPDX-License-Identifier: GPL-2.0-only
"""Names: what a namespace and a device are called, looked up at every hop.

A lookup that succeeds is one access to a dict. One that fails reads the links of that namespace
over netlink, but no more often than once a second per namespace, so that an ifindex nobody knows
cannot stop the trace. It must not know what a packet or a lab is.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from tracer.errors import TopologyError
from tracer.model import Device, Netns, TopologyChange
from tracer.text import printable
from tracer.topology import links, netns
from tracer.topology.engines import Engines, container_of, unit_of
from tracer.topology.links import Link
from tracer.topology.spec import PREFIX

PATIENCE_S = 1.0
"""How long what could not be found is taken as not findable."""
MOST_CHANGES = 64
"""What was true before is remembered for so many changes."""
MOST_DEVICES = 65_536
"""More are not remembered: on a host where containers come and go, everything starts afresh."""

_BY_ENGINE = re.compile(r"(?:netns|cni)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Files under /run/netns that nobody named: Podman's and those of Kubernetes' plugins (CNI)."""
_FEW = 8  # names in a message
_until_ns = attrgetter("until_ns")
_ID_BEGINS = re.compile("[0-9a-f]{4,64}")


class Place(NamedTuple):
    """Where a namespace can be entered, and its name."""

    path: str
    netns: Netns


class _Past(NamedTuple):
    """What was true until a change."""

    until_ns: int
    devices: dict[tuple[int, int], Device]
    netnses: dict[int, Netns]


class Names(dict[tuple[int, int], Device]):
    """(namespace's inode number, ifindex) → Device as it is now; every key has one.

    The same key gives the same object as long as the device keeps its name. ``clock`` counts
    seconds. Not to be used in two threads at once.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, engines: Engines | None = None
    ) -> None:
        super().__init__()
        self._clock = clock
        self._engines = engines or Engines()
        self._host = netns.inum(netns.OWN)
        self._named: dict[int, Place] = {}
        self._of_processes: dict[int, Place] = {}
        self._named_at = self._of_processes_at = float("-inf")
        self._read_at: dict[int, float] = {}
        self._unknown: dict[tuple[int, int], Device] = {}
        self._past: list[_Past] = []
        self._changed_ns = 0
        self._renames = 0
        self._nameless = False

    def device(self, inum: int, ifindex: int, at_ns: int | None = None) -> Device:
        """Return the device as it was at ``at_ns`` (None: now).

        It is named ``if<ifindex>`` if nobody knows its name. Raises nothing.
        """
        if at_ns is not None and at_ns < self._changed_ns:
            for past in self._from(at_ns):
                if (inum, ifindex) in past.devices:
                    return past.devices[inum, ifindex]
        return self[inum, ifindex]

    def netns(self, inum: int, at_ns: int | None = None) -> Netns:
        """Return the namespace as it was called at ``at_ns`` (None: now).

        It is named ``ns:<inum>`` if nobody knows its name. Raises nothing.
        """
        if at_ns is not None and at_ns < self._changed_ns:
            for past in self._from(at_ns):
                if inum in past.netnses:
                    return past.netnses[inum]
        place = self._place(inum)
        if place is None:
            self._nameless = True
            return Netns(inum, f"ns:{inum}")
        return place.netns

    def renames(self) -> int:
        """Return a number that is as before if all that was asked for is called as before.

        It never is while something has no name: that may be found out whenever it is asked for.
        """
        if self._unknown or self._nameless:
            self._renames += 1
        return self._renames

    def path(self, inum: int) -> str | None:
        """Return where the namespace can be entered now, or None. Raises nothing."""
        place = self._place(inum)
        return place.path if place else None

    def change(self, change: TopologyChange, devices: Iterable[Device]) -> None:
        """From ``change.at_ns`` on, ``devices`` are called so, and nothing else is known.

        Changes come in the order of their times. A name that only became known now holds for the
        time before, too.
        """
        at_ns, now = change.at_ns, {(d.netns.inum, d.ifindex): d for d in devices}
        places = self._named | self._of_processes
        netnses = {inum: place.netns for inum, place in places.items()}
        netnses |= {device.netns.inum: device.netns for device in self.values()}
        self._changed_ns = max(at_ns, self._changed_ns)
        self._past.append(_Past(self._changed_ns, dict(self), netnses))
        del self._past[:-MOST_CHANGES]
        named = {d.netns.inum: d.netns for d in now.values() if not d.netns.provisional}
        for past in self._past:
            for inum, netns_ in past.netnses.items():
                if netns_.provisional and inum in named:
                    past.netnses[inum] = named[inum]
            for key, device in past.devices.items():
                if device.netns.provisional and key[0] in named and key in now:
                    past.devices[key] = replace(device, netns=named[key[0]])
        self.clear()
        self._read_at.clear()
        self._forget()
        self.update(now)

    def _from(self, at_ns: int) -> list[_Past]:
        """What was true then and later, until now."""
        return self._past[bisect_right(self._past, at_ns, key=_until_ns) :]

    @property
    def host(self) -> Netns:
        """The namespace the tracer runs in."""
        return Netns(self._host, "host")

    def places(self) -> dict[int, Place]:
        """Return every namespace that can be entered now, by inode number; named ones first."""
        self._renames += 1
        self._named = _named_places(self._host)
        self._of_processes = _places_of_processes(self._named, self._engines)
        return self._named | self._of_processes

    def find(self, name: str) -> frozenset[int]:
        """Return the inode numbers of the namespaces a person means by ``name``.

        The first of these that there is: what ``netns`` or ``ip netns`` calls one, ``ns:<inum>`` or
        the number, a container (see ``container``), a systemd service. Raises TopologyError.
        """
        places = self.places()
        shown = printable(name)
        found = {inum for inum, place in places.items() if place.netns.name == shown}
        found = found or _of_file(name) or _of_number(name, places)
        if found:
            return frozenset(found)
        processes = list(_processes())
        containers = _containers(processes)
        found = self._in_containers(name, containers)
        unit = name.removesuffix(".service")
        found = found or {inum for cgroup, inum in processes if unit_of(cgroup) == unit}
        if not found:
            called = {place.netns.name for place in places.values()}
            called |= {printable(self._engines.name(each)) for each in containers}
            raise TopologyError(
                f"there is no namespace, container or service {shown} on this host{few(called)}",
                hint="sudo skbtrace topo",
            )
        return frozenset(found)

    def container(self, name: str) -> frozenset[int]:
        """Return the inode numbers of the namespaces a container's processes are in.

        ``name`` is its name, its pod's, its id or the first 4 digits of that or more. Its namespace
        may be another container's or the host's. Raises TopologyError.
        """
        containers = _containers(_processes())
        found = self._in_containers(name, containers)
        if not found:
            called = {printable(self._engines.name(each)) for each in containers}
            raise TopologyError(
                f"no container {printable(name)} runs on this host{few(called)}",
                hint="sudo skbtrace topo",
            )
        return frozenset(found)

    def _in_containers(self, name: str, containers: dict[str, set[int]]) -> set[int]:
        names = {each: self._engines.name(each) for each in containers}
        shown = printable(name)
        meant = [
            each
            for each, called in names.items()
            if shown in (printable(called), printable(self._engines.pod(each) or called))
        ]
        if not meant and _ID_BEGINS.fullmatch(name):
            meant = [each for each in containers if each.startswith(name)]
            if len(meant) > 1:
                raise TopologyError(
                    f"the ids of {len(meant)} containers begin with {name}"
                    f"{few({printable(names[each]) for each in meant})}",
                    hint="give more digits of the id, or the name",
                )
        return {inum for each in meant for inum in containers[each]}

    def learn(self, at: Netns, found: Iterable[Link]) -> None:
        """Take over what somebody else has read of a namespace just now."""
        self._forget_if_full()
        self._read_at[at.inum] = self._clock()
        self._learn(at, found)

    def refresh(self) -> None:
        """Read everything again: namespaces, and the links of those that were asked for."""
        self._forget()
        for inum in tuple(self._read_at):
            self._read(inum)

    def _forget(self) -> None:
        self._renames += 1
        self._nameless = False
        self._engines.forget()
        self._named.clear()
        self._of_processes.clear()
        self._named_at = self._of_processes_at = float("-inf")
        self._unknown.clear()

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

    def _forget_if_full(self) -> None:
        if len(self) + len(self._read_at) >= MOST_DEVICES:
            self._renames += 1
            self.clear()
            self._read_at.clear()

    def _read(self, inum: int) -> None:
        self._forget_if_full()
        self._read_at[inum] = self._clock()
        place = self._place(inum)
        if place is None:
            return
        try:
            found = netns.inside(place.path, lambda: _links_of(inum))
        except Exception:  # it may vanish at any time; then its names stay unknown
            self._renames += 1
            self._named.pop(inum, None)
            self._of_processes.pop(inum, None)
            return
        self._learn(place.netns, found)

    def _learn(self, at: Netns, found: Iterable[Link]) -> None:
        self._renames += 1
        inum = at.inum
        for key in [key for key in self._unknown if key[0] == inum]:
            del self._unknown[key]
        for link in found:
            known = self.get((inum, link.ifindex))
            ifname = printable(link.ifname)
            if known is None or known.ifname != ifname or known.netns != at:
                self[inum, link.ifindex] = Device(at, link.ifindex, ifname)

    def _place(self, inum: int) -> Place | None:
        known = self._named.get(inum) or self._of_processes.get(inum)
        if known is not None:
            return known
        now = self._clock()
        if now - self._named_at >= PATIENCE_S:
            self._renames += 1
            self._named_at = now
            self._named = _named_places(self._host)
        if inum not in self._named and now - self._of_processes_at >= PATIENCE_S:
            # Only then is it worth asking every process.
            self._renames += 1
            self._of_processes_at = now
            self._of_processes = _places_of_processes(self._named, self._engines)
        return self._named.get(inum) or self._of_processes.get(inum)


def _links_of(inum: int) -> list[Link]:
    # Inode numbers are used again: the path may lead somewhere else by now.
    if netns.inum("/proc/thread-self/ns/net") != inum:
        return []
    return links.read()


def _named_places(host: int) -> dict[int, Place]:
    files = _files(netns.RUN_NETNS)
    files = {inum: entry for inum, entry in files.items() if not _BY_ENGINE.fullmatch(entry.name)}
    taken = {entry.name for entry in files.values()}
    places = {
        inum: Place(str(entry), Netns(inum, printable(_short(entry.name, taken))))
        for inum, entry in files.items()
    }
    places[host] = Place(netns.OWN, Netns(host, "host"))
    return places


def _files(folder: Path) -> dict[int, Path]:
    """Namespaces that are mounted in a folder, by inode number. Empty if it cannot be read."""
    found: dict[int, Path] = {}
    try:
        device = Path(netns.OWN).stat().st_dev
        entries = sorted(folder.iterdir())
    except OSError:
        return found
    for entry in entries:
        try:
            status = entry.stat()
        except OSError:
            continue
        if status.st_dev == device:  # else an empty file, left by an interrupted `ip netns`
            found.setdefault(status.st_ino, entry)
    return found


def _short(name: str, taken: set[str]) -> str:
    short = name.removeprefix(PREFIX)
    return name if short in taken or short in {"", "host"} else short


def _places_of_processes(known: dict[int, Place], engines: Engines) -> dict[int, Place]:
    """Namespaces without a name of a person's: those of processes, and those engines keep."""
    first: dict[int, int] = {}
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        try:
            inum = netns.inum(f"/proc/{pid}/ns/net")
            if inum in known or (inum in first and not _is_pause(first[inum])):
                continue
        except OSError:  # it ended, or is not ours to look at
            continue
        first[inum] = pid
    taken = {place.netns.name for place in known.values()}
    places: dict[int, Place] = {}
    for inum, pid in first.items():
        name = _name_of(pid, engines)
        if name is None:
            continue
        name = printable(name)
        if name in taken:
            name = f"{name}:{pid}"
        taken.add(name)
        places[inum] = Place(f"/proc/{pid}/ns/net", Netns(inum, name))
    kept = _files(netns.RUN_DOCKER_NETNS) | _files(netns.RUN_NETNS)
    for inum, entry in kept.items():
        if inum not in known and inum not in places:  # nobody is in it just now
            places[inum] = Place(str(entry), Netns(inum, printable(entry.name)))
    return places


def _processes() -> Iterator[tuple[str, int]]:
    """Of each process its control groups and its namespace's inode number."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inum = netns.inum(f"/proc/{entry.name}/ns/net")
                yield Path(f"/proc/{entry.name}/cgroup").read_text(errors="replace"), inum
            except OSError:  # it ended
                continue


def _containers(processes: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    """Container's id → its processes' namespaces."""
    found: dict[str, set[int]] = {}
    for cgroup, inum in processes:
        container = container_of(cgroup)
        if container is not None:
            found.setdefault(container, set()).add(inum)
    return found


def _of_file(name: str) -> set[int]:
    """The namespace of that file under /run/netns; one that has several is shown by the first."""
    try:
        if "/" not in name and netns.exists(name):
            return {netns.inum(str(netns.RUN_NETNS / name))}
    except (OSError, ValueError):  # it went; a name that no file can have
        pass
    return set()


def _of_number(name: str, places: dict[int, Place]) -> set[int]:
    number = name.removeprefix("ns:")
    if not (number.isascii() and number.isdigit() and len(number) <= 10):
        return set()
    # What is shown as ns:<inum> nobody could look up: whether it is there cannot be told.
    return {int(number)} if number != name or int(number) in places else set()


def few(names: Iterable[str]) -> str:
    """Return the first of them in words, to stand behind a message that speaks of others."""
    known = sorted(names)
    if not known:
        return ""
    more = f" and {len(known) - _FEW} more" if len(known) > _FEW else ""
    return f" (there are: {', '.join(known[:_FEW])}{more})"


def _is_pause(pid: int) -> bool:
    """Whether it only holds the namespaces of a pod for the containers that are meant."""
    try:
        return _comm(pid) == "pause"
    except OSError:
        return True


def _name_of(pid: int, engines: Engines) -> str | None:
    """Its pod's or container's name, its systemd service, or what the process itself is called."""
    try:
        cgroup = Path(f"/proc/{pid}/cgroup").read_text(errors="replace")
        container = container_of(cgroup)
        if container is not None:
            return engines.pod(container) or engines.name(container)
        return unit_of(cgroup) or f"{_comm(pid)}:{pid}"
    except OSError:  # it ended
        return None


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")


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
