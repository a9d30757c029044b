# SPDX-License-Identifier: GPL-2.0-only
"""PATHS: the way a packet takes through the kernel, for every kind of path skbtrace is about.

Declared data, to be read like a map. ``test_paths.py`` makes the packets and compares. Each path
names the scene in which its packet is made, the packet, and every function that it reaches, with
all layers probed, as ``function netns/device``; a hook or a table of netfilter says before that
where it stands and what became of the packet: ``nf_hook_slow ipv4 FORWARD accept router/br0``.
With the layers probed by default the same packet shows the same list without the functions of the
layers that are left out.

The kernels differ in a few hops: those stand in a ``given``, whose condition says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.kernel.send import PIECES, PIECES_PORT
from tracer.model import Outcome

# -- what a way is made of -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """What a kernel must be like, or must have, for a packet to pass a hop."""

    why: str
    since: tuple[int, int] = (0, 0)
    until: tuple[int, int] = (1 << 16, 0)
    """The first kernel where it is no longer so."""
    selinux: bool = False
    """Where SELinux is switched on."""
    maybe: bool = False
    """The same kernel does it or not, from one packet to the next."""


class Given(NamedTuple):
    """A hop that depends on the kernel."""

    condition: Condition
    hop: str


Way = tuple[str | Given, ...]

SELINUX = Condition(
    "SELinux registers with netfilter at LOCAL_OUT, FORWARD and POST_ROUTING of every namespace "
    "(security/selinux/hooks.c, selinux_nf_ops). Where nobody is registered, there is no hook.",
    selinux=True,
)

TABLES_FROM_THE_START = Condition(
    "iptables-legacy: the host's namespace has a table as soon as the module is there; since then "
    "it comes with its first rule there, too (fdacd57c79b7, netfilter: x_tables: never register "
    "tables by default).",
    until=(5, 15),
)
DATAGRAM_STRIPPED = Condition(
    "skb_consume_udp() releases the head state and then frees what is left.", until=(6, 18)
)
DATAGRAM_WHOLE = Condition(
    "It hands the datagram over to be freed as TCP does a segment (6471658dc66c, udp: use "
    "skb_attempt_defer_free(); 6de1dec1c166).",
    since=(6, 18),
)
SEGMENT_FREED = Condition("tcp_recvmsg() frees what it has read.", until=(5, 19))
SEGMENT_HANDED_OVER = Condition(
    "tcp_recvmsg() hands what it has read to the CPU that received it, to be freed there "
    "(68822bdf76f1, net: generalize skb freeing deferral to per-cpu lists).",
    since=(5, 19),
)
SENT_FREED = Condition(
    "A driver frees what the card has sent by consume_skb; the tracepoint is seen also where its "
    "interrupt came in the middle of a kprobe, which hides skb_release_head_state.",
    maybe=True,
)
BUSY = Condition(
    "If a process is inside a call on the socket (here: connect, send or close, on the same CPU as "
    "the softirq), the segment waits until the call ends.",
    maybe=True,
)


def given(condition: Condition, *hops: str) -> Way:
    """Hops that are there only under a condition."""
    return tuple(Given(condition, hop) for hop in hops)


FREE: Way = ("skb_release_head_state",)
"""At the free no device is read: it may be gone."""

READ: Way = (
    *given(DATAGRAM_STRIPPED, "__consume_stateless_skb"),
    *given(DATAGRAM_WHOLE, "skb_attempt_defer_free"),
)
"""The free of a datagram that a process has read."""

SENT: Way = given(SENT_FREED, "skb_release_head_state", "consume_skb")
"""The free of what a card has sent."""

TCP_READ: Way = (
    *given(SEGMENT_FREED, "skb_release_head_state"),
    *given(SEGMENT_HANDED_OVER, "skb_attempt_defer_free"),
)
"""The same of a segment."""


def sent_by(at: str, *, local_out: Way | None = None, post_routing: Way | None = None) -> Way:
    """From a socket, down the IPv4 of its namespace, to the device of the route.

    The hooks are those that only SELinux uses, unless there are others.
    """
    return (
        *(
            given(SELINUX, f"nf_hook_slow ipv4 LOCAL_OUT accept {at}")
            if local_out is None
            else local_out
        ),
        f"ip_output {at}",
        *(
            given(SELINUX, f"nf_hook_slow ipv4 POST_ROUTING accept {at}")
            if post_routing is None
            else post_routing
        ),
        f"ip_finish_output2 {at}",
        f"__dev_queue_xmit {at}",
    )


def hook(place: str, *tables: str, family: str = "ipv4", verdict: str = "accept") -> Way:
    """A hook of netfilter and the tables asked there; ``place``: ``FORWARD router/br0``."""
    name, at = place.split()
    return (
        f"nf_hook_slow {family} {name} {verdict} {at}",
        *(f"{table} {at}" for table in tables),
    )


def across_veth(near: str, far: str) -> Way:
    """Transmit on one end is receive on the other, by way of a CPU's input queue."""
    return (
        f"veth_xmit {near}",
        f"__dev_forward_skb {near}",
        f"enqueue_to_backlog {far}",
        f"process_backlog {far}",
        f"__netif_receive_skb_core {far}",
    )


def into_bridge(port: str) -> Way:
    """The bridge takes the frame from its port, and looks up whom it is for."""
    return (f"br_handle_frame {port}", f"br_handle_frame_finish {port}")


def out_of_port(port: str, *, seen_at: str | None = None) -> Way:
    """The bridge knows the port. The device is changed only after br_forward (``seen_at``)."""
    return (
        *((f"br_forward {seen_at}",) if seen_at else ()),
        f"br_forward_finish {port}",
        f"__dev_queue_xmit {port}",
    )


def through_bridge(port_in: str, port_out: str) -> Way:
    """From port to port."""
    return (*into_bridge(port_in), *out_of_port(port_out, seen_at=port_in))


