# SPDX-License-Identifier: GPL-2.0-only
"""Journeys as they come out of the docker0 lab, for tests. Values only.

The sequences of functions are those measured on real kernels; the times are made up, round
enough to be checked by eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracer.alike import Alike, One
from tracer.explain import Explanation
from tracer.model import (
    NUMBERED,
    Branch,
    Capture,
    Change,
    Device,
    Drop,
    Flow,
    Frame,
    Hop,
    Journey,
    Netns,
    Outcome,
    ProbePlace,
    Reference,
    Segment,
    Socket,
    State,
    Summary,
    Task,
    Topology,
    Verdict,
)
from tracer.probes import PROBES

HOST = Netns(4026531840, "host")
C1 = Netns(4026532194, "c1")
C2 = Netns(4026532257, "c2")

DOCKER0 = Device(HOST, 3, "docker0")
VETHC1 = Device(HOST, 5, "vethc1")
VETHC2 = Device(HOST, 7, "vethc2")
ETH0_C1 = Device(C1, 4, "eth0")
ETH0_C2 = Device(C2, 6, "eth0")

C1_IP, C2_IP = "172.17.0.2", "172.17.0.3"
C1_MAC, C2_MAC = "02:42:ac:11:00:02", "02:42:ac:11:00:03"

_SEGMENT = {
    "enqueue_to_backlog": Segment.SOFTIRQ_WAIT,
    "process_backlog": Segment.BACKLOG_WAIT,
    "__dev_queue_xmit": Segment.QDISC_WAIT,
    "napi_gro_receive": Segment.GRO_WAIT,
    "tcp_v4_rcv": Segment.SOCKET,
    "__sock_queue_rcv_skb": Segment.SOCKET,
}
_ADDRESS = 0xFFFF_9A3B_0417_2E00

Step = tuple[str, Device | None, int, int, int]
"""Function, device, CPU, microseconds * 10 since the start, length."""


def _hops(
    *steps: Step, to_cpu: int | None = None, already_running: bool = False
) -> tuple[Hop, ...]:
    hops = []
    for number, (function, device, cpu, tenths, length) in enumerate(steps):
        last = number == len(steps) - 1
        hops.append(
            Hop(
                function=function,
                dt_ns=tenths * 100,
                cpu=cpu,
                device=device,
                len=length,
                segment=None if last else _SEGMENT.get(function, Segment.WORK),
                to_cpu=(cpu if to_cpu is None else to_cpu)
                if function == "enqueue_to_backlog"
                else None,
                already_running=already_running if function == "process_backlog" else None,
            )
        )
    return tuple(hops)


def echo(kind: int, src: str, dst: str) -> Flow:
    return Flow(
        proto="icmp",
        src=src,
        dst=dst,
        eth_src=C1_MAC if src == C1_IP else C2_MAC,
        eth_dst=C2_MAC if src == C1_IP else C1_MAC,
        ip_id=0x1D2E,
        icmp_type=kind,
        icmp_code=0,
        icmp_id=7,
        icmp_seq=1,
    )


REQUEST = Journey(
    id="11",
    parent=None,
    skb=_ADDRESS,
    flow=echo(8, C1_IP, C2_IP),
    start_ns=1_234_567_890_123,
    hops=(
        *_hops(
            ("veth_xmit", ETH0_C1, 0, 0, 98),
            ("__dev_forward_skb", ETH0_C1, 0, 9, 98),
            ("enqueue_to_backlog", VETHC1, 0, 28, 84),
            ("process_backlog", VETHC1, 1, 110, 84),
            ("__netif_receive_skb_core", VETHC1, 1, 114, 84),
            ("br_handle_frame", VETHC1, 1, 131, 84),
            ("br_forward", VETHC1, 1, 158, 84),
            ("veth_xmit", VETHC2, 1, 184, 98),
            ("__dev_forward_skb", VETHC2, 1, 192, 98),
            ("enqueue_to_backlog", ETH0_C2, 1, 208, 84),
            to_cpu=1,
        )[:-1],
        *_hops(
            ("enqueue_to_backlog", ETH0_C2, 1, 208, 84),
            ("process_backlog", ETH0_C2, 1, 208, 84),
            ("__netif_receive_skb_core", ETH0_C2, 1, 231, 84),
            ("icmp_rcv", ETH0_C2, 1, 259, 64),
            ("skb_release_head_state", ETH0_C2, 1, 384, 64),
            already_running=True,
        ),
    ),
    outcome=Outcome.CONSUMED,
    proof="icmp_rcv",
    state=State(),
)
"""The ping, c1 to c2: it changes CPU once, and once waits behind others in a running call."""

REPLY = Journey(
    id="12",
    parent=None,
    skb=_ADDRESS + 0x100,
    flow=echo(0, C2_IP, C1_IP),
    start_ns=1_234_567_917_000,
    hops=_hops(
        ("veth_xmit", ETH0_C2, 1, 0, 98),
        ("__dev_forward_skb", ETH0_C2, 1, 8, 98),
        ("enqueue_to_backlog", VETHC2, 1, 22, 84),
        ("process_backlog", VETHC2, 1, 22, 84),
        ("__netif_receive_skb_core", VETHC2, 1, 131, 84),
        ("br_handle_frame", VETHC2, 1, 142, 84),
        ("br_forward", VETHC2, 1, 160, 84),
        ("veth_xmit", VETHC1, 1, 181, 98),
        ("__dev_forward_skb", VETHC1, 1, 188, 98),
        ("enqueue_to_backlog", ETH0_C1, 1, 202, 84),
        ("process_backlog", ETH0_C1, 1, 202, 84),
        ("__netif_receive_skb_core", ETH0_C1, 1, 214, 84),
        ("skb_clone", ETH0_C1, 1, 247, 64),
        ("icmp_rcv", ETH0_C1, 1, 296, 64),
        ("skb_release_head_state", ETH0_C1, 1, 311, 64),
        already_running=True,
    ),
    outcome=Outcome.DELIVERED,
    proof="__sock_queue_rcv_skb",
    branches=(Branch("13", 12),),
    references=(Reference("answers", "11", 26_877),),
)
"""The pong: a clone goes to ping's raw socket, the packet itself is nobody's after that."""

CLONE = Journey(
    id="13",
    parent="12",
    skb=_ADDRESS,
    flow=echo(0, C2_IP, C1_IP),
    start_ns=1_234_567_941_800,
    hops=_hops(
        ("skb_clone", ETH0_C1, 1, 0, 64),
        ("__sock_queue_rcv_skb", ETH0_C1, 1, 21, 84),
        ("skb_release_head_state", None, 0, 50_312, 84),
    ),
    outcome=Outcome.DELIVERED,
    proof="__sock_queue_rcv_skb",
)
"""The clone of the pong: five milliseconds in the socket's queue, then read, no device."""

