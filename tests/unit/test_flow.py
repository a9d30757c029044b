# SPDX-License-Identifier: GPL-2.0-only
"""Header bytes to flows. The packets are written out byte by byte, as RFCs draw them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracer.flow import flow_of
from tracer.model import Flow

A, B = "0242ac110002", "0242ac110003"


def flow(text: str, l2_len: int = 14, protocol: int = 0x0800, vlan_tci: int | None = None) -> Flow:
    return flow_of(
        bytes.fromhex(text.replace(" ", "")).ljust(80, b"\0"), l2_len, protocol, vlan_tci
    )


IPV4_TCP = "4500003c abcd4000 4006 0000 ac110002 ac110003"
SYN = "9c40 1f90 00000001 00000000 a002 ffff 0000 0000"
ACK = "9c40 1f90 00000002 00000005 8010 ffff 0000 0000"
IPV6 = "60000000 0018 {next} 40 fd000000000000000000000000000002 fd000000000000000000000000000003"


def test_tcp_syn() -> None:
    f = flow(f"{B} {A} 0800 {IPV4_TCP} {SYN}")
    assert (f.proto, f.src, f.sport, f.dst, f.dport) == (
        "tcp",
        "172.17.0.2",
        40000,
        "172.17.0.3",
        8080,
    )
    assert (f.tcp_flags, f.tcp_seq, f.tcp_ack, f.ip_id) == ("S", 1, None, 0xABCD)
    assert (f.eth_src, f.eth_dst, f.vlan) == ("02:42:ac:11:00:02", "02:42:ac:11:00:03", None)


def test_tcp_ack_is_a_dot_as_in_tcpdump() -> None:
    f = flow(f"{B} {A} 0800 {IPV4_TCP} {ACK}")
    assert (f.tcp_flags, f.tcp_ack) == (".", 5)


def test_ip_options_move_the_ports() -> None:
    f = flow(f"{B} {A} 0800 4600001c 00000000 4011 0000 ac110002 ac110003 94040000 1234 0035 0008")
    assert (f.proto, f.sport, f.dport) == ("udp", 0x1234, 53)


def test_a_later_fragment_has_no_ports_to_claim() -> None:
    f = flow(f"{B} {A} 0800 4500001c 000000b9 4011 0000 ac110002 ac110003 1234 0035")
    assert (f.proto, f.fragment, f.sport) == ("udp", True, None)
    first = flow(f"{B} {A} 0800 4500001c 00002000 4011 0000 ac110002 ac110003 1234 0035")
    assert (first.fragment, first.sport) == (True, 0x1234)


def test_icmp_errors_have_no_echo_id() -> None:
    f = flow(f"{B} {A} 0800 4500001c 00000000 4001 0000 ac110003 ac110002 0303 0000 0000 0000")
    assert (f.icmp_type, f.icmp_code, f.icmp_id, f.icmp_seq) == (3, 3, None, None)


def test_arp_request() -> None:
    f = flow(
        f"ffffffffffff {A} 0806 0001 0800 06 04 0001 {A} ac110002 000000000000 ac110003",
        protocol=0x0806,
    )
    assert (f.proto, f.src, f.dst, f.arp_op) == ("arp", "172.17.0.2", "172.17.0.3", "request")
    assert f.eth_dst == "ff:ff:ff:ff:ff:ff"


def test_ipv6_and_its_echo() -> None:
    f = flow(f"{B} {A} 86dd {IPV6.format(next='3a')} 8000 0000 0007 0001", protocol=0x86DD)
    assert (f.proto, f.src, f.icmp_type, f.icmp_id, f.icmp_seq) == ("icmpv6", "fd00::2", 128, 7, 1)


def test_ipv6_extension_headers_are_skipped() -> None:
    f = flow(
        f"{B} {A} 86dd {IPV6.format(next='00')} 1100 0000 0000 0000 1234 0035 0008 0000",
        protocol=0x86DD,
    )
    assert (f.proto, f.sport, f.dport) == ("udp", 0x1234, 53)


def test_ipv6_fragments() -> None:
    later = flow(
        f"{B} {A} 86dd {IPV6.format(next='2c')} 1100 00b8 0000 0001 1234 0035", protocol=0x86DD
    )
    assert (later.proto, later.fragment, later.sport) == ("udp", True, None)


def test_a_vlan_tag_in_the_packet() -> None:
    f = flow(f"{B} {A} 8100 2064 0800 {IPV4_TCP} {SYN}", protocol=0x8100)
    assert (f.vlan, f.proto, f.dport) == (100, "tcp", 8080)
    after_header = flow(f"{B} {A} 8100 2064 0800 {IPV4_TCP} {SYN}", l2_len=18, protocol=0x8100)
    assert (after_header.vlan, after_header.dport) == (100, 8080)


def test_a_vlan_tag_beside_the_packet() -> None:
    f = flow(f"{B} {A} 0800 {IPV4_TCP} {SYN}", vlan_tci=0x2064)
    assert (f.vlan, f.proto, f.dport) == (100, "tcp", 8080)


def test_no_link_layer_at_all() -> None:
    f = flow(f"{IPV4_TCP} {SYN}", l2_len=0)
    assert (f.proto, f.dport, f.eth_src) == ("tcp", 8080, None)


def test_other_protocols_keep_their_number() -> None:
    assert flow(f"{B} {A} 88cc 0207", protocol=0x88CC).proto == "0x88cc"
    assert flow(f"{B} {A} 88cc 0207", protocol=0x88CC).src == "02:42:ac:11:00:02"
    assert flow(f"{B} {A} 0800 4500001c 00000000 402f 0000 ac110002 ac110003").proto == "ipv4-47"
    # ICMPv6 in IPv4 is not ICMPv6, nor ICMP in IPv6 ICMP
    assert flow(f"{B} {A} 0800 4500001c 00000000 403a 0000 ac110002 ac110003").proto == "ipv4-58"
    assert flow(f"{B} {A} 86dd {IPV6.format(next='01')}", protocol=0x86DD).proto == "ipv6-1"


@given(
    st.binary(max_size=80),
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.none() | st.integers(0, 0xFFFF),
)
def test_any_bytes_are_a_flow(
    headers: bytes, l2_len: int, protocol: int, vlan_tci: int | None
) -> None:
    f = flow_of(headers, l2_len, protocol, vlan_tci)
    assert f.proto
    assert f.vlan is None or 0 <= f.vlan < 4096
