# SPDX-License-Identifier: GPL-2.0-only
"""Every kind of drop that can be made on a machine: seen, counted, and explained.

All of them are made in one capture, one after the other, in the docker0 lab and a third namespace,
``drops-out``, that its host routes to by a link with a small MTU. Each case is told by its
destination port. Somebody who is not skbtrace counts the same drops: the kernel's own counters, or
those of the rule. The command that the explanation gives is run while what it shows is there.
"""

from __future__ import annotations

import ctypes
import json
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import C1, C1_IP, C2, C2_IP, KERNEL, TIMEOUT_S, Trace, sh, start_skbtrace
from tests.kernel.packets import (
    HOST,
    RX,
    TX,
    TX_DROPPED,
    device,
    frame,
    inside,
    mended,
    nstat,
    send,
    softnet_dropped,
    statistic,
)
from tracer.explain import explain
from tracer.kernel.btf import VMLINUX
from tracer.model import Journey, Outcome
from tracer.topology.names import path_of

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

OUT, OUT_IP, OUT_GATEWAY = "drops-out", "198.51.100.2", "198.51.100.1"
HOST_IP = "172.17.0.1"
C1_MAC, C2_MAC, HOST_MAC = "02:42:ac:11:00:02", "02:42:ac:11:00:03", "02:42:ac:11:00:01"
STRANGER = "02:42:ac:11:00:63"
"""Nobody has this Ethernet address."""
PATIENCE_S = 20.0

IN_C1, IN_C2 = f"ip netns exec {C1} ", f"ip netns exec {C2} "


def since(*reasons: tuple[tuple[int, int], str]) -> str | None:
    """The reason this kernel gives: the last of those that it is not too old for."""
    return next((reason for first, reason in reversed(reasons) if first <= KERNEL), None)


def given(reason: str) -> str | None:
    """A reason that every kernel gives that gives any (5.17)."""
    return since(((5, 17), reason))


VAGUE = given("NOT_SPECIFIED")


def has(reason: str) -> bool:
    """Whether this kernel has that reason: stable updates bring some, too."""
    name = f"SKB_DROP_REASON_{reason}".encode()
    return VMLINUX.exists() and b"\0" + name + b"\0" in VMLINUX.read_bytes()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of drop."""

    port: int
    """The destination port of its packets, and of no other's."""
    count: int
    send: Callable[[Case], object]
    counted: Callable[[], int]
    """What somebody else has counted so far; it grows by ``count``."""
    before: str = ""
    """Shell, with PORT for the port: what makes the kernel drop them."""
    after: str = ""
    reason: str | None
    functions: str
    """One of these words dropped it."""
    state: dict[str, int] = field(default_factory=dict)
    words: tuple[str, ...]
    command: str | None
    verdict: tuple[str, str, str, str] | None = None
    """Family, hook, table and chain that dropped it."""
    rule: Callable[[], int | None] = lambda: None
    """The handle of the rule that dropped it, asked of nft."""
    first: tuple[int, int] = (0, 0)
    """Older kernels do not make it, or do not tell."""
    reported: bool = False
    """The sender is told by an ICMP error, and the trace says what it is about."""


def frames(eth_dst: str = C2_MAC, dst: str = C2_IP, **more: Any) -> Callable[[Case], object]:
    """Frames from c1, made by hand."""

    def out(case: Case) -> None:
        given = {"src": C1_IP, "eth_src": C1_MAC, **more}
        one = frame(dst=dst, eth_dst=eth_dst, dport=case.port, **given)
        send(C1, "eth0", [one] * case.count)

    return out


def datagrams(dst: str, more: int = 0) -> Callable[[Case], object]:
    """Datagrams out of a socket of c1, some more than are dropped."""

    def out(case: Case) -> None:
        with udp(C1) as sock:
            for _ in range(case.count + more):
                sock.sendto(b"", (dst, case.port))

    return out


def udp(place: str) -> socket.socket:
    return inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def tcp(place: str) -> socket.socket:
    return inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))


# -- who else counts ---------------------------------------------------------------------------


def counter(place: str, name: str) -> Callable[[], int]:
    return lambda: nstat(place, name)


def vanished() -> int:
    """What left c1 and did not reach c2."""
    return device(C1, "eth0", TX) - device(C2, "eth0", RX)


def unheard() -> int:
    """What reached c2 and was none of its IP's business."""
    return device(C2, "eth0", RX) - nstat(C2, "IpInReceives")


def nft_counter(place: str) -> Callable[[], int]:
    """The packets counted by all rules of a namespace."""

    def read() -> int:
        return sum(
            e["counter"]["packets"] for rule in rules(place) for e in rule["expr"] if "counter" in e
        )

    return read


def rules(place: str) -> list[dict[str, Any]]:
    where = f"ip netns exec {place} " if place else ""
    told = json.loads(sh(f"{where}nft -a -j list ruleset"))
    return [each["rule"] for each in told["nftables"] if "rule" in each]