TCP = Journey(
    id="20",
    parent=None,
    skb=_ADDRESS + 0x2E00,
    flow=Flow(
        proto="tcp",
        src=C1_IP,
        dst=C2_IP,
        sport=40012,
        dport=8080,
        eth_src=C1_MAC,
        eth_dst=C2_MAC,
        ip_id=4711,
        tcp_flags="P.",
        tcp_seq=3_000_000_001,
        tcp_ack=77,
    ),
    start_ns=1_234_600_000_000,
    hops=_hops(
        ("veth_xmit", ETH0_C1, 0, 0, 4162),
        ("__dev_forward_skb", ETH0_C1, 0, 12, 4162),
        ("enqueue_to_backlog", VETHC1, 0, 31, 4148),
        ("process_backlog", VETHC1, 0, 44, 4148),
        ("__netif_receive_skb_core", VETHC1, 0, 47, 4148),
        ("br_handle_frame", VETHC1, 0, 61, 4148),
        ("br_forward", VETHC1, 0, 82, 4148),
        ("veth_xmit", VETHC2, 0, 101, 4162),
        ("__dev_forward_skb", VETHC2, 0, 108, 4162),
        ("enqueue_to_backlog", ETH0_C2, 0, 124, 4148),
        ("process_backlog", ETH0_C2, 0, 124, 4148),
        ("__netif_receive_skb_core", ETH0_C2, 0, 139, 4148),
        ("tcp_v4_rcv", ETH0_C2, 0, 166, 4128),
        ("skb_release_head_state", None, 1, 12_660, 4096),
        already_running=False,
    ),
    outcome=Outcome.DELIVERED,
    proof="tcp_v4_rcv",
)
"""Four kilobytes of TCP data; the receiver reads them a millisecond later on another CPU."""

