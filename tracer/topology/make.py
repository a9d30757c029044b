# SPDX-License-Identifier: GPL-2.0-only
"""Make a lab's devices, in namespaces that exist already, and wait until packets get through.

It does not know what was there before nor what becomes of a half-made lab; see ``build``.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tracer.errors import TopologyError
from tracer.topology import forwarding, links, netns, rules
from tracer.topology.spec import HOST, PREFIX, Interface, Lab, unnamed
from tracer.topology.state import path_of

READY_S = 10.0
"""How long the kernel may take to bring devices up (milliseconds, usually)."""

_RTMGRP_LINK = 1


def make(lab: Lab) -> None:
    """Make every device of the lab; returns when packets get through.

    Raises TopologyError if devices do not come up, PrerequisiteError if its firewall rules cannot
    be loaded, OSError and the netlink library's errors.
    """
    for place in lab.places:
        netns.inside(path_of(place), partial(_furnish, lab, place))
    # The end that comes up second finds its carrier there and is ready at once.
    for place in dict.fromkeys(first.at for first, _ in lab.pairs):
        netns.inside(path_of(place), partial(_wait_until_ready, lab, place))


def _furnish(lab: Lab, place: str) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        if place != HOST:
            route.link("set", index=socket.if_nametoindex("lo"), state="up")  # gives it its address
        if lab.router is not None and lab.router.at == place:
            was_open = forwarding.is_open(forwarding.settings())
            rules.load(lab.router.rules(was_open=was_open))
            forwarding.switch(on=True)
        elif place != HOST:
            forwarding.switch(on=False)  # it began with what the host has
        bridge = lab.bridge
        master = None
        if bridge is not None and bridge.at == place:
            master = _add_bridge(route, lab, bridge)
            _bring_up(route, lab, bridge)
        for first, second in lab.pairs:
            if first.at == place:
                _add_pair(route, lab, first, second, master)
        for interface in lab.at(place):
            if interface != bridge:
                _bring_up(route, lab, interface)


def _add_bridge(route: Any, lab: Lab, bridge: Interface) -> int:
    name = unnamed(bridge)
    route.link(
        "add",
        kind="bridge",
        ifname=name,
        address=bridge.mac,
        mtu=lab.mtu,
        # With snooping on, the bridge itself speaks: it reports its groups.
        br_mcast_snooping=0,
    )
    index = socket.if_nametoindex(name)
    route.link("set", index=index, ifalias=lab.mark)
    route.link("set", index=index, ifname=bridge.ifname)
    return index


def _add_pair(
    route: Any, lab: Lab, first: Interface, second: Interface, master: int | None
) -> None:
    file = os.open(path_of(second.at), os.O_RDONLY | os.O_CLOEXEC)
    options: dict[str, object] = {} if first.mac is None else {"address": first.mac}
    if first.is_port:
        options["master"] = master
    try:
        route.link(
            "add",
            kind="veth",
            ifname=first.ifname,
            mtu=lab.mtu,
            peer={
                "ifname": second.ifname,
                "address": second.mac,
                "mtu": lab.mtu,
                "net_ns_fd": file,
            },
            **options,
        )
    finally:
        os.close(file)


def _bring_up(route: Any, lab: Lab, interface: Interface) -> None:
    index = socket.if_nametoindex(interface.ifname)
    if interface in lab.loopbacks:
        route.link("set", index=index, ifalias=lab.mark)
        return
    _quiet(interface.ifname)
    route.link("set", index=index, ifalias=lab.mark, state="up")
    if interface.address is not None:
        address, _, length = interface.address.partition("/")
        route.addr("add", index=index, address=address, prefixlen=int(length))
    if interface.gateway is not None:
        route.route("add", dst="default", gateway=interface.gateway, proto="boot")


def _quiet(ifname: str) -> None:
    """Keep IPv6 from sending on its own (router solicitations, group reports) on this device."""
    with suppress(FileNotFoundError):  # this kernel runs without IPv6
        Path(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6").write_text("1")


# -- ready -----------------------------------------------------------------------------------


def _wait_until_ready(lab: Lab, place: str) -> None:
    # The kernel notices carriers in a worker. Until then a bridge's port is disabled, and the
    # first end of a pair has no queue to send from; both drop.
    deadline = time.monotonic() + READY_S
    with _link_events() as events:
        while True:
            found = links.read()
            ready = {
                link.ifname for link in found if link.up and (link.forwards or not link.master)
            }
            late = [each.ifname for each in lab.at(place) if each.ifname not in ready]
            if not late:
                return
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([events], [], [], left)[0]:
                where = "" if place == HOST else f"-n {PREFIX}{place} "
                raise TopologyError(
                    f"the lab's devices do not come up: {', '.join(late)}",
                    hint=f"ip {where}-d link show",
                )
            _drain(events)


@contextmanager
def _link_events() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        events.bind((0, _RTMGRP_LINK))
        yield events


def _drain(events: socket.socket) -> None:
    while True:
        try:
            events.recv(65_536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more events than it can hold: read on
                raise