def handle(place: str, chain: str) -> Callable[[], int | None]:
    """The handle of the last rule of a chain."""
    return lambda: int([r for r in rules(place) if r["chain"] == chain][-1]["handle"])


def legacy_counter() -> int:
    """The packets of the one rule of c2's iptables-legacy."""
    told = sh(f"{IN_C2} iptables-legacy -vnxL INPUT").splitlines()
    return int(told[2].split()[0]) if len(told) > 2 else 0


def filter_counter() -> int:
    (told,) = [
        each
        for each in json.loads(sh(f"{IN_C2} tc -s -j filter show dev eth0 ingress") or "[]")
        if "actions" in each.get("options", {})
    ] or [None]
    return told["options"]["actions"][0]["stats"]["drops"] if told else 0


def qdisc_counter() -> int:
    return int(json.loads(sh("tc -s -j qdisc show dev vethc2"))[0]["drops"])


# -- what takes more than a frame --------------------------------------------------------------


def burst(case: Case) -> None:
    """One datagram that the kernel cuts up, so that the pieces reach the input queue at once.

    One of them is taken from the queue as soon as it is there, or none is: one more than
    netdev_max_backlog may wait.
    """
    with udp(C1) as sock:
        sock.setsockopt(socket.IPPROTO_UDP, 103, 100)  # UDP_SEGMENT
        sock.sendto(bytes(100 * (case.count + BACKLOG + 1)), (C2_IP, case.port))


BACKLOG = 3


def full_receive_buffer(case: Case) -> None:
    """A socket that nobody reads, and packets until enough of them did not fit."""
    with udp(C2) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind((C2_IP, case.port))
        until_counted(case, lambda n: frame_to_c2(case.port))


def until_counted(case: Case, made: Callable[[int], bytes]) -> None:
    """Send from c1 one at a time, the first ones being taken, until ``count`` have not been."""
    start = case.counted()
    for n in range(ENOUGH):
        if case.counted() - start == case.count:
            return
        arrived = nstat(C2, "IpInReceives")
        send(C1, "eth0", [made(n)])
        deadline = time.monotonic() + PATIENCE_S
        while nstat(C2, "IpInReceives") == arrived:
            assert time.monotonic() < deadline
    raise AssertionError(f"{case.counted() - start} of {case.count} were counted")


ENOUGH = 40


