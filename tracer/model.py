# SPDX-License-Identifier: GPL-2.0-only
"""The nouns: what a journey is made of. Values only, no other packages than the standard library.

Everything here is immutable. What is made once per hop or per packet is a ``NamedTuple``
(cheap to make); the rest are frozen dataclasses. All times are integers in nanoseconds:
``_ns`` is a point or a length on CLOCK_MONOTONIC, the clock of ``bpf_ktime_get_ns``.
The names of fields are the names in the trace file (``export/``) wherever both exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from tracer.histogram import Histogram

_PROVISIONAL = re.compile(r".*:\d+|[0-9a-f]{12}|(?:netns|cni)-[0-9a-f-]{36}")


class Layer(StrEnum):
    """Where in the kernel a probed function lives. The value is what ``--layers`` takes."""

    DEVICE = "device"
    BACKLOG = "backlog"
    BRIDGE = "bridge"
    NETFILTER = "netfilter"
    IP = "ip"
    TRANSPORT = "transport"
    SOCKET = "socket"
    QDISC = "qdisc"
    DRIVER = "driver"
    NAPI = "napi"
    TAP = "tap"
    SKB = "skb"


class Segment(StrEnum):
    """What a packet does between one hop and the next."""

    WORK = "work"
    """The kernel works on it."""
    SOFTIRQ_WAIT = "softirq_wait"
    """On a CPU's input queue; no process_backlog call serves that queue yet."""
    BACKLOG_WAIT = "backlog_wait"
    """process_backlog runs; the packet waits behind others of the same queue."""
    QDISC_WAIT = "qdisc_wait"
    """With the queueing discipline, until the driver is given it."""
    GRO_WAIT = "gro_wait"
    """GRO keeps it, to merge into it what follows."""
    SOCKET = "socket"
    """In a socket's queue, until a process reads it."""


class Outcome(StrEnum):
    """How a journey ended; said only if the end was seen."""

    DELIVERED = "delivered"
    """A socket took it (``proof``: the function that gave it to the socket)."""
    TRANSMITTED = "transmitted"
    """Given to the driver of a device that leads out of this host, which then freed it
    (``proof``: net_dev_start_xmit, whose hop names the device)."""
    CONSUMED = "consumed"
    """The kernel itself took it (``proof``: ICMP echo, ARP) or freed it without calling it a drop
    (a copy nobody wanted, an skb cut into segments)."""
    ABSORBED = "absorbed"
    """GRO merged it into another packet (``absorbed_into``), whose journey goes on."""
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

    @property
    def provisional(self) -> bool:
        """It is called by its number, a process in it or a container's id for want of a name."""
        return _PROVISIONAL.fullmatch(self.name) is not None


@dataclass(frozen=True, slots=True)
class Device:
    """A network device. ``ifindex`` is unique only within its namespace."""

    netns: Netns
    ifindex: int
    ifname: str
    """The kernel's name, or ``if<ifindex>`` where it is not known."""

    @property
    def place(self) -> str:
        """What people call it: ``c1/eth0``."""
        return f"{self.netns.name}/{self.ifname}"


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
    about: Flow | None = None
    """ICMP errors: the flow of the packet the error is about, as far as its header is carried."""


NUMBERED = ("ip_id", "tcp_seq", "tcp_ack", "icmp_seq")
"""Members of a flow that count its packets: what is different in those that are otherwise alike."""


class Frame(NamedTuple):
    """The packet as it was first seen: the Ethernet frame that tcpdump shows."""

    headers: bytes
    """A VLAN tag that the kernel kept beside it is in its place; the Ethernet addresses of what
    had none yet are 0. What the headers carry is left out."""
    len: int
    """Of the whole frame, bytes; with the Ethernet header in any case."""
    data: bytes = b""
    """What follows the headers, as far as it was kept: nothing unless ``-s`` asked for it."""

    @property
    def kept(self) -> bytes:
        """All there is of it, from its first byte on."""
        return self.headers + self.data


