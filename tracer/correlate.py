# SPDX-License-Identifier: GPL-2.0-only
"""Records -> journeys. No clock, no I/O.

A packet's identity
-------------------
A packet is an skb, and an skb is known by its address: that is what every probed function is
given. But an address lives shortly. A freed skb's memory is handed out again within some 100
microseconds, often to the very next packet. So the kernel program keeps one record per address
only while the packet lives: the first probe that sees it begins the record and gives it an
``id`` that is never used again, and ``skb_release_head_state``, through which a free passes
exactly once, ends it. A datagram that was read goes through ``__consume_stateless_skb`` instead,
its head state is gone by then; and what a process has read of TCP ends where it is handed to the
CPU that shall free it, ``skb_attempt_defer_free``. What one record holds is one packet.

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
The free itself does not say whether the packet reached anyone. That is known from what came before:
the function that took it (``proof``), or the kernel's own word that it dropped it. Some such words
are not to be taken literally. An echo reply is given to a raw socket as a clone, and the original
is then freed as NO_SOCKET: if a clone of the packet was queued to a socket, that is no drop. A
packet socket makes itself a clone of what others hold too, and nothing more is seen of that one:
but its free tells whether it lay in a socket's receive queue. From 5.17 on tcp_rcv_state_process
frees a segment that it has processed and that carries nothing to queue, the last ACK of a
connection for one, through its label ``discard``: as a drop without a reason. So does tcp_v4_rcv
what it has processed for a connection in TIME_WAIT (for what it does not want it has reasons), and
so did icmpv6_rcv with every message it has taken, before it learnt to give reasons. A FIN stays in
its socket's queue for a process to read the end of file; if the socket goes before that, it is
freed as a drop, but it had done all it was to do. And what GRO has merged is freed with what it was
merged into, as a drop if it hangs in that one's frag_list (skb_gro_receive puts it there when there
is no more room in the pages). The other way round, a listener that refuses a SYN frees it like one
that it has answered; but it counts the drop.

What a hop means
----------------
What is different about a packet at a hop was changed since the hop before, so it is told there.
What netfilter decided at a hop is known from what was seen next (``verdicts``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from tracer.changes import KINDS, Seen, state_of
from tracer.flow import flow_of
from tracer.frame import frame_of
from tracer.histogram import Histogram
from tracer.model import (
    Backlog,
    Branch,
    Change,
    Device,
    Drop,
    Ended,
    Flow,
    Frame,
    Hop,
    Journey,
    Netns,
    Outcome,
    Segment,
    Socket,
    Stepped,
    Task,
)
from tracer.probes import FREES, PROBES, Handler, Proof
from tracer.text import printable
from tracer.verdicts import HOOK, TableOf, Verdicts
from tracer.wire import (
    AGE_KNOWN,
    CLONE_QUEUED,
    END_MISSED,
    END_OTHER,
    FROM_QUEUE,
    LAST,
    NO_REASON,
    NOTE_BACKLOG,
    NOTE_CLONE,
    NOTE_DROP,
    NOTE_EGRESS,
    NOTE_INET,
    NOTE_LISTENER,
    NOTE_MERGED,
    NOTE_PORT,
    NOTE_SOCK,
    NOTE_SOCKET,
    NOTE_TASK,
    NOTE_TASK_NETNS,
    REFUSED,
    STEP_OTHER,
    EndCount,
    HopSlot,
    Note,
    Record,
    StepCount,
    there,
)

PARTIAL_MAX = 16384
"""Journeys of which some chunks are here and the last is not; more than this and the oldest are
given up as damaged. Bounds the memory, some 7 kB each; the kernel follows no more packets at once.
"""

_SERVE = next(p for p in PROBES if p.handler is Handler.SERVE)
_SERVED_AT = PROBES.index(_SERVE)
_ENQUEUE = next(i for i, p in enumerate(PROBES) if p.handler is Handler.ENQUEUE)
_SOCKET_QUEUE = next(p for p in PROBES if p.function == "__sock_queue_rcv_skb")
_ENDS = frozenset(i for i, p in enumerate(PROBES) if p.function in FREES)

_PROVEN = {i: p.proof for i, p in enumerate(PROBES) if p.proof is not Proof.NOTHING}
# Functions after which most packets go on: they prove something only if nothing else was reached.
_IF_LAST = frozenset(
    i for i, p in enumerate(PROBES) if p.handler in {Handler.DRIVER, Handler.MERGE, Handler.TAP}
)
_ROWS = [(p.function, p.segment, i in _PROVEN) for i, p in enumerate(PROBES)]
_REQUEST = next(p.function for p in PROBES if p.handler is Handler.REQUEST)
_THEN = {
    i: next(n for n, q in enumerate(PROBES) if q.function == p.then)
    for i, p in enumerate(PROBES)
    if p.then is not None
}
_FREE = "skb_release_head_state"
_NO_FACTS = (None, None, None, ())

# What a raw socket's clone leaves behind: the reason since 5.17, none before.
_NO_TAKER = frozenset({None, "NO_SOCKET", "NOT_SPECIFIED"})
_PROCESSED = frozenset(
    {
        ("NOT_SPECIFIED", "tcp_rcv_state_process"),
        ("NOT_SPECIFIED", "tcp_v4_rcv"),
        ("NOT_SPECIFIED", "tcp_v6_rcv"),
        ("NOT_SPECIFIED", "icmpv6_rcv"),
        (None, "icmpv6_rcv"),
    }
)
# Free what is left in the queues of a TCP socket that goes; the second, of one nobody accepted.
PURGES = frozenset({"sk_stream_kill_queues", "tcp_disconnect"})

_OUTCOMES = {
    Proof.DELIVERED: Outcome.DELIVERED,
    Proof.CONSUMED: Outcome.CONSUMED,
    Proof.TRANSMITTED: Outcome.TRANSMITTED,
    Proof.ABSORBED: Outcome.ABSORBED,
}

_NO_DROPS = frozenset({Outcome.DELIVERED, Outcome.ABSORBED})

# include/linux/socket.h, include/linux/net.h, include/uapi/linux/in.h
_SOCKET_FAMILIES = {2: "inet", 10: "inet6", 17: "packet"}
_SOCKET_TYPES = {1: "stream", 2: "dgram", 3: "raw", 5: "seqpacket", 10: "packet"}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 255: "raw"}

_BR_ISOLATED, _BR_HAIRPIN_MODE = 1 << 16, 1 << 0  # include/linux/if_bridge.h


class Names(NamedTuple):
    """What turns the kernel's numbers into words. All are called often: keep them fast."""

    device: Callable[[int, int, int], Device]
    """(namespace inode, ifindex, time) → device, as it was at that time (ns)."""
    netns: Callable[[int, int], Netns]
    """(namespace inode, time) → namespace."""
    symbol: Callable[[int], tuple[str, int] | None]
    """Code address → (function without suffix, offset)."""
    reason: Callable[[int], str]
    """Number → the running kernel's name for a drop reason."""
    table: TableOf
    renames: Callable[[], int] = itertools.count().__next__
    """A number that is the same as before if every device and namespace is called as before."""