def not_wanted(case: Case) -> None:
    """A socket with a filter that takes nothing."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # return 0
    with udp(C2) as sock:
        to_it = struct.pack("HxxxxxxQ", 1, ctypes.addressof(program))
        sock.setsockopt(socket.SOL_SOCKET, 26, to_it)  # SO_ATTACH_FILTER
        sock.bind((C2_IP, case.port))
        while_it_lasts(case, frames())


def bound(**more: Any) -> Callable[[Case], object]:
    """Frames for a socket that is there."""

    def out(case: Case) -> None:
        with udp(C2) as sock:
            sock.bind((C2_IP, case.port))
            while_it_lasts(case, frames(**more))

    return out


def frame_to_c2(port: int, **more: Any) -> bytes:
    given = {"src": C1_IP, "dst": C2_IP, "eth_src": C1_MAC, "eth_dst": C2_MAC, **more}
    return frame(dport=port, **given)


def wait_for_count(case: Case, start: int) -> None:
    """Until somebody else has counted the packets."""
    deadline = time.monotonic() + PATIENCE_S
    while (counted := case.counted() - start) < case.count:
        assert time.monotonic() < deadline, f"{counted} of {case.count} were counted"
    assert counted == case.count


def while_it_lasts(case: Case, sent: Callable[[Case], object]) -> None:
    start = case.counted()
    sent(case)
    wait_for_count(case, start)


def full_accept_queue(case: Case) -> None:
    """Nobody accepts, and one connection fills the queue."""
    with tcp(C2) as listener, tcp(C1) as first:
        listener.bind((C2_IP, case.port))
        listener.listen(0)
        first.connect((C2_IP, case.port))
        while_it_lasts(case, frames(tcp=True))


def full_syn_queue(case: Case) -> None:
    """The callers never answer the SYN-ACK."""
    with tcp(C2) as listener:
        listener.bind((C2_IP, case.port))
        listener.listen(SYN_BACKLOG)
        until_counted(
            case,
            lambda n: frame_to_c2(
                case.port, src=GHOST, eth_src=GHOST_MAC, sport=5000 + n, tcp=True
            ),
        )


def replayed(case: Case) -> None:
    """A segment that was received is sent again, by somebody who heard it."""

    def tap() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))  # ETH_P_ALL

    with tcp(C2) as listener, tcp(C1) as client, inside(C1, tap) as heard:
        heard.bind(("eth0", 0x0003))
        heard.settimeout(PATIENCE_S)
        listener.bind((C2_IP, case.port))
        listener.listen()
        client.connect((C2_IP, case.port))
        peer, _ = listener.accept()
        with peer:
            client.sendall(MESSAGE)
            assert peer.recv(100) == MESSAGE
            segment = next(each for each in iter(lambda: heard.recv(2000), b"") if MESSAGE in each)
            start = case.counted()
            send(C1, "eth0", [mended(segment)] * case.count)
            wait_for_count(case, start)


MESSAGE = b"a message of some bytes"
SYN_BACKLOG = 3
GHOST, GHOST_MAC = "172.17.0.77", "02:42:ac:11:00:4d"


# -- the cases ---------------------------------------------------------------------------------

NETFILTER = given("NETFILTER_DROP")
BY_NFT = "nf_hook_slow nft_do_chain"


def nft_in_c2(chains: str) -> dict[str, Any]:
    """Rules in c2, for as long as a case needs them."""
    return {
        "before": f"{IN_C2} nft 'table inet drops {{ {chains}; }}'",
        "after": f"{IN_C2} nft delete table inet drops",
    }


INPUT = "type filter hook input priority 0;"
RULED: dict[str, Any] = {
    "reason": NETFILTER,
    "functions": BY_NFT,
    "counted": nft_counter(C2),
    "send": frames(),
}

CASES: dict[str, Case] = {
    # netfilter
    "nftables rule": Case(
        port=7001,
        count=7,
        **nft_in_c2(f"chain in {{ {INPUT} udp dport 7001 counter drop; }}"),
        **RULED,
        verdict=("inet", "LOCAL_IN", "drops", "in"),
        rule=handle(C2, "in"),
        words=("Chain in of table inet drops (hook LOCAL_IN), rule handle",),
        command=f"sudo {IN_C2}nft -a list chain inet drops in",
    ),
    "nftables rule in a chain jumped to": Case(
        port=7002,
        count=5,
        **nft_in_c2(
            f"chain sub {{ accept; drop; }}; chain deep {{ udp dport 7002 counter drop; }};"
            f"chain in {{ {INPUT} udp dport 1 accept; udp dport 7002 jump deep; }}"
        ),
        **RULED,
        verdict=("inet", "LOCAL_IN", "drops", "deep"),
        rule=handle(C2, "deep"),
        words=("Chain deep of table inet drops",),
        command=f"sudo {IN_C2}nft -a list chain inet drops deep",
    ),
    "nftables reject": Case(
        port=7003,
        count=3,
        **nft_in_c2(f"chain in {{ {INPUT} udp dport 7003 counter reject; }}"),
        **RULED,
        verdict=("inet", "LOCAL_IN", "drops", "in"),
        rule=handle(C2, "in"),
        reported=True,
        words=("rule handle",),
        command=f"sudo {IN_C2}nft -a list chain inet drops in",
    ),
    "nftables policy": Case(
        port=7004,
        count=5,
        **nft_in_c2(f"chain in {{ {INPUT} policy drop; udp dport 7004 counter; }}"),
        **RULED,
        verdict=("inet", "LOCAL_IN", "drops", "in"),
        rule=lambda: 0,
        words=("No rule accepted it, so the policy of chain in of table inet drops",),
        command=f"sudo {IN_C2}nft -a list chain inet drops in",
    ),
    "nftables map of verdicts, where the policy is a drop, too": Case(
        port=7060,
        count=5,
        **nft_in_c2(
            f"chain in {{ {INPUT} policy drop; udp dport 1 accept;"
            " counter udp dport vmap { 7060 : drop, 7061 : accept }; }"
        ),
        **RULED,
        verdict=("inet", "LOCAL_IN", "drops", "in"),
        rule=handle(C2, "in"),
        words=("Chain in of table inet drops (hook LOCAL_IN), rule handle",),
        command=f"sudo {IN_C2}nft -a list chain inet drops in",
    ),
    "nftables rule in a chain that a map jumped to": Case(
        port=7062,
        count=3,
        **nft_in_c2(
            "chain deep { counter drop; };"
            f"chain in {{ {INPUT} udp dport vmap {{ 7062 : jump deep }}; }}"
        ),
        **RULED,
        verdict=("inet", "LOCAL_IN", "drops", "deep"),
        rule=handle(C2, "deep"),
        words=("Chain deep of table inet drops",),
        command=f"sudo {IN_C2}nft -a list chain inet drops deep",
    ),
    "iptables-nft target": Case(
        port=7063,
        count=3,
        before=f"{IN_C2} iptables-nft -A INPUT -p udp --dport PORT -j REJECT",
        after=f"{IN_C2} nft delete table ip filter",
        **RULED,
        verdict=("ipv4", "LOCAL_IN", "filter", "INPUT"),
        rule=handle(C2, "INPUT"),
        reported=True,
        words=("Chain INPUT of table ip filter",),
        command=f"sudo {IN_C2}nft -a list chain ip filter INPUT",
    ),
    "iptables-nft rule": Case(
        port=7005,
        count=3,
        before=f"{IN_C2} iptables-nft -A INPUT -p udp --dport PORT -j DROP",
        after=f"{IN_C2} nft delete table ip filter",
        **RULED,
        verdict=("ipv4", "LOCAL_IN", "filter", "INPUT"),
        rule=handle(C2, "INPUT"),
        words=("Chain INPUT of table ip filter",),
        command=f"sudo {IN_C2}nft -a list chain ip filter INPUT",
    ),
    "iptables-legacy rule": Case(
        port=7006,
        count=3,
        before=f"{IN_C2} iptables-legacy -A INPUT -p udp --dport PORT -j DROP",
        after=f"{IN_C2} iptables-legacy -F",
        send=frames(),
        counted=legacy_counter,
        reason=NETFILTER,
        functions="nf_hook_slow",
        verdict=("ipv4", "LOCAL_IN", "filter", "INPUT"),
        words=("Chain INPUT of table filter (hook LOCAL_IN) dropped it at c2/eth0",),
        command=f"sudo {IN_C2}iptables-legacy -t filter -vnL INPUT",
    ),
    "br_netfilter: the host's FORWARD": Case(
        port=7007,
        count=5,
        before="sysctl -qw net.bridge.bridge-nf-call-iptables=1;"
        "nft 'table ip drops { chain forward_it { type filter hook forward priority 0;"
        " udp dport PORT counter drop; }; }'",
        after="nft delete table ip drops; sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        send=frames(),
        counted=nft_counter(HOST),
        reason=NETFILTER,
        functions=BY_NFT,
        verdict=("ipv4", "FORWARD", "drops", "forward_it"),
        rule=handle(HOST, "forward_it"),
        words=("Chain forward_it of table ip drops (hook FORWARD)",),
        command="sudo nft -a list chain ip drops forward_it",
    ),
    # the bridge
    "bridge port disabled": Case(
        port=7010,
        count=5,
        before="bridge link set dev vethc1 state 0",
        after="bridge link set dev vethc1 state 3",
        send=frames(),
        counted=vanished,
        reason=since(((5, 17), "NOT_SPECIFIED"), ((6, 15), "BRIDGE_INGRESS_STP_STATE")),
        functions="br_handle_frame",
        state={"port_state": 0},
        words=("the port is in state disabled (0)",),
        command="bridge -d link show dev vethc1",
    ),
    "bridge port learning": Case(
        port=7011,
        count=3,
        before="bridge link set dev vethc1 state 2",
        after="bridge link set dev vethc1 state 3",
        send=frames(),
        counted=vanished,
        reason=since(((5, 17), "NOT_SPECIFIED"), ((6, 15), "BRIDGE_INGRESS_STP_STATE")),
        functions="br_handle_frame_finish",
        state={"port_state": 2},
        words=("the port is in state learning (2)",),
        command="bridge -d link show dev vethc1",
    ),
    "bridge: the port of the receiver is down": Case(
        port=7012,
        count=5,
        before=f"bridge fdb replace {C2_MAC} dev vethc2 master static; ip link set vethc2 down",
        after=f"ip link set vethc2 up; bridge fdb del {C2_MAC} dev vethc2 master",
        send=frames(),
        counted=vanished,
        reason=VAGUE,
        functions="br_forward br_handle_frame_finish",
        state={"port_state": 3, "port_isolated": 0, "egress_state": 0},
        words=("did not send it out of host/vethc2: the port is in state disabled (0)",),
        command="bridge -d link show dev vethc2",
    ),
    "bridge: no other port": Case(
        port=7013,
        count=3,
        before="ip link set vethc2 down",
        after="ip link set vethc2 up",
        send=frames(eth_dst=STRANGER),
        counted=vanished,
        reason=since(((5, 17), "NOT_SPECIFIED"), ((6, 15), "NO_TX_TARGET")),
        functions="br_flood br_handle_frame_finish",
        words=("found no port to send it out of",),
        command="bridge -d link show   # and: bridge fdb show; bridge vlan show",
    ),
    "bridge: isolated ports": Case(
        port=7014,
        count=5,
        before="for p in vethc1 vethc2; do bridge link set dev $p isolated on; done;"
        f"bridge fdb replace {C2_MAC} dev vethc2 master static",
        after="for p in vethc1 vethc2; do bridge link set dev $p isolated off; done;"
        f"bridge fdb del {C2_MAC} dev vethc2 master",
        send=frames(),
        counted=vanished,
        reason=VAGUE,
        functions="br_forward br_handle_frame_finish",
        state={"port_state": 3, "port_isolated": 1, "egress_state": 3, "egress_isolated": 1},
        words=("out of host/vethc2: that port is isolated, and so is host/vethc1",),
        command="bridge -d link show   # isolated on",
    ),
    "bridge: VLAN not allowed in": Case(
        port=7015,
        count=5,
        before="ip link set docker0 type bridge vlan_filtering 1;bridge vlan del vid 1 dev vethc1",
        after="bridge vlan add vid 1 dev vethc1 pvid untagged;"
        "ip link set docker0 type bridge vlan_filtering 0",
        send=frames(),
        counted=vanished,
        reason=VAGUE,
        functions="br_allowed_ingress __allowed_ingress br_handle_frame_finish",
        words=("VLAN",),
        command="bridge vlan show",
    ),
    "bridge: VLAN not allowed out": Case(
        port=7016,
        count=3,
        before=f"bridge fdb replace {C2_MAC} dev vethc2 master static vlan 1;"
        "ip link set docker0 type bridge vlan_filtering 1;"
        "bridge vlan del vid 1 dev vethc2",
        after="bridge vlan add vid 1 dev vethc2 pvid untagged;"
        "ip link set docker0 type bridge vlan_filtering 0;"
        f"bridge fdb del {C2_MAC} dev vethc2 master vlan 1 || :",
        send=frames(),
        counted=vanished,
        reason=VAGUE,
        functions="br_forward br_flood br_handle_frame_finish",
        state={"egress_state": 3},
        words=("out of host/vethc2", "VLAN that the port does not allow"),
        command="bridge vlan show dev vethc2",
    ),
    "bridge: br_netfilter refuses a header": Case(
        port=7017,
        count=3,
        before="sysctl -qw net.bridge.bridge-nf-call-iptables=1",
        after="sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        send=frames(ip_checksum_off=1),
        counted=counter(HOST, "IpExtInCsumErrors"),
        reason=since(((5, 17), "NOT_SPECIFIED"), ((6, 12), "IP_INHDR")),
        functions="br_handle_frame br_nf_pre_routing",
        words=("IP header",),
        command=None,
    ),
    # devices and queues
    "input queue full": Case(
        port=7020,
        count=11,
        before=f"sysctl -qw net.core.netdev_max_backlog={BACKLOG};"
        f"{IN_C1} ethtool -K eth0 tx-udp-segmentation off",
        after="sysctl -qw net.core.netdev_max_backlog=1000;"
        f"{IN_C1} ethtool -K eth0 tx-udp-segmentation on || :",
        send=burst,
        counted=softnet_dropped,
        reason=given("CPU_BACKLOG"),
        functions="enqueue_to_backlog netif_rx_internal",
        state={"backlog_len": BACKLOG + 1, "netdev_max_backlog": BACKLOG},
        words=("The input queue of CPU", "netdev_max_backlog is 3"),
        command="sysctl net.core.netdev_max_backlog   # then: sudo sysctl -w ...=10000",
    ),
    "larger than the MTU of the peer": Case(
        port=7021,
        count=3,
        before=f"ip -n {C2} link set eth0 mtu 1280",
        after=f"ip -n {C2} link set eth0 mtu 1500",
        send=frames(payload=1400),
        counted=lambda: device(HOST, "vethc2", TX_DROPPED),
        reason=VAGUE,
        functions="__dev_forward_skb __dev_forward_skb2 ____dev_forward_skb veth_xmit",
        words=("MTU",),
        command="ip -s -s -d link show dev vethc2   # and the same for its peer, shown after the @",
    ),
    "traffic control at the entry": Case(
        port=7022,
        count=3,
        before=f"{IN_C2} tc qdisc add dev eth0 clsact;"
        f"{IN_C2} tc filter add dev eth0 ingress matchall action drop",
        after=f"{IN_C2} tc qdisc del dev eth0 clsact",
        send=frames(),
        counted=filter_counter,
        reason=given("TC_INGRESS"),
        functions="__netif_receive_skb_core sch_handle_ingress",
        words=("traffic-control filter",),
        command=f"sudo {IN_C2}tc -s filter show dev eth0 ingress",
    ),
    "queueing discipline full": Case(
        port=7023,
        count=3,
        before="tc qdisc add dev vethc2 root bfifo limit 1",
        after="tc qdisc del dev vethc2 root",
        send=frames(),
        counted=qdisc_counter,
        reason=given("QDISC_DROP"),
        functions="__dev_xmit_skb __dev_queue_xmit kfree_skb_list"
        " kfree_skb_list_reason __tcf_kfree_skb_list",
        words=("The queueing discipline of host/vethc2 dropped it",),
        command="tc -s qdisc show dev vethc2",
    ),
    "queueing discipline: band full": Case(
        port=7024,
        count=5,
        before="tc qdisc add dev vethc2 root fq limit 0",
        after="tc qdisc del dev vethc2 root",
        send=frames(),
        counted=qdisc_counter,
        reason=(
            "FQ_BAND_LIMIT" if has("FQ_BAND_LIMIT") and KERNEL < (7, 0) else given("QDISC_DROP")
        ),
        functions="__dev_xmit_skb __dev_queue_xmit kfree_skb_list"
        " kfree_skb_list_reason __tcf_kfree_skb_list",
        words=("The queueing discipline of host/vethc2 dropped it",),
        command="tc -s qdisc show dev vethc2",
    ),
    # routing
    "reverse path filter": Case(
        port=7030,
        count=5,
        before="sysctl -qw net.ipv4.conf.docker0.rp_filter=1",
        after="sysctl -qw net.ipv4.conf.docker0.rp_filter=0",
        send=frames(HOST_MAC, HOST_IP, src=OUT_IP),
        counted=counter(HOST, "TcpExtIPReversePathFilter"),
        reason=since(((5, 17), "NOT_SPECIFIED"), ((5, 18), "IP_RPFILTER")),
        functions="ip_rcv_finish_core ip_rcv_finish fib_validate_source",
        state={"rp_filter": 1},
        words=(f"an answer to {OUT_IP} would not leave by that device",),
        command="sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.docker0.rp_filter"
        f"   # and: ip route get {OUT_IP}",
    ),
    "source that is the receiver's own address": Case(
        port=7031,
        count=3,
        send=frames(HOST_MAC, HOST_IP, src=OUT_GATEWAY),
        counted=lambda: statistic("rt_cache", "in_martian_src"),
        reason=since(((5, 17), "NOT_SPECIFIED"), ((6, 14), "IP_LOCAL_SOURCE")),
        functions="ip_rcv_finish_core ip_rcv_finish",
        words=("address",),
        command=None,
    ),
    "loopback address from outside": Case(
        port=7032,
        count=3,
        send=frames(HOST_MAC, HOST_IP, src="127.0.0.9"),
        counted=lambda: statistic("rt_cache", "in_martian_src"),
        reason=since(((5, 17), "NOT_SPECIFIED"), ((6, 14), "IP_LOCALNET")),
        functions="ip_rcv_finish_core ip_rcv_finish",
        words=(),
        command=None,
    ),
    "no route": Case(
        port=7033,
        count=3,
        before="sysctl -qw net.ipv4.conf.all.forwarding=1",
        after="sysctl -qw net.ipv4.conf.all.forwarding=0",
        send=frames(HOST_MAC, "203.0.113.9"),
        counted=counter(HOST, "IpExtInNoRoutes"),
        reason=given("IP_INNOROUTES"),
        functions="ip_error",
        state={"forwarding": 1},
        reported=True,
        words=("host has no route to 203.0.113.9",),
        command="ip route show table all match 203.0.113.9",
    ),
    "forwarding off": Case(
        port=7034,
        count=3,
        before="sysctl -qw net.ipv4.conf.all.forwarding=0",
        send=frames(HOST_MAC, OUT_IP),
        counted=counter(HOST, "IpInAddrErrors"),
        reason=given("IP_INADDRERRORS"),
        functions="ip_error",
        state={"forwarding": 0, "all_forwarding": 0},
        words=("forwarding is 0 on host/docker0",),
        command=None,
    ),
    "neighbour does not answer": Case(
        port=7035,
        count=3,
        before=f"{IN_C1} sysctl -qw net.ipv4.neigh.eth0.retrans_time_ms=50"
        " net.ipv4.neigh.eth0.mcast_solicit=1",
        send=datagrams("172.17.0.99"),
        counted=counter(C1, "IcmpInDestUnreachs"),
        reason=given("NEIGH_FAILED"),
        functions="arp_error_report neigh_invalidate",
        words=("did not answer ARP",),
        command=None,
    ),
    "too many wait for a neighbour": Case(
        port=7036,
        count=5,
        before=f"{IN_C1} sysctl -qw net.ipv4.neigh.eth0.unres_qlen_bytes=1",
        after=f"{IN_C1} sysctl -qw net.ipv4.neigh.eth0.unres_qlen_bytes=212992",
        send=datagrams("172.17.0.98", more=1),
        counted=lambda: statistic("arp_cache", "unresolved_discards"),
        reason=given("NEIGH_QUEUEFULL"),
        functions="__neigh_event_send",
        words=("too many packets wait",),
        command=None,
    ),
    # sockets
    "UDP: nobody listens": Case(
        port=7040,
        count=7,
        send=frames(),
        counted=counter(C2, "UdpNoPorts"),
        reason=given("NO_SOCKET"),
        functions="__udp4_lib_rcv udp_rcv",
        reported=True,
        words=(f"No socket in c2 is bound to UDP {C2_IP}:7040",),
        command=f"sudo {IN_C2}ss -ulnp 'sport = :7040'",
    ),
    "UDP: receive buffer full": Case(
        port=7041,
        count=5,
        send=full_receive_buffer,
        counted=counter(C2, "UdpRcvbufErrors"),
        reason=given("SOCKET_RCVBUFF"),
        functions="__udp_enqueue_schedule_skb udp_queue_rcv_one_skb __udp_queue_rcv_skb",
        state={"rcvbuf": 2304},
        words=("The receive buffer of the socket for", "bytes wait in it, its limit is 2304"),
        command=None,
    ),
    "a filter on the socket": Case(
        port=7042,
        count=3,
        send=not_wanted,
        counted=counter(C2, "UdpInErrors"),
        reason=given("SOCKET_FILTER"),
        functions="udp_queue_rcv_one_skb udp_queue_rcv_skb",
        words=("filter",),
        command=None,
    ),
    "TCP: nobody listens": Case(
        port=7043,
        count=5,
        send=frames(tcp=True),
        counted=counter(C2, "TcpOutRsts"),
        reason=given("NO_SOCKET"),
        functions="tcp_v4_rcv",
        words=(f"No socket in c2 listens on {C2_IP}:7043, so TCP answers with a reset",),
        command=f"sudo {IN_C2}ss -tlnp 'sport = :7043'",
    ),
    "TCP: accept queue full": Case(
        port=7044,
        count=5,
        send=full_accept_queue,
        counted=counter(C2, "TcpExtListenOverflows"),
        reason=None,
        functions="tcp_conn_request",
        state={"ack_backlog": 1, "max_ack_backlog": 0},
        words=("its accept queue holds 1 of 0",),
        command=None,
    ),
    "TCP: SYN queue full": Case(
        port=7045,
        count=5,
        before=f"{IN_C2} sysctl -qw net.ipv4.tcp_syncookies=0 net.ipv4.tcp_max_syn_backlog=128;"
        f"ip -n {C2} neigh replace {GHOST} lladdr {GHOST_MAC} dev eth0",
        after=f"{IN_C2} sysctl -qw net.ipv4.tcp_syncookies=1;ip -n {C2} neigh del {GHOST} dev eth0",
        send=full_syn_queue,
        counted=counter(C2, "TcpExtListenDrops"),
        reason=None,
        functions="tcp_conn_request",
        state={"ack_backlog": 0, "max_ack_backlog": SYN_BACKLOG},
        words=("its SYN queue holds",),
        command=None,
    ),
    "TCP: received before": Case(
        port=7046,
        count=3,
        first=(5, 17),  # before, tcp_drop() frees with no tracepoint, and is inlined
        send=replayed,
        counted=counter(C2, "TcpExtDelayedACKLost"),
        reason=given("TCP_OLD_DATA"),
        functions="tcp_validate_incoming tcp_drop tcp_drop_reason tcp_data_queue"
        " tcp_rcv_established",
        words=("received",),
        command=None,
    ),
    # what is wrong with the packet
    "too big for the way on": Case(
        port=7050,
        count=3,
        before="sysctl -qw net.ipv4.conf.all.forwarding=1",
        after="sysctl -qw net.ipv4.conf.all.forwarding=0",
        send=frames(HOST_MAC, OUT_IP, payload=1400),
        counted=counter(HOST, "IpFragFails"),
        reason=since(((5, 17), "NOT_SPECIFIED"), ((5, 18), "PKT_TOO_BIG")),
        functions="ip_forward",
        reported=True,
        words=("may not be fragmented",),
        command=None,
    ),
    "TTL used up": Case(
        port=7051,
        count=3,
        before="sysctl -qw net.ipv4.conf.all.forwarding=1",
        after="sysctl -qw net.ipv4.conf.all.forwarding=0",
        send=frames(HOST_MAC, OUT_IP, ttl=1),
        counted=counter(HOST, "IpInHdrErrors"),
        reason=given("IP_INHDR"),
        functions="ip_forward",
        reported=True,
        words=("TTL",),
        command=None,
    ),
    "UDP checksum": Case(
        port=7052,
        count=5,
        send=bound(checksum_off=1),
        counted=counter(C2, "UdpInCsumErrors"),
        reason=given("UDP_CSUM"),
        functions="udp_queue_rcv_one_skb __udp4_lib_rcv udp_rcv",
        words=("checksum is wrong",),
        command=None,
    ),
    "TCP checksum": Case(
        port=7053,
        count=3,
        send=frames(tcp=True, checksum_off=1),
        counted=counter(C2, "TcpInCsumErrors"),
        reason=given("TCP_CSUM"),
        functions="tcp_v4_rcv",
        words=("checksum is wrong",),
        command=None,
    ),
    "IP header checksum": Case(
        port=7054,
        count=3,
        send=frames(ip_checksum_off=1),
        counted=counter(C2, "IpExtInCsumErrors"),
        reason=given("IP_CSUM"),
        functions="ip_rcv_core",
        words=("header",),
        command=None,
    ),
    "for another host": Case(
        port=7055,
        count=5,
        send=frames(eth_dst=STRANGER),
        counted=unheard,
        reason=given("OTHERHOST"),
        functions="ip_rcv_core",
        words=("another host",),
        command=None,
    ),
}


HERE = {name: case for name, case in CASES.items() if case.first <= KERNEL}


@dataclass(frozen=True)
class Seen:
    """What came of all cases."""

    trace: Trace
    handles: dict[str, int | None]
    failures: dict[str, str]


SETTINGS = (
    "bridge/bridge-nf-call-iptables",
    "core/netdev_max_backlog",
    "ipv4/icmp_ratemask",
    "ipv4/conf/all/forwarding",
    "ipv4/conf/all/rp_filter",
)
"""The host's that cases change."""


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """What the cases need beside the lab, with everything loaded that they will use."""
    modules = "nf_tables nft_compat nft_reject_inet nft_reject_ipv4 ip_tables iptable_filter"
    sh(f"modprobe -a {modules} br_netfilter xt_tcpudp")
    settings = {path: path.read_text() for path in map(Path("/proc/sys/net").joinpath, SETTINGS)}
    sh(
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.ipv4.conf.all.forwarding=0;"
        f"ip netns add {OUT}; ip link add drops0 type veth peer name eth0 netns {OUT};"
        f"ip addr add {OUT_GATEWAY}/24 dev drops0; ip link set drops0 mtu 1280 up;"
        f"ip -n {OUT} addr add {OUT_IP}/24 dev eth0; ip -n {OUT} link set eth0 up;"
        f"ip -n {OUT} route add default via {OUT_GATEWAY};"
        "sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv4.conf.docker0.rp_filter=0"
        " net.ipv4.conf.all.rp_filter=0;"
        f"{IN_C1} sysctl -qw net.ipv4.conf.all.rp_filter=0;"
        f"{IN_C2} sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv4.conf.all.rp_filter=0"
    )
    # They know each other for good: nobody asks by ARP while something else is counted.
    for where, ip, mac, dev in (
        (f"-n {C1}", C2_IP, C2_MAC, "eth0"),
        (f"-n {C1}", HOST_IP, HOST_MAC, "eth0"),
        (f"-n {C2}", C1_IP, C1_MAC, "eth0"),
        ("", C1_IP, C1_MAC, "docker0"),
    ):
        sh(f"ip {where} neigh replace {ip} lladdr {mac} nud permanent dev {dev}")
    try:
        yield
    finally:
        sh(f"ip netns del {OUT}")
        for path, value in settings.items():
            path.write_text(value)


