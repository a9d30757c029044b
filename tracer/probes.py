# SPDX-License-Identifier: GPL-2.0-only
"""PROBES: the only list of kernel functions skbtrace looks at.

The C side (``bpf/skbtrace.bpf.c``) is expanded from this table, so are ``skbtrace probes``, the
labels of the views, the trace's header and the tests. A row's position is its numeric id in
the kernel program; ids never leave the process, a trace speaks of functions.

Where the skb is was read in the sources and checked against tracepoints on kernels 5.10, 6.1,
6.12 and 7.2. This module knows nothing of bcc.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, StrEnum

from tracer.model import Layer, Segment


class Skb(StrEnum):
    """Where a function's skb is on entry. The value is the C reader in ``bpf/skb.h``."""

    ARG1 = "SKB_ARG1"
    ARG2 = "SKB_ARG2"
    ARG3 = "SKB_ARG3"
    ARG4 = "SKB_ARG4"
    AT_ARG1 = "SKB_AT_ARG1"
    """Argument 1 is ``struct sk_buff **``, or a struct whose first member is the skb."""
    NONE = "SKB_NONE"


class Attach(StrEnum):
    """How the kernel calls us."""

    KPROBE = "kprobe"
    """At a function's entry: everywhere. See ``Probe.typed``."""
    KRETPROBE = "kretprobe"
    RAW_TRACEPOINT = "raw_tracepoint"
    FENTRY = "fentry"
    """Instead of a kprobe: the kernel gives the arguments with their types."""
    FEXIT = "fexit"
    """The same at the return. It tells the arguments, too, so the kprobe at the entry, the row
    before, is not needed."""
    TP_BTF = "tp_btf"
    """The same at a tracepoint: instead of a kprobe, if it is the first thing in the function."""


class Handler(StrEnum):
    """The C function in ``bpf/skbtrace.bpf.c`` that a hit goes to."""

    START = "start"
    """Append a hop; first sight of the skb starts its journey."""
    XMIT = "xmit"
    """START, the transmit of a veth."""
    FORWARD = "forward"
    """REACH; called by XMIT, it need not read again what that one has read."""
    ENQUEUE = "enqueue"
    """START, and keep the CPU whose input queue takes the packet."""
    SERVE = "serve"
    """process_backlog: no skb; remember on this CPU when the call began."""
    RECEIVE = "receive"
    """START, and if the last hop was the enqueue, this is the dequeue of process_backlog."""
    EGRESS = "egress"
    """START, and keep the bridge port, argument 1, that it is to leave by."""
    DRIVER = "driver"
    """START, of the tracepoint; not for devices whose transmit function is probed itself."""
    GRO = "gro"
    """START; from the functions of a driver no packet comes here, so it is another one then."""
    REACH = "reach"
    """Append a hop to a journey that is already followed; never starts one."""
    HOOK = "hook"
    """nf_hook_slow: START at LOCAL_OUT, else REACH; keep family and hook."""
    NFT = "nft"
    """REACH, and keep the chain of nftables that the packet goes through."""
    XT = "xt"
    """REACH, and keep the table of iptables that the packet goes through."""
    IMMEDIATE = "immediate"
    """No hop: remember with the packet the expression of nftables that gives a verdict."""
    REJECT = "reject"
    """No hop: the same, and the verdict is a drop."""
    JUDGE = "judge"
    """Entry of an expression that may give a verdict: remember it on this CPU."""
    JUDGED = "judged"
    """Return of that function: remember the verdict with the packet, as IMMEDIATE does."""
    QUEUE = "queue"
    """REACH, and keep the socket, argument 1, that is given the packet; if it is a clone, tell
    the journey it was cloned from."""
    REQUEST = "request"
    """QUEUE, and find out at the end whether the listener refused it."""
    TAP = "tap"
    """REACH, and keep the packet socket that sees it."""
    MERGE = "merge"
    """REACH, and keep into which packet, argument 1, GRO merges this one."""
    CLONE = "clone"
    """Entry of a function that makes skbs of this one: remember it on this CPU."""
    CLONED = "cloned"
    """Return of that function: what it made is a journey of its own, with a parent."""
    DROP = "drop"
    """The kfree_skb tracepoint: keep reason and location; the free follows at once."""
    END = "end"
    """A free: append the last hop and hand the record over."""
    SENT = "sent"
    """END, if a driver was given the packet and it was seen nowhere since."""


