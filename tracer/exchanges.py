# SPDX-License-Identifier: GPL-2.0-only
"""Which journeys belong together: a reply and its request, an error and its packet, a repeat.

They are different packets, each a journey of its own; what joins them is in their headers. A
journey is compared with those that came before it, and what it answers, reports or repeats goes
into its ``references``. Its own entry is then kept for those that come after.

- An echo reply *answers* the request with its addresses exchanged and its id and sequence number.
- A SYN-ACK *answers* the SYN whose sequence number it acknowledges.
- An ICMP error *reports* the packet whose header it carries.
- A TCP segment *repeats* the one before that began with the same sequence number, if both carry
  something that has one, and both were first seen at the same device: a packet that becomes
  another skb on its way (a tunnel, a program that passes it on) is seen twice, but sent once.

NAT rewrites addresses on the way, and the answer may be seen first behind it: a packet is kept by
the addresses it began with and by those it ended with.

What this misses
----------------
Journeys come in the order in which they end, and none is held back to wait for another. A request
that ends after its reply (or a segment after its repetition) comes too late to be referred to.

Whether a TCP segment carries data is not in its flow. SYN, FIN and PSH say so, and so does a
length that no header reaches; a short segment without them could as well be a pure ACK, which is
sent with the same sequence number again and again for good reason, and so is never called a
repeat. Nor is a segment that begins in the middle of a larger one sent before.

An echo reply from another address than the request was sent to (a broadcast) is not joined, nor
an error that carries too little of the packet it is about. Clones and other branches are the same
packet again and take no part.

Memory is bounded: the youngest are kept, SYNs and echo requests apart from the rest, so that they
outlive a flood of data. What only an error can ask for is not looked at before there is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from tracer.alike import Item, One, changes, first_len, values
from tracer.model import Flow, Reference

MOST = 8192
"""At most twice as many entries are kept of what was asked, of TCP's segments and of the rest; the
youngest so many are never forgotten."""

_HEADERS_MOST = 14 + 4 + 60 + 60
"""Ethernet, a VLAN tag, IPv4 and TCP with all options they may have: what is longer has data."""

_Key: TypeAlias = tuple[str | int | None, ...]
_Place: TypeAlias = tuple[int, int]
_Seen: TypeAlias = tuple[str, int, _Place | None]
"""Id, start, and the device where it was first seen: namespace's inode number and ifindex."""

_ECHO_REQUEST = {"icmp": 8, "icmpv6": 128}
_AT = {"src": 0, "dst": 1, "sport": 2, "dport": 3, "icmp_id": 2}
"""Where in every key stands what NAT may rewrite."""


def _members(*names: str) -> Callable[[Sequence[Any]], _Key]:
    return itemgetter(*map(Flow._fields.index, names))


_USED = "proto tcp_seq about icmp_id icmp_type ip_id sport tcp_flags tcp_ack"
_PROTO, _TCP_SEQ, _ABOUT, _ICMP_ID, _ICMP_TYPE, _IP_ID, _SPORT, _TCP_FLAGS, _TCP_ACK = map(
    Flow._fields.index, _USED.split()
)
_SEGMENT = _members("src", "dst", "sport", "dport", "tcp_seq")
_ECHO = _members("src", "dst", "icmp_id", "icmp_seq", "proto", "icmp_type")
_OTHER = _members("src", "dst", "sport", "dport", "ip_id", "proto", "icmp_type")


