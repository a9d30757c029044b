# SPDX-License-Identifier: GPL-2.0-only
"""Header bytes to flows. The packets are written out byte by byte, as RFCs draw them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracer.flow import flow_of, numbers_of
from tracer.model import NUMBERED, Flow
from tracer.wire import HEADER_BYTES

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


# What an error carries: the IP header of a packet from c1 and the first bytes behind it.
ABOUT_UDP = "4500001d 00054000 4011 0000 ac110002 ac110003 9921 2328 0009 0000"
ABOUT_TCP = f"{IPV4_TCP} {SYN}"


def error(kind: str, about: str, of: str = "ac110003 ac110002") -> str:
    carried = bytes.fromhex(about)
    length = (28 + len(carried)).to_bytes(2, "big").hex()
    return f"4500 {length} 00000000 4001 0000 {of} {kind} 0000 00000000 {about}"


def test_an_icmp_error_says_which_packet_it_is_about() -> None:
    f = flow(f"{B} {A} 0800 {error('0303', ABOUT_UDP)}")
    assert (f.proto, f.src, f.icmp_type, f.icmp_code) == ("icmp", "172.17.0.3", 3, 3)
    assert f.about == Flow("udp", "172.17.0.2", "172.17.0.3", 0x9921, 9000, ip_id=5)


def test_an_icmp_error_may_carry_enough_of_tcp_for_its_flags() -> None:
    about = flow(f"{B} {A} 0800 {error('0b00', ABOUT_TCP)}").about
    assert about is not None
    assert (about.sport, about.tcp_seq, about.tcp_flags) == (40000, 1, "S")


def test_an_icmp_error_must_carry_no_more_than_eight_bytes_of_tcp() -> None:
    about = flow(f"{B} {A} 0800 {error('0b00', f'{IPV4_TCP} 9c40 1f90 00000001')}").about
    assert about is not None
    assert (about.dport, about.tcp_seq, about.tcp_flags) == (8080, 1, None)


def test_an_icmp_error_may_be_about_an_echo_request() -> None:
    echo = "45000054 00010000 4001 0000 ac110002 ac110003 0800 0000 0007 0001"
    about = flow(f"{B} {A} 0800 {error('0301', echo)}").about
    assert about is not None
    assert (about.proto, about.icmp_type, about.icmp_id, about.icmp_seq) == ("icmp", 8, 7, 1)


def test_an_icmp_error_that_carries_no_ip_header_is_about_nothing() -> None:
    assert flow(f"{B} {A} 0800 {error('0303', '')}").about is None
    assert flow(f"{B} {A} 0800 {error('0303', '45000054 0001')}").about is None
    assert flow(f"{B} {A} 0800 {error('0303', '00' * 28)}").about is None


def test_what_is_no_error_is_about_nothing() -> None:
    assert flow(f"{B} {A} 0800 {error('0800', ABOUT_UDP)}").about is None
    assert flow(f"{B} {A} 0800 {error('0501', ABOUT_UDP)}").about is None  # redirect


def test_an_error_is_not_about_what_an_error_is_about() -> None:
    f = flow(f"{error('0303', error('0303', '4500'))}", l2_len=0)
    assert f.about is not None
    assert (f.about.proto, f.about.icmp_type, f.about.about) == ("icmp", 3, None)


ERROR6 = (
    "60000000 0060 3a 40 fd000000000000000000000000000009 fd000000000000000000000000000002 "
    "{kind} 0000 00000000 " + IPV6.format(next="11") + " 9921 2328 0009 0000"
)


def test_an_icmpv6_error_is_about_a_packet_if_it_is_long_enough() -> None:
    whole = bytes.fromhex(f"{B} {A} 86dd {ERROR6.format(kind='0104')}") + bytes(99)
    about = flow_of(whole[:HEADER_BYTES], 14, 0x86DD).about
    assert about == Flow("udp", "fd00::2", "fd00::3", 0x9921, 9000)
    assert flow_of(whole[: 14 + 80], 14, 0x86DD).about is None  # not even all addresses


def test_a_packet_that_has_no_protocol_yet_is_known_by_its_version() -> None:
    assert flow(f"{IPV4_TCP} {SYN}", l2_len=0, protocol=0).dport == 8080
    assert flow(f"{IPV6.format(next='06')} {SYN}", l2_len=0, protocol=0).src == "fd00::2"
    assert flow("00", l2_len=0, protocol=0).proto == "0x0000"
    assert flow("41", l2_len=0, protocol=0).proto == "0x0000"
    assert flow_of(b"", 0, 0).proto == "0x0000"


def test_padding_is_not_read_as_ports() -> None:
    assert flow(f"{B} {A} 0800 45000014 abcd4000 4011 0000 ac110002 ac110003").sport is None


def test_a_length_that_is_not_set_yet_cuts_nothing_off() -> None:
    unset = IPV4_TCP.replace("4500003c", "45000000")
    assert flow(f"{unset} {SYN}", l2_len=0).dport == 8080


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
    assert f.about is None or (f.proto.startswith("icmp") and f.about.about is None)
    assert f.vlan is None or 0 <= f.vlan < 4096


@given(st.binary(max_size=80), st.sampled_from([3, 11, 12]))
def test_any_bytes_may_stand_in_an_icmp_error(carried: bytes, kind: int) -> None:
    outer = bytes.fromhex("45000000 00000000 4001 0000 ac110003 ac110002")
    f = flow_of(outer + bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + carried, 0, 0)
    assert f.proto == "icmp"
    assert f.about is None or f.about.proto


@given(st.binary(max_size=80), st.integers(1, 4))
def test_any_bytes_may_stand_in_an_icmpv6_error(carried: bytes, kind: int) -> None:
    outer = bytes.fromhex(f"60000000 0000 3a 40 {'fd' * 32}")
    f = flow_of(outer + bytes([kind, 0, 0, 0, 0, 0, 0, 0]) + carried, 0, 0)
    assert f.proto == "icmpv6"
    assert f.about is None or f.about.proto


def numbered(text: str, protocol: int) -> list[str]:
    found = numbers_of(bytes.fromhex(text.replace(" ", "")), 0, protocol)
    assert found is not None
    return [Flow._fields[at] for at in found.members]


def test_what_counts_the_packets_of_a_flow() -> None:
    assert numbered(f"{IPV4_TCP} {SYN}{20 * '00'}", 0x0800) == ["ip_id", "tcp_seq"]
    assert numbered(f"{IPV4_TCP} {ACK}{20 * '00'}", 0x0800) == ["ip_id", "tcp_seq", "tcp_ack"]
    echo = IPV6.format(next="3a") + "8000 0000 0007 0001"
    assert numbered(echo, 0x86DD) == ["icmp_seq"]
    every = {*numbered(f"{IPV4_TCP} {ACK}{20 * '00'}", 0x0800), *numbered(echo, 0x86DD)}
    assert every == {*NUMBERED}  # no other is left open in the lines of journeys that are alike


def test_what_may_differ_in_more_than_numbers_has_none() -> None:
    for text, protocol in (
        (f"{IPV4_TCP} {SYN}", 0x0800),  # its options are not all there
        (IPV4_TCP.replace("4000 40", "2000 40") + SYN + 20 * "00", 0x0800),  # a fragment
        (IPV4_TCP.replace("4500", "4600") + 4 * "00" + SYN + 20 * "00", 0x0800),  # options
        (IPV6.format(next="00") + 16 * "00", 0x86DD),
        (IPV6.format(next="3a") + "0100 0000" + 4 * "00", 0x86DD),  # an error
        # The other IP's ICMP: it is not read, but the frame holds what an error carries.
        (IPV4_TCP.replace("4006", "403a") + "8000 0000 0007 0001", 0x0800),
        (IPV6.format(next="01") + "0800 0000 0007 0001", 0x86DD),
        ("", 0x0800),
    ):
        assert numbers_of(bytes.fromhex(text.replace(" ", "")), 0, protocol) is None
