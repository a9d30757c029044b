# SPDX-License-Identifier: GPL-2.0-only
"""A flow in words, as tcpdump's readers know them. Pure; knows no styles."""

from __future__ import annotations

from tracer.model import Flow

_ICMP = {
    0: "echo reply",
    3: "unreachable",
    5: "redirect",
    8: "echo request",
    11: "time exceeded",
    12: "parameter problem",
}
_ICMPV6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    130: "listener query",
    131: "listener report",
    132: "listener done",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
    137: "redirect",
    143: "listener report v2",
}
_ECHO = {("icmp", 0), ("icmp", 8), ("icmpv6", 128), ("icmpv6", 129)}


def flow_words(flow: Flow) -> list[str]:
    """Return who speaks to whom, as words: ``["TCP", "S", "172.17.0.2:40012", ">", …]``."""
    if flow.proto == "arp":
        said = _arp(flow)
    elif flow.proto in {"icmp", "icmpv6"}:
        said = _icmp(flow)
    else:
        said = [_name(flow.proto), *([flow.tcp_flags] if flow.tcp_flags else [])]
        said += [_end(flow.src, flow.sport), ">", _end(flow.dst, flow.dport)]
    if flow.fragment:
        said.append("fragment" if flow.ip_id is None else f"fragment of {flow.ip_id}")
    if flow.vlan is not None:
        said.append(f"vlan {flow.vlan}")
    return said


def _arp(flow: Flow) -> list[str]:
    src, dst = flow.src or "?", flow.dst or "?"
    if flow.arp_op == "request":
        return ["ARP", "who-has", dst, "tell", src]
    if flow.arp_op == "reply":
        return ["ARP", "reply", src, "is-at", flow.eth_src or "?", "to", dst]
    return ["ARP", flow.arp_op or "?", src, ">", dst]


def _icmp(flow: Flow) -> list[str]:
    said = ["ICMP" if flow.proto == "icmp" else "ICMPv6"]
    if flow.icmp_type is not None:
        known = (_ICMP if flow.proto == "icmp" else _ICMPV6).get(flow.icmp_type)
        said += (known or f"type {flow.icmp_type}").split()
        if flow.icmp_code:
            said.append(f"code {flow.icmp_code}")
    said += [flow.src or "?", ">", flow.dst or "?"]
    if (flow.proto, flow.icmp_type) in _ECHO and flow.icmp_id is not None:
        said.append(f"id {flow.icmp_id}")
        if flow.icmp_seq is not None:
            said.append(f"seq {flow.icmp_seq}")
    return said


def _name(proto: str) -> str:
    return proto.upper() if proto in {"tcp", "udp"} else proto


def _end(address: str | None, port: int | None) -> str:
    shown = address or "?"
    if port is None:
        return shown
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