def up_to_bridge(port: str, bridge: str) -> Way:
    """The frame is for the bridge itself, which receives it once more."""
    return (*into_bridge(port), f"br_pass_frame_up {port}", f"__netif_receive_skb_core {bridge}")


def out_of_bridge(bridge: str, port: str) -> Way:
    """The bridge itself transmits."""
    return (f"br_dev_xmit {bridge}", *out_of_port(port, seen_at=bridge))


def taken_by(at: str, taker: str, *, local_in: Way = ()) -> Way:
    """Up the IPv4 of this namespace to the protocol it is for."""
    return (f"ip_rcv_core {at}", f"ip_local_deliver {at}", *local_in, f"{taker} {at}")


def taken_by_tcp(at: str) -> Way:
    """To a TCP socket. From tcp_v4_rcv on the packet has no device."""
    return (
        *taken_by(at, "tcp_v4_rcv"),
        *given(BUSY, "tcp_add_backlog"),
        "tcp_v4_do_rcv",
    )


def echo_reply_taken(at: str) -> Way:
    """ping's raw socket is given a clone; ICMP has no use for the reply itself."""
    return (f"ip_rcv_core {at}", f"ip_local_deliver {at}", f"skb_clone {at}", f"icmp_rcv {at}")


# -- the packets -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Which:
    """The packet that is meant, out of all in a trace."""

    flow: Mapping[str, object]
    """Members of its flow, as at its first hop."""
    at: str
    """Where it was seen first."""
    branch: bool = False
    """A clone."""
    nth: int = 0
    """Of those that match, in the order in which they began."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """One row, or a part of one."""

    row: int
    """Number of the path in the articles' list: see ROWS."""
    title: str
    scene: str
    which: Which
    way: Way
    outcome: Outcome
    proof: str
    changes: tuple[tuple[str, str], ...] = ()
    """What changed on the way, of the fields that are watched: the hop whose function did it (or
    what came after it, before the next hop), and ``field old -> new``."""
    watched: frozenset[str] = frozenset({"src", "dst", "sport", "dport", "ct", "ttl"})
    branches: int | None = None
    """How many clones left it."""
    answers: bool = False
    """It is the answer to a packet of the same scene."""


def echo(identifier: int | None, at: str, *, reply: bool = False, **more: int | bool) -> Which:
    """The echo request (or its reply) of ``ping -e IDENTIFIER``; None: of the only ping."""
    nth, branch = int(more.get("nth", 0)), bool(more.get("branch"))
    flow: dict[str, object] = {"proto": "icmp", "icmp_type": 0 if reply else 8}
    if identifier is not None:
        flow["icmp_id"] = identifier
    return Which(flow=flow, at=at, nth=nth, branch=branch)


def arp(request_or_reply: str, src: str, at: str, *, branch: bool = False, nth: int = 0) -> Which:
    """An ARP packet."""
    flow = {"proto": "arp", "arp_op": request_or_reply, "src": src}
    return Which(flow=flow, at=at, branch=branch, nth=nth)


ROWS: dict[int, str] = {
    1: "two namespaces joined by a veth pair",
    2: "container to container through docker0",
    3: "container to host",
    4: "host to container",
    5: "broadcast and unknown unicast",
    6: "the forwarding table fills",
    7: "container to the outside",
    8: "outside to container",
    9: "a host that talks to itself",
    10: "netfilter",
    11: "where tcpdump sees a packet",
    12: "what a packet loses on the way",
    13: "whose namespace",
    14: "queues",
    15: "to and from a network card",
    16: "TCP connections",
}


