# SPDX-License-Identifier: GPL-2.0-only
"""The nouns: what a journey is made of. Values only, standard library only.

Everything here is immutable. What is made once per hop or per packet is a ``NamedTuple``
(cheap to make); the rest are frozen dataclasses. All times are integers in nanoseconds:
``_ns`` is a point or a length on CLOCK_MONOTONIC, the clock of ``bpf_ktime_get_ns``.
The names of fields are the names in the trace file (``export/``) wherever both exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Layer(StrEnum):
    """Where in the kernel a probed function lives."""

    DEVICE = "device"
    BACKLOG = "backlog"
    BRIDGE = "bridge"
    TRANSPORT = "transport"
    SOCKET = "socket"
    SKB = "skb"


class Segment(StrEnum):
    """What a packet does between one hop and the next."""

    WORK = "work"
    """The kernel works on it."""
    SOFTIRQ_WAIT = "softirq_wait"
    """On a CPU's input queue; no process_backlog call serves that queue yet."""
    BACKLOG_WAIT = "backlog_wait"
    """process_backlog runs; the packet waits behind others of the same queue."""
    SOCKET = "socket"
    """Handed to its protocol: from here to the free it is worked on or waits to be read."""


class Outcome(StrEnum):
    """How a journey ended; said only if the end was seen."""

    DELIVERED = "delivered"
    """Reached the protocol it was for (``proof``: the function) and was not dropped there."""
    CONSUMED = "consumed"
    """Freed by the kernel, which did not call it a drop (ARP, copies nobody wanted)."""
    DROPPED = "dropped"
    """kfree_skb: the kernel itself says it was dropped (``drop``: why and where)."""
    UNFINISHED = "unfinished"
    """Still alive when tracing stopped."""
    DAMAGED = "damaged"
    """Part of its record was lost, or its end was missed (``damage`` says which)."""


@dataclass(frozen=True, slots=True)
class Netns:
    """A network namespace. ``inum`` is the inode number of its nsfs file."""

    inum: int
    name: str
    """What people call it: ``host``, an ``ip netns`` name, or ``ns:<inum>``."""


@dataclass(frozen=True, slots=True)
class Device:
    """A network device. ``ifindex`` is unique only within its namespace."""

    netns: Netns
    ifindex: int
    ifname: str
    """The kernel's name, or ``if<ifindex>`` where it is not known."""


class Flow(NamedTuple):
    """Who speaks to whom, read from the packet's headers when it was first seen.

    ``proto`` is ``icmp``, ``icmpv6``, ``tcp``, ``udp``, ``arp``, ``ipv4-<n>`` or ``ipv6-<n>``
    (another IP protocol), or ``0x<ethertype>``. ``src`` and ``dst`` are IP addresses (ARP:
    sender and target), or Ethernet addresses where there is no IP.
    """

    proto: str
    src: str | None = None
    dst: str | None = None
    sport: int | None = None
    dport: int | None = None
    eth_src: str | None = None
    eth_dst: str | None = None
    vlan: int | None = None
    ip_id: int | None = None
    fragment: bool | None = None
    """True for an IP fragment other than a whole packet."""
    tcp_flags: str | None = None
    """As tcpdump writes them: ``S``, ``S.``, ``P.``, ``F.``, ``R``."""
    tcp_seq: int | None = None
    tcp_ack: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmp_id: int | None = None
    icmp_seq: int | None = None
    arp_op: str | None = None
    """``request`` or ``reply``, or the number as text."""


class Hop(NamedTuple):
    """One probed function reached by the packet."""

    function: str
    """The kernel's name, without compiler suffix."""
    dt_ns: int
    """Since the journey's first hop."""
    cpu: int
    device: Device | None
    """``skb->dev`` on entry, or None where it is NULL, and at the free, where it is not read."""
    len: int
    """``skb->len`` on entry, bytes: with the Ethernet header on transmit, without on receive. At
    the free, where it is not read, what it was before."""
    segment: Segment | None
    """What the time from this hop to the next one is; None on the last hop."""
    to_cpu: int | None = None
    """enqueue_to_backlog only: the CPU whose input queue takes the packet."""
    already_running: bool | None = None
    """process_backlog only: that call was running when the packet was queued."""


class Branch(NamedTuple):
    """A clone that left this journey and is a journey of its own."""

    id: str
    hop: int
    """Index in ``hops`` of the skb_clone where it left."""


class Drop(NamedTuple):
    """The kernel's word on a drop, from the kfree_skb tracepoint."""

    reason: str | None
    """Name in this kernel's ``enum skb_drop_reason`` without its prefix; None before 5.17."""
    function: str | None
    """The function that dropped it, or None where kallsyms does not say."""
    offset: int = 0
    """Bytes into that function."""


class Journey(NamedTuple):
    """One packet (one skb, from first sight to its free) and every probed function it passed."""

    id: str
    parent: str | None
    """The journey this one was cloned from."""
    skb: int
    """The skb's address, the key while it lived; reused by the kernel within microseconds."""
    flow: Flow
    start_ns: int
    hops: tuple[Hop, ...]
    outcome: Outcome
    proof: str | None = None
    """The function that proves the outcome."""
    drop: Drop | None = None
    damage: str | None = None
    branches: tuple[Branch, ...] = ()

    @property
    def duration_ns(self) -> int:
        """From the first hop to the last."""
        return self.hops[-1].dt_ns if self.hops else 0


class ProbePlace(NamedTuple):
    """A probe and what became of it on this kernel."""

    function: str
    symbol: str | None
    """The symbol it is attached to (suffix and alternative included), or None."""
    why_missing: str | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """What the trace is about: the bridge, its namespaces and their devices."""

    name: str
    """As asked for: ``docker0``."""
    built: bool = False
    """True if skbtrace built it as a lab, False if it was found."""
    bridge: Device | None = None
    ports: tuple[Device, ...] = ()
    ends: tuple[Device, ...] = ()
    """The far ends of the ports' veth pairs, usually in other namespaces."""
    addresses: tuple[tuple[Device, str], ...] = ()
    """Every address on the bridge and the ends, as ``172.17.0.2/16``."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What stands before the first journey: where, with what, since when."""

    kernel: str
    """The release, as ``uname -r`` says it."""
    machine: str
    probes: tuple[ProbePlace, ...]
    monotonic_ns: int
    realtime_ns: int
    """The two clocks read together: the pair turns ``start_ns`` into wall-clock time."""
    topology: Topology | None = None
    tool: str = ""
    cpus: int = 0

    @property
    def attached(self) -> tuple[str, ...]:
        """Functions that are probed."""
        return tuple(p.function for p in self.probes if p.symbol is not None)

    @property
    def missing(self) -> tuple[ProbePlace, ...]:
        """Probes that could not be attached."""
        return tuple(p for p in self.probes if p.symbol is None)


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands after the last journey: counts, and every way something was lost."""

    journeys: int = 0
    hops: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    """Loss counter → how many. Every counter is there, also at 0."""
    outcomes: dict[str, int] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    """Probed function → hops of it in all journeys."""
    silent: tuple[str, ...] = ()
    """Attached functions that never fired although packets passed their neighbours."""

    @property
    def lost_total(self) -> int:
        """Sum of all loss counters."""
        return sum(self.lost.values())