DROPPED = Journey(
    id="31",
    parent=None,
    skb=_ADDRESS + 0x300,
    flow=Flow(
        proto="tcp",
        src=C1_IP,
        dst="198.51.100.7",
        sport=51234,
        dport=443,
        eth_src=C1_MAC,
        eth_dst="02:42:ac:11:00:01",
        ip_id=99,
        tcp_flags="S",
        tcp_seq=1_712_345_678,
        tcp_ack=0,
    ),
    start_ns=1_234_700_000_000,
    hops=_hops(
        ("veth_xmit", ETH0_C1, 0, 0, 74),
        ("__dev_forward_skb", ETH0_C1, 0, 9, 74),
        ("enqueue_to_backlog", VETHC1, 0, 28, 60),
        ("process_backlog", VETHC1, 0, 51, 60),
        ("__netif_receive_skb_core", VETHC1, 0, 55, 60),
        ("br_handle_frame", VETHC1, 0, 68, 60),
        ("__netif_receive_skb_core", DOCKER0, 0, 89, 60),
        ("skb_release_head_state", DOCKER0, 0, 117, 60),
    ),
    outcome=Outcome.DROPPED,
    proof="kfree_skb",
    drop=Drop("NETFILTER_DROP", "nf_hook_slow", 0xA5),
)
"""A connection to the outside that the host's netfilter rules drop."""

UDP = Journey(
    id="40",
    parent=None,
    skb=_ADDRESS + 0x400,
    flow=Flow(
        proto="udp",
        src=C1_IP,
        dst=C2_IP,
        sport=39201,
        dport=9000,
        eth_src=C1_MAC,
        eth_dst=C2_MAC,
        ip_id=5,
    ),
    start_ns=1_234_800_000_000,
    hops=_hops(
        ("veth_xmit", ETH0_C1, 1, 0, 47),
        ("__dev_forward_skb", ETH0_C1, 1, 7, 47),
        ("enqueue_to_backlog", VETHC1, 1, 20, 33),
        ("process_backlog", VETHC1, 1, 30, 33),
        ("__netif_receive_skb_core", VETHC1, 1, 33, 33),
        ("br_handle_frame", VETHC1, 1, 44, 33),
        ("br_forward", VETHC1, 1, 61, 33),
        ("veth_xmit", VETHC2, 1, 78, 47),
        ("__dev_forward_skb", VETHC2, 1, 84, 47),
        ("enqueue_to_backlog", ETH0_C2, 1, 97, 33),
        ("process_backlog", ETH0_C2, 1, 97, 33),
        ("__netif_receive_skb_core", ETH0_C2, 1, 108, 33),
        ("udp_rcv", ETH0_C2, 1, 131, 13),
        ("__sock_queue_rcv_skb", ETH0_C2, 1, 149, 13),
        ("skb_release_head_state", None, 0, 371, 13),
        already_running=True,
    ),
    outcome=Outcome.DELIVERED,
    proof="__sock_queue_rcv_skb",
)

