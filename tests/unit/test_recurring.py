# SPDX-License-Identifier: GPL-2.0-only
"""What is made of patterns is what the correlator makes of each record by itself."""

from __future__ import annotations

import random
import struct
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_correlate import (
    C2,
    ETH0,
    ETHERNET,
    HOST,
    IP,
    TAKEN,
    TO_C2,
    TO_THE_BRIDGE,
    device,
    hop,
    names,
    record,
)
from tests.unit.test_wire import RECORDS
from tracer import recurring, wire
from tracer.alike import (
    Count,
    Item,
    One,
    changes,
    first_len,
    made,
    values,
)
from tracer.correlate import Correlator, Names
from tracer.errors import DecodeError
from tracer.model import Device, Journey, Netns
from tracer.recurring import Recurring
from tracer.topology.names import MOST_CHANGES

CHANGED = wire.STATE_KNOWN | wire.STATE_CT
PING = record(*TO_THE_BRIDGE, *TO_C2, *TAKEN)
REPLY = record(
    *TO_C2,
    wire.Note(wire.NOTE_TASK, int.from_bytes(b"ping", "little"), word=77),
    hop("skb_clone", 135, C2, ETH0),
    wire.Note(wire.NOTE_CLONE, 9),
    TAKEN[0],
    wire.Note(wire.NOTE_SOCKET, 3 << 32 | 1, word=C2, half=2),
    wire.Note(wire.NOTE_DROP, 0x2000, 2),
    TAKEN[1],
    flags=wire.LAST | wire.CLONE_QUEUED,
)
REWRITTEN = record(
    *TO_THE_BRIDGE,
    wire.Note(
        wire.NOTE_IP, struct.unpack("=Q", bytes([172, 17, 0, 9, 172, 17, 0, 3]))[0], 7, 0x43F
    ),
    wire.Note(wire.NOTE_STATE, 3 << 32, more=CHANGED << 32),
    *TO_C2,
    *TAKEN,
    state=CHANGED,
)
DAMAGED = PING._replace(flags=wire.LAST | wire.END_MISSED)
PIECE = record(*TO_THE_BRIDGE, flags=0)
MISSING = record(TO_THE_BRIDGE[0], *TO_C2, *TAKEN)
PLAYED = (PING, REPLY, REWRITTEN, DAMAGED, PIECE, MISSING)


TCP, UDP, ICMP, ICMPV6, GRE, HOP_BY_HOP = 6, 17, 1, 58, 47, 0
TRANSPORTS = {
    "tcp": (TCP, 40),
    "udp": (UDP, 8),
    "echo": (ICMP, 8),
    "echo6": (ICMPV6, 8),
    "unreachable": (ICMP, 36),
    "gre": (GRE, 12),
    "hop-by-hop": (HOP_BY_HOP, 16),
}
LINKS = ("ethernet", "none", "tagged", "beside", "both", "said by ip", "tag first")


def transport(kind: str, chance: random.Random) -> bytes:
    """Headers of one flow, of which the numbers are different each time."""
    two, four = chance.randbytes(2), chance.randbytes(4)
    seq = chance.randbytes(2)
    if kind == "tcp":
        begin = struct.pack("!HH4s4s", 4711, 80, four, chance.randbytes(4))
        length = chance.choice([0x50] * 3 + [0x80, 0xF0, 0x20])
        return begin + bytes([length, chance.choice([0x10, 0x18, 0x02])]) + chance.randbytes(26)
    echo = b"\0" + two + b"\0\7" + seq
    port = b"\0\7\0\x35" + four
    return {
        "udp": port,
        "echo": bytes([chance.choice([8, 8, 0])]) + echo,
        "echo6": bytes([chance.choice([128, 128, 129])]) + echo,
        "unreachable": b"\3\3" + two + bytes(4) + IP[:9] + bytes([UDP]) + IP[10:] + port,
        "gre": b"\0\0\x08\0" + four + two + seq,
        "hop-by-hop": bytes([UDP, *bytes(7)]) + port,
    }[kind]


