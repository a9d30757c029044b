# SPDX-License-Identifier: GPL-2.0-only
"""Records -> journeys. No clock, no I/O.

A packet's identity
-------------------
A packet is an skb, and an skb is known by its address: that is what every probed function is
given. But an address lives shortly. A freed skb's memory is handed out again within some 100
microseconds, often to the very next packet. So the kernel program keeps one record per address
only while the packet lives: the first probe that sees it begins the record and gives it an
``id`` that is never used again, and ``skb_release_head_state``, through which a free passes
exactly once, ends it (a datagram that was read goes through ``__consume_stateless_skb`` instead,
its head state is gone by then). What one record holds is one packet.

Where that could go wrong, it is said. If the free was not seen (a probe cannot fire inside
another probe on the same CPU) and a new packet appears at the address, it comes through a
function that the old one could not reach any more; the old journey then ends as *damaged* and
the new one begins clean.

A packet is never known by its addresses or ports: NAT rewrites them in place.

A clone shares the bytes but is an skb of its own, so it is a journey of its own, with the id of
the ``parent`` it left and, in the parent, a branch at the hop where it left.

A record has a fixed number of slots. A longer journey comes in numbered chunks; the kernel sends
a packet's chunks in order, so at the last one all others are here, or were lost: then the
journey is *damaged*, never *delivered*.

What the end means
------------------
The free itself does not say whether the packet reached anyone. That is known from what came
before: the function that took it (``proof``), or the kernel's own word that it dropped it. Some
such words are not to be taken literally. An echo reply is given to a raw socket as a clone, and
the original is then freed as NO_SOCKET: if a clone of the packet was queued to a socket, that is
no drop. And from 5.17 on tcp_rcv_state_process frees a segment that it has processed and that
carries nothing to queue, the last ACK of a connection for one, through its label ``discard``: as
a drop without a reason. So did icmpv6_rcv with every message it has taken, before it learnt to
give reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tracer.flow import flow_of
from tracer.model import Branch, Device, Drop, Hop, Journey, Outcome
from tracer.probes import PROBES, Handler, Proof
from tracer.wire import (
    AGE_KNOWN,
    CLONE_QUEUED,
    END_MISSED,
    LAST,
    NO_REASON,
    NOTE_CLONE,
    NOTE_DROP,
    HopSlot,
    Record,
)

PARTIAL_MAX = 65536
"""Journeys of which some chunks are here and the last is not; more than this and the oldest are
given up as damaged. Bounds the memory; the kernel follows fewer packets at once."""

_SERVE = next(p for p in PROBES if p.handler is Handler.SERVE)
_ENQUEUE = next(i for i, p in enumerate(PROBES) if p.handler is Handler.ENQUEUE)
_SOCKET_QUEUE = next(p for p in PROBES if p.handler is Handler.QUEUE)
_ENDS = frozenset(i for i, p in enumerate(PROBES) if p.handler is Handler.END)

_ROWS = [(p.function, p.segment, p.proof is not Proof.NOTHING) for p in PROBES]
_THEN = {
    i: next(n for n, q in enumerate(PROBES) if q.function == p.then)
    for i, p in enumerate(PROBES)
    if p.then is not None
}
_FREE = "skb_release_head_state"

# What a raw socket's clone leaves behind: the reason since 5.17, none before.
_NO_TAKER = frozenset({None, "NO_SOCKET", "NOT_SPECIFIED"})
_PROCESSED = (
    ("NOT_SPECIFIED", "tcp_rcv_state_process"),
    ("NOT_SPECIFIED", "icmpv6_rcv"),
    (None, "icmpv6_rcv"),
)

_OUTCOMES = {Proof.DELIVERED: Outcome.DELIVERED, Proof.CONSUMED: Outcome.CONSUMED}


class Names(NamedTuple):
    """What turns the kernel's numbers into words. All three are called often: keep them fast."""

    device: Callable[[int, int], Device]
    """(namespace inode, ifindex) → device."""
    symbol: Callable[[int], tuple[str, int] | None]
    """Code address → (function without suffix, offset)."""
    reason: Callable[[int], str]
    """Number → the running kernel's name for a drop reason."""


