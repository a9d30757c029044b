# SPDX-License-Identifier: GPL-2.0-only
"""Every drop explained: the facts on the left, the words on the right."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import ALL, C2, DOCKER0, DROPPED, ETH0_C2, HOST, UDP, VETHC1, VETHC2, echo
from tracer.explain import RULES, Explanation, explain, inside
from tracer.model import Change, Device, Drop, Flow, Hop, Journey, Netns, Outcome, Verdict

ROUTED = Flow(proto="tcp", src="172.17.0.2", dst="198.51.100.7", sport=5, dport=443, tcp_flags="S")
LISTENED = Flow(proto="tcp", src="172.17.0.2", dst="172.17.0.3", sport=5, dport=80, tcp_flags="S")
ICMP6 = Flow(proto="icmpv6", src="fd00::2", dst="fd00::3", icmp_type=128)


def at(function: str, device: Device | None = DOCKER0, length: int = 60) -> Hop:
    return Hop(function, 100, 0, device, length, None)


def dropped(
    reason: str | None,
    function: str | None = None,
    *,
    flow: Flow = ROUTED,
    hops: tuple[Hop, ...] = (at("__netif_receive_skb_core"),),
    offset: int = 0x2A,
    **state: int,
) -> Journey:
    free = Hop("skb_release_head_state", 200, 0, None, 60, None)
    return DROPPED._replace(
        flow=flow, hops=(*hops, free), drop=Drop(reason, function, offset, tuple(state.items()))
    )


def said(journey: Journey) -> Explanation:
    explanation = explain(journey)
    assert explanation is not None
    return explanation


IN_C2 = (at("ip_rcv", ETH0_C2), at("tcp_v4_rcv", ETH0_C2))
AT_PORT = (at("__netif_receive_skb_core", VETHC1), at("br_handle_frame", VETHC1))
TO_PORT = (*AT_PORT, at("br_forward", VETHC1))


def leaving(egress: Device, **state: int) -> Journey:
    """Dropped where the bridge had chosen a port."""
    drop = Drop(None, "br_forward", 0x2A, tuple(state.items()), egress)
    return dropped(None, hops=TO_PORT)._replace(drop=drop)


# name: journey, a part of the sentence, the state or None, the command's beginning or None
CASES: dict[str, tuple[Journey, str, str | None, str | None]] = {
    # bridge
    "port disabled": (
        dropped("BRIDGE_INGRESS_STP_STATE", "br_handle_frame", hops=AT_PORT, port_state=0),
        "The bridge takes nothing from its port host/vethc1: the port is in state disabled (0)",
        "port_state = 0 (disabled) at host/vethc1",
        "bridge -d link show dev vethc1",
    ),
    "port blocking, 5.10": (
        dropped(None, "br_handle_frame", hops=AT_PORT, port_state=4),
        "state blocking (4), not forwarding (3)",
        "port_state = 4 (blocking) at host/vethc1",
        "bridge -d link show dev vethc1",
    ),
    "port learning, by the reason alone": (
        dropped("BRIDGE_INGRESS_STP_STATE", "br_handle_frame_finish", hops=AT_PORT),
        "the port's state is not forwarding",
        None,
        "bridge -d link",
    ),
    "a forwarding port refuses, 5.10": (
        dropped(None, "br_handle_frame", hops=AT_PORT, port_state=3),
        "on its port host/vethc1: the port is locked, the frame's source address",
        "port_state = 3 (forwarding) at host/vethc1",
        "bridge -d link",
    ),
    "isolated port": (
        dropped("NOT_SPECIFIED", "br_forward", hops=TO_PORT, port_state=3, port_isolated=1),
        "came in by host/vethc1, which is isolated",
        "port_state = 3 (forwarding), port_isolated = 1 at host/vethc1",
        "bridge -d link show",
    ),
    "the other port is down, 5.10": (
        dropped(None, "br_forward", hops=TO_PORT, port_state=3, port_isolated=0),
        "that port is not forwarding (down or blocked)",
        "port_state = 3 (forwarding), port_isolated = 0 at host/vethc1",
        "bridge -d link show   # and: bridge fdb show",
    ),
    "the other port is down": (
        leaving(VETHC2, egress_state=0, egress_isolated=0, port_state=3, port_isolated=0),
        "did not send it out of host/vethc2: the port is in state disabled (0), not forwarding (3)",
        "egress_state = 0 (disabled) at host/vethc1",
        "bridge -d link show dev vethc2",
    ),
    "both ports are isolated": (
        leaving(VETHC2, egress_state=3, egress_isolated=1, port_state=3, port_isolated=1),
        "out of host/vethc2: that port is isolated, and so is host/vethc1, by which it came in",
        "port_isolated = 1, egress_isolated = 1 at host/vethc1",
        "bridge -d link show   # isolated on",
    ),
    "back to where it came in": (
        leaving(VETHC1, egress_state=3, egress_isolated=0, egress_hairpin=0),
        "that is where it came in, and the port is not in hairpin mode",
        "egress_hairpin = 0 at host/vethc1",
        "bridge -d link show dev vethc1   # hairpin off",
    ),
    "VLAN not allowed out": (
        leaving(VETHC2, egress_state=3, egress_isolated=0, port_state=3, port_isolated=1),
        "that port is forwarding, so it must be its VLAN that the port does not allow",
        "egress_state = 3 (forwarding) at host/vethc1",
        "bridge vlan show dev vethc2",
    ),
    "flooded to nobody": (
        dropped("NO_TX_TARGET", "br_flood", hops=AT_PORT),
        "The bridge found no port to send it out of",
        None,
        "bridge -d link",
    ),
    "no remote is no bridge's port": (
        dropped("NO_TX_TARGET", "vxlan_xmit"),
        "The VXLAN device host/docker0 knows no remote",
        None,
        "bridge fdb show dev docker0",
    ),
    "vlan": (
        dropped(None, "__allowed_ingress", hops=AT_PORT, flow=ROUTED._replace(vlan=30)),
        "VLAN 30 is not allowed at host/vethc1",
        None,
        "bridge vlan show",
    ),
    # backlog
    "input queue full": (
        dropped(
            "CPU_BACKLOG",
            "enqueue_to_backlog",
            hops=(at("enqueue_to_backlog", VETHC1),),
            backlog_len=1001,
            netdev_max_backlog=1000,
        ),
        "The input queue of CPU 0 was full when host/vethc1 was to receive it: it held 1001 "
        "packets, netdev_max_backlog is 1000.",
        "backlog_len = 1001, netdev_max_backlog = 1000 at host/vethc1",
        "sysctl net.core.netdev_max_backlog",
    ),
    "input queue full, in words": (
        dropped("CPU_BACKLOG", "enqueue_to_backlog"),
        "was full",
        None,
        "sysctl net.core",
    ),
    "input queue, 5.10": (
        dropped(None, "enqueue_to_backlog"),
        "is full (netdev_max_backlog), or the device is down",
        None,
        "sysctl net.core.netdev_max_backlog",
    ),
    "input queue not full, 5.10": (
        dropped(None, "enqueue_to_backlog", backlog_len=3, netdev_max_backlog=1000),
        "though it was not full (it held 3 packets",
        "backlog_len = 3, netdev_max_backlog = 1000 at host/docker0",
        "ip link show dev docker0",
    ),
    # devices
    "peer down": (
        dropped("NOT_SPECIFIED", "__dev_forward_skb2", hops=(at("veth_xmit", VETHC1),), mtu=1500),
        "It left host/vethc1, but the device at the other end is down, or its MTU is too small for "
        "this frame of 60 bytes.",
        None,
        "ip -s -s -d link show dev vethc1",
    ),
    "device down": (
        dropped("DEV_READY", "enqueue_to_backlog"),
        "The device host/docker0 is down or not ready",
        None,
        "ip -s -s -d link show dev docker0",
    ),
    "nobody takes it": (
        dropped("UNHANDLED_PROTO", "__netif_receive_skb_core", flow=Flow("0x88cc")),
        "Nobody in host takes 0x88cc packets from host/docker0",
        None,
        "ip -s",
    ),
    "qdisc full": (
        dropped("QDISC_DROP_OVERLIMIT", "__dev_xmit_skb"),
        "The queueing discipline of host/docker0 dropped it: its queue is full.",
        None,
        "tc -s qdisc show dev docker0",
    ),
    "qdisc, 5.10": (
        dropped(None, "__dev_xmit_skb"),
        "or the device was going down",
        None,
        "tc -s qdisc",
    ),
    # routing
    "reverse path filter": (
        dropped("IP_RPFILTER", "ip_rcv_finish_core", rp_filter=0, all_rp_filter=1),
        "The reverse path filter of host/docker0 (rp_filter is 1) dropped it: an answer to "
        "172.17.0.2 would not leave by that device.",
        "rp_filter = 0, all_rp_filter = 1 at host/docker0",
        "sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.docker0.rp_filter   # and: ip route get",
    ),
    "reverse path filter, 5.10": (
        dropped(None, "ip_rcv_finish_core", rp_filter=1),
        "by the reverse path filter an answer to 172.17.0.2 would not leave by that device, or",
        "rp_filter = 1 at host/docker0",
        "sysctl net.ipv4.conf",
    ),
    "martian, 5.10, the filter is off": (
        dropped(None, "ip_rcv_finish", rp_filter=0, all_rp_filter=0),
        "172.17.0.2 may not come in there, or 198.51.100.7 is no address to go to",
        "rp_filter = 0, all_rp_filter = 0 at host/docker0",
        "ip route show table local",
    ),
    "martian": (
        dropped("IP_LOCAL_SOURCE", "ip_rcv_finish_core"),
        "its source 172.17.0.2 is an address of host itself",
        None,
        "sysctl net.ipv4.conf.all.log",
    ),
    "forwarding off": (
        dropped("IP_INADDRERRORS", "ip_error", forwarding=0, all_forwarding=0),
        "forwarding is 0 on host/docker0, so packets for others, like this one to 198.51.100.7",
        "forwarding = 0, all_forwarding = 0 at host/docker0",
        "sysctl net.ipv4.conf.all.forwarding net.ipv4.conf.docker0.forwarding",
    ),
    "forwarding off, 5.10": (
        dropped(None, "ip_error", forwarding=0),
        "forwarding is 0 on host/docker0",
        "forwarding = 0 at host/docker0",
        "sysctl",
    ),
    "forwarding off, by the reason alone": (
        dropped("IP_INADDRERRORS", "ip_error"),
        "198.51.100.7:443 is no address of host, and host/docker0 does not forward.",
        None,
        "sysctl",
    ),
    "no route, 5.10": (
        dropped(None, "ip_error", forwarding=1),
        "host has no route to 198.51.100.7 for what is at host/docker0.",
        "forwarding = 1 at host/docker0",
        "ip route show table all match 198.51.100.7",
    ),
    "no route or no forwarding, 5.10 without state": (
        dropped(None, "ip_error"),
        "or it does not forward (net.ipv4.conf.all.forwarding)",
        None,
        "ip route show table all match 198.51.100.7",
    ),
    "no route, IPv6": (
        dropped("IP_INNOROUTES", "ip6_pkt_drop", flow=ICMP6, forwarding=0),
        "host has no route to fd00::3",
        None,
        "ip -6 route show table all match fd00::3",
    ),
    "TTL used up": (
        dropped("IP_INHDR", "ip_forward"),
        "Its TTL was used up at host/docker0",
        None,
        "ip route get 198.51.100.7",
    ),
    "a bad header": (
        dropped("IP_INHDR", "ip_rcv_core"),
        "Its IP header is not valid",
        None,
        "nstat",
    ),
    "not forwarded, 5.10": (
        dropped(None, "ip_forward"),
        "its TTL is used up, or it is larger than the MTU",
        None,
        "ip route get",
    ),
    "TTL 1 was seen, 5.10": (
        dropped(None, "ip_forward", hops=(at("ip_rcv")._replace(changes=(Change("ttl", 2, 1),)),)),
        "Its TTL was used up",
        None,
        "ip route get",
    ),
    "not forwarded, IPv6": (
        dropped("NOT_SPECIFIED", "ip6_forward", flow=ICMP6),
        "forwarding is off",
        None,
        "sysctl net.ipv6.conf.all.forwarding net.ipv6.conf.docker0.forwarding",
    ),
    "another host's": (
        dropped("OTHERHOST", "ip_rcv_core", flow=ROUTED._replace(eth_dst="02:00:00:00:00:09")),
        "its Ethernet destination 02:00:00:00:00:09 is not its own",
        None,
        "ip -s",
    ),
    "refused on arrival, 5.10": (
        dropped(None, "ip_rcv_core"),
        "another host's, or its IP header is not valid",
        None,
        "ip",
    ),
    "unicast in multicast": (
        dropped("UNICAST_IN_L2_MULTICAST", "ip_rcv_finish_core"),
        "198.51.100.7:443 is not",
        None,
        "sysctl net.ipv4.conf.all.drop_unicast_in_l2_multicast",
    ),
    "larger than the MTU": (
        dropped("PKT_TOO_BIG", "ip_do_fragment", hops=(at("ip_output", DOCKER0, 1500),), mtu=1400),
        "Its 1500 bytes are more than the MTU of host/docker0, 1400",
        "mtu = 1400 bytes at host/docker0",
        "ip -s -s -d link show dev docker0",
    ),
    "larger than the MTU of the way on": (
        dropped("PKT_TOO_BIG", "ip_forward", hops=(at("ip_rcv", DOCKER0, 1500),), mtu=1500),
        "more than the MTU of the way on from host/docker0",
        None,
        "ip route get 198.51.100.7",
    ),
    "not fragmented, 5.10": (
        dropped(None, "ip_fragment"),
        "(or it could not be cut into fragments)",
        None,
        "ip route",
    ),
    # neighbours
    "neighbour silent": (
        dropped("NEIGH_FAILED", "arp_error_report", hops=(at("ip_output"),)),
        "host could not send it after host/docker0: the next hop towards 198.51.100.7 did not "
        "answer ARP",
        None,
        "ip -s neigh show dev docker0   # and: ip route get 198.51.100.7",
    ),
    "neighbour silent, 5.10": (
        dropped(None, "arp_error_report"),
        "did not answer ARP",
        None,
        "ip -s neigh",
    ),
    "neighbour silent, IPv6": (
        dropped(None, "ndisc_error_report", flow=ICMP6),
        "did not answer neighbour solicitation",
        None,
        "ip -s neigh",
    ),
    "neighbour queue full": (
        dropped("NEIGH_QUEUEFULL", "__neigh_event_send"),
        "too many packets wait for",
        None,
        "ip",
    ),
    "neighbour, 5.10 cannot tell": (
        dropped(None, "__neigh_event_send"),
        "(or too many packets wait for it)",
        None,
        "ip -s",
    ),
    "neighbour table full": (
        dropped("NEIGH_CREATEFAIL", "ip_finish_output2"),
        "the table may be full",
        None,
        "ip -s",
    ),
    # sockets
    "nobody listens": (
        dropped("NO_SOCKET", "tcp_v4_rcv", flow=LISTENED, hops=IN_C2),
        "No socket in c2 listens on 172.17.0.3:80, so TCP answers with a reset.",
        None,
        "sudo ip netns exec c2 ss -tlnp 'sport = :80'",
    ),
    "nobody listens, 5.10": (
        dropped(None, "tcp_v4_rcv", flow=LISTENED, hops=IN_C2),
        "so TCP answers with a reset (or its checksum is wrong, or policy forbids it).",
        None,
        "sudo ip netns exec c2 ss -tlnp 'sport = :80'",
    ),
    "a reset for nobody": (
        dropped("NO_SOCKET", "tcp_v4_rcv", flow=LISTENED._replace(tcp_flags="R."), hops=IN_C2),
        "No socket in c2 has a connection for 172.17.0.3:80.",
        None,
        "sudo ip netns exec c2 ss",
    ),
    "udp port closed": (
        dropped("NO_SOCKET", "__udp4_lib_rcv", flow=UDP.flow, hops=IN_C2),
        "No socket in c2 is bound to UDP 172.17.0.3:9000, so the answer is ICMP port unreachable.",
        None,
        "sudo ip netns exec c2 ss -ulnp 'sport = :9000'",
    ),
    "udp port closed, newest by function": (
        dropped("NOT_SPECIFIED", "udp_rcv", flow=UDP.flow, hops=IN_C2),
        "No socket in c2 is bound to UDP",
        None,
        "sudo ip netns exec c2 ss -ulnp",
    ),
    "a pong for nobody": (
        dropped("NO_SOCKET", "icmp_rcv", flow=echo(0, "172.17.0.3", "172.17.0.2")),
        "No process in host waits for this echo reply",
        None,
        "ss -wanp",
    ),
    "ICMP ignored, 5.10": (
        dropped(None, "icmp_rcv", flow=echo(8, "172.17.0.3", "172.17.0.2")),
        "ICMP in host ignored it",
        None,
        "sysctl net.ipv4.icmp_echo_ignore_all",
    ),
    "accept queue full": (
        dropped(
            "TCP_LISTEN_OVERFLOW",
            "tcp_v4_rcv",
            flow=LISTENED,
            hops=IN_C2,
            ack_backlog=2,
            max_ack_backlog=1,
        ),
        "its accept queue holds 2 of 1 connections",
        "ack_backlog = 2, max_ack_backlog = 1 at c2/eth0",
        "sudo ip netns exec c2 ss -tlnp 'sport = :80'   # Recv-Q",
    ),
    "accept queue full, 5.10": (
        dropped(None, "tcp_v4_rcv", flow=LISTENED, hops=IN_C2, ack_backlog=2, max_ack_backlog=1),
        "its accept queue holds 2 of 1 connections",
        "ack_backlog = 2, max_ack_backlog = 1 at c2/eth0",
        "sudo ip netns exec c2 ss -tlnp",
    ),
    "SYN queue full": (
        dropped(
            None, "tcp_conn_request", flow=LISTENED, hops=IN_C2, ack_backlog=0, max_ack_backlog=5
        ),
        "its accept queue is not full (0 of 5): its SYN queue is full, or it has no route back",
        "ack_backlog = 0, max_ack_backlog = 5 at c2/eth0",
        "sudo ip netns exec c2 nstat -asz TcpExtTCPReqQFullDrop",
    ),
    "SYN queue full, as was read": (
        dropped(
            None,
            "tcp_conn_request",
            flow=LISTENED,
            hops=IN_C2,
            ack_backlog=0,
            max_ack_backlog=5,
            syn_backlog=5,
        ),
        "its SYN queue holds 5 connections that are not yet established, of 5",
        "syn_backlog = 5, max_ack_backlog = 5 at c2/eth0",
        "sudo ip netns exec c2 sysctl net.ipv4.tcp_syncookies",
    ),
    "listener full, nothing known": (
        dropped("NOT_SPECIFIED", "tcp_v4_syn_recv_sock", flow=LISTENED, hops=IN_C2),
        "its accept queue or its SYN queue is full",
        None,
        "sudo ip netns exec c2 ss -tlnp",
    ),
    "receive buffer full": (
        dropped(
            "SOCKET_RCVBUFF",
            "udp_queue_rcv_one_skb",
            flow=UDP.flow,
            hops=IN_C2,
            rmem_alloc=213504,
            rcvbuf=212992,
        ),
        "213504 bytes wait in it, its limit is 212992",
        "rmem_alloc = 213504 bytes, rcvbuf = 212992 bytes at c2/eth0",
        "sudo ip netns exec c2 ss -uamnp",
    ),
    "receive buffer full, 5.10": (
        dropped(
            None,
            "__udp_enqueue_schedule_skb",
            flow=UDP.flow,
            hops=IN_C2,
            rmem_alloc=213504,
            rcvbuf=212992,
        ),
        "213504 bytes wait in it, its limit is 212992",
        "rmem_alloc = 213504 bytes, rcvbuf = 212992 bytes at c2/eth0",
        "sudo ip netns exec c2 ss -uamnp",
    ),
    "receive buffer not full, 5.10": (
        dropped(None, "udp_queue_rcv_one_skb", flow=UDP.flow, rmem_alloc=10, rcvbuf=212992),
        "refused it, with 10 of 212992 bytes waiting",
        "rmem_alloc = 10 bytes, rcvbuf = 212992 bytes at host/docker0",
        "ss -uamnp",
    ),
    "backlog of a busy socket": (
        dropped("SOCKET_BACKLOG", "tcp_v4_rcv", flow=LISTENED, rmem_alloc=7, rcvbuf=9),
        "is busy, and the queue of what waits for it is full",
        "rmem_alloc = 7 bytes, rcvbuf = 9 bytes at host/docker0",
        "nstat -asz TcpExtTCPBacklogDrop",
    ),
    "checksum": (
        dropped("TCP_CSUM", "tcp_v4_rcv"),
        "Its TCP checksum is wrong, says host/docker0",
        None,
        "nstat",
    ),
    "IP checksum": (
        dropped("IP_CSUM", "ip_rcv_core"),
        "Its IP header's checksum is wrong, says host/docker0",
        None,
        "nstat",
    ),
    "TCP threw it away": (
        dropped(None, "tcp_data_queue"),
        "the kernel does not say why",
        None,
        "nstat",
    ),
    # unknown
    "a reason no table has": (
        dropped("DUALPI2_STEP_DROP", "dualpi2_enqueue"),
        "The kernel dropped it in dualpi2_enqueue+0x2a after __netif_receive_skb_core at "
        "host/docker0, with the reason DUALPI2_STEP_DROP (dualpi2 step drop); skbtrace knows no "
        "more.",
        None,
        None,
    ),
    "a reason without a name": (
        dropped("reason 131073", "ovs_dp_process_packet"),
        "with reason 131073, a number that has no name here",
        None,
        None,
    ),
    "nothing at all": (
        dropped(None, None),
        "in a place that has no name",
        None,
        None,
    ),
    "a reason the table knows is believed wherever it comes from": (
        dropped("NOMEM", "nf_hook_slow"),
        "no memory",
        None,
        "free",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_case(name: str) -> None:
    journey, sentence, state, command = CASES[name]
    explanation = said(journey)

    assert sentence in explanation.sentence
    assert explanation.state == state
    if command is None:
        assert explanation.command is None
    else:
        assert explanation.command is not None
        assert explanation.command.startswith(command)


def judged(function: str, verdict: Verdict, device: Device = DOCKER0) -> Hop:
    return at(function, device)._replace(verdict=verdict)


@pytest.mark.parametrize("reason", ["NETFILTER_DROP", "NOT_SPECIFIED", None])
def test_the_chain_that_dropped_it_is_named(reason: str | None) -> None:
    hops = (
        judged("nf_hook_slow", Verdict("ipv4", "PRE_ROUTING", "accept")),
        judged("nf_hook_slow", Verdict("ipv4", "FORWARD", "drop")),
        judged("nft_do_chain", Verdict("ipv4", "FORWARD", "drop", "filter", "FORWARD", 7)),
    )
    explanation = said(dropped(reason, "nf_hook_slow", hops=hops))
    assert explanation.sentence == (
        "Chain FORWARD of table ip filter (hook FORWARD), rule handle 7, dropped it at "
        "host/docker0."
    )
    assert explanation.command == "sudo nft -a list chain ip filter FORWARD"


@pytest.mark.parametrize(
    ("function", "verdict", "command"),
    [
        ("nft_do_chain", Verdict("inet", "LOCAL_IN", "drop", "fw", "in"),
         "sudo nft -a list chain inet fw in"),
        ("nft_do_chain", Verdict("bridge", "FORWARD", "drop", "b", "f"),
         "sudo nft -a list chain bridge b f"),
        ("nft_do_chain", Verdict("ipv6", "FORWARD", "drop", "t", None),
         "sudo nft -a list table ip6 t"),
        ("nf_hook_slow", Verdict("ipv4", "FORWARD", "drop"), "sudo nft -a list ruleset"),
        ("ipt_do_table", Verdict("ipv4", "FORWARD", "drop", "filter", "FORWARD"),
         "sudo iptables-legacy -t filter -vnL FORWARD"),
        ("ip6t_do_table", Verdict("ipv6", "LOCAL_IN", "drop", "filter", "INPUT"),
         "sudo ip6tables-legacy -t filter -vnL INPUT"),
        ("ebt_do_table", Verdict("bridge", "FORWARD", "drop", "filter", "FORWARD"),
         "sudo ebtables-legacy -t filter -L FORWARD --Lc --Ln"),
        ("nft_do_chain", Verdict("inet", "LOCAL_IN", "drop", "a b;", "$(x)\x1b"),
         r"sudo nft -a list chain inet 'a b;' '$(x)\x1b'"),
    ],
)  # fmt: skip
def test_the_rules_are_listed_where_they_are(function: str, verdict: Verdict, command: str) -> None:
    journey = dropped("NETFILTER_DROP", "nf_hook_slow", hops=(judged(function, verdict),))
    assert said(journey).command == command


def test_the_rules_are_those_of_the_namespace_where_the_hook_was() -> None:
    hop = judged("nft_do_chain", Verdict("inet", "LOCAL_IN", "drop", "fw", "in"), ETH0_C2)
    journey = dropped("NETFILTER_DROP", "nf_hook_slow", hops=(hop,))
    command = said(journey).command
    assert command == "sudo ip netns exec c2 nft -a list chain inet fw in"


def test_a_verdict_not_seen_is_not_invented() -> None:
    sentence = said(dropped("NETFILTER_DROP", "nf_hook_slow")).sentence
    assert sentence == "A netfilter rule dropped it at host/docker0; which one was not seen."


def test_the_destination_is_the_one_nat_gave_it() -> None:
    hop = at("__netif_receive_skb_core")._replace(
        changes=(Change("dst", "198.51.100.7", "172.17.0.9"), Change("dport", 443, 80))
    )
    journey = dropped("NO_SOCKET", "tcp_v4_rcv", hops=(hop, at("tcp_v4_rcv", ETH0_C2)))
    assert "listens on 172.17.0.9:80" in said(journey).sentence


def test_what_was_not_dropped_has_no_explanation() -> None:
    for name, journey in ALL.items():
        assert (explain(journey) is None) == (journey.outcome is not Outcome.DROPPED), name
    assert explain(DROPPED._replace(drop=None)) is None


@pytest.mark.parametrize(
    ("netns", "path", "expected"),
    [
        (HOST, None, "ss -tln"),
        (C2, None, "sudo ip netns exec c2 ss -tln"),
        (C2, "/run/netns/skbtrace-c2", "sudo ip netns exec skbtrace-c2 ss -tln"),
        (C2, "/run/docker/netns/4fe1", "sudo nsenter --net=/run/docker/netns/4fe1 ss -tln"),
        (Netns(9, "nginx: w:412"), None, "sudo nsenter --net=/proc/412/ns/net ss -tln"),
        (Netns(9, "ns:9"), None, "ss -tln   # in that network namespace, ns:9"),
        (Netns(9, "ns:9"), "/run/netns/x", "sudo ip netns exec x ss -tln"),
        (Netns(9, "a b"), None, "sudo ip netns exec 'a b' ss -tln"),
        (None, None, "ss -tln"),
    ],
)
def test_how_a_namespace_is_entered(netns: Netns | None, path: str | None, expected: str) -> None:
    assert inside(netns, "ss -tln", lambda _: path) == expected


def test_what_needs_root_says_so() -> None:
    assert inside(HOST, "nft list ruleset") == "sudo nft list ruleset"


def test_no_reason_and_no_function_has_two_rules() -> None:
    reasons = [r for rule in RULES for r in rule.reasons]
    functions = [f for rule in RULES for f in rule.functions]
    assert len(set(reasons)) == len(reasons)
    assert len(set(functions)) == len(functions)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: (*r.reasons, *r.functions)[0])
def test_every_rule_says_something_a_shell_can_read(rule: object) -> None:
    for each in RULES:
        if each is not rule:
            continue
        for journey in [
            *(dropped(r, "f", flow=f) for r in each.reasons for f in (ROUTED, ICMP6, UDP.flow)),
            *(dropped(None, f) for f in each.functions),
            *(dropped(None, f, flow=Flow("arp"), hops=()) for f in each.functions),
        ]:
            explanation = said(journey)
            assert "skbtrace knows no more" not in explanation.sentence
            assert explanation.sentence.endswith(".")
            assert "{" not in explanation.sentence
            assert "None" not in explanation.sentence
            if explanation.command is not None:
                assert shlex.split(explanation.command, comments=True)


REASONS = [r for rule in RULES for r in rule.reasons] + ["NOT_SPECIFIED"]
FUNCTIONS = [f for rule in RULES for f in rule.functions]
STATE = (
    "backlog_len", "netdev_max_backlog", "port_state", "port_isolated", "forwarding", "rp_filter",
    "all_forwarding", "all_rp_filter", "mtu", "ack_backlog", "max_ack_backlog", "rmem_alloc",
    "rcvbuf",
)  # fmt: skip
wild = st.text(max_size=12)
wild_devices = st.builds(Device, st.builds(Netns, st.integers(), wild), st.integers(), wild)
wild_verdicts = st.builds(
    Verdict, wild, wild, st.sampled_from(["drop", "accept", None]), st.none() | wild,
    st.none() | wild, st.none() | st.integers(),
)  # fmt: skip
wild_changes = st.builds(
    Change,
    st.sampled_from(["src", "dst", "sport", "dport", "ttl"]),
    st.none(),
    st.none() | wild | st.integers(),
)
wild_hops = st.builds(
    Hop,
    function=st.sampled_from(["nf_hook_slow", "ipt_do_table", "br_forward"]) | wild,
    dt_ns=st.integers(),
    cpu=st.integers(),
    device=st.none() | wild_devices,
    len=st.integers(),
    segment=st.none(),
    verdict=st.none() | wild_verdicts,
    changes=st.lists(wild_changes, max_size=2).map(tuple),
)
wild_drops = st.builds(
    Drop,
    reason=st.none() | st.sampled_from(REASONS) | wild,
    function=st.none() | st.sampled_from(FUNCTIONS) | wild,
    offset=st.integers(0, 2**20),
    state=st.lists(st.tuples(st.sampled_from(STATE) | wild, st.integers()), max_size=6).map(tuple),
)


@given(
    any_journey.journeys(), wild_drops, st.lists(wild_hops, max_size=4), st.sampled_from(Outcome),
    st.tuples(st.none() | wild, st.none() | wild),
)  # fmt: skip
def test_any_journey_gives_printable_words_or_none(
    journey: Journey,
    drop: Drop,
    hops: list[Hop],
    outcome: Outcome,
    names: tuple[str | None, str | None],
) -> None:
    dst, path = names
    journey = journey._replace(
        drop=drop,
        outcome=outcome,
        hops=tuple(hops) or journey.hops,
        flow=journey.flow._replace(dst=dst),
    )
    explanation = explain(journey, lambda _: path)
    if outcome is not Outcome.DROPPED:
        assert explanation is None
        return
    assert explanation is not None
    assert explanation.sentence
    assert all(line is None or line.isprintable() for line in explanation)


def test_it_knows_only_the_nouns_the_probe_table_and_text() -> None:
    source = Path("tracer/explain.py").read_text()
    imported = {line.split()[1] for line in source.splitlines() if line.startswith("from tracer")}
    assert imported == {"tracer.model", "tracer.probes", "tracer.text"}