class Exchanges:
    """Takes journeys as they end, gives them back with their references."""

    def __init__(self, most: int = MOST) -> None:
        self._asked = _Recent(most)
        self._segments = _Recent(most)
        self._others = _Recent(most)
        self._unread: deque[One] = deque(maxlen=most)
        """Of the others those that came since an error was last looked at: only those ask."""

    def __len__(self) -> int:
        """How many entries are kept."""
        kept = len(self._asked) + len(self._segments) + len(self._others)
        return kept + len(self._unread)

    def refer(self, item: Item) -> Item:
        """Return the journey, with references to earlier ones if there are any."""
        if item.parent is not None:
            return item
        flow: Sequence[Any] = item.alike.flow if isinstance(item, One) else item.flow
        proto = flow[_PROTO]
        if proto == "tcp":
            return item if flow[_TCP_SEQ] is None else self._segment(item, flow[_TCP_FLAGS] or "")
        if flow[_ABOUT] is not None:
            return _refer(item, "reports", self._subject(flow[_ABOUT]))
        if flow[_ICMP_ID] is not None:
            asked = _ECHO_REQUEST.get(proto)
            key = _ECHO(values(item))
            if flow[_ICMP_TYPE] == asked:
                self._keep(self._asked, key, item)
            else:
                src, dst, icmp_id, icmp_seq, *_ = key
                request = (dst, src, icmp_id, icmp_seq, proto, asked)
                return _refer(item, "answers", self._asked.get(request))
        elif flow[_IP_ID] is not None or flow[_SPORT] is not None:
            if isinstance(item, One):
                self._unread.append(item)
            else:
                self._read()
                self._keep(self._others, _OTHER(flow), item)
        return item

    def _read(self) -> None:
        unread = self._unread
        while unread:
            one = unread.popleft()
            self._keep(self._others, _OTHER(one.values()), one)

    def _segment(self, item: Item, flags: str) -> Item:
        begins = "S" in flags
        if not (
            begins
            or "P" in flags
            or "F" in flags
            or (first_len(item) > _HEADERS_MOST and "R" not in flags)
        ):
            return item  # nothing that could be sent again, or be known for it
        recent = self._asked if begins else self._segments
        flow = values(item)
        key = _SEGMENT(flow)
        before = recent.get(key)
        place = _place(item)
        if before is None:
            self._keep(recent, key, item, place)
        elif place is not None and before[2] == place and before[1] < item.start_ns:
            self._keep(recent, key, item, place)
            item = _refer(item, "repeats", before)
        ack = flow[_TCP_ACK]
        if begins and ack is not None:
            src, dst, sport, dport, _ = key
            syn = (dst, src, dport, sport, (ack - 1) & 0xFFFF_FFFF)
            item = _refer(item, "answers", self._asked.get(syn))
        return item

    def _subject(self, about: Flow) -> _Seen | None:
        """What is known of the packet an error is about."""
        if about.dst is None:
            return None
        self._read()
        key = _key(about)
        return self._asked.get(key) or self._segments.get(key) or self._others.get(key)

    def _keep(self, recent: _Recent, key: _Key, item: Item, place: _Place | None = None) -> None:
        seen = (item.id, item.start_ns, place)
        recent.put(key, seen)
        last: list[str | int | None] | None = None
        for name, _, new in changes(item):
            if name in _AT and new is not None:
                last = last or list(key)
                last[_AT[name]] = new
        if last is not None:
            recent.put(tuple(last), seen)


class _Recent:
    """The youngest entries: two dicts, of which the older one is forgotten when one is full.

    To take the oldest entry out of one dict for every new one costs several times as much.
    """

    __slots__ = ("_most", "_new", "_old")

    def __init__(self, most: int) -> None:
        self._most = most
        self._new: dict[_Key, _Seen] = {}
        self._old: dict[_Key, _Seen] = {}

    def get(self, key: _Key) -> _Seen | None:
        return self._new.get(key) or self._old.get(key)

    def put(self, key: _Key, seen: _Seen) -> None:
        self._new[key] = seen
        if len(self._new) >= self._most:
            self._old, self._new = self._new, {}

    def __len__(self) -> int:
        return len(self._new) + len(self._old)


def _key(flow: Flow) -> _Key:
    """What tells this packet from others, in its own headers and in those an error carries.

    Addresses, then ports or an echo's id: ``_AT``.
    """
    if flow.tcp_seq is not None:
        return _SEGMENT(flow)
    return _OTHER(flow) if flow.icmp_id is None else _ECHO(flow)


def _place(item: Item) -> _Place | None:
    device = item.first_device
    return None if device is None else (device.netns.inum, device.ifindex)


def _refer(item: Item, kind: str, seen: _Seen | None) -> Item:
    if seen is None or seen[1] > item.start_ns or seen[0] == item.id:
        return item
    reference = Reference(kind, seen[0], item.start_ns - seen[1])
    return item._replace(references=(*item.references, reference))