class Proof(Enum):
    """What reaching a function proves about the outcome. What is reached last, counts."""

    NOTHING = 0
    DELIVERED = 1
    CONSUMED = 2
    TRANSMITTED = 3
    """Unless another function is reached: a veth, a bridge and a tunnel pass it on."""
    ABSORBED = 4
    """Unless another function is reached: GRO could not merge it after all."""


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
    module: str | None = None
    """The module it is in. Where that is not loaded, no packet passes it and nothing is missing."""
    since: str | None = None
    """The kernel that brought it. Older ones do its work elsewhere, and nothing is missing."""
    tracepoint: str | None = None
    """The first thing in it, with the skb as its first argument."""

    @property
    def typed(self) -> Attach | None:
        """How it may be called instead, which costs less, where the kernel can.

        Those in many packets' way: ``bpf/skbtrace.bpf.c`` has another handler for these. Each takes
        its time to detach, longer than a kprobe.
        """
        if self.tracepoint is not None:
            return Attach.TP_BTF
        if self.handler is Handler.CLONED:
            return Attach.FEXIT if self.function == "skb_clone" else None
        way = self.mission or self.handler in {Handler.HOOK, Handler.END}
        return Attach.FENTRY if way else None

    @property
    def always(self) -> bool:
        """Whether it is probed whatever layers were chosen."""
        return self.mission or self.layer is Layer.SKB


def _copies(function: str, text: str) -> tuple[Probe, Probe]:
    """A function that makes skbs of one, its argument 1: entry and return."""
    return (
        Probe(function, Skb.ARG1, Handler.CLONE, Layer.SKB, text),
        Probe(
            function,
            Skb.NONE,
            Handler.CLONED,
            Layer.SKB,
            "what it made begins its own journey",
            attach=Attach.KRETPROBE,
        ),
    )