def packet(link: str, version: int, kind: str, chance: random.Random) -> dict[str, Any]:
    """Members of a record: what is known of a packet that came over such a link."""
    number, size = TRANSPORTS[kind]
    ttl = chance.choice([64] * 5 + [63])
    says = chance.choice([84] * 4 + [0, size, 20 + size, 28, 30, 1500])
    if version == 4:
        first = chance.choice([0x45] * 8 + [0x46])
        fragment = chance.choice([0x4000] * 8 + [0x2000, 0x0010])
        ip = struct.pack("!BBHHH", first, 0, says, chance.getrandbits(16), fragment)
        ip += bytes([ttl, number]) + chance.randbytes(2) + IP[12:]
    else:
        ip = (
            struct.pack("!IHBB", 6 << 28, says, number, ttl) + bytes(15) + b"\1" + bytes(15) + b"\2"
        )
    ethertype = b"\x08\0" if version == 4 else b"\x86\xdd"
    addresses = ETHERNET[:12]
    tag = b"\x81\0\0\5"
    front, l2_len, protocol, tci = {
        "ethernet": (addresses + ethertype, 14, ethertype, None),
        "none": (b"", 0, ethertype, None),
        "tagged": (addresses + tag + ethertype, chance.choice([14, 18]), b"\x81\0", None),
        "beside": (addresses + ethertype, 14, ethertype, 5),
        "both": (addresses + tag + ethertype, 14, b"\x81\0", 9),
        "said by ip": (b"", 0, b"\0\0", None),
        "tag first": (b"\0\5" + ethertype, 0, b"\x81\0", None),
    }[link]
    whole = front + ip + transport(kind, chance) + chance.randbytes(wire.HEADER_BYTES)
    return {
        "headers": whole[: wire.HEADER_BYTES],
        "l2_len": l2_len,
        "protocol": protocol,
        "vlan_tci": tci,
        "pulled": chance.choice([0] * 5 + [14, -4]),
        "data": chance.choice([b"", b"", whole]),
    }


PACKETS = st.tuples(
    st.sampled_from(LINKS), st.sampled_from([4, 4, 6]), st.sampled_from(sorted(TRANSPORTS))
)


def varied(
    played: wire.Record, chance: random.Random, of: tuple[str, int, str] = ("ethernet", 4, "echo")
) -> wire.Record:
    """Another packet that takes the same way, or nearly."""
    now, slots = 0, list[wire.HopSlot | wire.Note]()
    for slot in played.slots:
        if isinstance(slot, wire.HopSlot):
            now = max(
                now + chance.choice([0, 1, 7, 500, 70_000]) - chance.choice([0] * 19 + [3]), 0
            )
            aged = slot.flags & wire.AGE_KNOWN
            arg = chance.choice([0, 5, 400, 10**6]) if aged else slot.arg
            cpu = chance.choice([slot.cpu] * 19 + [3])
            length = chance.choice([slot.len] * 3 + [40, 60, 1500])
            slots.append(slot._replace(dt_ns=now, arg=arg, cpu=cpu, len=length))
        elif slot.kind == wire.NOTE_CLONE:
            slots.append(slot._replace(value=chance.getrandbits(60)))
        else:
            slots.append(slot)
    return played._replace(
        id=chance.getrandbits(40),
        parent=chance.choice([0, 0, 12]),
        skb=chance.getrandbits(64),
        base_ns=chance.getrandbits(50),
        slots=tuple(slots),
        **packet(*of, chance),
    )


Told = Callable[[Recurring], None]
"""Comes to be known between two records."""


def hold(records: Iterable[wire.Record | Told], known: Names) -> list[Item | None]:
    """Both take them all; what the one under test has made."""
    reference, found = Correlator(known, "a"), Recurring(known, "a")
    taken = []
    for record_ in records:
        if not isinstance(record_, wire.Record):
            record_(found)
            continue
        journey = reference.take(record_)
        item = next(iter(found.take([wire.encode(record_)])), None)
        taken.append(item)
        if journey is None or item is None:
            assert item is journey
            continue
        assert made(item) == journey
        assert (item.id, item.parent, item.start_ns) == (*journey[:2], journey.start_ns)
        assert tuple(values(item)) == journey.flow
        assert item.outcome is journey.outcome
        assert item.duration_ns == journey.duration_ns
        assert item.first_device == journey.first_device
        assert first_len(item) == (journey.hops[0].len if journey.hops else 0)
        assert list(changes(item)) == [c for hop in journey.hops for c in hop.changes]
    assert reference.lost == found.correlator.lost
    return taken


@settings(deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.lists(st.sampled_from(PLAYED), min_size=1, max_size=3),
    st.lists(PACKETS, min_size=1, max_size=2),
    st.integers(1, 40),
)
def test_packets_that_take_the_same_ways(
    chance: random.Random, played: list[wire.Record], of: list[tuple[str, int, str]], many: int
) -> None:
    records = [varied(chance.choice(played), chance, chance.choice(of)) for _ in range(many)]
    hold(records, names())


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        (4, "tcp"),
        (4, "udp"),
        (4, "echo"),
        (4, "gre"),
        (6, "tcp"),
        (6, "udp"),
        (6, "echo6"),
        (6, "gre"),
    ],
)
@pytest.mark.parametrize("link", sorted({*LINKS} - {"tag first"}))
def test_what_is_not_the_same_in_a_flow_is_no_hindrance(link: str, version: int, kind: str) -> None:
    chance = random.Random(7)
    taken = hold(
        [PING._replace(**packet(link, version, kind, chance)) for _ in range(400)], names()
    )
    by_pattern = sum(isinstance(item, One) for item in taken)
    assert by_pattern > (60 if kind == "tcp" else 200)


