# SPDX-License-Identifier: GPL-2.0-only
"""Build a lab, take it down, and clean up after one whose builder was killed.

What is about to be made or removed is written down first (``record``), with the process that is at
work. So a ``kill -9`` at any point leaves only what the next start recognises: its owner is gone.
What a tracer keeps does not even wait for that start (``guard``).
How ours are told from everybody else's stands in ``state``.

A lab that ``skbtrace lab up`` has finished has no owner and stays until ``lab down``. A lock makes
two starts at once follow one another.

``down`` leaves what ``ip netns`` leaves, the folder /run/netns as a mount of its own, and besides
the folder /run/skbtrace with its lock file, and kernel modules that were loaded.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tracer.errors import PrerequisiteError, SkbtraceError, TopologyError
from tracer.process import Process, this_process
from tracer.text import printable
from tracer.topology import forwarding, links, make, netns, record, rules
from tracer.topology.guard import Guard
from tracer.topology.links import Link
from tracer.topology.record import Record
from tracer.topology.spec import HOST, Lab, unnamed
from tracer.topology.state import State, is_of_another, links_at, look, sharing, status

_RTM_F_FIB_MATCH = 0x2000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MADE = {"bridge", "veth"}
"""The kinds of devices that are made in a lab's namespaces."""
_GOING = 0x736B6274
"""The group of those that are about to be deleted: ``skbt``."""


def up(lab: Lab) -> bool:
    """Build the lab, to stay until ``down``. Return False if it stands already.

    Raises TopologyError if a device, namespace or address of the lab is somebody else's (another
    lab's, too) or a running skbtrace keeps the lab; PrerequisiteError without root, or without what
    it takes of the kernel (bridge, veth, nftables) and of programs (nft). When it raises, nothing
    of the lab is left, and so after a SIGINT, SIGTERM or SIGHUP that came while it was building.
    """
    _require_root(f"lab up {lab.name}")
    with _undisturbed(lab) as arrived:
        _free(lab)
        if look(lab).state is State.STANDING:
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
        there = look(lab).state in {State.STANDING, State.BROKEN}
        _remove(lab)
        return there


@contextmanager
def standing(lab: Lab) -> Iterator[bool]:
    """Have the lab, or another bridge of its name, while in the block.

    What a killed process left is removed first. If the lab stands then, or for a lab in the host's
    namespace a device of the bridge's name exists, nothing is built and nothing is taken down: the
    value is False. Otherwise the lab is built, the value is True, and the lab is taken down on
    every way out, SIGKILL included: a ``Guard`` does it then. SIGINT, SIGTERM and SIGHUP that come
    while it is being built or taken down take their course right after; one that came while it was
    being built also means that it is gone again.

    Raises what ``up`` raises.
    """
    _require_root(f"--topology {lab.name}")
    owner = this_process()
    guard = None
    try:
        with _undisturbed(lab) as arrived:
            written = record.read(lab.name)
            if written is not None and written.left_behind:
                _remove(lab)
            built = not _is_found(lab)
            if built:
                _free(lab)
                guard = Guard(lambda: _take_down(lab, owner))
                _build(lab, owner, arrived)
        yield built
    finally:
        try:
            _take_down(lab, owner)
        finally:
            if guard is not None:
                guard.end()


def _take_down(lab: Lab, owner: Process) -> None:
    """Remove the lab if that process keeps it."""
    with _undisturbed(lab):
        written = record.read(lab.name)
        if written is not None and written.owner == owner:
            _remove(lab)


def _is_found(lab: Lab) -> bool:
    if lab.on_host and lab.bridge is not None:
        return any(link.ifname == lab.bridge.ifname for link in links_at(HOST))
    return look(lab).state is State.STANDING


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