ARP = Journey(
    id="50",
    parent=None,
    skb=_ADDRESS + 0x500,
    flow=Flow(
        proto="arp",
        src=C1_IP,
        dst=C2_IP,
        eth_src=C1_MAC,
        eth_dst="ff:ff:ff:ff:ff:ff",
        arp_op="request",
    ),
    start_ns=1_234_500_000_000,
    hops=_hops(
        ("veth_xmit", ETH0_C1, 0, 0, 42),
        ("__dev_forward_skb", ETH0_C1, 0, 9, 42),
        ("enqueue_to_backlog", VETHC1, 0, 25, 28),
        ("process_backlog", VETHC1, 0, 39, 28),
        ("__netif_receive_skb_core", VETHC1, 0, 42, 28),
        ("br_handle_frame", VETHC1, 0, 55, 28),
        ("skb_clone", VETHC1, 0, 81, 28),
        ("skb_clone", VETHC1, 0, 170, 28),
        ("__netif_receive_skb_core", DOCKER0, 0, 231, 28),
        ("arp_rcv", DOCKER0, 0, 247, 28),
        ("skb_release_head_state", DOCKER0, 0, 268, 28),
    ),
    outcome=Outcome.CONSUMED,
    proof="arp_rcv",
    branches=(Branch("51", 6), Branch("52", 7)),
)
"""Who has c2? Flooded: a clone to every other port, the frame itself up to the host."""

ARP_FLOODED = Journey(
    id="51",
    parent="50",
    skb=_ADDRESS + 0x600,
    flow=ARP.flow,
    start_ns=1_234_500_008_100,
    hops=_hops(
        ("skb_clone", VETHC1, 0, 0, 28),
        ("veth_xmit", VETHC2, 0, 18, 42),
        ("__dev_forward_skb", VETHC2, 0, 25, 42),
        ("enqueue_to_backlog", ETH0_C2, 0, 39, 28),
        ("process_backlog", ETH0_C2, 0, 39, 28),
        ("__netif_receive_skb_core", ETH0_C2, 0, 201, 28),
        ("arp_rcv", ETH0_C2, 0, 219, 28),
        ("skb_release_head_state", ETH0_C2, 0, 294, 28),
        already_running=True,
    ),
    outcome=Outcome.CONSUMED,
    proof="arp_rcv",
)

UNFINISHED = Journey(
    id="60",
    parent=None,
    skb=_ADDRESS + 0x700,
    flow=echo(8, C1_IP, C2_IP),
    start_ns=1_234_900_000_000,
    hops=_hops(
        ("veth_xmit", ETH0_C1, 0, 0, 98),
        ("__dev_forward_skb", ETH0_C1, 0, 9, 98),
        ("enqueue_to_backlog", VETHC1, 0, 28, 84),
    ),
    outcome=Outcome.UNFINISHED,
)
"""On CPU 0's input queue when tracing stopped."""

DAMAGED = Journey(
    id="70",
    parent=None,
    skb=_ADDRESS + 0x800,
    flow=TCP.flow,
    start_ns=1_234_910_000_000,
    hops=TCP.hops[:5],
    outcome=Outcome.DAMAGED,
    damage="chunk 1 missing",
)

UPLINK = Device(HOST, 2, "uplink")
OUTSIDE = "203.0.113.7"


def _with(
    hops: Sequence[Hop],
    *,
    verdict: dict[int, Verdict] | None = None,
    task: dict[int, Task] | None = None,
    socket: dict[int, Socket] | None = None,
    changes: dict[int, tuple[Change, ...]] | None = None,
) -> tuple[Hop, ...]:
    """Hops with more known of them, by their number."""
    return tuple(
        hop._replace(
            verdict=(verdict or {}).get(n),
            task=(task or {}).get(n),
            socket=(socket or {}).get(n),
            changes=(changes or {}).get(n, ()),
        )
        for n, hop in enumerate(hops)
    )