class Change(NamedTuple):
    """Something about the packet that was different when it reached the next hop.

    ``field`` is ``src``, ``dst``, ``sport``, ``dport``, ``icmp_id``, ``ttl``, ``eth_src``,
    ``eth_dst`` (of the headers), or a field of ``State``. Values are as there; None is
    "not set" or "not known".
    """

    field: str
    old: int | str | bool | None
    new: int | str | bool | None


class State(NamedTuple):
    """What struct sk_buff holds beside the packet's bytes, as it was at the first hop."""

    mark: int = 0
    priority: int = 0
    tc_index: int = 0
    """Traffic-control index."""
    classid: int = 0
    """net_cls class id of the sending socket's cgroup; reachable only while ``sk`` is set."""
    hash: int = 0
    ct: str | None = None
    """conntrack's ctinfo: ``established``, ``related``, ``new``, ``established_reply``,
    ``related_reply``, ``untracked``, or None if conntrack has not seen it."""
    csum: str = "none"
    """ip_summed: ``none``, ``unnecessary``, ``complete``, ``partial``."""
    sk: bool = False
    """Whether it belongs to a socket."""
    refdst: bool = False
    """Whether a route (dst) is attached."""


class Verdict(NamedTuple):
    """What netfilter did with the packet at this hop: a whole hook, or one table's chain in it.

    ``verdict`` comes from what was seen next: ``accept`` if the packet went on, ``drop`` if it
    was dropped there, ``queue`` if it was given to user space; None if nothing was seen after it.
    """

    family: str
    """``ipv4``, ``ipv6``, ``arp``, ``bridge``, ``inet``, ``netdev``."""
    hook: str
    """As in ``enum nf_inet_hooks`` without NF_INET_: PRE_ROUTING, LOCAL_IN, FORWARD ..."""
    verdict: str | None = None
    table: str | None = None
    chain: str | None = None
    rule: int | None = None
    """nftables: the handle of the rule that dropped it, 0 if the chain's policy did; None where
    it could not be told."""


class Task(NamedTuple):
    """The process on whose behalf the kernel worked. Only ever told outside interrupts."""

    pid: int
    """Of the process (the kernel calls it tgid), as the host sees it."""
    comm: str
    netns: Netns | None = None
    """The process's own namespace, if that is not the one of the hop's device."""


class Socket(NamedTuple):
    """The socket a packet was given to."""

    netns: Netns
    family: str
    """``inet``, ``inet6``, ``packet``, or the number as text."""
    type: str
    """``stream``, ``dgram``, ``raw``, or the number as text."""
    proto: str
    """``tcp``, ``udp``, ``icmp`` ..., or the number as text."""


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
    verdict: Verdict | None = None
    """nf_hook_slow and the functions of tables only."""
    socket: Socket | None = None
    """Functions that give the packet to a socket only."""
    task: Task | None = None
    """The first hop: the process that sends it. The last: the process that read it. None in an
    interrupt, where the running process has nothing to do with the packet."""
    changes: tuple[Change, ...] = ()
    """What was different at the next hop, and so was changed by this function or after it."""


class Branch(NamedTuple):
    """A clone, copy or segment that left this journey and is a journey of its own."""

    id: str
    hop: int
    """Index in ``hops`` of the function (skb_clone, skb_copy, __skb_gso_segment ...) that made
    it."""


class Drop(NamedTuple):
    """The kernel's word on a drop, from the kfree_skb tracepoint."""

    reason: str | None
    """Name in this kernel's ``enum skb_drop_reason`` without its prefix; None before 5.17."""
    function: str | None
    """The function that dropped it, or None where kallsyms does not say."""
    offset: int = 0
    """Bytes into that function."""
    state: tuple[tuple[str, int], ...] = ()
    """What was read at that moment, name → value, where it can be read. Input queue of the CPU:
    ``backlog_len``, ``netdev_max_backlog``. The bridge port it is at: ``port_state`` (enum of
    linux/if_bridge.h), ``port_isolated``. The device's IPv4: ``forwarding``, ``rp_filter``,
    ``all_forwarding``, ``all_rp_filter``, ``mtu``. The socket: ``ack_backlog``,
    ``max_ack_backlog``, ``syn_backlog``, ``rmem_alloc``, ``rcvbuf`` (bytes). The bridge port it
    was to leave by: ``egress_state``, ``egress_isolated``, ``egress_hairpin``."""
    egress: Device | None = None
    """The device of that port, where a bridge had chosen one."""


