# SPDX-License-Identifier: GPL-2.0-only
"""Packets and expressions of pcap-filter(7) to try filters with, and the C that is made of them."""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BPF = Path(__file__).parents[2] / "bpf"

MACS = bytes.fromhex("0242ac1100030242ac110002")
_A, _B = bytes((172, 17, 0, 2)), bytes((172, 17, 0, 3))
_A6, _B6 = bytes.fromhex("fd00" + "0" * 26 + "02"), bytes.fromhex("fd00" + "0" * 26 + "03")


def ipv4(
    proto: int,
    body: bytes,
    src: bytes = _A,
    dst: bytes = _B,
    *,
    frag: int = 0,
    options: bytes = b"",
) -> bytes:
    first = 0x45 + len(options) // 4
    size = 20 + len(options) + len(body)
    fields = (first, 0x10, size, 77, frag, 61, proto, 0)
    return b"\x08\x00" + struct.pack("!BBHHHBBH", *fields) + src + dst + options + body


def ipv6(proto: int, body: bytes, src: bytes = _A6, dst: bytes = _B6) -> bytes:
    return b"\x86\xdd" + struct.pack("!IHBB", 0x60000000, len(body), proto, 64) + src + dst + body


def udp(sport: int, dport: int, data: bytes = b"hello world") -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def tcp(sport: int, dport: int, flags: int, data: bytes = b"", options: bytes = b"") -> bytes:
    offset = (5 + len(options) // 4) << 4
    head = struct.pack("!HHIIBBHHH", sport, dport, 1000, 2000, offset, flags, 64240, 0, 0)
    return head + options + data


def icmp(kind: int, code: int = 0, rest: bytes = bytes(40)) -> bytes:
    return struct.pack("!BBHHH", kind, code, 0, 7, 1) + rest


def arp(op: int) -> bytes:
    return b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + MACS[6:] + _A + MACS[:6] + _B


def tagged(body: bytes, vlan: int, tpid: bytes = b"\x81\x00") -> bytes:
    return tpid + struct.pack("!H", vlan) + body


_BODIES = [
    arp(1),
    arp(2),
    *(ipv4(6, tcp(s, d, f)) for s, d, f in ((4242, 80, 2), (80, 4242, 0x12), (5000, 443, 0x11))),
    ipv4(6, tcp(4242, 80, 0x18, b"GET / HTTP/1.1\r\n" + bytes(200), bytes(12))),
    ipv4(6, tcp(22, 53, 4), src=bytes((10, 1, 2, 3)), options=bytes((1, 1, 1, 0))),
    *(ipv4(17, udp(s, d)) for s, d in ((53, 4242), (4242, 53), (80, 80), (67, 68), (1234, 5678))),
    ipv4(17, udp(53, 53, bytes(900)), dst=bytes((10, 1, 2, 3))),
    ipv4(17, udp(53, 53, bytes(64)), frag=0x2000),
    ipv4(17, udp(53, 53, bytes(64)), frag=0x0010),
    *(ipv4(1, icmp(kind, code)) for kind, code in ((8, 0), (0, 0), (3, 3), (11, 0))),
    ipv4(132, struct.pack("!HHII", 80, 4242, 1, 2)),
    ipv4(47, b"\0\0\x08\0" + ipv4(17, udp(1, 2))[2:]),
    ipv4(2, bytes(8), dst=bytes((224, 0, 0, 1))),
    *(ipv6(6, tcp(s, d, f)) for s, d, f in ((4242, 80, 2), (80, 4242, 0x12))),
    *(ipv6(17, udp(s, d)) for s, d in ((53, 4242), (4242, 53))),
    *(ipv6(58, icmp(kind)) for kind in (128, 129, 135, 1)),
    ipv6(44, b"\x06\0\0\x01\0\0\0\x07" + tcp(4242, 80, 2)),
    ipv6(0, b"\x11\0" + bytes(6) + udp(53, 4242)),
    b"\x88\xcc" + bytes(range(46)),
    b"\x00\x26" + b"\x42\x42\x03" + bytes(43),
    b"\x08\x00",
]
_FRAMES = [
    *(MACS + body for body in _BODIES),
    b"\xff" * 6 + MACS[6:] + arp(1),
    b"\x01\x00\x5e\x00\x00\x01" + MACS[6:] + ipv4(2, bytes(8), dst=bytes((224, 0, 0, 1))),
    *(MACS + tagged(body, 5 + n) for n, body in enumerate(_BODIES[::3])),
    MACS + tagged(ipv4(6, tcp(4242, 80, 2)), 100, b"\x88\xa8"),
    MACS + tagged(tagged(ipv4(17, udp(53, 4242)), 5), 100, b"\x88\xa8"),
]
PACKETS = [
    *((frame, len(frame)) for frame in _FRAMES),
    *((frame[:cut], len(frame)) for frame in _FRAMES[2::4] for cut in (14, 23, 33, 37, 46)),
]
"""What was kept of each packet, and its length."""


def pcap(packets: Sequence[tuple[bytes, int]]) -> bytes:
    """A file of them for tcpdump; each one's number is the seconds of its time."""
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, 1)
    for number, (kept, length) in enumerate(packets):
        out += struct.pack("<IIII", number, 0, len(kept), length) + kept
    return out