class _Told(NamedTuple):
    """What the slots of a journey tell."""

    hops: tuple[Hop, ...]
    branches: tuple[Branch, ...]
    proof: int | None
    drop: Drop | None
    merged: int | None


_StepKey: TypeAlias = tuple[str | None, str | None, Segment | None]
_End: TypeAlias = tuple[str | None, Device | None, bool, Drop | None]


def steps_of(counts: Iterable[StepCount]) -> tuple[Stepped, ...]:
    """Name the steps that the kernel program has counted; those with most time first."""
    totals: dict[_StepKey, Histogram] = {}
    for count in counts:
        if _is_backlog(count):
            continue
        key: _StepKey = (None, None, None)
        if (count.before, count.probe) != STEP_OTHER:
            before = PROBES[count.before]
            key = (before.function, PROBES[count.probe].function, before.segment)
        took = Histogram.of(count.classes, count.total_ns, count.longest_ns)
        totals.setdefault(key, Histogram()).include(took)
    found = [
        Stepped(*key, took.total, took.largest, tuple(took.counts()))
        for key, took in totals.items()
    ]
    return tuple(sorted(found, key=lambda step: -step.total_ns))


def backlog_of(counts: Iterable[StepCount]) -> Backlog | None:
    """What is among the steps as one from process_backlog to itself: lengths of its queue."""
    found = next(filter(_is_backlog, counts), None)
    return None if found is None else Backlog(found.total_ns, found.longest_ns, found.classes)


