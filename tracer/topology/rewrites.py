# SPDX-License-Identifier: GPL-2.0-only
"""Rules of netfilter that change addresses, as the programs that know them list them.

iptables-save tells those of iptables, of both kinds (its own tables, and nftables with ``xt``
expressions); ``nft`` tells the native ones. A program is only started where the kernel says that
there is a nat table, and nothing is lost but its rules if it is missing, slow or fails.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from tracer.model import Netns, Rewrite
from tracer.text import printable
from tracer.topology.netlink import Netlink, attributes, text

TIMEOUT_S = 5.0
"""How long a program may take (milliseconds, usually)."""

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_NETLINK_NETFILTER = 12
_GETCHAIN = 10 << 8 | 4
"""NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN"""
_FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
_HOOKS = {
    "PREROUTING": "PRE_ROUTING",
    "INPUT": "LOCAL_IN",
    "OUTPUT": "LOCAL_OUT",
    "POSTROUTING": "POST_ROUTING",
}
"""iptables' chain, or nft's hook in capitals → as in ``Verdict``."""
_DEEPEST = 16
"""Chains one below the other that are followed: the kernel allows as many (NFT_JUMP_STACK_SIZE)."""


def read(netns: Netns) -> list[Rewrite]:
    """Return the rules of ``netns``, which the calling thread is in. Raises nothing."""
    found: list[Rewrite] = []
    for family, save in (("ip", "iptables"), ("ip6", "ip6tables")):
        if "nat" in _lines(f"/proc/thread-self/net/{family}_tables_names"):
            told = _run(f"{save}-legacy-save", "-t", "nat") or _run(f"{save}-save", "-t", "nat")
            found += of_iptables(told, netns)
    tables = nat_tables()
    for family, save in (("ip", "iptables"), ("ip6", "ip6tables")):
        if (family, "nat") in tables:
            told = _run(f"{save}-nft-save", "-t", "nat") or _run(f"{save}-save", "-t", "nat")
            found += of_iptables(told, netns)
    if tables:
        found += of_nft(_run("nft", "-j", "list", "ruleset"), netns)
    # iptables-save and iptables-nft-save may be the same program.
    return list(dict.fromkeys(found))


# -- what is there ---------------------------------------------------------------------------


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().split()
    except OSError:  # no such tables on this kernel
        return []


def nat_tables() -> set[tuple[str, str]]:
    """Return (family, table) of every table of nftables that has a chain of the type nat."""
    if not _knows_nft():
        return set()
    found = set()
    try:
        with Netlink(_NETLINK_NETFILTER) as nft:
            for message in nft.dump(_GETCHAIN, bytes(4)):
                chain = attributes(message, 4)
                if chain.get(7) == b"nat\0" and message[0] in _FAMILIES:
                    found.add((_FAMILIES[message[0]], text(chain.get(1)) or ""))
    except OSError:
        return set()
    return found


def _knows_nft() -> bool:
    # A kernel that has it as a module and has not loaded it would load it to answer.
    if Path("/sys/module/nf_tables").exists():
        return True
    built_in = Path(f"/lib/modules/{platform.release()}/modules.builtin")
    try:
        return "/nf_tables.ko" in built_in.read_text()
    except OSError:  # there are no modules to load
        return True


def _run(program: str, *arguments: str) -> str:
    """What the program prints, or nothing."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,  # Ctrl-C is for skbtrace
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


# -- iptables --------------------------------------------------------------------------------


class _Rule(NamedTuple):
    """A rule of a chain, of either program."""

    matches: Mapping[str, str]
    """Field of ``Rewrite`` → value."""
    kind: str | None
    """Of ``Rewrite``, if it changes addresses."""
    to: str | None
    jump: str | None
    """The chain it leads to."""
    text: str


_MATCHES = {
    "-s": "src",
    "-d": "dst",
    "-i": "iifname",
    "-o": "oifname",
    "-p": "proto",
    "--dport": "dport",
}
_TARGETS = {"--to-destination", "--to-source", "--to-ports"}
_KINDS = {"DNAT": "dnat", "SNAT": "snat", "MASQUERADE": "masquerade", "REDIRECT": "redirect"}