NAT = Journey(
    id="80",
    parent=None,
    skb=_ADDRESS + 0x900,
    flow=DROPPED.flow._replace(dst=OUTSIDE, ip_id=100),
    start_ns=1_235_000_000_000,
    hops=_with(
        _hops(
            ("veth_xmit", ETH0_C1, 0, 0, 74),
            ("__dev_forward_skb", ETH0_C1, 0, 9, 74),
            ("enqueue_to_backlog", VETHC1, 0, 28, 60),
            ("process_backlog", VETHC1, 0, 51, 60),
            ("__netif_receive_skb_core", VETHC1, 0, 55, 60),
            ("br_handle_frame", VETHC1, 0, 68, 60),
            ("nf_hook_slow", VETHC1, 0, 74, 60),
            ("__netif_receive_skb_core", DOCKER0, 0, 89, 60),
            ("ip_rcv", DOCKER0, 0, 97, 60),
            ("nf_hook_slow", DOCKER0, 0, 101, 60),
            ("ip_forward", DOCKER0, 0, 139, 60),
            ("nf_hook_slow", DOCKER0, 0, 144, 60),
            ("nft_do_chain", DOCKER0, 0, 149, 60),
            ("ip_output", DOCKER0, 0, 168, 60),
            ("nf_hook_slow", UPLINK, 0, 173, 60),
            ("nft_do_chain", UPLINK, 0, 180, 60),
            ("__dev_queue_xmit", UPLINK, 0, 231, 74),
            ("net_dev_start_xmit", UPLINK, 0, 310, 74),
            ("skb_release_head_state", UPLINK, 1, 402, 74),
            already_running=False,
        ),
        verdict={
            6: Verdict("bridge", "PRE_ROUTING", "accept"),
            9: Verdict("ipv4", "PRE_ROUTING", "accept"),
            11: Verdict("ipv4", "FORWARD", "accept"),
            12: Verdict("ipv4", "FORWARD", "accept", "filter", "FORWARD"),
            14: Verdict("ipv4", "POST_ROUTING", "accept"),
            15: Verdict("ipv4", "POST_ROUTING", "accept", "nat", "POSTROUTING"),
        },
        task={0: Task(164, "curl")},
        changes={
            1: (Change("sk", True, False), Change("priority", 3, 0)),
            9: (Change("ct", None, "new"),),
            10: (Change("ttl", 64, 63),),
            15: (Change("src", C1_IP, "198.51.100.1"), Change("sport", 51234, 1027)),
            16: (Change("eth_src", C1_MAC, "02:00:00:00:00:0a"), Change("eth_dst", C2_MAC, None)),
        },
    ),
    outcome=Outcome.TRANSMITTED,
    proof="net_dev_start_xmit",
    state=State(priority=3, csum="partial", sk=True, hash=0x5BD1E995),
)
"""From the container to the outside: forwarded, masqueraded, out of the uplink."""

NFT_DROPPED = NAT._replace(
    id="81",
    skb=_ADDRESS + 0xA00,
    hops=(
        *NAT.hops[:12],
        NAT.hops[12]._replace(
            verdict=Verdict("ipv4", "FORWARD", "drop", "filter", "FORWARD", rule=4)
        ),
        *_hops(("skb_release_head_state", DOCKER0, 0, 161, 60)),
    ),
    outcome=Outcome.DROPPED,
    proof="kfree_skb",
    drop=Drop("NETFILTER_DROP", "nft_do_chain", 0x1F2, (("forwarding", 1), ("mtu", 1500))),
    state=State(mark=7, priority=3, classid=0x100001, sk=True),
)
"""The same, but a rule of nftables has something against it."""

ABSORBED = TCP._replace(
    id="82",
    skb=_ADDRESS + 0xB00,
    hops=_hops(
        ("napi_gro_receive", UPLINK, 1, 0, 1448),
        ("skb_release_head_state", UPLINK, 1, 61, 1448),
    ),
    outcome=Outcome.ABSORBED,
    proof="skb_gro_receive",
    absorbed_into="20",
    references=(Reference("repeats", "9", 204_000_000),),
)
"""A segment from the network card that GRO merged into the one before."""

READ = UDP._replace(
    id="83",
    skb=_ADDRESS + 0xC00,
    hops=_with(
        UDP.hops,
        task={0: Task(201, "nc", C2), 14: Task(177, "socat")},
        socket={13: Socket(C2, "inet", "dgram", "udp")},
        changes={
            1: (
                Change("mark", 7, 0),
                Change("priority", 3, 0),
                Change("tc_index", 1, 0),
                Change("hash", 0x9E3779B9, 0),
                Change("refdst", True, False),
            )
        },
    ),
    state=State(mark=7, priority=3, tc_index=1, hash=0x9E3779B9, sk=True, refdst=True),
)
"""A datagram to a process that reads it; what the way into another namespace takes off it."""

