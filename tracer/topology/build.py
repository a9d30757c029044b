# SPDX-License-Identifier: GPL-2.0-only
"""Build a lab, take it down, and clean up after one whose builder was killed.

How ours are told from everybody else's, at every moment:

- a namespace is ours if its name begins with ``skbtrace-``;
- a veth pair is ours if one end is in such a namespace (both are made there in one message);
- the bridge is ours if it bears the lab's mark as its alias, or the name ``skbt-<name>``, which it
  has from the moment it is made until it bears the mark.

What is about to be made or removed is written down first (``record``), with the process that is at
work. So a ``kill -9`` at any point leaves only what the next start recognises: its owner is gone.
A lab that ``skbtrace lab up`` has finished has no owner and stays until ``lab down``. A lock makes
two starts at once follow one another.

``down`` leaves what ``ip netns`` leaves, the folder /run/netns as a mount of its own, and besides
the folder /run/skbtrace with its lock file, and kernel modules that were loaded.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from tracer.errors import PrerequisiteError, SkbtraceError, TopologyError
from tracer.text import printable
from tracer.topology import links, netns, record
from tracer.topology.links import Link
from tracer.topology.record import Process, Record
from tracer.topology.spec import Container, Lab

READY_S = 10.0
"""How long the kernel may take to bring ports into the forwarding state (milliseconds, usually)."""

_RTMGRP_LINK = 1
_RTM_F_FIB_MATCH = 0x2000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class State(StrEnum):
    """What there is of a lab."""

    DOWN = "down"
    STANDING = "standing"
    BROKEN = "broken"
    """Some of it is there and some is not."""
    FOREIGN = "foreign"
    """A device of the bridge's name exists that no lab made."""
    LEFT_BEHIND = "left behind"
    """Its owner was killed; the next start removes what there is of it."""


@dataclass(frozen=True, slots=True)
class Status:
    """A lab as it is now."""

    state: State
    owner: int | None = None
    """Pid of the live process that takes the lab down when it ends."""
    missing: tuple[str, ...] = ()
    """Devices and namespaces a broken lab lacks."""


def up(lab: Lab) -> bool:
    """Build the lab, to stay until ``down``. Return False if it stands already.

    Raises TopologyError if a device, namespace or address of the lab is somebody else's or a
    running skbtrace keeps the lab; PrerequisiteError without root or without the kernel's
    bridge and veth. When it raises, nothing of the lab is left, and so after a SIGINT, SIGTERM
    or SIGHUP that came while it was building.
    """
    _require_root(f"lab up {lab.name}")
    with _undisturbed(lab) as arrived:
        _free(lab)
        if _look(lab).state is State.STANDING:
            return False
        _build(lab, None, arrived)
        return True


def down(lab: Lab) -> bool:
    """Remove what there is of the lab. Return False if there was nothing.

    Raises TopologyError if a running skbtrace keeps the lab, PrerequisiteError without root.
    """
    _require_root(f"lab down {lab.name}")
    with _undisturbed(lab):
        _free(lab)
        there = _look(lab).state in {State.STANDING, State.BROKEN}
        _remove(lab)
        return there


def status(lab: Lab) -> Status:
    """Say what there is of the lab. Needs no root, changes nothing."""
    now = _look(lab)
    written = record.read(lab.name)
    if written is None or written.owner is None:
        return now
    if written.left_behind:
        return Status(State.LEFT_BEHIND, missing=now.missing)
    return Status(now.state, owner=written.owner.pid, missing=now.missing)


@contextmanager
def standing(lab: Lab) -> Iterator[bool]:
    """Have the lab, or another bridge of its name, while in the block.

    What a killed process left is removed first. If a device of the bridge's name exists then,
    nothing is built and nothing is taken down: the value is False. Otherwise the lab is built,
    the value is True, and the lab is taken down on every way out. SIGINT, SIGTERM and SIGHUP
    that come while it is being built or taken down take their course right after; one that came
    while it was being built also means that it is gone again.

    Raises what ``up`` raises.
    """
    _require_root(f"--topology {lab.name}")
    try:
        with _undisturbed(lab) as arrived:
            written = record.read(lab.name)
            if written is not None and written.left_behind:
                _remove(lab)
            built = not any(link.ifname == lab.bridge.ifname for link in _host_links())
            if built:
                _build(lab, record.this_process(), arrived)
        yield built
    finally:
        with _undisturbed(lab):
            written = record.read(lab.name)
            if written is not None and written.owner == record.this_process():
                _remove(lab)


# -- what there is ---------------------------------------------------------------------------