@pytest.fixture(scope="module")
def seen(lab: None, network: None, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """All cases, one after the other, in one capture."""
    path = tmp_path_factory.mktemp("drops") / "trace.json"
    process = start_skbtrace("--topology", "auto", "-w", str(path))
    handles: dict[str, int | None] = {}
    failures: dict[str, str] = {}
    try:
        for name, case in HERE.items():
            try:
                handles[name] = provoke(case)
            except Exception as error:
                failures[name] = f"{error!r} {getattr(error, 'stderr', '')}"
    finally:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=TIMEOUT_S)
    trace = Trace(path)
    assert not any(trace.summary.lost.values()), told
    return Seen(trace, handles, failures)


def provoke(case: Case) -> int | None:
    """Make the packets, and see them counted; return the handle of the rule that dropped them."""
    with ExitStack() as stack:
        if case.after:
            stack.callback(sh, case.after.replace("PORT", str(case.port)))
        if case.before:
            sh(case.before.replace("PORT", str(case.port)))
        start = case.counted()
        case.send(case)
        wait_for_count(case, start)
        rule = case.rule()
        if case.command is not None:
            sh(f'sudo() {{ "$@"; }}; {case.command}')
    return rule


def dropped(trace: Trace, case: Case) -> list[Journey]:
    return [
        j
        for j in trace.journeys
        if j.flow.dport == case.port
        and j.outcome is Outcome.DROPPED
        and j.drop is not None
        and j.drop.function in case.functions.split()
    ]