class Reference(NamedTuple):
    """Another journey this one has to do with, though it is another packet.

    ``kind``: ``answers`` (an echo reply, a SYN-ACK: its request), ``reports`` (an ICMP error: the
    packet it is about), ``repeats`` (a TCP retransmission: the segment sent before).
    """

    kind: str
    id: str
    after_ns: int
    """From that journey's first hop to this one's."""


class Journey(NamedTuple):
    """One packet (one skb, from first sight to its free) and every probed function it passed."""

    id: str
    parent: str | None
    """The journey this one was cloned from."""
    skb: int
    """The skb's address, the key while it lived; reused by the kernel within microseconds."""
    flow: Flow
    start_ns: int
    hops: Sequence[Hop]
    outcome: Outcome
    proof: str | None = None
    """The function that proves the outcome."""
    drop: Drop | None = None
    damage: str | None = None
    branches: tuple[Branch, ...] = ()
    state: State | None = None
    """None if the capture did not look at it."""
    absorbed_into: str | None = None
    """The journey GRO merged it into; None also if that one is not followed."""
    references: tuple[Reference, ...] = ()
    frame: Frame | None = None
    """None in a trace of before."""

    @property
    def duration_ns(self) -> int:
        """From the first hop to the last."""
        return self.hops[-1].dt_ns if self.hops else 0

    @property
    def first_device(self) -> Device | None:
        """Where it was seen first; None if at no device."""
        return next((hop.device for hop in self.hops if hop.device is not None), None)

    @property
    def last_device(self) -> Device | None:
        """Where it was seen last; None if at no device."""
        return next((hop.device for hop in reversed(self.hops) if hop.device is not None), None)

    def arrivals(self) -> Iterator[tuple[Device, Hop]]:
        """Give each device that it came to from another one, and the first hop there."""
        last: Device | None = None
        for hop in self.hops:
            if hop.device is not None and hop.device != last:
                last = hop.device
                yield last, hop


class ProbePlace(NamedTuple):
    """A probe and what became of it on this kernel."""

    function: str
    symbol: str | None
    """The symbol it is attached to (suffix and alternative included), or None."""
    why_missing: str | None = None
    by: str | None = None
    """How it is called (``probes.Attach``), if not by a kprobe or a raw tracepoint."""


class Port(NamedTuple):
    """A bridge's port and what it lets through."""

    device: Device
    state: str
    """``disabled``, ``listening``, ``learning``, ``forwarding`` or ``blocking``
    (BR_STATE_* of linux/if_bridge.h)."""
    isolated: bool = False
    hairpin: bool = False
    learning: bool = True
    flood: bool = True
    """Unicast frames for an address that is not in the forwarding table leave by it, too."""
    vlans: tuple[int, ...] = ()
    """Only where the bridge filters VLANs."""
    pvid: int | None = None


class Forwarding(NamedTuple):
    """An entry of a bridge's forwarding table."""

    mac: str
    device: Device
    """The port it leads to; for a local one also the bridge itself."""
    vlan: int | None = None
    local: bool = False
    """The address of the bridge or of a port: such frames go up into the host's stack."""


class Route(NamedTuple):
    """A route of a namespace's tables ``local`` and ``main``. Policy rules are not looked at.

    One with several next hops is a route for each. Those of multicast, and those for some senders
    or types of service only, are left out.
    """

    netns: Netns
    type: str
    """``unicast``, ``local``, ``broadcast``, ``blackhole``, ``unreachable`` or ``prohibit``."""
    dst: str
    """With prefix length; ``0.0.0.0/0`` or ``::/0`` for a default route."""
    gateway: str | None = None
    device: Device | None = None
    metric: int = 0