def _look(lab: Lab) -> Status:
    by_name = {link.ifname: link for link in _host_links()}
    there: list[str] = []
    missing: list[str] = []
    bridge = by_name.get(lab.bridge.ifname)
    ours = bridge is not None and bridge.alias == lab.mark
    (there if ours else missing).append(lab.bridge.ifname)
    for container in lab.containers:
        port = by_name.get(container.port)
        marked = port is not None and port.alias == lab.mark
        (there if marked else missing).append(container.port)
        (there if netns.exists(container.netns) else missing).append(container.netns)
    if not missing:
        return Status(State.STANDING)
    if bridge is not None and not ours:
        return Status(State.FOREIGN, missing=tuple(missing))
    return Status(State.BROKEN, missing=tuple(missing)) if there else Status(State.DOWN)


def _host_links() -> list[Link]:
    return netns.inside(netns.OWN, links.read)


def _free(lab: Lab) -> None:
    """Remove what a killed process left. Raises TopologyError if a live one keeps the lab."""
    written = record.read(lab.name)
    if written is None or written.owner is None:
        return
    if written.owner.alive:
        raise TopologyError(
            f"the lab {lab.name} is kept by a running skbtrace (pid {written.owner.pid}),"
            " which takes it down when it ends",
            hint=f"sudo kill {written.owner.pid}",
        )
    _remove(lab)


# -- one at a time, and to the end -----------------------------------------------------------


@contextmanager
def _undisturbed(lab: Lab) -> Iterator[list[int]]:
    """No other process and no signal comes between. Raises SkbtraceError, not OSError.

    The value is the list of the signals that wait meanwhile; it grows.
    """
    try:
        with _uninterrupted() as arrived, record.locked():
            yield arrived
    except OSError as error:
        raise _explained(error, f"cannot build or take down the lab {lab.name}") from error