@pytest.mark.parametrize("kind", sorted(TRANSPORTS))
@pytest.mark.parametrize("version", [4, 6])
def test_many_of_a_kind_however_short_or_out_of_order(version: int, kind: str) -> None:
    for number, link in enumerate(LINKS):
        chance = random.Random(number)
        taken = hold([varied(PING, chance, (link, version, kind)) for _ in range(300)], names())
        assert len(taken) == 300


@cache
def some_netns(inum: int) -> Netns:
    return Netns(inum, f"ns:{inum}")


@cache
def some_device(inum: int, ifindex: int) -> Device:
    return Device(some_netns(inum), ifindex, f"if{ifindex}")


WHOLE = RECORDS.map(lambda r: r._replace(flags=r.flags & ~wire.END_MISSED | wire.LAST, chunk=0))


@given(st.lists(RECORDS | WHOLE, max_size=4), st.integers(2, 4))
def test_any_records(records: list[wire.Record], times: int) -> None:
    known = Names(
        lambda inum, ifindex, _: some_device(inum, ifindex),
        lambda inum, _: some_netns(inum),
        lambda _: None,
        str,
        lambda *_: None,
    )
    hold([each for each in records for _ in range(times)], known)


def test_the_third_of_a_kind_is_made_of_what_was_learnt() -> None:
    taken = hold([PING] * 4 + [REPLY] * 3 + [REWRITTEN] * 3 + [MISSING] * 3, names())
    learnt = [isinstance(item, One) for item in taken]
    assert learnt == [False, False, True, True] + [False, False, True] * 3


def test_journeys_that_are_alike_have_the_same_in_common() -> None:
    slower = PING._replace(
        slots=tuple(
            slot._replace(dt_ns=10 * slot.dt_ns)
            for slot in PING.slots
            if isinstance(slot, wire.HopSlot)
        )
    )
    one, like, other = hold([PING, PING, PING, PING, slower], names())[2:]
    assert isinstance(one, One)
    assert isinstance(like, One)
    assert isinstance(other, One)
    assert one.alike is like.alike
    # The second call of process_backlog began after the enqueue there: a kind of its own.
    assert one.alike is not other.alike
    assert isinstance(hold([PING, PING, slower, slower, PING, slower], names())[-1], One)


@pytest.mark.parametrize("most", [1, 1024])
def test_journeys_that_are_alike_are_counted_together_as_one_by_one(most: int) -> None:
    taken = [i for i in hold([PING] * 5 + [REPLY] * 4 + [REWRITTEN], names()) if i is not None]
    assert {type(item) for item in taken} == {Journey, One}
    journeys = [made(item) for item in taken]
    count = Count(most=most)
    for at in range(0, len(taken), 3):
        count.add(taken[at : at + 3])
        assert len(count) <= most
    for _ in range(2):
        assert count.outcomes == Counter(j.outcome.value for j in journeys)
        assert count.hits == Counter(hop_.function for j in journeys for hop_ in j.hops)


@pytest.mark.parametrize("is_told", [False, True])
def test_names_are_those_of_the_time(*, is_told: bool) -> None:
    """Also of a packet that ended before a change and is read after it; whether that is told."""
    changed_ns = 5000
    new = Device(Netns(C2, "db"), ETH0, "eth0")

    def named(inum: int, ifindex: int, at_ns: int) -> Device:
        return new if inum == C2 and at_ns >= changed_ns else device(inum, ifindex)

    changes = [0]
    known = names()._replace(device=named)
    found = Recurring(known._replace(renames=lambda: changes[0]) if is_told else known)

    def last(base_ns: int) -> Device | None:
        (item,) = found.take([wire.encode(PING._replace(base_ns=base_ns))])
        return made(item).last_device

    old = device(C2, ETH0)
    assert [last(at) for at in (1000, 2000, 3000)] == [old] * 3
    if is_told:
        changes[0] += 1
    else:  # it is asked each time, whoever says that something has changed
        assert last(6000) is new
    found.renamed(changed_ns)
    assert [last(at) for at in (7000, 8000, 4000, 9000, 4800)] == [new, new, old, new, old]
    # ... and this one came to c2 after it was called otherwise
    assert last(changed_ns - 5) is new