# -- the scenes ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A capture: a lab, and packets that are made in it one after the other.

    All shell. ``$F`` is a folder for what it leaves to look at.
    """

    lab: str
    topology: str | None = None
    """What is traced, if not the lab alone."""
    cards: bool = False
    """It wants the guest's two network cards. Their interrupts may come in the middle of a probe:
    it is captured again until no hit was passed over."""
    script: str
    """What is traced."""
    before: str = ":"
    """Once the lab stands: whom everybody knows, which rules there are."""
    after: str = ":"
    """Undoes what the end of the lab, after which it comes, does not."""


IN = "ip netns exec skbtrace-"
PING = "ping -q -c 1 -W 5 -e"
SEND = "taskset -c 0 $PYTHON -m tests.kernel.send"
"""On one CPU: what another one has allocated is freed only when that one gets to it
(skb_attempt_defer_free), maybe after the capture."""


def knows(at: str, device: str, *addresses: str) -> str:
    """Nobody there asks for these by ARP, and they are not forgotten meanwhile."""
    netns = f"ip -n skbtrace-{at}" if at else "ip"
    return "".join(
        f"{netns} neigh replace {address} lladdr {mac(address)} dev {device} nud permanent\n"
        for address in addresses
    )


def mac(address: str) -> str:
    """The labs make it of the IPv4 address, as Docker does."""
    return "02:42:" + ":".join(f"{int(byte):02x}" for byte in address.split("."))


TAPPED = 3
"""Echo requests that tcpdump sees."""
FORWARDED = 3
"""Echo requests that leave the nat lab."""

SCENES: dict[str, Scene] = {
    "veth": Scene(
        lab="veth",
        before=f"""
            {knows("net1", "veth1", "192.168.0.102")}
            {knows("net2", "veth2", "192.168.0.101")}
            mkdir /tmp/net_cls
            mount -t cgroup -o net_cls none /tmp/net_cls
            mkdir /tmp/net_cls/sender
            echo 0x10007 >/tmp/net_cls/sender/net_cls.classid
            {IN}net1 tc qdisc add dev veth1 clsact
            """,
        script=f"""
            {IN}net1 {PING} 1 192.168.0.102
            {IN}net1 tc filter add dev veth1 egress protocol ip matchall classid 1:5 action ok
            {SEND} marked veth
            """,
        after="""
            rmdir /tmp/net_cls/sender
            umount /tmp/net_cls
            rmdir /tmp/net_cls
            """,
    ),
    "docker0": Scene(
        lab="docker0",
        before=f"""
            modprobe nf_tables
            {knows("c1", "eth0", "172.17.0.1", "172.17.0.3")}
            {knows("c2", "eth0", "172.17.0.1", "172.17.0.2")}
            {knows("", "docker0", "172.17.0.2", "172.17.0.3")}
            {IN}c1 {PING} 99 172.17.0.3
            """,
        script=f"""
            {IN}c1 {PING} 2 172.17.0.3
            {IN}c1 {PING} 3 172.17.0.1
            {PING} 4 172.17.0.2
            {IN}c1 ip neigh del 172.17.0.3 dev eth0
            {IN}c1 {PING} 5 172.17.0.3

            tcpdump -Z root -i vethc1 --immediate-mode -w $F/tap.pcap 2>$F/tcpdump & tap=$!
            until grep -q listening $F/tcpdump; do :; done
            {IN}c1 ping -q -c {TAPPED} -i 0.02 -e 11 172.17.0.3
            kill -INT $tap
            wait $tap

            {SEND} datagram docker0
            {SEND} connection docker0
            {SEND} lost docker0 >$F/lost
            """,
    ),
    "firewall": Scene(
        lab="docker0",
        before=f"""
            modprobe -a br_netfilter nf_tables ip_tables iptable_filter
            {knows("c1", "eth0", "172.17.0.3")}
            {knows("c2", "eth0", "172.17.0.2")}
            {IN}c1 {PING} 99 172.17.0.3
            {IN}c1 iptables-legacy -A OUTPUT -p icmp -j ACCEPT
            iptables-nft -A FORWARD -p udp --dport 5001 -j DROP
            {IN}c2 iptables-legacy -A INPUT -p udp --dport 5002 -j DROP
            """,
        script=f"""
            {IN}c1 {PING} 10 172.17.0.3
            {IN}c1 bash -c "echo >/dev/udp/172.17.0.3/5001"
            {IN}c1 bash -c "echo >/dev/udp/172.17.0.3/5002"
            nft delete table ip filter
            iptables-legacy -A FORWARD -p udp --dport 5003 -j DROP
            {IN}c1 bash -c "echo >/dev/udp/172.17.0.3/5003"
            """,
        after="""
            iptables-legacy -F
            until modprobe -r iptable_filter; do :; done
            modprobe -r br_netfilter
            """,
    ),
    "bridge": Scene(
        lab="bridge",
        before=f"""
            {knows("net1", "veth1", "192.168.0.102")}
            {knows("net2", "veth2", "192.168.0.101")}
            """,
        script=f"""
            bridge -n skbtrace-router fdb show br br0 dynamic >$F/before
            {IN}net1 {PING} 61 192.168.0.102
            bridge -n skbtrace-router fdb show br br0 dynamic >$F/after
            {IN}net1 {PING} 62 192.168.0.102
            """,
    ),
    "nat": Scene(
        lab="nat",
        before=f"""
            {knows("net1", "veth1", "192.168.0.1")}
            {knows("router", "br0", "192.168.0.2")}
            {knows("router", "uplink", "203.0.113.2")}
            {knows("outside", "eth0", "203.0.113.1")}
            """,
        script=f"""
            {IN}net1 ping -q -c {FORWARDED} -i 0.02 -e 7 203.0.113.2
            {SEND} published nat
            {IN}router nft -j list ruleset >$F/rules
            """,
    ),
    "queue": Scene(
        lab="docker0",
        before=f"""
            {knows("c1", "eth0", "172.17.0.3")}
            {knows("c2", "eth0", "172.17.0.2")}
            {IN}c1 {PING} 99 172.17.0.3
            {IN}c1 ethtool -K eth0 tx-udp-segmentation off
            sysctl -qw net.core.netdev_max_backlog=1
            """,
        script=f"{IN}c1 {SEND} pieces docker0",
        after="sysctl -qw net.core.netdev_max_backlog=1000",
    ),
    "card": Scene(
        lab="docker0",
        topology="auto",
        cards=True,
        before=f"""
            {knows("c1", "eth0", "172.17.0.1")}
            {knows("", "docker0", "172.17.0.2")}
            $HOUSE/demo/nic up
            {IN}c1 {PING} 99 198.51.100.2
            """,
        script=f"{IN}c1 ping -q -c 1 -W 5 198.51.100.2",  # each time with an id of its own
        after="$HOUSE/demo/nic down",
    ),
    "loopback": Scene(
        lab="loopback",
        script=f"{IN}alone {PING} 9 127.0.0.1",
    ),
}

# -- the paths -------------------------------------------------------------------------------

_C1_TO_C2 = (
    *across_veth("c1/eth0", "host/vethc1"),
    *through_bridge("host/vethc1", "host/vethc2"),
    *across_veth("host/vethc2", "c2/eth0"),
)
# The tables of the lab docker0. The host's connections are tracked as long as the second is there;
# a nat chain is asked for a connection's first packet only.
_FILTER = "nft_do_chain ipv4 skbtrace-docker0/FORWARD accept"
_NAT = "nft_do_chain ipv4 skbtrace-docker0/POSTROUTING accept"
# br_netfilter hands every frame to the hooks of IPv4, for which it makes the bridge its device on
# receive. It takes the frame away from the bridge's own hook and gives it back with another call.
# The bridge asks its first hook by itself (nf_hook_bridge_pre): that shows only when given back.
_FIREWALL_TO_FORWARD = (
    *sent_by(
        "c1/eth0", local_out=hook("LOCAL_OUT c1/eth0", "ipt_do_table ipv4 filter/OUTPUT accept")
    ),
    *across_veth("c1/eth0", "host/vethc1"),
    "br_handle_frame host/vethc1",
    "nf_hook_slow ipv4 PRE_ROUTING accept host/docker0",
    "nf_hook_slow bridge PRE_ROUTING accept host/vethc1",
    "br_handle_frame_finish host/vethc1",
    "br_forward host/vethc1",
    "nf_hook_slow bridge FORWARD accept host/vethc2",
)
_FIREWALL_FROM_FORWARD = (
    "br_forward_finish host/vethc2",
    "nf_hook_slow bridge POST_ROUTING accept host/vethc2",
    *hook("POST_ROUTING host/vethc2", _NAT),
    "__dev_queue_xmit host/vethc2",
    *across_veth("host/vethc2", "c2/eth0"),
)
_FIREWALL_TRACKS = (("nf_hook_slow ipv4 PRE_ROUTING accept host/docker0", "ct - -> new"),)
_FIREWALL_FORGETS = ("__dev_forward_skb host/vethc2", "ct new -> -")
_C2_TO_C1 = (
    *across_veth("c2/eth0", "host/vethc2"),
    *through_bridge("host/vethc2", "host/vethc1"),
    *across_veth("host/vethc1", "c1/eth0"),
)


def tcp(flags: str, src: str, port: int, at: str, nth: int = 0) -> Which:
    """A segment from or to that port."""
    side = "dport" if at.startswith(("c1", "outside")) else "sport"
    flow = {"proto": "tcp", "tcp_flags": flags, "src": src, side: port}
    return Which(flow=flow, at=at, nth=nth)


def udp(port: int, at: str, *, branch: bool = False, nth: int = 0) -> Which:
    """A datagram to that port."""
    return Which(flow={"proto": "udp", "dport": port}, at=at, branch=branch, nth=nth)


PATHS: tuple[Path, ...] = (
    Path(
        row=1,
        title="transmit on one end of the pair is receive on the other",
        scene="veth",
        which=echo(1, "net1/veth1"),
        way=(
            *sent_by("net1/veth1"),
            *across_veth("net1/veth1", "net2/veth2"),
            *taken_by("net2/veth2", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        branches=0,
    ),
    Path(
        row=1,
        title="the reply, of which ping is given a clone",
        scene="veth",
        which=echo(1, "net2/veth2", reply=True),
        way=(
            *sent_by("net2/veth2"),
            *across_veth("net2/veth2", "net1/veth1"),
            *echo_reply_taken("net1/veth1"),
            *FREE,
        ),
        outcome=Outcome.DELIVERED,
        proof="__sock_queue_rcv_skb",
        branches=1,
        answers=True,
    ),
    Path(
        row=2,
        title="the request: the pair, the bridge, the other pair",
        scene="docker0",
        which=echo(2, "c1/eth0"),
        way=(*sent_by("c1/eth0"), *_C1_TO_C2, *taken_by("c2/eth0", "icmp_rcv"), *FREE),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        branches=0,
    ),
    Path(
        row=2,
        title="the reply, the same way back",
        scene="docker0",
        which=echo(2, "c2/eth0", reply=True),
        way=(*sent_by("c2/eth0"), *_C2_TO_C1, *echo_reply_taken("c1/eth0"), *FREE),
        outcome=Outcome.DELIVERED,
        proof="__sock_queue_rcv_skb",
        branches=1,
        answers=True,
    ),
    Path(
        row=2,
        title="the clone that ping reads",
        scene="docker0",
        which=echo(2, "c1/eth0", reply=True, branch=True),
        way=("skb_clone c1/eth0", "__sock_queue_rcv_skb c1/eth0", *FREE),
        outcome=Outcome.DELIVERED,
        proof="__sock_queue_rcv_skb",
    ),
    Path(
        row=3,
        title="up to the host: the bridge receives it as its own, with no second queue",
        scene="docker0",
        which=echo(3, "c1/eth0"),
        way=(
            *sent_by("c1/eth0"),
            *across_veth("c1/eth0", "host/vethc1"),
            *up_to_bridge("host/vethc1", "host/docker0"),
            "ip_rcv_core host/docker0",
            *hook("PRE_ROUTING host/docker0"),
            "ip_local_deliver host/docker0",
            *hook("LOCAL_IN host/docker0"),
            "icmp_rcv host/docker0",
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        changes=(("nf_hook_slow ipv4 PRE_ROUTING accept host/docker0", "ct - -> new"),),
    ),
    Path(
        row=4,
        title="down from the host: the bridge itself transmits",
        scene="docker0",
        which=echo(4, "host/docker0"),
        way=(
            *sent_by(
                "host/docker0",
                local_out=hook("LOCAL_OUT host/docker0"),
                post_routing=hook("POST_ROUTING host/docker0", _NAT),
            ),
            *out_of_bridge("host/docker0", "host/vethc1"),
            *across_veth("host/vethc1", "c1/eth0"),
            *taken_by("c1/eth0", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        changes=(
            ("nf_hook_slow ipv4 LOCAL_OUT accept host/docker0", "ct - -> new"),
            ("__dev_forward_skb host/vethc1", "ct new -> -"),
        ),
    ),
    Path(
        row=5,
        title="a broadcast goes up to the host ...",
        scene="docker0",
        which=arp("request", "172.17.0.2", "c1/eth0"),
        way=(
            "__dev_queue_xmit c1/eth0",
            *across_veth("c1/eth0", "host/vethc1"),
            *into_bridge("host/vethc1"),
            "br_flood host/vethc1",
            "skb_clone host/vethc1",
            "br_pass_frame_up host/vethc1",
            "__netif_receive_skb_core host/docker0",
            "arp_rcv host/docker0",
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="arp_rcv",
        branches=1,
    ),
    Path(
        row=5,
        title="... and, as a clone, out of every other port",
        scene="docker0",
        which=arp("request", "172.17.0.2", "host/vethc1", branch=True),
        way=(
            "skb_clone host/vethc1",
            *out_of_port("host/vethc2"),
            *across_veth("host/vethc2", "c2/eth0"),
            "arp_rcv c2/eth0",
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="arp_rcv",
    ),
    Path(
        row=5,
        title="the answer goes to one port only",
        scene="docker0",
        which=arp("reply", "172.17.0.3", "c2/eth0"),
        way=("__dev_queue_xmit c2/eth0", *_C2_TO_C1, "arp_rcv c1/eth0", *FREE),
        outcome=Outcome.CONSUMED,
        proof="arp_rcv",
        branches=0,
    ),
    Path(
        row=5,
        title="what waited for the answer: a clone of it asked",
        scene="docker0",
        which=echo(5, "c1/eth0"),
        way=(
            *sent_by("c1/eth0")[:-1],
            "skb_clone c1/eth0",
            "__dev_queue_xmit c1/eth0",
            *_C1_TO_C2,
            *taken_by("c2/eth0", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        branches=1,
    ),
    Path(
        row=6,
        title="nobody knows the receiver: flooded, but not up to the bridge's own namespace",
        scene="bridge",
        which=echo(61, "net1/veth1"),
        way=(
            *sent_by("net1/veth1"),
            *across_veth("net1/veth1", "router/veth1_p"),
            *into_bridge("router/veth1_p"),
            "br_flood router/veth1_p",
            *out_of_port("router/veth2_p"),
            *across_veth("router/veth2_p", "net2/veth2"),
            *taken_by("net2/veth2", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        branches=0,
    ),
    Path(
        row=6,
        title="its answer already finds the way",
        scene="bridge",
        which=echo(61, "net2/veth2", reply=True),
        way=(
            *sent_by("net2/veth2"),
            *across_veth("net2/veth2", "router/veth2_p"),
            *through_bridge("router/veth2_p", "router/veth1_p"),
            *across_veth("router/veth1_p", "net1/veth1"),
            *echo_reply_taken("net1/veth1"),
            *FREE,
        ),
        outcome=Outcome.DELIVERED,
        proof="__sock_queue_rcv_skb",
        branches=1,
        answers=True,
    ),
    Path(
        row=6,
        title="from now on to one port only",
        scene="bridge",
        which=echo(62, "net1/veth1"),
        way=(
            *sent_by("net1/veth1"),
            *across_veth("net1/veth1", "router/veth1_p"),
            *through_bridge("router/veth1_p", "router/veth2_p"),
            *across_veth("router/veth2_p", "net2/veth2"),
            *taken_by("net2/veth2", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        branches=0,
    ),
    Path(
        row=7,
        title="out: routed, let through, given the router's own address",
        scene="nat",
        which=echo(7, "net1/veth1"),
        way=(
            *sent_by("net1/veth1"),
            *across_veth("net1/veth1", "router/veth1_p"),
            *up_to_bridge("router/veth1_p", "router/br0"),
            "ip_rcv_core router/br0",
            *hook("PRE_ROUTING router/br0", "nft_do_chain ipv4 skbtrace/PREROUTING accept"),
            "ip_forward router/br0",
            *hook("FORWARD router/br0", "nft_do_chain ipv4 skbtrace/FORWARD accept"),
            "ip_output router/br0",
            *hook("POST_ROUTING router/uplink", "nft_do_chain ipv4 skbtrace/POSTROUTING accept"),
            "ip_finish_output2 router/uplink",
            "__dev_queue_xmit router/uplink",
            *across_veth("router/uplink", "outside/eth0"),
            *taken_by("outside/eth0", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        changes=(
            ("nf_hook_slow ipv4 PRE_ROUTING accept router/br0", "ct - -> new"),
            ("ip_forward router/br0", "ttl 64 -> 63"),
            (
                "nft_do_chain ipv4 skbtrace/POSTROUTING accept router/uplink",
                "src 192.168.0.2 -> 203.0.113.1",
            ),
            ("__dev_forward_skb router/uplink", "ct new -> -"),
        ),
    ),
    Path(
        row=7,
        title="back: the answer's receiver is put right before it is routed",
        scene="nat",
        which=echo(7, "outside/eth0", reply=True),
        way=(
            *sent_by("outside/eth0"),
            *across_veth("outside/eth0", "router/uplink"),
            "ip_rcv_core router/uplink",
            *hook("PRE_ROUTING router/uplink"),
            "ip_forward router/uplink",
            *hook("FORWARD router/uplink", "nft_do_chain ipv4 skbtrace/FORWARD accept"),
            "ip_output router/uplink",
            *hook("POST_ROUTING router/br0"),
            "ip_finish_output2 router/br0",
            "__dev_queue_xmit router/br0",
            *out_of_bridge("router/br0", "router/veth1_p"),
            *across_veth("router/veth1_p", "net1/veth1"),
            *echo_reply_taken("net1/veth1"),
            *FREE,
        ),
        outcome=Outcome.DELIVERED,
        proof="__sock_queue_rcv_skb",
        answers=True,
        changes=(
            ("nf_hook_slow ipv4 PRE_ROUTING accept router/uplink", "ct - -> established_reply"),
            (
                "nf_hook_slow ipv4 PRE_ROUTING accept router/uplink",
                "dst 203.0.113.1 -> 192.168.0.2",
            ),
            ("ip_forward router/uplink", "ttl 64 -> 63"),
            ("__dev_forward_skb router/veth1_p", "ct established_reply -> -"),
        ),
    ),
    Path(
        row=7,
        title="out again: of a connection that is known the nat chains are not asked",
        scene="nat",
        which=echo(7, "net1/veth1", nth=1),
        way=(
            *sent_by("net1/veth1"),
            *across_veth("net1/veth1", "router/veth1_p"),
            *up_to_bridge("router/veth1_p", "router/br0"),
            "ip_rcv_core router/br0",
            *hook("PRE_ROUTING router/br0"),
            "ip_forward router/br0",
            *hook("FORWARD router/br0", "nft_do_chain ipv4 skbtrace/FORWARD accept"),
            "ip_output router/br0",
            *hook("POST_ROUTING router/uplink"),
            "ip_finish_output2 router/uplink",
            "__dev_queue_xmit router/uplink",
            *across_veth("router/uplink", "outside/eth0"),
            *taken_by("outside/eth0", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        changes=(
            ("nf_hook_slow ipv4 PRE_ROUTING accept router/br0", "ct - -> established"),
            ("ip_forward router/br0", "ttl 64 -> 63"),
            (
                "nf_hook_slow ipv4 POST_ROUTING accept router/uplink",
                "src 192.168.0.2 -> 203.0.113.1",
            ),
            ("__dev_forward_skb router/uplink", "ct established -> -"),
        ),
    ),
    Path(
        row=8,
        title="in: the router's port 8088 becomes port 80 of net1",
        scene="nat",
        which=tcp("S", "203.0.113.2", 8088, "outside/eth0"),
        way=(
            *sent_by("outside/eth0"),
            *across_veth("outside/eth0", "router/uplink"),
            "ip_rcv_core router/uplink",
            *hook("PRE_ROUTING router/uplink", "nft_do_chain ipv4 skbtrace/PREROUTING accept"),
            "ip_forward router/uplink",
            *hook("FORWARD router/uplink", "nft_do_chain ipv4 skbtrace/FORWARD accept"),
            "ip_output router/uplink",
            *hook("POST_ROUTING router/br0", "nft_do_chain ipv4 skbtrace/POSTROUTING accept"),
            "ip_finish_output2 router/br0",
            "__dev_queue_xmit router/br0",
            *out_of_bridge("router/br0", "router/veth1_p"),
            *across_veth("router/veth1_p", "net1/veth1"),
            *taken_by("net1/veth1", "tcp_v4_rcv"),
            "tcp_v4_do_rcv",
            "tcp_conn_request",
            *FREE,
        ),
        outcome=Outcome.DELIVERED,
        proof="tcp_conn_request",
        changes=(
            ("nf_hook_slow ipv4 PRE_ROUTING accept router/uplink", "ct - -> new"),
            (
                "nft_do_chain ipv4 skbtrace/PREROUTING accept router/uplink",
                "dst 203.0.113.1 -> 192.168.0.2",
            ),
            ("nft_do_chain ipv4 skbtrace/PREROUTING accept router/uplink", "dport 8088 -> 80"),
            ("ip_forward router/uplink", "ttl 64 -> 63"),
            ("__dev_forward_skb router/veth1_p", "ct new -> -"),
        ),
    ),
    Path(
        row=8,
        title="its answer leaves as the router's own",
        scene="nat",
        which=tcp("S.", "192.168.0.2", 80, "net1/veth1"),
        way=(
            *sent_by("net1/veth1"),
            *across_veth("net1/veth1", "router/veth1_p"),
            *up_to_bridge("router/veth1_p", "router/br0"),
            "ip_rcv_core router/br0",
            *hook("PRE_ROUTING router/br0"),
            "ip_forward router/br0",
            *hook("FORWARD router/br0", "nft_do_chain ipv4 skbtrace/FORWARD accept"),
            "ip_output router/br0",
            *hook("POST_ROUTING router/uplink"),
            "ip_finish_output2 router/uplink",
            "__dev_queue_xmit router/uplink",
            *across_veth("router/uplink", "outside/eth0"),
            *taken_by_tcp("outside/eth0"),
            *FREE,
        ),
        outcome=Outcome.DELIVERED,
        proof="tcp_v4_do_rcv",
        answers=True,
        changes=(
            ("nf_hook_slow ipv4 PRE_ROUTING accept router/br0", "ct - -> established_reply"),
            ("ip_forward router/br0", "ttl 64 -> 63"),
            (
                "nf_hook_slow ipv4 POST_ROUTING accept router/uplink",
                "src 192.168.0.2 -> 203.0.113.1",
            ),
            ("nf_hook_slow ipv4 POST_ROUTING accept router/uplink", "sport 80 -> 8088"),
            ("__dev_forward_skb router/uplink", "ct established_reply -> -"),
        ),
    ),
    Path(
        row=9,
        title="out of lo and straight back in",
        scene="loopback",
        which=echo(9, "alone/lo"),
        way=(
            *sent_by("alone/lo"),
            "loopback_xmit alone/lo",
            "enqueue_to_backlog alone/lo",
            "process_backlog alone/lo",
            "__netif_receive_skb_core alone/lo",
            *taken_by("alone/lo", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
    ),
    Path(
        row=10,
        title="all five hooks: c1's own, the host's, which the bridge calls, and c2's own",
        scene="firewall",
        which=echo(10, "c1/eth0"),
        way=(
            *_FIREWALL_TO_FORWARD,
            *hook("FORWARD host/vethc2", "nft_do_chain ipv4 filter/FORWARD accept"),
            *given(TABLES_FROM_THE_START, "ipt_do_table ipv4 filter/FORWARD accept host/vethc2"),
            f"{_FILTER} host/vethc2",
            "nf_hook_slow bridge FORWARD accept host/vethc2",
            *_FIREWALL_FROM_FORWARD,
            "ip_rcv_core c2/eth0",
            "ip_local_deliver c2/eth0",
            *hook("LOCAL_IN c2/eth0", "ipt_do_table ipv4 filter/INPUT accept"),
            "icmp_rcv c2/eth0",
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
        changes=(*_FIREWALL_TRACKS, _FIREWALL_FORGETS),
    ),
    Path(
        row=10,
        title="dropped on the host by iptables-nft",
        scene="firewall",
        which=udp(5001, "c1/eth0"),
        way=(
            *_FIREWALL_TO_FORWARD,
            "nf_hook_slow ipv4 FORWARD DROP host/vethc2",
            "nft_do_chain ipv4 filter/FORWARD DROP rule 2 host/vethc2",
            *FREE,
        ),
        outcome=Outcome.DROPPED,
        proof="kfree_skb",
        changes=_FIREWALL_TRACKS,
    ),
    Path(
        row=10,
        title="dropped in c2 by iptables-legacy",
        scene="firewall",
        which=udp(5002, "c1/eth0"),
        way=(
            *_FIREWALL_TO_FORWARD,
            *hook("FORWARD host/vethc2", "nft_do_chain ipv4 filter/FORWARD accept"),
            *given(TABLES_FROM_THE_START, "ipt_do_table ipv4 filter/FORWARD accept host/vethc2"),
            f"{_FILTER} host/vethc2",
            "nf_hook_slow bridge FORWARD accept host/vethc2",
            *_FIREWALL_FROM_FORWARD,
            "ip_rcv_core c2/eth0",
            "ip_local_deliver c2/eth0",
            "nf_hook_slow ipv4 LOCAL_IN DROP c2/eth0",
            "ipt_do_table ipv4 filter/INPUT DROP c2/eth0",
            *FREE,
        ),
        outcome=Outcome.DROPPED,
        proof="kfree_skb",
        changes=(*_FIREWALL_TRACKS, _FIREWALL_FORGETS),
    ),
    Path(
        row=10,
        title="dropped on the host by iptables-legacy",
        scene="firewall",
        which=udp(5003, "c1/eth0"),
        way=(
            *_FIREWALL_TO_FORWARD,
            "nf_hook_slow ipv4 FORWARD DROP host/vethc2",
            "ipt_do_table ipv4 filter/FORWARD DROP host/vethc2",
            *FREE,
        ),
        outcome=Outcome.DROPPED,
        proof="kfree_skb",
        changes=_FIREWALL_TRACKS,
    ),
    Path(
        row=11,
        title="on receive before the bridge",
        scene="docker0",
        which=echo(11, "c1/eth0"),
        way=(
            *sent_by("c1/eth0"),
            *across_veth("c1/eth0", "host/vethc1"),
            "tpacket_rcv host/vethc1",
            *through_bridge("host/vethc1", "host/vethc2"),
            *across_veth("host/vethc2", "c2/eth0"),
            *taken_by("c2/eth0", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
    ),
    Path(
        row=11,
        title="on transmit last of all, of a clone ...",
        scene="docker0",
        which=echo(11, "c2/eth0", reply=True),
        way=(
            *sent_by("c2/eth0"),
            *across_veth("c2/eth0", "host/vethc2"),
            *through_bridge("host/vethc2", "host/vethc1"),
            "skb_clone host/vethc1",
            *across_veth("host/vethc1", "c1/eth0"),
            *echo_reply_taken("c1/eth0"),
            *FREE,
        ),
        outcome=Outcome.DELIVERED,
        proof="__sock_queue_rcv_skb",
        branches=2,
        answers=True,
    ),
    Path(
        row=11,
        title="... which is all that tcpdump gets",
        scene="docker0",
        which=echo(11, "host/vethc1", reply=True, branch=True),
        way=("skb_clone host/vethc1", "tpacket_rcv host/vethc1", *FREE),
        outcome=Outcome.DELIVERED,
        proof="tpacket_rcv",
    ),
    Path(
        row=12,
        title="the mark and the priority stay behind, the class id until IP, the tc index never",
        scene="veth",
        which=udp(5005, "net1/veth1"),
        way=(
            *sent_by("net1/veth1"),
            *across_veth("net1/veth1", "net2/veth2"),
            *taken_by("net2/veth2", "udp_rcv"),
            "__udp_enqueue_schedule_skb net2/veth2",
            *READ,
        ),
        outcome=Outcome.DELIVERED,
        proof="__udp_enqueue_schedule_skb",
        watched=frozenset({"mark", "priority", "tc_index", "classid", "sk"}),
        changes=(
            ("__dev_queue_xmit net1/veth1", "tc_index 0 -> 5"),
            ("__dev_forward_skb net1/veth1", "mark 0x7 -> 0"),
            ("__dev_forward_skb net1/veth1", "priority 3 -> 0"),
            ("ip_rcv_core net2/veth2", "classid 0x10007 -> 0"),
            ("ip_rcv_core net2/veth2", "sk yes -> no"),
        ),
    ),
    Path(
        row=13,
        title="a process of the host that holds a socket of c1 and one of c2",
        scene="docker0",
        which=udp(5005, "c1/eth0"),
        way=(
            *sent_by("c1/eth0"),
            *_C1_TO_C2,
            *taken_by("c2/eth0", "udp_rcv"),
            "__udp_enqueue_schedule_skb c2/eth0",
            *READ,
        ),
        outcome=Outcome.DELIVERED,
        proof="__udp_enqueue_schedule_skb",
    ),
    Path(
        row=14,
        title="there is room in the input queue of the CPU",
        scene="queue",
        which=udp(PIECES_PORT, "c1/eth0", branch=True),
        way=(
            "__skb_gso_segment c1/eth0",
            *_C1_TO_C2,
            *taken_by("c2/eth0", "udp_rcv"),
            *FREE,
        ),
        outcome=Outcome.DROPPED,
        proof="kfree_skb",
    ),
    Path(
        row=14,
        title="there is none",
        scene="queue",
        which=udp(PIECES_PORT, "c1/eth0", branch=True, nth=PIECES - 1),
        way=(
            "__skb_gso_segment c1/eth0",
            "veth_xmit c1/eth0",
            "__dev_forward_skb c1/eth0",
            "enqueue_to_backlog host/vethc1",
            *FREE,
        ),
        outcome=Outcome.DROPPED,
        proof="kfree_skb",
    ),
    Path(
        row=15,
        title="out: through the queueing discipline to the driver",
        scene="card",
        which=echo(None, "c1/eth0"),
        way=(
            *sent_by("c1/eth0"),
            *across_veth("c1/eth0", "host/vethc1"),
            *up_to_bridge("host/vethc1", "host/docker0"),
            "ip_rcv_core host/docker0",
            *hook("PRE_ROUTING host/docker0"),
            "ip_forward host/docker0",
            *hook("FORWARD host/docker0", _FILTER),
            "ip_output host/docker0",
            *hook("POST_ROUTING host/eth0", _NAT),
            "ip_finish_output2 host/eth0",
            "__dev_queue_xmit host/eth0",
            "net_dev_start_xmit host/eth0",
            *SENT,
        ),
        outcome=Outcome.TRANSMITTED,
        proof="net_dev_start_xmit",
        changes=(
            ("nf_hook_slow ipv4 PRE_ROUTING accept host/docker0", "ct - -> new"),
            ("ip_forward host/docker0", "ttl 64 -> 63"),
            (
                f"{_NAT} host/eth0",
                "src 172.17.0.2 -> 198.51.100.1",
            ),
        ),
    ),
    Path(
        row=15,
        title="in: from the other card's driver, through NAPI and GRO, with no input queue",
        scene="card",
        which=echo(None, "outside/eth1"),
        way=(
            "napi_gro_receive outside/eth1",
            "__netif_receive_skb_core outside/eth1",
            *taken_by("outside/eth1", "icmp_rcv"),
            *FREE,
        ),
        outcome=Outcome.CONSUMED,
        proof="icmp_rcv",
    ),
    Path(
        row=15,
        title="the reply: in by the first card, its address put right, and on to the container",
        scene="card",
        which=echo(None, "host/eth0", reply=True),
        way=(
            "napi_gro_receive host/eth0",
            "__netif_receive_skb_core host/eth0",
            "ip_rcv_core host/eth0",
            *hook("PRE_ROUTING host/eth0"),
            "ip_forward host/eth0",
            *hook("FORWARD host/eth0", _FILTER),
            "ip_output host/eth0",
            *hook("POST_ROUTING host/docker0"),
            "ip_finish_output2 host/docker0",
            "__dev_queue_xmit host/docker0",
            *out_of_bridge("host/docker0", "host/vethc1"),
            *across_veth("host/vethc1", "c1/eth0"),
            *echo_reply_taken("c1/eth0"),
            *FREE,
        ),
        outcome=Outcome.DELIVERED,
        proof="__sock_queue_rcv_skb",
        changes=(
            ("nf_hook_slow ipv4 PRE_ROUTING accept host/eth0", "ct - -> established_reply"),
            (
                "nf_hook_slow ipv4 PRE_ROUTING accept host/eth0",
                "dst 198.51.100.1 -> 172.17.0.2",
            ),
            ("ip_forward host/eth0", "ttl 64 -> 63"),
            ("__dev_forward_skb host/vethc1", "ct established_reply -> -"),
        ),
        branches=1,
        answers=True,
    ),
    Path(
        row=16,
        title="SYN: to the listener",
        scene="docker0",
        which=tcp("S", "172.17.0.2", 8000, "c1/eth0"),
        way=(
            *sent_by("c1/eth0"),
            *_C1_TO_C2,
            *taken_by("c2/eth0", "tcp_v4_rcv"),
            "tcp_v4_do_rcv",
            "tcp_conn_request",
            *FREE,
        ),
        outcome=Outcome.DELIVERED,
        proof="tcp_conn_request",
    ),
    Path(
        row=16,
        title="SYN-ACK: to the socket that connects",
        scene="docker0",
        which=tcp("S.", "172.17.0.3", 8000, "c2/eth0"),
        way=(*sent_by("c2/eth0"), *_C2_TO_C1, *taken_by_tcp("c1/eth0"), *FREE),
        outcome=Outcome.DELIVERED,
        proof="tcp_v4_do_rcv",
        answers=True,
    ),
    Path(
        row=16,
        title="ACK: makes the request a connection",
        scene="docker0",
        which=tcp(".", "172.17.0.2", 8000, "c1/eth0"),
        way=(*sent_by("c1/eth0"), *_C1_TO_C2, *taken_by("c2/eth0", "tcp_v4_rcv"), *FREE),
        outcome=Outcome.DELIVERED,
        proof="tcp_v4_rcv",
    ),
    Path(
        row=16,
        title="data",
        scene="docker0",
        which=tcp("P.", "172.17.0.2", 8000, "c1/eth0"),
        way=(*sent_by("c1/eth0"), *_C1_TO_C2, *taken_by_tcp("c2/eth0"), *TCP_READ),
        outcome=Outcome.DELIVERED,
        proof="tcp_v4_do_rcv",
    ),
    Path(
        row=16,
        title="FIN",
        scene="docker0",
        which=tcp("F.", "172.17.0.2", 8000, "c1/eth0"),
        way=(*sent_by("c1/eth0"), *_C1_TO_C2, *taken_by_tcp("c2/eth0"), *TCP_READ),
        outcome=Outcome.DELIVERED,
        proof="tcp_v4_do_rcv",
    ),
    Path(
        row=16,
        title="FIN of the other side, whose socket no process holds any more",
        scene="docker0",
        which=tcp("F.", "172.17.0.3", 8000, "c2/eth0"),
        way=(*sent_by("c2/eth0"), *_C2_TO_C1, *taken_by_tcp("c1/eth0"), *FREE),
        outcome=Outcome.DELIVERED,
        proof="tcp_v4_do_rcv",
    ),
)
