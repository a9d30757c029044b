# SPDX-License-Identifier: GPL-2.0-only
"""A bridge in words: what is unusual about its ports, and how its namespace leads on.

What drawings, graphs and reports of a topology say alike. Pure: a topology in, text out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_interface

from tracer.model import Device, Port, Rewrite, Topology

_DEFAULTS = frozenset({"0.0.0.0/0", "::/0"})


def ways(topology: Topology) -> dict[Device, str]:
    """Return what each uplink leads to: ``default via 10.0.2.2``, or its first route."""
    said = {}
    for device in topology.uplinks:
        routes = [r for r in topology.routes if r.device == device and r.gateway is not None]
        defaults = dict.fromkeys(str(r.gateway) for r in routes if r.dst in _DEFAULTS)
        if defaults:
            said[device] = f"default via {', '.join(defaults)}"
        elif routes:
            more = f" (+{len(routes) - 1})" if len(routes) > 1 else ""
            said[device] = f"{routes[0].dst} via {routes[0].gateway}{more}"
    return said


def nat(topology: Topology, to: str) -> Iterator[str]:
    """Give a line for each rewrite: ``tcp :8088 → 172.17.0.2:80``; ``to`` is the arrow.

    What holds for packets from outside is not said again for the host's own.
    """
    bridge = None if topology.bridge is None else topology.bridge.ifname
    inward = {_essence(r) for r in topology.rewrites if r.hook != "LOCAL_OUT"}
    seen = set()
    for rewrite in topology.rewrites:
        matched = _matched(rewrite, bridge)
        # What it matches is only told by the rule itself.
        said = f"{matched} {to} {_becomes(rewrite)}" if matched else rewrite.rule
        if said not in seen and (rewrite.hook != "LOCAL_OUT" or _essence(rewrite) not in inward):
            seen.add(said)
            yield said


def is_forwarding(topology: Topology) -> bool:
    """Whether IPv4 is forwarded in the bridge's namespace; also if nothing there asks for it."""
    bridge = topology.bridge
    if bridge is None or bridge.netns in topology.forwards:
        return True
    networks = {
        ip_interface(address).network
        for device, address in topology.addresses
        if device.netns == bridge.netns and _is_ipv4(address)
    }
    return not topology.rewrites and len(networks) < 2


def state_words(port: Port | None, *, is_down: bool) -> list[str]:
    """Return what is not as usual with a device: ``down``, ``blocking``, ``isolated``, VLANs."""
    words = ["down"] if is_down else []
    if port is None:
        return words
    if port.state != "forwarding" and not is_down:
        words.append(port.state)
    words += [word for word, so in (("isolated", port.isolated), ("hairpin", port.hairpin)) if so]
    words += [f"{word} off" for word in ("learning", "flood") if not getattr(port, word)]
    if port.vlans:
        pvid = "" if port.vlans == (port.pvid,) else f" pvid {port.pvid or 'none'}"
        words.append(f"vlan {_ranges(port.vlans)}{pvid}")
    return words


def _ranges(numbers: Sequence[int]) -> str:
    """As ``1-3,10``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _essence(rewrite: Rewrite) -> tuple[str | None, ...]:
    return rewrite.kind, rewrite.to, rewrite.proto, rewrite.dport


def _matched(rewrite: Rewrite, bridge: str | None) -> str:
    src, dst = _negated(rewrite.src), _negated(rewrite.dst)
    words = [_negated(rewrite.proto), src]
    if rewrite.dport is not None:
        port = _negated(rewrite.dport)
        dst = f"[{dst}]:{port}" if ":" in dst else f"{dst}:{port}"
    words += ["to" if src and dst else "", dst]
    # That it does not come from or go to the bridge itself goes without saying.
    for word, ifname in (("in", rewrite.iifname), ("out", rewrite.oifname)):
        if ifname is not None and ifname != f"!{bridge}":
            words += [word, _negated(ifname)]
    return " ".join(word for word in words if word)


def _negated(value: str | None) -> str:
    if value is None:
        return ""
    return f"not {value[1:]}" if value.startswith("!") else value


def _becomes(rewrite: Rewrite) -> str:
    if rewrite.kind == "dnat" and rewrite.to is not None:
        return rewrite.to
    return " ".join(word for word in (rewrite.kind, rewrite.to) if word)


def _is_ipv4(address: str) -> bool:
    try:
        return ip_interface(address).version == 4
    except ValueError:
        return False