class Correlator:
    """Takes records in the order the kernel sent them, gives journeys as they end."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._partial: dict[int, list[Record]] = {}
        self.lost = {"probe_missed": 0, "chunk_lost": 0}
        """What is missing in the records taken so far: hits without which a journey's hops do not
        follow one another, and chunks."""

    def take(self, record: Record) -> Journey | None:
        """The journey this record completes, if it does."""
        if not record.flags & LAST:
            self._partial.setdefault(record.id, []).append(record)
            if len(self._partial) > PARTIAL_MAX:
                oldest = next(iter(self._partial))
                return self._journey(self._partial.pop(oldest), lost_end=True)
            return None
        chunks = self._partial.pop(record.id, None) if record.chunk else None
        return self._journey([*chunks, record] if chunks else [record])

    def finish(self, alive: Iterable[Record]) -> list[Journey]:
        """Tracing has stopped: ``alive`` are the records of packets that had not ended.

        Returns them as unfinished journeys, then what is left of journeys whose last chunk
        was lost as damaged ones.
        """
        unfinished = []
        for record in alive:
            chunks = self._partial.pop(record.id, [])
            if chunks or record.slots:
                unfinished.append(self._journey([*chunks, record]))
        rest = [self._journey(chunks, lost_end=True) for chunks in self._partial.values()]
        self._partial.clear()
        return unfinished + rest

    def _journey(self, chunks: list[Record], *, lost_end: bool = False) -> Journey:
        first, last = chunks[0], chunks[-1]
        hops, branches, proof, drop = self._hops(chunks)
        missing = [n for n in range(last.chunk + 1) if n not in {c.chunk for c in chunks}]
        self.lost["chunk_lost"] += len(missing) + lost_end
        damage = None
        if last.flags & END_MISSED:
            damage = "its end was not seen; another packet has its address"
        elif missing:
            damage = f"chunk {missing[0]} of {last.chunk + 1} was lost"
        elif lost_end:
            damage = "its last chunk was lost"
        if damage is not None:
            outcome, by = Outcome.DAMAGED, None
        else:
            outcome, by = _ending(last.flags, proof, drop)
        return Journey(
            id=str(first.id),
            parent=str(first.parent) if first.parent else None,
            skb=first.skb,
            flow=flow_of(
                first.headers,
                first.l2_len,
                int.from_bytes(first.protocol, "big"),
                first.vlan_tci,
            ),
            start_ns=first.base_ns,
            hops=hops,
            outcome=outcome,
            proof=by,
            drop=drop if outcome is not Outcome.DELIVERED else None,
            damage=damage,
            branches=branches,
        )

    def _hops(  # noqa: PLR0912 (the hot loop: a call per slot would double its time)
        self, chunks: list[Record]
    ) -> tuple[tuple[Hop, ...], tuple[Branch, ...], int | None, Drop | None]:
        """Hops, branches, the last probe that proves something, and the drop."""
        start_ns = chunks[0].base_ns
        device_of = self._names.device
        hops: list[Hop] = []
        branches: list[Branch] = []
        proof: int | None = None
        drop: Drop | None = None
        chunk = -1
        before = -1  # probe of the hop before
        lost = self.lost
        now = 0
        append, new = hops.append, tuple.__new__  # a third of the time of Hop(...)
        device: Device | None = None
        seen_ifindex = seen_netns = 0
        for record in chunks:
            base = record.base_ns - start_ns
            if record.chunk and record.chunk != chunk + 1:
                before = -1  # hops are missing here, and that is counted
            chunk = record.chunk
            for slot in record.slots:
                if not isinstance(slot, HopSlot):
                    if slot.kind == NOTE_CLONE:
                        branches.append(Branch(str(slot.value), max(len(hops) - 1, 0)))
                    elif slot.kind == NOTE_DROP:
                        drop = self._drop(slot.value, slot.word)
                    continue
                dt_ns, number, flags, cpu, ifindex, netns, length, arg = slot
                if number >= len(_ROWS):
                    continue
                earlier = now
                if number in _ENDS:
                    dt_ns += arg << 32
                now = max(base + dt_ns, now)
                if ifindex != seen_ifindex or netns != seen_netns:
                    seen_ifindex, seen_netns = ifindex, netns
                    device = device_of(netns, ifindex) if ifindex else None
                function, segment, proves = _ROWS[number]
                if flags & AGE_KNOWN and before == _ENQUEUE:
                    # The call that dequeued it: its beginning, but never before the enqueue.
                    began = now - arg
                    at, wait = max(began, earlier), _SERVE.segment
                    call = (_SERVE.function, at, cpu, device, length, wait, None, began < earlier)
                    append(new(Hop, call))
                to_cpu = arg if number == _ENQUEUE else None
                append(new(Hop, (function, now, cpu, device, length, segment, to_cpu, None)))
                if before in _THEN and number != _THEN[before] and number not in _ENDS:
                    lost["probe_missed"] += 1
                if proves:
                    proof = number
                before = number
        if hops:
            hops[-1] = hops[-1]._replace(segment=None)
        return tuple(hops), tuple(branches), proof, drop

    def _drop(self, location: int, reason: int) -> Drop:
        found = self._names.symbol(location)
        return Drop(
            reason=None if reason == NO_REASON else self._names.reason(reason),
            function=found[0] if found else None,
            offset=found[1] if found else 0,
        )


def _ending(flags: int, proof: int | None, drop: Drop | None) -> tuple[Outcome, str | None]:
    """The outcome, and the function that proves it."""
    if not flags & LAST:
        return Outcome.UNFINISHED, None
    if drop is not None:
        if flags & CLONE_QUEUED and drop.reason in _NO_TAKER:
            return Outcome.DELIVERED, _SOCKET_QUEUE.function
        if proof is not None and (drop.reason, drop.function) in _PROCESSED:
            return Outcome.DELIVERED, PROBES[proof].function
        return Outcome.DROPPED, "kfree_skb"
    if proof is not None:
        return _OUTCOMES[PROBES[proof].proof], PROBES[proof].function
    return Outcome.CONSUMED, _FREE