UNREACHABLE = REPLY._replace(
    id="84",
    skb=_ADDRESS + 0xD00,
    flow=echo(0, C2_IP, C1_IP)._replace(icmp_type=3, icmp_code=3, icmp_id=None, icmp_seq=None),
    branches=(Branch("85", 5), Branch("86", 12), Branch("87", 12)),
    references=(Reference("reports", "40", 31_000),),
)
"""An ICMP error about a datagram; several processes look at what arrives."""

ALL = {
    "request": REQUEST,
    "reply": REPLY,
    "clone": CLONE,
    "tcp": TCP,
    "dropped": DROPPED,
    "udp": UDP,
    "arp": ARP,
    "arp-flooded": ARP_FLOODED,
    "unfinished": UNFINISHED,
    "damaged": DAMAGED,
    "nat": NAT,
    "nft-dropped": NFT_DROPPED,
    "absorbed": ABSORBED,
    "read": READ,
    "unreachable": UNREACHABLE,
}


def one_of(journey: Journey, alike: Alike | None = None) -> One:
    """What such a journey is when it need not be made. It has hops; a frame it gets."""
    counted = [
        Flow._fields.index(name) for name in NUMBERED if getattr(journey.flow, name) is not None
    ]
    values: list[Any] = [journey.flow[at] for at in counted]
    return One(
        alike or Alike(journey, counted),
        journey.id,
        journey.parent,
        journey.skb,
        journey.start_ns,
        [hop.dt_ns for hop in journey.hops],
        tuple([hop.len for hop in journey.hops]),
        values,
        *(journey.frame or Frame(b"", 0)),
        [branch.id for branch in journey.branches],
        journey.references,
    )


def explained(journey: Journey, _path_of: object = None) -> Explanation | None:
    """What ``tracer.explain`` might say, so that the goldens do not hang on its wording."""
    if journey.id != NFT_DROPPED.id:
        return None
    return Explanation(
        "Rule 4 of chain FORWARD in table filter (ip) of namespace host told netfilter to drop it.",
        "Forwarding is on for docker0; its MTU is 1500.",
        "nsenter --net=/run/netns/host nft -a list chain ip filter FORWARD",
    )


_SUFFIXED = {"__netif_receive_skb_core": "__netif_receive_skb_core.constprop.0"}

CAPTURE = Capture(
    kernel="6.1.0-26-amd64",
    machine="x86_64",
    probes=(
        *(
            ProbePlace(function, _SUFFIXED.get(function, function))
            for function in dict.fromkeys(p.function for p in PROBES)
            if function != "icmpv6_rcv"
        ),
        ProbePlace("icmpv6_rcv", None, "this kernel has no such symbol"),
    ),
    monotonic_ns=1_234_000_000_000,
    realtime_ns=1_760_000_000_123_456_789,
    topology=Topology(
        name="docker0",
        built=True,
        bridge=DOCKER0,
        ports=(VETHC1, VETHC2),
        ends=(ETH0_C1, ETH0_C2),
        addresses=((DOCKER0, "172.17.0.1/16"), (ETH0_C1, C1_IP + "/16"), (ETH0_C2, C2_IP + "/16")),
        pairs=((VETHC1, ETH0_C1), (VETHC2, ETH0_C2)),
    ),
    tool="skbtrace 0.1.0",
    cpus=2,
)

SUMMARY = Summary(
    journeys=len(ALL),
    hops=sum(len(j.hops) for j in ALL.values()),
    lost={"ring_full": 0, "table_full": 0, "end_missed": 1, "probe_missed": 0},
    outcomes={
        "delivered": 6,
        "transmitted": 1,
        "consumed": 3,
        "absorbed": 1,
        "dropped": 2,
        "unfinished": 1,
        "damaged": 1,
    },
    hits={"veth_xmit": 14},
    silent=("udpv6_rcv",),
)