@contextmanager
def _uninterrupted() -> Iterator[list[int]]:
    """Signals that would end the process wait until the block is done, then take their course."""
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived  # Python runs signal handlers in the main thread only
        return

    def wait(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    handlers: dict[int, Any] = {}
    try:
        for ending in _SIGNALS:
            handler = signal.getsignal(ending)
            if handler is not None:
                handlers[ending] = handler
                signal.signal(ending, wait)
        yield arrived
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in arrived:
            signal.raise_signal(number)


# -- taking down -----------------------------------------------------------------------------


def _remove(lab: Lab) -> None:
    """Remove every device and namespace of the lab that is ours, and what is written down."""
    names = dict.fromkeys(container.netns for container in lab.containers)
    written = record.read(lab.name)
    if written is not None:
        names |= dict.fromkeys(written.namespaces)
    try:
        record.write(lab.name, Record(record.this_process(), tuple(names)))
        for name in names:
            if netns.exists(name):
                # The kernel would remove them too, but later. Whoever else is in there keeps lo.
                netns.inside(str(netns.RUN_NETNS / name), lambda: _delete(_is_veth))
            netns.remove(name)
        netns.inside(netns.OWN, lambda: _delete(_is_ours(lab)))
        record.erase(lab.name)
    except Exception as error:
        raise _explained(error, f"cannot take down the lab {lab.name}") from error


def _is_veth(link: Link) -> bool:
    return link.kind == "veth"


def _is_ours(lab: Lab) -> Callable[[Link], bool]:
    def ours(link: Link) -> bool:
        return link.alias == lab.mark or (
            link.ifname == lab.unnamed_bridge and link.kind == "bridge"
        )

    return ours


def _delete(which: Callable[[Link], bool]) -> None:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        for link in [links.parse(message) for message in route.get_links()]:
            if which(link):
                try:
                    route.link("del", index=link.ifindex)
                except NetlinkError as error:
                    if error.code != errno.ENODEV:  # went with its other end
                        raise


# -- building --------------------------------------------------------------------------------


def _build(lab: Lab, owner: Process | None, arrived: list[int]) -> None:
    _remove(lab)
    netns.inside(netns.OWN, lambda: _refuse_collisions(lab))
    namespaces = tuple(container.netns for container in lab.containers)
    try:
        record.write(lab.name, Record(record.this_process(), namespaces))
        for name in namespaces:
            netns.create(name)
        netns.inside(netns.OWN, lambda: _build_host(lab))
        _give_way(lab, arrived)
        record.write(lab.name, Record(owner, namespaces))
    except BaseException as error:
        _remove(lab)
        if isinstance(error, Exception):
            raise _explained(error, f"cannot build the lab {lab.name}") from error
        raise


def _give_way(lab: Lab, arrived: list[int]) -> None:
    if arrived:
        raise TopologyError(f"interrupted: the lab {lab.name} was not built")


def _refuse_collisions(lab: Lab) -> None:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        by_index = {link.ifindex: link for link in map(links.parse, route.get_links())}
        names = {lab.bridge.ifname, *(container.port for container in lab.containers)}
        for link in by_index.values():
            if link.ifname in names:
                raise TopologyError(
                    f"a device {link.ifname} exists that skbtrace did not make; it is left alone",
                    hint=f"ip -d link show {link.ifname}",
                )
        for address in (lab.bridge.address.partition("/")[0], *(c.ip for c in lab.containers)):
            try:
                (found,) = route.route("get", dst=address, flags=_RTM_F_FIB_MATCH)
            except (NetlinkError, ValueError):
                continue  # no way there: nobody has it
            # Less specific than /2 is a default route, or the halves of one that VPNs set.
            if found["dst_len"] > 1:
                through = by_index.get(found.get_attr("RTA_OIF"))
                raise TopologyError(
                    f"{address} would be the lab's, but this host already reaches it through"
                    f" {printable(through.ifname) if through else 'another route'}",
                    hint=f"ip route get fibmatch {address}",
                )


def _build_host(lab: Lab) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as route, _link_events() as events:
        route.link(
            "add",
            kind="bridge",
            ifname=lab.unnamed_bridge,
            address=lab.bridge.mac,
            mtu=lab.mtu,
            # With snooping on, the bridge itself speaks: it reports its groups.
            br_mcast_snooping=0,
        )
        (bridge,) = route.link_lookup(ifname=lab.unnamed_bridge)
        route.link("set", index=bridge, ifalias=lab.mark)
        _quiet(lab.unnamed_bridge)
        route.link("set", index=bridge, ifname=lab.bridge.ifname, state="up")
        address, _, length = lab.bridge.address.partition("/")
        route.addr("add", index=bridge, address=address, prefixlen=int(length))
        for container in lab.containers:
            _add_pair(route, lab, container, bridge)
        for container in lab.containers:
            path = str(netns.RUN_NETNS / container.netns)
            netns.inside(path, partial(_build_container, lab, container))
        _wait_until_ports_forward(route, lab, bridge, events)


def _add_pair(route: Any, lab: Lab, container: Container, bridge: int) -> None:
    file = os.open(netns.RUN_NETNS / container.netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        route.link(
            "add",
            kind="veth",
            ifname=container.port,
            mtu=lab.mtu,
            master=bridge,
            peer={
                "ifname": container.ifname,
                "address": container.mac,
                "mtu": lab.mtu,
                "net_ns_fd": file,
            },
        )
    finally:
        os.close(file)
    (port,) = route.link_lookup(ifname=container.port)
    _quiet(container.port)
    route.link("set", index=port, ifalias=lab.mark, state="up")


def _build_container(lab: Lab, container: Container) -> None:
    from pyroute2 import IPRoute

    _quiet(container.ifname)
    with IPRoute() as route:
        (loopback,) = route.link_lookup(ifname="lo")
        (end,) = route.link_lookup(ifname=container.ifname)
        route.link("set", index=loopback, state="up")
        route.link("set", index=end, ifalias=lab.mark, state="up")
        address, _, length = container.address.partition("/")
        route.addr("add", index=end, address=address, prefixlen=int(length))
        if container.gateway is not None:
            route.route("add", dst="default", gateway=container.gateway, proto="boot")


def _quiet(ifname: str) -> None:
    """Keep IPv6 from sending on its own (router solicitations, group reports) on this device."""
    with suppress(FileNotFoundError):  # this kernel runs without IPv6
        Path(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6").write_text("1")


@contextmanager
def _link_events() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        events.bind((0, _RTMGRP_LINK))
        yield events


def _wait_until_ports_forward(route: Any, lab: Lab, bridge: int, events: socket.socket) -> None:
    # The kernel notices carriers in a worker; until then a port is disabled and drops.
    deadline = time.monotonic() + READY_S
    while True:
        found = [links.parse(message) for message in route.get_links()]
        ports = [link for link in found if link.master == bridge and link.forwards]
        up = any(link.ifindex == bridge and link.up for link in found)
        if up and len(ports) == len(lab.containers):
            return
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([events], [], [], left)[0]:
            raise TopologyError(
                f"the ports of {lab.bridge.ifname} do not come up",
                hint=f"bridge link show master {lab.bridge.ifname}",
            )
        _drain(events)


def _drain(events: socket.socket) -> None:
    while True:
        try:
            events.recv(65_536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more events than it can hold: read on
                raise


# -- what to say -----------------------------------------------------------------------------


def _require_root(command: str) -> None:
    if os.geteuid() != 0:
        raise PrerequisiteError("building a lab needs root", hint=f"sudo skbtrace {command}")


def _explained(error: Exception, what: str) -> SkbtraceError:
    if isinstance(error, SkbtraceError):
        return error
    number = getattr(error, "code", getattr(error, "errno", None))
    if number == errno.EOPNOTSUPP:
        return PrerequisiteError(
            "this kernel has no bridge or no veth devices", hint="sudo modprobe -a bridge veth"
        )
    if number in {errno.EPERM, errno.EACCES}:
        return PrerequisiteError(
            f"{what}: not allowed to make network namespaces and devices",
            hint="run it as root on the host, not in an unprivileged container",
        )
    return TopologyError(f"{what}: {netns.reason(error)}")
