# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest

from tests.unit.journeys import CAPTURE, DROPPED, REQUEST, SUMMARY, TCP, one_of
from tracer import journal as module
from tracer.alike import Batch
from tracer.journal import LOOK_AT, Journal
from tracer.model import Journey, Outcome


def some(count: int, *, of: Journey = REQUEST, since: int = 0) -> list[Journey]:
    return [of._replace(id=str(since + n), start_ns=since + n) for n in range(count)]


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_journeys_are_found_by_number_and_by_id() -> None:
    journal = Journal()
    journal.begin(CAPTURE)
    journal.journeys(some(5))
    assert (journal.seen, journal.first, journal.earlier) == (5, 0, ())
    assert [j.id for n in range(5) if (j := journal.journey(n)) is not None] == list("01234")
    assert journal.number_of("3") == 3
    assert journal.journey(5) is None
    assert journal.journey(-1) is None
    assert journal.number_of("9") is None
    journal.end(SUMMARY)
    assert journal.summary is SUMMARY


def test_journeys_that_need_not_be_made_are_kept_as_others_are() -> None:
    slow = TCP.hops[-1]._replace(dt_ns=10**9)
    came = [*some(1000, of=TCP), DROPPED]
    came += [TCP._replace(id="slow", hops=(*TCP.hops[:-1], slow)), *some(50, of=TCP, since=2000)]
    made, unmade = Journal(most=20), Journal(most=20)
    made.journeys(came)
    unmade.journeys(Batch([one_of(each) for each in came]))
    assert unmade.drops == made.drops == 1
    assert unmade.earlier == made.earlier
    assert len(made.earlier) == 2
    for number in (*made.earlier, *range(made.first, made.seen)):
        found, expected = unmade.journey(number), made.journey(number)
        assert found is not None
        assert found._replace(frame=None) == expected
        assert unmade.number_of(found.id) == number
    with made.tally() as one, unmade.tally() as other:
        assert one.took.count == other.took.count > 0


def test_the_latest_are_kept_and_of_the_others_the_drops() -> None:
    journal = Journal(most=10)
    journal.journeys(some(3))
    journal.journeys([DROPPED._replace(id="d")])
    journal.journeys(some(40, since=100))
    assert (journal.seen, journal.first) == (44, 34)
    assert journal.earlier == (3,)
    assert journal.number_of("d") == 3
    assert journal.dropped(3)
    assert not journal.dropped(40)
    assert not journal.dropped(0)  # it is gone
    kept = journal.journey(3)
    assert kept is not None
    assert kept.outcome is Outcome.DROPPED
    assert journal.journey(0) is None
    assert journal.number_of("0") is None


def test_also_drops_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMARKABLE_MOST", 4)
    journal = Journal(most=2)
    journal.journeys(some(20, of=DROPPED))
    assert journal.earlier == (14, 15, 16, 17)
    assert journal.first == 18
    assert len(journal._numbers) == 6
    assert journal.drops == 20


def test_what_took_unusually_long_is_kept() -> None:
    journal = Journal(most=10)
    journal.journeys(some(600, of=TCP))
    slow = TCP.hops[-1]._replace(dt_ns=100 * TCP.duration_ns)
    journal.journeys([TCP._replace(id="slow", hops=(*TCP.hops[:-1], slow))])
    journal.journeys(some(50, of=TCP, since=1000))
    assert journal.earlier == (600,)
    assert journal.number_of("slow") == 600


def test_an_id_that_comes_again_is_the_later_ones() -> None:
    journal = Journal(most=2)
    journal.journeys(some(2) + some(1))
    assert journal.number_of("0") == 2
    journal.journeys(some(2, since=50))
    assert journal.number_of("0") is None


def test_what_is_frozen_stays() -> None:
    journal = Journal(most=10)
    journal.journeys(some(8))
    frozen = journal.frozen()
    journal.journeys(some(30, since=100))
    assert (frozen.seen, frozen.first) == (8, 0)
    assert frozen.number_of("2") == 2
    assert journal.number_of("2") is None


def test_bytes_are_made_a_journey_when_it_is_wanted() -> None:
    made: list[bytes] = []

    def make(line: bytes) -> Journey:
        made.append(line)
        return REQUEST._replace(id=line.decode())

    clock = Clock()
    journal = Journal(make, clock=clock)
    journal.lines([(str(n), n == 7, str(n).encode()) for n in range(10 * module.COUNTED_PER_S)])
    assert len(made) == 10 * module.COUNTED_PER_S // LOOK_AT  # a flood: for the counts
    assert (journal.drops, journal.seen) == (1, 10 * module.COUNTED_PER_S)
    assert journal.dropped(journal.seen - 1) is False
    found = journal.journey(journal.seen - 3)
    assert found is not None
    assert found.id == str(journal.seen - 3)


def test_bytes_that_are_no_journey_cost_none_that_came_before() -> None:
    def make(line: bytes) -> Journey:
        if line == b"3":
            raise KeyError(line)
        return REQUEST._replace(id=line.decode())

    journal = Journal(make, clock=Clock())
    with pytest.raises(KeyError):
        journal.lines([(str(n), True, str(n).encode()) for n in range(5)])
    assert (journal.seen, journal.drops) == (3, 3)


def test_a_calm_stream_is_counted_whole_and_of_a_flood_some_for_all() -> None:
    clock = Clock()
    journal = Journal(clock=clock)
    for _ in range(20):
        clock.now += 1
        journal.journeys(some(100))
    with journal.tally() as tally:
        assert (tally.journeys, tally.stand_for) == (2000, 2000)
    for _ in range(20):
        clock.now += 0.1
        journal.journeys(some(16 * 250))
    with journal.tally() as tally:
        assert tally.journeys < 2000 + 20 * 4000 / 4
        assert tally.stand_for == pytest.approx(2000 + 20 * 4000, rel=0.01)


def test_one_thread_fills_it_while_another_looks() -> None:
    journal = Journal(most=50)

    def fill() -> None:
        for n in range(200):
            journal.journeys(some(20, since=20 * n, of=DROPPED if n % 5 == 0 else REQUEST))

    def looks() -> Iterator[Journey | None]:
        while filler.is_alive():
            for number in (*journal.earlier, journal.first, journal.seen - 1):
                yield journal.journey(number)

    filler = Thread(target=fill)
    filler.start()
    assert all(isinstance(journey, Journey | None) for journey in looks())
    filler.join()
    assert journal.seen == 4000
