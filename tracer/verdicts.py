# SPDX-License-Identifier: GPL-2.0-only
"""What netfilter did with a packet: hooks and tables passed, and from what followed, verdicts.

A hook or a table says nothing when it is done. Its verdict is what was seen next: a packet that
goes on was accepted, one that is dropped before anything else is reached was dropped there.
Pure; changes the list of hops it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tracer.model import Drop, Hop, Verdict
from tracer.probes import FREES, PROBES, Handler
from tracer.wire import NOTE_RULE, NOTE_TABLE, Note

TableOf: TypeAlias = Callable[[int, int], tuple[int, str, str, int | None] | None]
"""Key of a chain or table → (family, table, chain, hook)."""

HOOK = next(p.function for p in PROBES if p.handler is Handler.HOOK)
_NFT = next(p.function for p in PROBES if p.handler is Handler.NFT)
_TABLES = frozenset(p.function for p in PROBES if p.handler in {Handler.NFT, Handler.XT})
_TO_USER_SPACE = "nf_queue"
_REMEMBERED = 4096

# Who says that netfilter dropped a packet: the reason since 5.17, else the place of the drop
# (bridge prerouting hooks are called by br_handle_frame itself).
_NETFILTER = "NETFILTER_DROP"
_DROPPERS = frozenset({"nf_hook_slow", "nft_do_chain", "br_handle_frame"})

# NFPROTO_* of include/uapi/linux/netfilter.h and the hooks of nf_inet_hooks; arptables counts its
# own: in, out, forward.
_FAMILIES = {1: "inet", 2: "ipv4", 3: "arp", 5: "netdev", 7: "bridge", 10: "ipv6"}
_HOOKS = ("PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING", "INGRESS")
_ARP_HOOKS = ("LOCAL_IN", "LOCAL_OUT", "FORWARD")
_NETDEV_HOOKS = ("INGRESS", "EGRESS")
_XT_CHAINS = {
    "PRE_ROUTING": "PREROUTING",
    "LOCAL_IN": "INPUT",
    "FORWARD": "FORWARD",
    "LOCAL_OUT": "OUTPUT",
    "POST_ROUTING": "POSTROUTING",
}


class Verdicts:
    """Tells verdicts. The same words are the same object: others may remember what they made of it.

    ``table_of``: what a chain or table is called.
    """

    def __init__(self, table_of: TableOf) -> None:
        self._table_of = table_of
        self._interned: dict[tuple[str | int | None, ...], Verdict] = {}

    def tell(
        self,
        hops: list[Hop],
        notes: list[tuple[int, Note]],
        hooks: list[tuple[int, int]],
        drop: Drop | None,
    ) -> None:
        """Put into the hops of hooks and tables what each decided.

        ``notes``: (index of a hop, note); ``hooks``: (index of a hop of nf_hook_slow, its arg).
        """
        tables: dict[int, tuple[int, str, str, int | None]] = {}
        rule: int | None = None
        for at, note in notes:
            if note.kind == NOTE_RULE:
                rule = note.value
            elif note.kind == NOTE_TABLE:
                named = self._table_of(note.value, note.more)
                if named is not None and at < len(hops):
                    # The second one at a hop is of the chain that the rule is in.
                    own = tables[at][3] if at in tables else named[3]
                    tables[at] = (*named[:3], own)
        if not hooks and not tables:
            return
        last = len(hops) - 1 - (hops[-1].function in FREES)
        netfilter = drop is not None and (
            rule is not None or drop.reason == _NETFILTER or drop.function in _DROPPERS
        )
        droppers = _droppers(hops, last) if netfilter else set()
        args = dict(hooks)
        family, hook = "", ""
        for at in sorted({*args, *tables}):
            table: str | None = None
            chain: str | None = None
            if at in args:
                family, hook = _hook(args[at] >> 8, args[at] & 0xFF)
            if at in tables:
                number, table, chain, own = tables[at]
                if hops[at].function == _NFT:
                    family, own_hook = _hook(number, own or 0)
                    hook = hook if own is None else own_hook
                chain = chain or _XT_CHAINS.get(hook, hook)
            verdict: str | None = "accept"
            if at in droppers:
                verdict = "drop"
            elif at < last and hops[at + 1].function == _TO_USER_SPACE:
                verdict = "queue"
            elif at >= last or all(h.function in _TABLES for h in hops[at + 1 : last + 1]):
                verdict = None if not netfilter else "accept"
            told = rule if at in droppers and hops[at].function == _NFT else None
            hops[at] = hops[at]._replace(
                verdict=self._verdict(family, hook, verdict, table, chain, told)
            )

    def _verdict(self, *parts: str | int | None) -> Verdict:
        """The same words give the same object: views and writers remember what they made of it."""
        found = self._interned.get(parts)
        if found is None:
            if len(self._interned) >= _REMEMBERED:
                self._interned.clear()
            found = self._interned[parts] = Verdict(*parts)  # type: ignore[arg-type]
        return found


def _hook(family: int, hook: int) -> tuple[str, str]:
    """Names of a family (NFPROTO_*) and of a hook in it."""
    named = _FAMILIES.get(family, str(family))
    hooks = {"arp": _ARP_HOOKS, "netdev": _NETDEV_HOOKS}.get(named, _HOOKS)
    return named, hooks[hook] if hook < len(hooks) else str(hook)


def _droppers(hops: list[Hop], last: int) -> set[int]:
    """Indexes of the hook that dropped the packet and of the table that did, if one was seen."""
    found: set[int] = set()
    at = last
    if at >= 0 and hops[at].function in _TABLES:
        found.add(at)
    while at >= 0 and hops[at].function in _TABLES:
        at -= 1
    if at >= 0 and hops[at].function == HOOK:
        found.add(at)
    return found