def numbers(file: bytes) -> set[int]:
    """The numbers of the packets in such a file."""
    at, found = 24, set()
    while at < len(file):
        number, _, kept, _ = struct.unpack_from("<IIII", file, at)
        found.add(number)
        at += 16 + kept
    return found


_hosts = st.sampled_from(
    ["172.17.0.2", "172.17.0.3", "10.1.2.3", "224.0.0.1", "fd00::2", "fd00::3"]
)
_nets = st.sampled_from(["172.17.0.0/16", "10.0.0.0/8", "172.17.0.2/31", "fd00::/64", "10.1.2"])
_ports = st.sampled_from([80, 53, 4242, 443, 22, 67, 5000])
_ways = st.sampled_from(["", "src ", "dst ", "src or dst ", "src and dst "])
_macs = st.sampled_from(["02:42:ac:11:00:03", "02:42:ac:11:00:02", "ff:ff:ff:ff:ff:ff"])
_protos = st.sampled_from(["ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp"])
_bases = st.sampled_from(["ether", "ip", "ip6", "arp", "tcp", "udp", "icmp"])
_relations = st.sampled_from(["=", "!=", ">", "<", ">=", "<="])
_numbers = st.sampled_from([0, 1, 2, 4, 6, 8, 16, 17, 20, 47, 64, 80, 255, 0x800, 4242, 65535])
_accesses = st.builds(
    lambda base, at, size: f"{base}[{at}{size}]",
    _bases,
    st.integers(0, 40),
    st.sampled_from(["", ":1", ":2", ":4"]),
)
_named = st.sampled_from(["tcp[tcpflags]", "icmp[icmptype]", "tcp[13]", "ip[8]", "len", "ip[2:2]"])
_values = st.recursive(
    _accesses | _named | _numbers.map(str),
    lambda inner: (
        st.builds(
            lambda one, sign, other: f"({one} {sign} {other})",
            inner,
            st.sampled_from(["+", "-", "*", "/", "%", "&", "|", "^"]),
            inner,
        )
        | st.builds(
            lambda one, sign, by: f"({one} {sign} {by})",
            inner,
            st.sampled_from(["<<", ">>"]),
            st.integers(0, 31),
        )
        | st.builds(lambda base, at: f"{base}[{at}]", _bases, inner)
    ),
    max_leaves=4,
)
_primitives = st.one_of(
    _protos,
    st.builds(lambda way, host: f"{way}host {host}", _ways, _hosts),
    st.builds(lambda way, net: f"{way}net {net}", _ways, _nets),
    st.builds(
        lambda proto, way, port: f"{proto}{way}port {port}",
        st.sampled_from(["", "tcp ", "udp ", "sctp "]),
        _ways,
        _ports,
    ),
    st.builds(lambda way, low, more: f"{way}portrange {low}-{low + more}", _ways, _ports, _ports),
    st.builds(lambda way, mac: f"ether {way}{mac}".replace(" ", " host ", 1), st.just(""), _macs),
    st.builds(lambda way, mac: f"ether {way} {mac}", st.sampled_from(["src", "dst"]), _macs),
    st.sampled_from(["ether multicast", "ether broadcast", "ip multicast", "multicast", "mpls"]),
    st.builds(lambda n: f"ip proto {n}", st.sampled_from([1, 2, 6, 17, 47, 132])),
    st.builds(lambda n: f"ip6 proto {n}", st.sampled_from([0, 6, 17, 44, 58])),
    st.builds(lambda n: f"proto {n}", st.sampled_from([1, 6, 17])),
    st.builds(lambda n: f"ether proto {n}", st.sampled_from(["0x800", "0x86dd", "0x88cc", "37"])),
    st.builds(lambda word, n: f"{word} {n}", st.sampled_from(["greater", "less"]), _numbers),
    st.builds(lambda one, sign, two: f"{one} {sign} {two}", _values, _relations, _values),
    st.sampled_from(
        [
            "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn",
            "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
            "ip[6:2] & 0x1fff != 0",
            "icmp[icmptype] != icmp-echo",
            "(ip[0] & 0xf) != 5",
        ]
    ),
)
EXPRESSIONS = st.recursive(
    _primitives,
    lambda inner: (
        st.builds(lambda it: f"not ({it})", inner)
        | st.builds(
            lambda one, word, two: f"({one}) {word} ({two})",
            inner,
            st.sampled_from(["and", "or", "&&", "||"]),
            inner,
        )
        # Behind vlan everything lies four bytes further.
        | st.builds(
            lambda vlan, it: f"vlan{vlan} and ({it})", st.sampled_from(["", " 5", " 8"]), inner
        )
    ),
    max_leaves=5,
)