class Rewrite(NamedTuple):
    """A rule of netfilter that changes addresses.

    What it matches is None where it does not care; a leading ``!`` means: anything but that.
    """

    netns: Netns
    hook: str
    """As in ``Verdict``."""
    kind: str
    """``dnat``, ``snat``, ``masquerade`` or ``redirect``."""
    to: str | None = None
    """``172.17.0.2:80``, ``:8080``, ``172.17.0.2``; None for masquerade, and where it depends on
    the packet."""
    proto: str | None = None
    src: str | None = None
    """An address or a network."""
    dst: str | None = None
    dport: str | None = None
    """A port or a range, ``8088`` or ``8000-8010``."""
    iifname: str | None = None
    oifname: str | None = None
    rule: str = ""
    """As the program that listed it writes it, with what it matches beside what is told here; the
    jumps that lead to it stand before it, each followed by ``; ``."""


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
    """Every address on the bridge, the ends and the uplinks, as ``172.17.0.2/16``."""
    pairs: tuple[tuple[Device, Device], ...] = ()
    """The veth pairs: a bridge's port comes first."""
    others: tuple[Device, ...] = ()
    """The other devices of the ends' namespaces: lo, an end on another bridge."""
    uplinks: tuple[Device, ...] = ()
    """Devices of the bridge's namespace by which a route leads out of it: not over a bridge."""
    macs: tuple[tuple[Device, str], ...] = ()
    down: tuple[Device, ...] = ()
    """Devices that are not up, or have no carrier."""
    states: tuple[Port, ...] = ()
    """Of every port."""
    fdb: tuple[Forwarding, ...] = ()
    routes: tuple[Route, ...] = ()
    """Of the bridge's namespace and of the ends'."""
    rewrites: tuple[Rewrite, ...] = ()
    """Of the bridge's namespace (a lab's without one: of its router's), by hook, in their order."""
    forwards: tuple[Netns, ...] = ()
    """The namespaces of these in which IPv4 is forwarded (ip_forward)."""

    @property
    def addressed(self) -> tuple[Device, ...]:
        """The bridge, if there is one, and the ends: what may have addresses."""
        return self.ends if self.bridge is None else (self.bridge, *self.ends)

    @property
    def own(self) -> tuple[Device, ...]:
        """The bridge, its ports and the ends: all that is in nothing else, too."""
        bridge = () if self.bridge is None else (self.bridge,)
        return (*bridge, *self.ports, *self.ends)


class TopologyChange(NamedTuple):
    """What the trace is about has become another: a container came or went, a name is another."""

    at_ns: int
    """When the first sign of it was seen."""
    topology: Topology
    anew: bool = False
    """What follows is of another capture: what is known of its namespaces tells nothing about those
    before, nor the other way round."""


class Sampling(NamedTuple):
    """From now on one packet in so many is followed."""

    at_ns: int
    one_in: int
    cpu_percent: int | None = None
    """What the traffic before took of a CPU in user space. None: it is what was asked for."""
    cpu_limit: int | None = None
    """What it may take."""


class Health(NamedTuple):
    """How a capture keeps up, while it lasts."""

    lost: Mapping[str, int]
    """Loss counter → how many until now."""
    ring: float
    """What part of the ring buffer waits to be read, from 0 to 1."""
    waiting: int
    """Records that were taken from the ring buffer and are not journeys yet."""
    filled: float
    """What part of their room those take, from 0 to 1 and little more; what comes then stays in the
    ring buffer until that is full."""
    steps: tuple[Stepped, ...] = ()
    backlog: Backlog | None = None
    """This and the steps as in ``Counted``, until now."""