def _is_backlog(count: StepCount) -> bool:
    return count.before == count.probe == _SERVED_AT


class Correlator:
    """Takes records in the order the kernel sent them, gives journeys as they end."""

    def __init__(self, names: Names, ids: str = "") -> None:
        """Make a correlator. ``ids`` stands before every journey's id: the kernel begins at 1."""
        self._names = names
        self._ids = ids
        self._partial: dict[int, list[Record]] = {}
        self._verdicts = Verdicts(names.table)
        self.lost = {"hop_missing": 0, "chunk_lost": 0}
        """What is missing in the records taken so far: hits without which a journey's hops do not
        follow one another, and chunks."""

    def _id(self, number: int) -> str:
        return f"{self._ids}{number}"

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
        protocol = int.from_bytes(first.protocol, "big")
        flow = flow_of(_headers(first), first.l2_len, protocol, first.vlan_tci)
        state = state_of(first)
        told = self._told(chunks, Seen(first, flow, state))
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
            outcome, by = _ending(last.flags, told.proof, told.drop, first, flow)
        return Journey(
            id=self._id(first.id),
            parent=self._id(first.parent) if first.parent else None,
            skb=first.skb,
            flow=flow,
            start_ns=first.base_ns,
            hops=told.hops,
            outcome=outcome,
            proof=by,
            drop=None if outcome in _NO_DROPS else told.drop,
            damage=damage,
            branches=told.branches,
            state=state,
            absorbed_into=(
                self._id(told.merged) if told.merged and outcome is Outcome.ABSORBED else None
            ),
            frame=_frame(first, told.hops),
        )

    def ended(self, counts: Iterable[EndCount], at_ns: int) -> tuple[Ended, ...]:
        """Name what the kernel program has counted as things are called then; the most first."""
        totals: dict[_End, tuple[int, int]] = {}
        for count in counts:
            drop = None
            if count.drop_at:
                drop = self._drop(count.drop_at, count.drop_reason)
            elif count.dropped:
                drop = Drop(None, _REQUEST, 0)
            key = (
                None if count.probe == END_OTHER else PROBES[count.probe].function,
                self._names.device(count.netns, count.ifindex, at_ns) if count.ifindex else None,
                count.branch,
                drop,
            )
            packets, octets = totals.get(key, (0, 0))
            totals[key] = packets + count.packets, octets + count.bytes
        found = [Ended(*key, packets, octets) for key, (packets, octets) in totals.items()]
        return tuple(sorted(found, key=lambda ended: -ended.packets))

    def _told(  # noqa: PLR0912, PLR0915 (the hot loop: a call per slot would double its time)
        self, chunks: list[Record], seen: Seen
    ) -> _Told:
        start_ns = chunks[0].base_ns
        device_of = self._names.device
        hops: list[Hop] = []
        more: list[tuple[int, Note]] = []  # notes that tell about the hop at this index
        hooks: list[tuple[int, int]] = []  # index and arg of the hops of hooks
        proof: int | None = None
        proof_at = -1
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
                    more.append((max(len(hops) - 1, 0), slot))
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
                    device = device_of(netns, ifindex, start_ns + now) if ifindex else None
                function, segment, proves = _ROWS[number]
                if flags & AGE_KNOWN and before == _ENQUEUE:
                    # The call that dequeued it: its beginning, but never before the enqueue.
                    began = now - arg
                    at, wait = max(began, earlier), _SERVE.segment
                    append(
                        new(
                            Hop,
                            (
                                _SERVE.function,
                                at,
                                cpu,
                                device,
                                length,
                                wait,
                                None,
                                began < earlier,
                                *_NO_FACTS,
                            ),
                        )
                    )
                to_cpu = arg if number == _ENQUEUE else None
                if function is HOOK:
                    hooks.append((len(hops), arg))
                append(
                    new(
                        Hop, (function, now, cpu, device, length, segment, to_cpu, None, *_NO_FACTS)
                    )
                )
                if before in _THEN and number != _THEN[before] and number not in _ENDS:
                    lost["hop_missing"] += 1
                if proves and not (
                    number in _IF_LAST and proof is not None and proof not in _IF_LAST
                ):
                    proof, proof_at = number, len(hops)
                before = number
        ended = bool(hops) and before in _ENDS
        if proof in _IF_LAST and proof_at != len(hops) - ended:
            proof = None
        branches: list[Branch] = []
        drop: Drop | None = None
        merged: int | None = None
        if more or hooks:
            drop, merged = self._facts(hops, more, seen, branches, start_ns)
            self._verdicts.tell(hops, more, hooks, drop)
        if hops:
            hops[-1] = hops[-1]._replace(segment=None)
        return _Told(tuple(hops), tuple(branches), proof, drop, merged)

    def _facts(
        self,
        hops: list[Hop],
        more: list[tuple[int, Note]],
        seen: Seen,
        branches: list[Branch],
        start_ns: int,
    ) -> tuple[Drop | None, int | None]:
        """Put into the hops what notes tell; return the drop, and what it was merged into."""
        drop: Drop | None = None
        merged: int | None = None
        state: list[tuple[str, int]] = []
        changes: dict[int, list[Change]] = {}
        for at, note in more:
            kind = note.kind
            if kind in KINDS:
                # Different on entry of this hop: changed since the one before.
                changes.setdefault(max(at - 1, 0), []).extend(seen.changes(note))
            elif kind == NOTE_CLONE:
                branches.append(Branch(self._id(note.value), at))
            elif kind == NOTE_TASK and hops:
                hops[at] = hops[at]._replace(task=_task(note))
            elif kind == NOTE_TASK_NETNS and hops and (task := hops[at].task) is not None:
                netns = self._names.netns(note.word, start_ns + hops[at].dt_ns)
                hops[at] = hops[at]._replace(task=task._replace(netns=netns))
            elif kind == NOTE_SOCKET and hops:
                hops[at] = hops[at]._replace(socket=self._socket(note, start_ns + hops[at].dt_ns))
            elif kind == NOTE_MERGED:
                merged = note.value
            elif kind == NOTE_DROP:
                drop = self._drop(note.value, note.word)
            elif kind == NOTE_LISTENER:
                drop = drop or Drop(None, _REQUEST)
                state += _circumstances(note)
            else:
                state += _circumstances(note)
        for at, found in changes.items() if hops else ():
            hops[at] = hops[at]._replace(changes=tuple(found))
        if drop is not None and state:
            at_ns = start_ns + hops[-1].dt_ns if hops else start_ns
            drop = drop._replace(state=tuple(state), egress=self._egress(more, at_ns))
        return drop, merged

    def _egress(self, more: list[tuple[int, Note]], at_ns: int) -> Device | None:
        for _, note in more:
            if note.kind == NOTE_EGRESS:
                return self._names.device(note.more >> 32, note.more & 0xFFFFFFFF, at_ns)
        return None

    def _socket(self, note: Note, at_ns: int) -> Socket:
        family, type_, protocol = note.half, note.value >> 32, note.value & 0xFFFF
        if family == 17:
            protocol = 0  # of a packet socket it says nothing
        return Socket(
            self._names.netns(note.word, at_ns),
            _SOCKET_FAMILIES.get(family, str(family)),
            _SOCKET_TYPES.get(type_, str(type_)),
            "packet" if family == 17 else _PROTOCOLS.get(protocol, str(protocol)),
        )

    def _drop(self, location: int, reason: int) -> Drop:
        found = self._names.symbol(location)
        return Drop(
            reason=None if reason == NO_REASON else self._names.reason(reason),
            function=found[0] if found else None,
            offset=found[1] if found else 0,
        )