class Renamed:
    """Devices that are called otherwise in between, told when that has happened or later."""

    def __init__(self) -> None:
        self.at_ns: list[int] = []
        self.asked = 0
        self.names = names()._replace(device=self.device, renames=lambda: len(self.at_ns))

    def device(self, inum: int, ifindex: int, at_ns: int) -> Device:
        self.asked += 1
        since = bisect_right(self.at_ns, at_ns)
        return Device(Netns(inum, f"ns:{inum}"), ifindex, f"if{ifindex}{'abc'[since % 3]}")

    def tell(self, at_ns: int, found: Recurring) -> None:
        insort(self.at_ns, at_ns)
        found.renamed(at_ns)


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(PLAYED), st.integers(1, 60))
def test_names_are_those_of_the_time_however_late_it_is_told(
    chance: random.Random, played: wire.Record, many: int
) -> None:
    called = Renamed()
    hold(
        [
            partial(called.tell, chance.randrange(10**6))
            if chance.random() < 0.2
            else varied(played, chance)._replace(base_ns=chance.randrange(10**6))
            for _ in range(many)
        ],
        called.names,
    )


def test_what_is_read_after_changes_is_made_of_what_was_learnt_too() -> None:
    called = Renamed()
    found = Recurring(called.names)
    duration = max(slot.dt_ns for slot in PING.slots if isinstance(slot, wire.HopSlot))
    times, each = 6, 10
    for at_ns in range(each * duration, times * each * duration, each * duration):
        called.tell(at_ns, found)
    begins = range(duration // 2, times * each * duration, duration)
    taken = found.take([wire.encode(PING._replace(base_ns=at_ns)) for at_ns in begins])
    asked = called.asked
    correlator = Correlator(called.names)
    for item, at_ns in zip(taken, begins, strict=True):
        assert made(item) == correlator.take(PING._replace(base_ns=at_ns))
    # The first of each name, and the last, which is under way while things come to be called so.
    one_by_one = [at for at, item in enumerate(taken) if isinstance(item, Journey)]
    assert one_by_one == sorted({1, *range(0, times * each, each), *range(9, len(taken) - 1, each)})
    assert asked <= len(one_by_one) * len(PING.slots)


@pytest.mark.parametrize("is_known", [False, True])
def test_what_is_found_out_when_others_are_asked_for_holds_at_once(*, is_known: bool) -> None:
    """Also in the same batch; whether packets like the one that makes it known came before."""
    telling = 77
    renames, tells, name = 0, False, "ns:2"

    def named(inum: int, ifindex: int, at_ns: int) -> Device:
        nonlocal renames, tells, name
        if ifindex == telling and tells:
            renames, tells, name = renames + 1, False, "db"
        return Device(Netns(inum, name if inum == C2 else "host"), ifindex, f"if{ifindex}")

    found = Recurring(names()._replace(device=named, renames=lambda: renames))
    other = wire.encode(record(*TO_THE_BRIDGE, hop("veth_xmit", 90, HOST, telling)))
    ping = wire.encode(PING)
    found.take([ping, ping, ping] + [other, other, other] * is_known)
    renames, tells = renames + 1, True
    first, _, last = map(made, found.take([ping, other, ping]))
    assert first.last_device == Device(Netns(C2, "ns:2"), ETH0, f"if{ETH0}")
    assert last.last_device == Device(Netns(C2, "db"), ETH0, f"if{ETH0}")


def test_it_remembers_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "MOST", 4)
    found = Recurring(names())
    for cpu in [*range(100), *range(100)]:
        first, *others = PING.slots
        assert isinstance(first, wire.HopSlot)
        for _ in range(3):
            found.take([wire.encode(PING._replace(slots=(first._replace(cpu=cpu), *others)))])
    assert len(found) <= 3 * 4


def test_the_last_changes_are_remembered_longer_than_names_are() -> None:
    called = Renamed()
    found = Recurring(called.names)
    duration = max(slot.dt_ns for slot in PING.slots if isinstance(slot, wire.HopSlot))
    many = 2 * MOST_CHANGES
    for number in range(1, 4 * many):
        called.tell(2 * duration * number, found)
    correlator = Correlator(called.names)
    for number in range(3 * many, 4 * many):
        for since in (duration // 2, 3 * duration // 2):  # the later one while it is changed
            ping = PING._replace(base_ns=2 * duration * number + since)
            assert [made(item) for item in found.take([wire.encode(ping)])] == [
                correlator.take(ping)
            ]
    assert len(found._changes) < 3 * many


def test_what_is_no_record_is_said() -> None:
    with pytest.raises(DecodeError):
        Recurring(names()).take([b"too short"])
    found = Recurring(names())
    found.take([wire.encode(PING)] * 4)
    for missing in (1, 4, 24, len(PING.slots) * 24):
        with pytest.raises(DecodeError):
            found.take([wire.encode(PING)[:-missing]])