def drawn(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """Different ones of a strategy, the same every time."""
    found: dict[Any, None] = {}

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def draw(one: Any) -> None:
        found[one] = None

    draw()
    return list(found)


# A struct sk_buff of our own, in which the kernel's readers find their way by its offsets.
_C = r"""
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
typedef unsigned char __u8; typedef unsigned short __u16; typedef short __s16; typedef int __s32;
typedef unsigned int __u32; typedef unsigned long long __u64;
#define __always_inline inline
#define bpf_probe_read_kernel(to, size, from) memcpy(to, from, size)
struct sk_buff {
    __u64 others;
    __u32 tail, end;
    unsigned char *head, *data;
    __u32 len, data_len;
    __u16 protocol, transport_header, network_header, mac_header;
    union { struct { __u16 vlan_proto, vlan_tci; }; __u32 vlan_all; };
};
struct frag { __u64 page; __u32 len, offset; };
struct skb_shared_info { __u8 flags, nr_frags; struct frag frags[1]; };
#define OFF_SKB_SHARED_INFO_NR_FRAGS offsetof(struct skb_shared_info, nr_frags)
#define OFF_SKB_SHARED_INFO_FRAGS offsetof(struct skb_shared_info, frags)
/* The page of an address is the address, but for its last bits. */
static __u64 zero;
#define SKBTRACE_VMEMMAP_BASE ((__u64)&zero)
#define SKBTRACE_PAGE_OFFSET_BASE ((__u64)&zero)
#define SIZE_PAGE 4096
#define OFF_SK_BUFF_TAIL offsetof(struct sk_buff, tail)
#define OFF_SK_BUFF_END offsetof(struct sk_buff, end)
#define OFF_SK_BUFF_DATA offsetof(struct sk_buff, data)
#define OFF_SK_BUFF_HEAD offsetof(struct sk_buff, head)
#define OFF_SK_BUFF_LEN offsetof(struct sk_buff, len)
#define OFF_SK_BUFF_DATA_LEN offsetof(struct sk_buff, data_len)
#define OFF_SK_BUFF_PROTOCOL offsetof(struct sk_buff, protocol)
#define OFF_SK_BUFF_NETWORK_HEADER offsetof(struct sk_buff, network_header)
#define OFF_SK_BUFF_MAC_HEADER offsetof(struct sk_buff, mac_header)
#define OFF_SK_BUFF_VLAN_PROTO offsetof(struct sk_buff, vlan_proto)
#define OFF_SK_BUFF_VLAN_TCI offsetof(struct sk_buff, vlan_tci)
#define OFF_SK_BUFF_VLAN_ALL offsetof(struct sk_buff, vlan_all)
@OTHERS@
#define SKBTRACE_FILTER return 0;
#include "record.h"
#include "skb.h"
#include "filter.h"
@FILTERS@

enum how { RECEIVED, SENT, DRIVER, PAGED, ROUTED, HOWS };
#define ROOM 128
#define END 8192

static bool verdict(bool (*filter)(const struct frame *), const unsigned char *bytes,
                    __u32 kept, __u32 length, int how, int beside)
{
    static unsigned char memory[END + sizeof(struct skb_shared_info)], page[8192];
    struct skb_shared_info *shared = (struct skb_shared_info *)(memory + END);
    struct sk_buff skb = { .head = memory, .mac_header = ROOM };
    struct frame frame;
    memset(memory, 0xaa, sizeof(memory)); /* nobody must look beyond the packet */
    if (beside) { /* the tag is kept beside the packet */
        memcpy(&skb.vlan_proto, bytes + 12, 2);
        skb.vlan_tci = bytes[14] << 8 | bytes[15];
        memcpy(memory + ROOM, bytes, 12);
        memcpy(memory + ROOM + 12, bytes + 16, kept - 16);
        kept -= 4;
        length -= 4;
    } else {
        memcpy(memory + ROOM, bytes, kept);
    }
    memcpy(&skb.protocol, memory + ROOM + 12, 2);
    skb.network_header = how == DRIVER || how == PAGED ? 0 : ROOM + 14;
    if (how == ROUTED) /* it has no Ethernet header yet */
        skb.mac_header = 0xffff;
    if (how == ROUTED)
        memset(memory + ROOM, 0xbb, 14);
    skb.data = memory + ROOM + (how == SENT ? 0 : 14);
    skb.len = length - (how == SENT ? 0 : 14);
    skb.data_len = length - kept;
    skb.end = END;
    skb.tail = ROOM + kept;
    shared->nr_frags = 0;
    if (how == PAGED && kept > 14) { /* all but the Ethernet header is in a page */
        __u64 at = (__u64)page + 5;
        memset(page, 0xcc, sizeof(page));
        memcpy(page + 5, memory + ROOM + 14, kept - 14);
        memset(memory + ROOM + 14, 0xdd, kept - 14);
        shared->nr_frags = 1;
        shared->frags[0].page = at & ~4095ULL;
        shared->frags[0].offset = at & 4095;
        shared->frags[0].len = kept - 14;
        skb.tail = ROOM + 14;
        skb.data_len = length - 14;
    }
    struct layout of;
    struct headers at;
    read_layout(&of, (__u64)&skb);
    find_headers(&at, &of);
    bool own = see_frame(&frame, &at, &of, (__u64)&skb);
    if (own == (how == ROUTED) || frame.len != length + 4 * beside)
        __builtin_trap();
    return filter(&frame);
}

void verdicts(bool (*filter)(const struct frame *), const unsigned char *bytes, __u32 kept,
              __u32 length, unsigned char *results)
{
    bool beside = kept >= 18 && bytes[12] == (bytes[13] ? 0x81 + 0 : 0x81) && !bytes[13];
    beside |= kept >= 18 && bytes[12] == 0x88 && bytes[13] == 0xa8;
    for (int tag = 0; tag < 2; tag++)
        for (int how = RECEIVED; how < HOWS; how++)
            results[HOWS * tag + how] = verdict(filter, bytes, kept, length, how, tag && beside);
}
"""


class Compiled:
    """Filters in C, made by the host's compiler."""

    def __init__(self, filters: Sequence[str], folder: Path) -> None:
        text = (BPF / "skb.h").read_text()
        others = set(re.findall(r"\b(?:OFF|MASK)_\w+", text)) - set(re.findall(r"OFF_\w+", _C))
        others -= {"OFF_SK_BUFF_VLAN_PRESENT", "MASK_SK_BUFF_VLAN_PRESENT"}
        others -= {
            n for n in others if n.startswith(("OFF_SOCK_CGROUP", "OFF_TASK", "OFF_NSPROXY"))
        }
        functions = "\n".join(
            f"FILTER(filter_{n}, {statements})\nvoid *get_{n}(void) {{ return filter_{n}; }}"
            for n, statements in enumerate(filters)
        )
        source = folder / "filters.c"
        source.write_text(
            _C.replace(
                "@OTHERS@", "\n".join(f"#define {name} 0" for name in sorted(others))
            ).replace("@FILTERS@", functions)
        )
        library = folder / "filters.so"
        subprocess.run(
            ["cc", "-w", "-O0", "-shared", "-fPIC", f"-I{BPF}", source, "-o", library], check=True
        )
        self._library = ctypes.CDLL(str(library))

    def verdicts(self, number: int, kept: bytes, length: int) -> list[bool]:
        """What the filter of that number says of a packet received, sent, just come from a driver,
        the same with all but the Ethernet header in a page, and routed without an Ethernet header;
        then of the same with its VLAN tag beside it."""
        get = self._library[f"get_{number}"]
        get.restype = ctypes.c_void_p
        results = ctypes.create_string_buffer(10)
        self._library.verdicts(ctypes.c_void_p(get()), kept, len(kept), length, results)
        return [bool(result) for result in results.raw]