def _refuse_other_labs(lab: Lab) -> None:
    """Raise TopologyError if a lab stands that has one of this one's namespaces."""
    for other, name in sharing(lab):
        now = status(other)
        if now.state is State.LEFT_BEHIND:
            _remove(other)
        elif now.state is not State.DOWN or now.owner is not None:
            keeper = f" (kept by a running skbtrace, pid {now.owner})" if now.owner else ""
            raise TopologyError(
                f"the lab {lab.name} needs the namespace {name},"
                f" which the lab {other.name} has{keeper}",
                hint=f"sudo kill {now.owner}"
                if now.owner
                else f"sudo skbtrace lab down {other.name}",
            )


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
    """Remove the devices, namespaces and rules of the lab that are ours, and what is written down.

    What the host forwards is again what it was.
    """
    names = dict.fromkeys(name for name in lab.namespaces if not is_of_another(lab, name))
    written = record.read(lab.name)
    before = {} if written is None else written.forwarding
    if written is not None:
        names |= dict.fromkeys(written.namespaces)
    try:
        record.write(lab.name, Record(this_process(), tuple(names), before))
        # First of all: without the rules, nothing shall be forwarded that was not before.
        forwarding.put_back(before)
        for name in names:
            if netns.exists(name):
                # The kernel would remove them too, but later. Whoever else is in there keeps lo.
                netns.inside(str(netns.RUN_NETNS / name), _empty)
            netns.remove(name)
        if lab.on_host:
            netns.inside(netns.OWN, lambda: _delete(_is_ours(lab)))
            if lab.router is not None and lab.router.at == HOST:
                rules.unload(lab.router.table)
        record.erase(lab.name)
    except Exception as error:
        raise _explained(error, f"cannot take down the lab {lab.name}") from error


def _is_ours(lab: Lab) -> Callable[[Link], bool]:
    half_made = None if lab.bridge is None else unnamed(lab.bridge)

    def ours(link: Link) -> bool:
        return link.alias == lab.mark or (link.ifname == half_made and link.kind == "bridge")

    return ours


def _empty() -> None:
    """Delete every bridge and veth pair of a lab's namespace, all at once.

    One by one, each costs the kernel grace periods: 30 pairs half a second on an idle host.
    """
    from pyroute2 import IPRoute

    with IPRoute() as route:
        made = [link for link in links.read() if link.kind in _MADE]
        for link in made:
            route.link("set", index=link.ifindex, group=_GOING)
        if made:
            route.link("del", group=_GOING)


def _delete(which: Callable[[Link], bool]) -> None:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        for link in links.read():
            if which(link):
                try:
                    route.link("del", index=link.ifindex)
                except NetlinkError as error:
                    if error.code != errno.ENODEV:  # went with its other end
                        raise


# -- building --------------------------------------------------------------------------------


def _build(lab: Lab, owner: Process | None, arrived: list[int]) -> None:
    if lab.router is not None:
        rules.nft()
    _refuse_other_labs(lab)
    _remove(lab)
    fitting = netns.inside(netns.OWN, lambda: _fitting(lab)) if lab.on_host else lab
    try:
        routes = lab.router is not None and lab.router.at == HOST
        before = forwarding.settings() if routes else {}
        record.write(lab.name, Record(this_process(), lab.namespaces, before))
        for name in lab.namespaces:
            netns.create(name)
        make.make(fitting)
        _give_way(lab, arrived)
        record.write(lab.name, Record(owner, lab.namespaces, before))
    except BaseException as error:
        _remove(lab)
        if isinstance(error, Exception):
            raise _explained(error, f"cannot build the lab {lab.name}") from error
        raise


def _give_way(lab: Lab, arrived: list[int]) -> None:
    if arrived:
        raise TopologyError(f"interrupted: the lab {lab.name} was not built")


def _fitting(lab: Lab) -> Lab:
    """Return the lab with names for its ports that this host has not given to anybody.

    Raises TopologyError if there are none, and if the bridge's name or an address is taken.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    names: dict[str, str] = {}
    with IPRoute() as route:
        by_index = {link.ifindex: link for link in links.read()}
        taken = {link.ifname for link in by_index.values()}
        for interface in lab.at(HOST):
            free = [name for name in interface.ifnames if name not in taken]
            if not free:
                raise TopologyError(
                    f"a device {interface.ifname} exists that skbtrace did not make;"
                    " it is left alone",
                    hint=f"ip -d link show {interface.ifname}",
                )
            names[interface.ifname] = free[0]
        for address in (each.ip for each in lab.interfaces if each.address is not None):
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
    return lab.renamed(names)


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
