# SPDX-License-Identifier: GPL-2.0-only
"""A journey's parts in words: its flow, its end, what is known of a hop besides where and when.

Kernel things keep the kernel's words, packets those of tcpdump's readers. Pure; knows no signs,
styles, widths and formats.
"""

from __future__ import annotations

from tracer.model import Change, Flow, Journey, Outcome, Socket, State, Task, Verdict

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
_HEXADECIMAL = frozenset({"mark", "hash", "classid"})
_EVERYBODYS = frozenset({"hash", "csum", "sk", "refdst"})
"""Set by the kernel itself on most packets, so worth a word only where it changes."""
_SHORT_FAMILIES = {"ipv4": "", "ipv6": "", "bridge": "br"}
"""What tells the families apart that can meet in one journey. Its flow says 4 or 6."""


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


def ending(journey: Journey) -> str:
    """Return how it ended in a word or two: ``delivered``, ``DROP NETFILTER_DROP``."""
    if journey.outcome is not Outcome.DROPPED:
        return journey.outcome.value
    drop = journey.drop
    why = None if drop is None else drop.reason or drop.function
    return "DROP" if why is None else f"DROP {why}"


def verdict_words(verdict: Verdict) -> tuple[str, str]:
    """Return what netfilter did, in full and short: ``ipv4 FORWARD accept``, ``FORWARD accept``."""
    where = "/".join([n for n in (verdict.table, verdict.chain) if n is not None])
    said = [where or verdict.hook]
    if verdict.verdict is not None:
        said.append("DROP" if verdict.verdict == "drop" else verdict.verdict)
    if verdict.rule is not None:
        said.append(f"rule {verdict.rule}" if verdict.rule else "policy")
    family = _SHORT_FAMILIES.get(verdict.family, verdict.family)
    return " ".join([verdict.family, *said]), " ".join([*([family] if family else []), *said])


def socket_words(socket: Socket) -> str:
    """Return which socket it is: ``udp socket in c2``, ``raw icmp socket in c1``."""
    proto = f"protocol {socket.proto}" if socket.proto.isdecimal() else socket.proto
    kind = f"raw {proto}" if socket.type == "raw" else proto
    return f"{'packet' if socket.family == 'packet' else kind} socket in {socket.netns.name}"


def task_words(task: Task) -> str:
    """Return which process it is: ``ping[164]``, with its own namespace if that is another."""
    said = f"{task.comm}[{task.pid}]"
    return said if task.netns is None else f"{said} in {task.netns.name}"


def change_words(change: Change, to: str) -> list[str]:
    """Return what changed, ``to`` between old and new: ``["mark", "0x7", "->", "0"]``."""
    field, old, new = change
    return [field, _value(field, old), to, _value(field, new)]


def state_words(state: State) -> list[str]:
    """Return what somebody has set about a packet: ``["mark 0x7", "priority 3"]``."""
    return [
        f"{name} {_value(name, value)}"
        for name, value, usual in zip(State._fields, state, State(), strict=True)
        if value != usual and name not in _EVERYBODYS
    ]


def _value(field: str, value: int | str | bool | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value and field in _HEXADECIMAL:
        return f"{value:#x}"
    return str(value)