def _task(note: Note) -> Task:
    comm = (note.value.to_bytes(8, "little") + note.more.to_bytes(8, "little")).split(b"\0")[0]
    return Task(note.word, printable(comm.decode(errors="replace")))


def _circumstances(note: Note) -> list[tuple[str, int]]:
    """What was read when the packet was dropped, name → value as in model.Drop."""
    low, high = note.value & 0xFFFFFFFF, note.value >> 32
    if note.kind == NOTE_BACKLOG:
        limit = [("netdev_max_backlog", note.more)] if note.word else []
        return [("backlog_len", low), *limit]
    if note.kind in {NOTE_PORT, NOTE_EGRESS}:
        which = "port" if note.kind == NOTE_PORT else "egress"
        hairpin = [("egress_hairpin", low & _BR_HAIRPIN_MODE)] if which == "egress" else []
        isolated = int(bool(low & _BR_ISOLATED))
        return [(f"{which}_state", note.word), (f"{which}_isolated", isolated), *hairpin]
    if note.kind == NOTE_INET:
        return [
            ("forwarding", low),
            ("rp_filter", high),
            ("all_forwarding", note.more & 0xFFFFFFFF),
            ("all_rp_filter", note.more >> 32),
            ("mtu", note.word),
        ]
    if note.kind == NOTE_SOCK:
        waiting, most = note.more & 0xFFFFFFFF, note.more >> 32
        listener = [("ack_backlog", waiting), ("max_ack_backlog", most)] if note.more else []
        return [("rmem_alloc", low), ("rcvbuf", note.word), *listener]
    if note.kind == NOTE_LISTENER:
        return [
            ("ack_backlog", low),
            ("max_ack_backlog", high),
            ("syn_backlog", note.more & 0xFFFFFFFF),
        ]
    return []