def of_iptables(saved: str, netns: Netns) -> list[Rewrite]:
    """Return what ``iptables-save -t nat`` tells. What it does not understand it passes over."""
    chains: dict[str, list[_Rule]] = {}
    for line in saved.splitlines():
        try:
            words = shlex.split(line) if line.startswith("-A ") else []
        except ValueError:
            continue
        if len(words) > 2:
            chains.setdefault(words[1], []).append(_iptables_rule(words[2:], line))
    return [
        rewrite
        for chain, hook in _HOOKS.items()
        for rewrite in _followed(chains, chain, _Way(netns, hook))
    ]


def _iptables_rule(words: list[str], line: str) -> _Rule:
    matches: dict[str, str] = {}
    target = to = None
    negated = ""
    rest = iter(words)
    for word in rest:
        if word == "!":
            negated = "!"
            continue
        if word in {"-j", "-g"}:
            target = next(rest, None)
        elif word in _MATCHES:
            matches[_MATCHES[word]] = negated + _plain(_MATCHES[word], next(rest, ""))
        elif word in _TARGETS:
            to = _target(word, next(rest, ""))
        negated = ""
    kind = _KINDS.get(target or "")
    if kind == "masquerade":
        to = None
    return _Rule(matches, kind, to, target if kind is None else None, printable(line))


def _plain(field: str, value: str) -> str:
    if field == "dport":
        return value.replace(":", "-")
    if field in {"src", "dst"}:
        return re.sub(r"/128$" if ":" in value else r"/32$", "", value)
    return printable(value)


def _target(option: str, value: str) -> str:
    return f":{value}" if option == "--to-ports" else printable(value)


# -- nft -------------------------------------------------------------------------------------


def of_nft(listed: str, netns: Netns) -> list[Rewrite]:
    """Return what ``nft -j list ruleset`` tells of native chains. The rest is passed over."""
    try:
        every = json.loads(listed)["nftables"]
        return list(_of_nft(every, netns))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def _of_nft(every: list[dict[str, Any]], netns: Netns) -> Iterator[Rewrite]:
    chains: dict[tuple[str, str], dict[str, list[_Rule]]] = {}
    hooked: list[tuple[tuple[str, str], str, str]] = []
    for one in every:
        if "chain" in one and one["chain"].get("type") == "nat":
            chain = one["chain"]
            hook = _HOOKS.get(str(chain.get("hook")).upper())
            if hook is not None:
                hooked.append(((chain["family"], chain["table"]), chain["name"], hook))
        if "rule" in one:
            rule = one["rule"]
            rules = chains.setdefault((rule["family"], rule["table"]), {})
            rules.setdefault(rule["chain"], []).extend(_nft_rules(rule["expr"]))
    for table, name, hook in hooked:
        yield from _followed(chains.get(table, {}), name, _Way(netns, hook))


def _nft_rules(expressions: list[dict[str, Any]]) -> Iterator[_Rule]:
    """One rule, or one for each element where it matches a set: of ports, of networks."""
    if any("xt" in each for each in expressions):  # iptables-save tells them
        return
    matches: dict[str, list[str]] = {}
    kind = to = jump = None
    words = []
    for each in expressions:
        ((name, what),) = each.items()
        if name in {"counter", "comment"}:
            continue
        words.append(_nft_words(name, what))
        if name == "match":
            matches |= _nft_match(what)
        elif name in {"jump", "goto"}:
            jump = str(what["target"])
        elif name in {"dnat", "snat", "masquerade", "redirect"}:
            kind = name
            to = _nft_target(what or {}) if name != "masquerade" else None
    rule = printable(" ".join(words))
    for values in product(*matches.values()):
        yield _Rule(dict(zip(matches, values, strict=True)), kind, to, jump, rule)


_LARGEST_SET = 16
"""Of a larger one the rule's text tells."""

_NFT_FIELDS = {
    ("ip", "saddr"): "src",
    ("ip", "daddr"): "dst",
    ("ip6", "saddr"): "src",
    ("ip6", "daddr"): "dst",
    ("ip", "protocol"): "proto",
    ("ip6", "nexthdr"): "proto",
    ("tcp", "dport"): "dport",
    ("udp", "dport"): "dport",
    ("th", "dport"): "dport",
    ("meta", "iifname"): "iifname",
    ("meta", "oifname"): "oifname",
    ("meta", "iif"): "iifname",
    ("meta", "oif"): "oifname",
    ("meta", "l4proto"): "proto",
}


