# SPDX-License-Identifier: GPL-2.0-only
"""PROBES: the only list of kernel functions skbtrace looks at.

The C side (``bpf/skbtrace.bpf.c``) is expanded from this table, so are ``skbtrace probes``, the
labels of the views, the trace's header and the tests. A row's position is its numeric id in
the kernel program; ids never leave the process, a trace speaks of functions.

Where the skb is was read in the sources and checked against tracepoints on kernels 5.10, 6.1,
6.12 and 7.2. This module knows nothing of bcc.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from tracer.model import Layer, Segment


class Skb(StrEnum):
    """Where a function's skb is on entry. The value is the C reader in ``bpf/skb.h``."""

    ARG1 = "SKB_ARG1"
    ARG2 = "SKB_ARG2"
    AT_ARG1 = "SKB_AT_ARG1"
    """Argument 1 is ``struct sk_buff **``."""
    NONE = "SKB_NONE"


class Attach(StrEnum):
    """How the kernel calls us."""

    KPROBE = "kprobe"
    KRETPROBE = "kretprobe"
    RAW_TRACEPOINT = "raw_tracepoint"


class Handler(StrEnum):
    """The C function in ``bpf/skbtrace.bpf.c`` that a hit goes to."""

    HOP = "hop"
    """Append a hop; first sight of the skb starts its journey."""
    XMIT = "xmit"
    """HOP, the transmit of a veth."""
    FORWARD = "forward"
    """REACH; called by XMIT, it need not read again what that one has read."""
    ENQUEUE = "enqueue"
    """HOP, and keep the CPU whose input queue takes the packet."""
    SERVE = "serve"
    """process_backlog: no skb; remember on this CPU when the call began."""
    RECEIVE = "receive"
    """HOP, and if the last hop was the enqueue, this is the dequeue of process_backlog."""
    REACH = "reach"
    """Append a hop to a journey that is already followed; never starts one."""
    QUEUE = "queue"
    """REACH, and tell the journey this one was cloned from that a socket has its clone."""
    CLONE = "clone"
    """Entry of skb_clone: remember the parent on this CPU."""
    CLONED = "cloned"
    """Return of skb_clone: the clone is a journey of its own, with a parent."""
    DROP = "drop"
    """The kfree_skb tracepoint: keep reason and location; the free follows at once."""
    END = "end"
    """A free: append the last hop and hand the record over."""


class Proof(Enum):
    """What reaching a function proves about the outcome."""

    NOTHING = 0
    DELIVERED = 1
    CONSUMED = 2


@dataclass(frozen=True, slots=True)
class Probe:
    """One kernel function.

    ``final``: the same packet reaches none of the transmit, queue and bridge functions after it
    (after the enqueue: none but the dequeue), so if one fires for this skb address, the end of
    the old packet was missed and the address belongs to a new one.
    """

    function: str
    skb: Skb
    handler: Handler
    layer: Layer
    text: str
    attach: Attach = Attach.KPROBE
    alternatives: tuple[str, ...] = ()
    segment: Segment = Segment.WORK
    proof: Proof = Proof.NOTHING
    final: bool = False
    mission: bool = False
    """One of the seven functions skbtrace is about."""
    then: str | None = None
    """The probed function that a packet reaches next, if it lives. If it is seen elsewhere
    instead, a hit was missed (a probe cannot fire inside another one on the same CPU)."""
    neighbour: str | None = None
    """Where packets pass that function they pass this one: if it never fires, that is said."""


PROBES: tuple[Probe, ...] = (
    Probe(
        "veth_xmit",
        Skb.ARG1,
        Handler.XMIT,
        Layer.DEVICE,
        "the veth driver transmits: what leaves one end of the pair arrives at the other",
        mission=True,
        then="__dev_forward_skb",
    ),
    Probe(
        "__dev_forward_skb",
        Skb.ARG2,
        Handler.FORWARD,
        Layer.DEVICE,
        "the packet is scrubbed of what may not cross a namespace and given to the peer device",
        mission=True,
        neighbour="veth_xmit",
    ),
    Probe(
        "enqueue_to_backlog",
        Skb.ARG1,
        Handler.ENQUEUE,
        Layer.BACKLOG,
        "put on a CPU's input queue, to be received by its softirq",
        segment=Segment.SOFTIRQ_WAIT,
        final=True,
        mission=True,
        then="__netif_receive_skb_core",
        neighbour="__dev_forward_skb",
    ),
    Probe(
        "process_backlog",
        Skb.NONE,
        Handler.SERVE,
        Layer.BACKLOG,
        "the softirq (or the backlog thread) serves this CPU's input queue",
        segment=Segment.BACKLOG_WAIT,
        mission=True,
        neighbour="enqueue_to_backlog",
    ),
    Probe(
        "__netif_receive_skb_core",
        Skb.AT_ARG1,
        Handler.RECEIVE,
        Layer.DEVICE,
        "received by a device: packet taps, then the bridge, then the protocol handlers",
        mission=True,
        neighbour="enqueue_to_backlog",
    ),
    Probe(
        "br_handle_frame",
        Skb.AT_ARG1,
        Handler.REACH,
        Layer.BRIDGE,
        "the bridge takes the frame from its port, learns the sender and looks up the receiver",
        mission=True,
    ),
    Probe(
        "br_forward",
        Skb.ARG2,
        Handler.HOP,
        Layer.BRIDGE,
        "the bridge sends the frame out of another port",
        mission=True,
    ),
    Probe(
        "arp_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "ARP takes it: answers, learns a neighbour, or ignores it",
        proof=Proof.CONSUMED,
        final=True,
    ),
    Probe(
        "icmp_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "ICMP takes it: an echo request is answered from here",
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "icmpv6_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "ICMPv6 takes it: echo, neighbour discovery",
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "tcp_v4_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "TCP takes it and looks for its socket",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "tcp_v6_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "TCP over IPv6 takes it and looks for its socket",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
        final=True,
    ),
    # UDP is not final: an encapsulated packet (VXLAN) is received again as the same skb.
    Probe(
        "udp_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "UDP takes it and looks for its socket",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
    ),
    Probe(
        "udpv6_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "UDP over IPv6 takes it and looks for its socket",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
    ),
    Probe(
        "__sock_queue_rcv_skb",
        Skb.ARG2,
        Handler.QUEUE,
        Layer.SOCKET,
        "put on a socket's receive queue; it waits there until the process reads it",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "skb_clone",
        Skb.ARG1,
        Handler.CLONE,
        Layer.SKB,
        "a second skb for the same bytes: a copy for a tap, a raw socket or another bridge port",
    ),
    Probe(
        "skb_clone",
        Skb.NONE,
        Handler.CLONED,
        Layer.SKB,
        "the clone begins its own journey",
        attach=Attach.KRETPROBE,
    ),
    Probe(
        "kfree_skb",
        Skb.NONE,
        Handler.DROP,
        Layer.SKB,
        "the kernel drops the packet and says why",
        attach=Attach.RAW_TRACEPOINT,
    ),
    Probe(
        "skb_release_head_state",
        Skb.ARG1,
        Handler.END,
        Layer.SKB,
        "the skb is freed: the end of a journey",
    ),
    # skb_consume_udp() frees so what udp_set_dev_scratch() has stripped of its head state.
    Probe(
        "__consume_stateless_skb",
        Skb.ARG1,
        Handler.END,
        Layer.SKB,
        "a datagram that a process has read is freed: the end of its journey",
    ),
)

MISSION: tuple[str, ...] = tuple(p.function for p in PROBES if p.mission)
"""The seven functions, in the order in which a packet meets them first."""