@pytest.mark.parametrize("name", HERE)
def test_a_drop_is_seen_counted_and_explained(name: str, seen: Seen) -> None:
    case = CASES[name]
    assert name not in seen.failures, seen.failures[name]
    journeys = dropped(seen.trace, case)
    for j in [j for j in seen.trace.journeys if j.flow.dport == case.port]:
        print(j.outcome, j.drop, *(explain(j, path_of) or ()), sep="\n")
    assert len(journeys) == case.count
    for journey in journeys:
        drop, explanation = journey.drop, explain(journey, path_of)
        assert drop is not None
        assert explanation is not None
        assert drop.reason == case.reason
        assert drop.function in case.functions.split()
        assert dict(drop.state).items() >= case.state.items()
        assert all(words in explanation.sentence for words in case.words), explanation.sentence
        if case.command:
            assert explanation.command == case.command
        if case.verdict is not None:
            told = [h.verdict for h in journey.hops if h.verdict and h.verdict.verdict == "drop"]
            last = told[-1]
            assert (last.family, last.hook, last.table, last.chain) == case.verdict
            assert last.rule == seen.handles[name]
    if case.reported:
        about = {r.id for j in seen.trace.journeys for r in j.references if r.kind == "reports"}
        assert {j.id for j in journeys} <= about