Scope: TypeAlias = Mapping[tuple[int, int], bool]
"""(namespace's inode number, ifindex) → whether it is within the topology. At a device that is not,
only what the device receives begins a journey, and that is kept if it comes to one that is."""


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
    asked: Mapping[str, str] = field(default_factory=dict)
    """By what packets and journeys were chosen: the option without its dashes (``filter`` for the
    expression of pcap-filter(7)) → what was typed."""
    part: int | None = None
    """Which one of the files of a rotated trace this is, from 1. The journeys' ids are those of all
    of them together, and so are the clocks."""

    @property
    def attached(self) -> tuple[str, ...]:
        """Functions that are probed."""
        return tuple(p.function for p in self.probes if p.symbol is not None)

    @property
    def missing(self) -> tuple[ProbePlace, ...]:
        """Probes that could not be attached."""
        return tuple(p for p in self.probes if p.symbol is None)


class Ended(NamedTuple):
    """Packets that ended alike."""

    function: str | None
    """Reached last before the free. None: the rest, for which the kernel had no room."""
    device: Device | None
    """Where that was."""
    branch: bool
    """They were made of other packets: clones, copies, segments."""
    drop: Drop | None
    """Reason and place, without the state that decided it."""
    packets: int
    bytes: int
    """skb->len there, all together."""


class Stepped(NamedTuple):
    """How long packets took from one probed function to the next."""

    function: str | None
    """None, and so is the next: all the rest, for which the kernel had no room."""
    following: str | None
    segment: Segment | None
    total_ns: int
    longest_ns: int
    classes: tuple[tuple[int, int], ...]
    """The least time in each class of ``histogram``, ns, and how many took as long; rising. In the
    last class, from 67.6 s on, is all that took longer, too."""

    @property
    def took(self) -> Histogram:
        """The same, for percentiles."""
        return Histogram.of(self.classes, self.total_ns, self.longest_ns)

    @property
    def packets(self) -> int:
        """So many took this step."""
        return sum(count for _, count in self.classes)


class Backlog(NamedTuple):
    """How many packets waited in a CPU's input queue whenever process_backlog began to serve it.

    Of every CPU, and whosever packets: not only those that were followed.
    """

    total: int
    """All of them together; what comes while the queue is served is not among them."""
    longest: int
    classes: tuple[tuple[int, int], ...]
    """The least length in each class of ``histogram``, and how often it was such; rising."""

    @property
    def lengths(self) -> Histogram:
        """The same, for percentiles."""
        return Histogram.of(self.classes, self.total, self.longest)


class Counted(NamedTuple):
    """What the kernel program has counted itself: exact, whatever was lost or left out later."""

    hits: dict[str, int] = {}  # noqa: RUF012 (nobody changes it)
    """Probed function → how often the kernel came to it while it was traced, with any packet."""
    ended: tuple[Ended, ...] = ()
    """Packets that were followed to their free."""
    steps: tuple[Stepped, ...] = ()
    """Of packets that were followed, since they came to the topology. Those that took most time
    altogether first. Empty: by a tracer that did not count them."""
    backlog: Backlog | None = None
    """None: no queue was served, or by a tracer that did not count it."""

    @property
    def packets(self) -> int:
        """All that ended."""
        return sum(ended.packets for ended in self.ended)


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
    beside: int = 0
    """Packets that a device beside the topology (an uplink) received and that never came to it."""
    silent: tuple[str, ...] = ()
    """Attached functions that never fired although packets passed their neighbours."""
    unloaded: tuple[str, ...] = ()
    """Attached functions whose module was unloaded meanwhile: nothing saw them from then on."""
    unselected: int = 0
    """Journeys that are not among the others, because they were not asked for."""
    sampled: tuple[int, int] = (1, 1)
    """One packet in so many was followed: the fewest and the most that this was."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """What spoke against it → packets that were not followed: ``filter``, ``sample``,
    ``max_rate``, ``per_flow``. What was made of such a packet (a clone) was not followed either,
    and is not counted."""
    untriggered: int = 0
    """Journeys that are not among the others, because they did not end as was asked for."""

    counted: Counted | None = None
    """None: by a tracer that did not count."""

    @property
    def lost_total(self) -> int:
        """Sum of all loss counters."""
        return sum(self.lost.values())
