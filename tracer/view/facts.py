# SPDX-License-Identifier: GPL-2.0-only
"""What is known of a hop or a packet besides where and when, in words.

Kernel things keep the kernel's words. Pure; knows no signs, styles and widths.
"""

from __future__ import annotations

from tracer.model import Change, Socket, State, Task, Verdict

_HEXADECIMAL = frozenset({"mark", "hash", "classid"})
_EVERYBODYS = frozenset({"hash", "csum", "sk", "refdst"})
"""Set by the kernel itself on most packets, so worth a word only where it changes."""
_SHORT_FAMILIES = {"ipv4": "", "ipv6": "", "bridge": "br"}
"""What tells the families apart that can meet in one journey. Its flow says 4 or 6."""


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