PROBES: tuple[Probe, ...] = (
    Probe(
        "veth_xmit",
        Skb.ARG1,
        Handler.XMIT,
        Layer.DEVICE,
        "the veth driver transmits: what leaves one end of the pair arrives at the other",
        mission=True,
        then="__dev_forward_skb",
        module="veth",
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
        # GCC has made a clone of it on each kernel since 6.1 that we know, which no fentry finds.
        tracepoint="netif_receive_skb",
    ),
    Probe(
        "br_handle_frame",
        Skb.AT_ARG1,
        Handler.REACH,
        Layer.BRIDGE,
        "the bridge takes the frame from its port",
        mission=True,
        module="bridge",
    ),
    Probe(
        "br_forward",
        Skb.ARG2,
        Handler.EGRESS,
        Layer.BRIDGE,
        "the bridge sends the frame out of another port",
        mission=True,
        module="bridge",
    ),
    Probe(
        "loopback_xmit",
        Skb.ARG1,
        Handler.START,
        Layer.DEVICE,
        "the loopback device transmits: the packet comes straight back to this namespace",
    ),
    Probe(
        "br_handle_frame_finish",
        Skb.ARG3,
        Handler.REACH,
        Layer.BRIDGE,
        "the bridge learns the sender and looks up the receiver in its forwarding table",
        module="bridge",
    ),
    Probe(
        "br_flood",
        Skb.ARG2,
        Handler.REACH,
        Layer.BRIDGE,
        "a broadcast, or nobody knows the receiver: the bridge copies the frame to every port",
        module="bridge",
    ),
    Probe(
        "br_pass_frame_up",
        Skb.ARG1,
        Handler.REACH,
        Layer.BRIDGE,
        "the frame is for the bridge itself: up to this namespace's own stack",
        module="bridge",
    ),
    Probe(
        "br_dev_xmit",
        Skb.ARG1,
        Handler.START,
        Layer.BRIDGE,
        "the bridge device itself transmits: it looks up the port",
        module="bridge",
    ),
    Probe(
        "br_forward_finish",
        Skb.ARG3,
        Handler.REACH,
        Layer.BRIDGE,
        "the bridge's forward hooks are passed: on to the port's device",
        module="bridge",
    ),
    Probe(
        "nf_hook_slow",
        Skb.ARG1,
        Handler.HOOK,
        Layer.NETFILTER,
        "a netfilter hook: every table that is registered there is asked",
    ),
    Probe(
        "nft_do_chain",
        Skb.AT_ARG1,
        Handler.NFT,
        Layer.NETFILTER,
        "a chain of nftables (iptables-nft too) decides",
        module="nf_tables",
    ),
    Probe(
        "ipt_do_table",
        Skb.NONE,
        Handler.XT,
        Layer.NETFILTER,
        "a table of iptables-legacy decides",
        module="ip_tables",
    ),
    Probe(
        "ip6t_do_table",
        Skb.NONE,
        Handler.XT,
        Layer.NETFILTER,
        "a table of ip6tables-legacy decides",
        module="ip6_tables",
    ),
    *(
        Probe(
            function,
            Skb.NONE,
            handler,
            Layer.NETFILTER,
            "a rule of nftables gives its verdict",
            module=module,
        )
        for function, handler, module in (
            ("nft_immediate_eval", Handler.IMMEDIATE, "nf_tables"),
            ("nft_reject_ipv4_eval", Handler.REJECT, "nft_reject_ipv4"),
            ("nft_reject_ipv6_eval", Handler.REJECT, "nft_reject_ipv6"),
            ("nft_reject_inet_eval", Handler.REJECT, "nft_reject_inet"),
            ("nft_reject_bridge_eval", Handler.REJECT, "nft_reject_bridge"),
        )
    ),
    *(
        Probe(
            function,
            Skb.NONE,
            handler,
            Layer.NETFILTER,
            text,
            attach=attach,
            module=module,
        )
        for function, text, module in (
            ("nft_lookup_eval", "a map of nftables may give the verdict", "nf_tables"),
            ("nft_target_eval_xt", "a target of iptables-nft gives its verdict", "nft_compat"),
        )
        for handler, attach in (
            (Handler.JUDGE, Attach.KPROBE),
            (Handler.JUDGED, Attach.KRETPROBE),
        )
    ),
    Probe(
        "nf_queue",
        Skb.ARG1,
        Handler.REACH,
        Layer.NETFILTER,
        "given to a process in user space, which decides",
    ),
    Probe(
        "ip_rcv_core",
        Skb.ARG1,
        Handler.REACH,
        Layer.IP,
        "IPv4 takes it: header checked, then the route is looked up",
    ),
    Probe(
        "ip6_rcv_core",
        Skb.ARG1,
        Handler.REACH,
        Layer.IP,
        "IPv6 takes it: header checked, then the route is looked up",
    ),
    Probe("ip_local_deliver", Skb.ARG1, Handler.REACH, Layer.IP, "for this namespace itself"),
    Probe("ip6_input", Skb.ARG1, Handler.REACH, Layer.IP, "for this namespace itself (IPv6)"),
    Probe(
        "ip_forward",
        Skb.ARG1,
        Handler.REACH,
        Layer.IP,
        "for somebody else: this namespace routes it, its TTL goes down by one",
    ),
    Probe(
        "ip6_forward",
        Skb.ARG1,
        Handler.REACH,
        Layer.IP,
        "for somebody else: this namespace routes it (IPv6), its hop limit goes down by one",
    ),
    Probe(
        "ip_output",
        Skb.ARG3,
        Handler.START,
        Layer.IP,
        "out of this namespace's IPv4, by the device of its route",
    ),
    Probe(
        "ip6_output",
        Skb.ARG3,
        Handler.START,
        Layer.IP,
        "out of this namespace's IPv6, by the device of its route",
    ),
    Probe(
        "ip_finish_output2",
        Skb.ARG3,
        Handler.REACH,
        Layer.IP,
        "the neighbour's Ethernet address is put in front, once it is known",
    ),
    Probe(
        "ip6_finish_output2",
        Skb.ARG3,
        Handler.REACH,
        Layer.IP,
        "the neighbour's Ethernet address is put in front, once it is known (IPv6)",
    ),
    Probe(
        "__dev_queue_xmit",
        Skb.ARG1,
        Handler.START,
        Layer.QDISC,
        "to the queueing discipline of the device",
        segment=Segment.QDISC_WAIT,
    ),
    Probe(
        "net_dev_start_xmit",
        Skb.NONE,
        Handler.DRIVER,
        Layer.DRIVER,
        "the device's driver is given it to transmit",
        attach=Attach.RAW_TRACEPOINT,
        proof=Proof.TRANSMITTED,
    ),
    Probe(
        "napi_gro_receive",
        Skb.ARG2,
        Handler.GRO,
        Layer.NAPI,
        "a driver has received it and gives it to GRO",
        alternatives=("gro_receive_skb",),
        segment=Segment.GRO_WAIT,
    ),
    Probe(
        "skb_gro_receive",
        Skb.ARG2,
        Handler.MERGE,
        Layer.NAPI,
        "GRO merges it into a packet of the same flow that came before",
        proof=Proof.ABSORBED,
    ),
    Probe(
        "packet_rcv",
        Skb.ARG1,
        Handler.TAP,
        Layer.TAP,
        "a packet socket sees it",
        proof=Proof.DELIVERED,
    ),
    Probe(
        "tpacket_rcv",
        Skb.ARG1,
        Handler.TAP,
        Layer.TAP,
        "a packet socket with a ring (tcpdump) copies it",
        proof=Proof.DELIVERED,
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
        proof=Proof.CONSUMED,
        final=True,
    ),
    Probe(
        "icmpv6_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "ICMPv6 takes it: echo, neighbour discovery",
        proof=Proof.CONSUMED,
        final=True,
    ),
    Probe(
        "tcp_v4_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "TCP takes it and looks for its socket",
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "tcp_v6_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "TCP over IPv6 takes it and looks for its socket",
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
        proof=Proof.DELIVERED,
    ),
    Probe(
        "udpv6_rcv",
        Skb.ARG1,
        Handler.REACH,
        Layer.TRANSPORT,
        "UDP over IPv6 takes it and looks for its socket",
        proof=Proof.DELIVERED,
    ),
    Probe(
        "tcp_add_backlog",
        Skb.ARG2,
        Handler.QUEUE,
        Layer.SOCKET,
        "a process is busy with the socket: it waits until that one is done",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "tcp_v4_do_rcv",
        Skb.ARG2,
        Handler.QUEUE,
        Layer.SOCKET,
        "its TCP socket takes it: acknowledges, and queues what is to be read",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "tcp_v6_do_rcv",
        Skb.ARG2,
        Handler.QUEUE,
        Layer.SOCKET,
        "its TCP socket takes it: acknowledges, and queues what is to be read (IPv6)",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "tcp_conn_request",
        Skb.ARG4,
        Handler.REQUEST,
        Layer.SOCKET,
        "a SYN for a listening socket, which answers or, if a queue of it is full, does not",
        proof=Proof.DELIVERED,
        final=True,
    ),
    Probe(
        "__udp_enqueue_schedule_skb",
        Skb.ARG2,
        Handler.QUEUE,
        Layer.SOCKET,
        "put on a UDP socket's receive queue; it waits there until the process reads it",
        segment=Segment.SOCKET,
        proof=Proof.DELIVERED,
        final=True,
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
    *_copies(
        "skb_clone",
        "a second skb for the same bytes: a copy for a tap, a raw socket or another bridge port",
    ),
    *_copies("skb_copy", "a second skb with bytes of its own"),
    *_copies("__pskb_copy_fclone", "a second skb with headers of its own"),
    *_copies("skb_copy_expand", "a second skb with bytes of its own and more room"),
    *_copies("__skb_gso_segment", "cut into segments, because the device cannot do it"),
    Probe(
        "kfree_skb",
        Skb.NONE,
        Handler.DROP,
        Layer.SKB,
        "the kernel drops the packet and says why",
        attach=Attach.RAW_TRACEPOINT,
    ),
    # A driver frees what it has sent in its interrupt. That may have come in the middle of a
    # kprobe, and then no other one fires until it is done; tracepoints do.
    Probe(
        "consume_skb",
        Skb.NONE,
        Handler.SENT,
        Layer.DRIVER,
        "the device has sent it and its driver frees it: the end of its journey",
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
    # Since 5.19 (commit 68822bdf76f1) the CPU that received it frees it, when it next has time:
    # that may be long after the capture, and nobody uses the skb in between.
    Probe(
        "skb_attempt_defer_free",
        Skb.ARG1,
        Handler.END,
        Layer.SKB,
        "a process has read it, and another CPU is to free it: the end of its journey",
        since="5.19",
    ),
    # GRO frees so what it has merged: the head is gone into another packet (skb_gro_receive()).
    Probe(
        "napi_skb_free_stolen_head",
        Skb.ARG1,
        Handler.END,
        Layer.SKB,
        "what GRO has merged into another packet is freed: the end of its journey",
    ),
)

MISSION: tuple[str, ...] = tuple(p.function for p in PROBES if p.mission)
"""The seven functions, in the order in which a packet meets them first."""

FREES: frozenset[str] = frozenset(
    p.function for p in PROBES if p.handler in {Handler.END, Handler.SENT}
)
"""The functions with which a journey ends."""

LAYERS: tuple[Layer, ...] = tuple(
    layer for layer in Layer if any(p.layer is layer and not p.always for p in PROBES)
)
"""What can be chosen."""

DEFAULT_LAYERS: frozenset[Layer] = frozenset(LAYERS) - {Layer.IP, Layer.QDISC, Layer.NAPI}


def chosen(layers: Collection[Layer]) -> tuple[int, ...]:
    """Positions in PROBES of what is probed if these layers are chosen."""
    return tuple(i for i, p in enumerate(PROBES) if p.always or p.layer in layers)