def _nft_match(match: dict[str, Any]) -> dict[str, list[str]]:
    """Field → values, empty where it is not understood."""
    left, right, op = match["left"], match["right"], match["op"]
    if not isinstance(left, dict):
        return {}
    payload, meta = left.get("payload", {}), left.get("meta", {})
    protocol = payload.get("protocol") if payload else "meta"
    field = _NFT_FIELDS.get((protocol, payload.get("field") or meta.get("key")))
    values = _nft_values(right)
    if field is None or values is None or op not in {"==", "!=", "in"}:
        return {}
    if len(values) > (1 if op == "!=" else _LARGEST_SET):
        return {}
    found = {field: [printable(("!" if op == "!=" else "") + value) for value in values]}
    if protocol in {"tcp", "udp"}:
        found["proto"] = [protocol]
    return found


def _nft_values(right: Any) -> list[str] | None:
    """The values of a match, None where they are not told here."""
    if isinstance(right, int) and not isinstance(right, bool):
        return [str(right)]
    if isinstance(right, str) and not right.startswith("@"):
        return [right]
    if isinstance(right, dict) and "prefix" in right:
        return [f"{right['prefix']['addr']}/{right['prefix']['len']}"]
    if isinstance(right, dict) and "range" in right:
        return ["-".join(str(end) for end in right["range"])]
    if isinstance(right, dict) and isinstance(right.get("set"), list):
        found = [_nft_values(each) for each in right["set"]]
        return None if None in found else [value for each in found for value in each or ()]
    return None


def _nft_target(what: dict[str, Any]) -> str | None:
    """``172.17.0.2:80``; None where it depends on the packet (a map)."""
    address, port = _nft_values(what.get("addr")), _nft_values(what.get("port"))
    where = address[0] if address else ""
    if where and port and ":" in where:
        where = f"[{where}]"
    return printable(where + (f":{port[0]}" if port else "")) or None


_OPS = {"==": "", "in": ""}


def _nft_words(name: str, what: Any) -> str:
    """An expression much as nft writes it; as JSON where it has more than is known here."""
    if name == "match":
        left, values = _nft_left(what["left"]), _nft_values(what["right"])
        if left is not None and values is not None:
            op = _OPS.get(what["op"], f"{what['op']} ")
            right = values[0] if len(values) == 1 else f"{{ {', '.join(values)} }}"
            return f"{left} {op}" + (f'"{right}"' if left.endswith("ifname") else right)
    if name in {"dnat", "snat", "redirect"}:
        target = _nft_target(what or {})
        if target or not what:
            return f"{name} to {target}" if target else name
    if name in {"jump", "goto"}:
        return f"{name} {what['target']}"
    return name if what is None else json.dumps({name: what})


def _nft_left(left: Any) -> str | None:
    """``tcp dport``, ``iifname``, ``meta l4proto``."""
    payload, meta = left.get("payload"), left.get("meta")
    if meta:
        return str(meta["key"]) if "if" in meta["key"] else f"meta {meta['key']}"
    return f"{payload['protocol']} {payload['field']}" if payload and "field" in payload else None


# -- both ------------------------------------------------------------------------------------


class _Way(NamedTuple):
    """How a rule is reached: from which hook, past what matches, through which jumps."""

    netns: Netns
    hook: str
    matches: Mapping[str, str] = {}
    jumps: tuple[str, ...] = ()


def _followed(chains: Mapping[str, list[_Rule]], chain: str, way: _Way) -> Iterator[Rewrite]:
    for rule in chains.get(chain, ()):
        matches = _both(way.matches, rule.matches)
        if rule.kind is not None:
            yield Rewrite(
                way.netns,
                way.hook,
                rule.kind,
                rule.to,
                **matches,
                rule="; ".join((*way.jumps, rule.text)),
            )
        elif rule.jump is not None and rule.jump in chains and len(way.jumps) < _DEEPEST:
            onward = way._replace(matches=matches, jumps=(*way.jumps, rule.text))
            yield from _followed(chains, rule.jump, onward)


def _both(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """All matches together. Of two of one field the one that says what it is, else the later."""
    together = dict(before)
    for field, value in now.items():
        if field not in before or not value.startswith("!"):
            together[field] = value
    return together