def _headers(first: Record) -> bytes:
    """What there is of them: a packet may be shorter."""
    slot = first.slots[0] if first.slots and not first.chunk else None
    if not isinstance(slot, HopSlot):
        return first.headers
    return there(first.headers, first.pulled, slot.len)


def _frame(first: Record, hops: tuple[Hop, ...]) -> Frame | None:
    if first.chunk or not hops:  # that chunk was lost, and with it what its length was
        return None
    return frame_of(
        first.headers,
        first.l2_len,
        first.protocol,
        first.vlan_tci,
        pulled=first.pulled,
        size=hops[0].len,
        data=first.data,
    )


def _carries_data(record: Record, flow: Flow) -> bool:
    """Whether a TCP segment does; True also if its headers do not say."""
    network = record.headers[record.l2_len :]
    if flow.proto != "tcp" or len(network) < 20:
        return True
    ip = (network[0] & 0xF) * 4 if network[0] >> 4 == 4 else 40
    end = int.from_bytes(network[2:4], "big") if network[0] >> 4 == 4 else 40
    end += int.from_bytes(network[4:6], "big") if network[0] >> 4 == 6 else 0
    return len(network) < ip + 13 or ip + (network[ip + 12] >> 4) * 4 != end


def _ending(
    flags: int, proof: int | None, drop: Drop | None, first: Record, flow: Flow
) -> tuple[Outcome, str | None]:
    """The outcome, and the function that proves it."""
    if not flags & LAST:
        return Outcome.UNFINISHED, None
    proven = Proof.NOTHING if proof is None else _PROVEN[proof]
    queued = bool(flags & CLONE_QUEUED)  # then the kernel's own use of it is not what counts
    if drop is not None and proven is not Proof.ABSORBED:
        if drop.function == _REQUEST:
            return Outcome.DROPPED, _REQUEST
        processed = proof is not None and (
            (drop.reason, drop.function) in _PROCESSED
            or (drop.function in PURGES and not _carries_data(first, flow))
        )
        if not processed and not (queued and drop.reason in _NO_TAKER):
            return Outcome.DROPPED, "kfree_skb"
    if queued and proven in {Proof.NOTHING, Proof.CONSUMED}:
        return Outcome.DELIVERED, _SOCKET_QUEUE.function
    if proof is None or flags & REFUSED:
        return (Outcome.DELIVERED if flags & FROM_QUEUE else Outcome.CONSUMED), _FREE
    return _OUTCOMES[proven], PROBES[proof].function
