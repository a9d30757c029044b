# SPDX-License-Identifier: GPL-2.0-only
"""What is made of patterns is what the correlator makes of each record by itself."""

from __future__ import annotations

import random
import struct
from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_correlate import (
    C2,
    ETH0,
    ETHERNET,
    HEADERS,
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
from tracer.correlate import Correlator, Names
from tracer.errors import DecodeError
from tracer.hops import Hops, count
from tracer.model import Device, Journey, Netns
from tracer.recurring import Recurring

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


def varied(played: wire.Record, chance: random.Random) -> wire.Record:
    """Another packet that takes the same way, or nearly."""
    now, slots = 0, list[wire.HopSlot | wire.Note]()
    for slot in played.slots:
        if isinstance(slot, wire.HopSlot):
            now = max(now + chance.choice([0, 1, 7, 500, 70_000]) - chance.choice([0] * 9 + [3]), 0)
            aged = slot.flags & wire.AGE_KNOWN
            arg = chance.choice([0, 5, 400, 10**6]) if aged else slot.arg
            cpu = chance.choice([slot.cpu] * 9 + [3])
            length = chance.choice([slot.len, 40, 1500])
            slots.append(slot._replace(dt_ns=now, arg=arg, cpu=cpu, len=length))
        elif slot.kind == wire.NOTE_CLONE:
            slots.append(slot._replace(value=chance.getrandbits(60)))
        else:
            slots.append(slot)
    ttl = chance.choice([64] * 5 + [63])
    ip = IP[:4] + chance.randbytes(2) + IP[6:8] + bytes([ttl]) + IP[9:]
    echo = struct.pack("!BBHHH", chance.choice([8, 0]), 0, 0, chance.choice([7, 8]), 1)
    return played._replace(
        id=chance.getrandbits(40),
        parent=chance.choice([0, 0, 12]),
        skb=chance.getrandbits(64),
        base_ns=chance.getrandbits(50),
        slots=tuple(slots),
        headers=(ETHERNET + ip + echo).ljust(wire.HEADER_BYTES, b"\0"),
        vlan_tci=chance.choice([None] * 9 + [5]),
        data=chance.choice([b"", b"", HEADERS + b"what it carries"]),
    )


def hold(records: list[wire.Record], known: Names) -> list[Journey | None]:
    """Both take them all; what the one under test has made."""
    reference, found = Correlator(known, "a"), Recurring(known, "a")
    made = []
    for each in records:
        expected, journey = reference.take(each), found.take(wire.encode(each))
        assert journey == expected
        if journey is not None and isinstance(journey.hops, Hops):
            assert list(journey.hops.times) == [h.dt_ns for h in journey.hops]
            assert list(journey.hops.lengths) == [h.len for h in journey.hops]
        made.append(journey)
    assert reference.lost == found.correlator.lost
    return made


@given(st.randoms(use_true_random=False), st.lists(st.sampled_from(PLAYED), max_size=40))
def test_packets_that_take_the_same_ways(chance: random.Random, played: list[wire.Record]) -> None:
    hold([varied(each, chance) for each in played], names())


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
    made = hold([PING] * 4 + [REPLY] * 3 + [REWRITTEN] * 3 + [MISSING] * 3, names())
    learnt = [isinstance(j.hops, Hops) for j in made if j is not None]
    assert learnt == [False, False, True, True] + [False, False, True] * 3


def test_hops_of_journeys_that_are_alike_have_the_same_in_common() -> None:
    slower = PING._replace(
        slots=tuple(
            slot._replace(dt_ns=10 * slot.dt_ns)
            for slot in PING.slots
            if isinstance(slot, wire.HopSlot)
        )
    )
    one, other = hold([PING, PING, PING, slower], names())[2:]
    assert one is not None
    assert other is not None
    assert isinstance(one.hops, Hops)
    assert isinstance(other.hops, Hops)
    assert one.hops != other.hops
    # The second call of process_backlog began after the enqueue there: a kind of its own.
    assert one.hops.alike is not other.hops.alike
    third = hold([PING, PING, slower, slower, PING, slower], names())[-1]
    assert third is not None
    assert isinstance(third.hops, Hops)


def test_hops_that_are_alike_are_counted_together_as_one_by_one() -> None:
    made = [j for j in hold([PING] * 5 + [REPLY] * 4 + [REWRITTEN], names()) if j is not None]
    assert {type(j.hops) for j in made} == {tuple, Hops}
    one_by_one = Counter(hop.function for j in made for hop in j.hops)
    assert count([j.hops for j in made], "function") == one_by_one
    assert count([j.hops for j in made if isinstance(j.hops, Hops)], "cpu").total() > 5


def test_names_are_those_of_the_time() -> None:
    """Also of a packet that ended before a change and is read after it."""
    changed_ns = 5000
    new = Device(Netns(C2, "db"), ETH0, "eth0")

    def named(inum: int, ifindex: int, at_ns: int) -> Device:
        return new if inum == C2 and at_ns >= changed_ns else device(inum, ifindex)

    found = Recurring(names()._replace(device=named))

    def last(base_ns: int) -> Device | None:
        journey = found.take(wire.encode(PING._replace(base_ns=base_ns)))
        assert journey is not None
        return journey.last_device

    old = device(C2, ETH0)
    assert [last(at) for at in (1000, 2000, 3000)] == [old] * 3
    assert last(6000) is new  # it is asked each time, whoever says that something has changed
    found.renamed(changed_ns)
    assert [last(at) for at in (7000, 8000, 4000, 9000, 4800)] == [new, new, old, new, old]
    # ... and this one came to c2 after it was called otherwise
    assert last(changed_ns - 5) is new


def test_it_remembers_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "MOST", 4)
    found = Recurring(names())
    for cpu in [*range(100), *range(100)]:
        first, *others = PING.slots
        assert isinstance(first, wire.HopSlot)
        for _ in range(3):
            found.take(wire.encode(PING._replace(slots=(first._replace(cpu=cpu), *others))))
    assert len(found) <= 3 * 4


def test_what_is_no_record_is_said() -> None:
    with pytest.raises(DecodeError):
        Recurring(names()).take(b"too short")
    with pytest.raises(DecodeError):
        Recurring(names()).take(wire.encode(PING)[:-1])
