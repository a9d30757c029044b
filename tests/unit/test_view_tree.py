# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.journeys import REQUEST
from tracer.errors import TraceFileError
from tracer.model import Journey, Reference
from tracer.view.tree import families


def packet(name: str, parent: str | None = None) -> Journey:
    return REQUEST._replace(id=name, parent=parent)


def shown(*journeys: Journey) -> list[str]:
    """One text per family: a journey per word, a dot per level before it."""
    return [
        " ".join("." * depth + journey.id for depth, journey in family)
        for family in families(lambda: journeys)
    ]


def test_a_branch_stands_below_its_parent_whichever_ended_first() -> None:
    assert shown(packet("2", "1"), packet("1"), packet("3", "1")) == ["1 .2 .3"]


def test_a_segment_that_is_sent_again_stands_below_the_first() -> None:
    def again(name: str, of: str) -> Journey:
        return packet(name)._replace(references=(Reference("repeats", of, 5),))

    answer = packet("4")._replace(references=(Reference("answers", "1", 5),))
    assert shown(packet("1"), again("2", "1"), packet("5", "2"), again("3", "1"), answer) == [
        "1 .2 ..5 .3",
        "4",
    ]
    assert shown(again("2", "1")) == ["2"]


def test_branches_of_branches_go_on_to_the_right() -> None:
    four = (packet("4", "2"), packet("3", "1"), packet("2", "1"), packet("1"))
    assert shown(*four) == ["1 .3 .2 ..4"]


def test_without_its_parent_a_branch_stands_where_it_ended() -> None:
    assert shown(packet("1"), packet("3", "2"), packet("4", "3"), packet("5")) == [
        "1",
        "3 .4",
        "5",
    ]


def test_a_chain_of_any_length_is_followed() -> None:
    chain = [packet(str(n), str(n - 1) if n else None) for n in range(5000)]
    [family] = families(lambda: chain)
    assert [depth for depth, _ in family] == list(range(5000))


def test_what_is_its_own_ancestor_is_shown_all_the_same() -> None:
    assert shown(packet("1", "1")) == ["1"]
    assert shown(packet("1", "2"), packet("2", "1")) == ["1 .2"]


def test_what_is_written_between_the_readings_is_not_lost() -> None:
    journeys = [packet("2", "1"), packet("1")]
    families_of_a_file_that_grows = []
    for family in families(lambda: iter(tuple(journeys))):
        families_of_a_file_that_grows.append([j.id for _, j in family])
    assert families_of_a_file_that_grows == [["1", "2"]]

    def read() -> Iterator[Journey]:
        yield from tuple(journeys)
        journeys.append(packet("3", "1"))

    assert [[j.id for _, j in family] for family in families(read)] == [["1", "2"], ["3"]]


def test_what_is_wrong_with_the_file_is_said_after_what_is_whole() -> None:
    def read() -> Iterator[Journey]:
        yield from (packet("2", "1"), packet("1"))
        raise TraceFileError("cut off")

    read_families = families(read)
    assert [j.id for _, j in next(read_families)] == ["1", "2"]
    with pytest.raises(TraceFileError):
        next(read_families)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 12)), max_size=12))
def test_each_journey_is_shown_once(relations: list[tuple[int, int | None]]) -> None:
    journeys = [packet(str(i), None if p is None else str(p)) for i, p in relations]
    found = [(j.id, j.parent) for family in families(lambda: journeys) for _, j in family]
    assert sorted(map(str, found)) == sorted(str((j.id, j.parent)) for j in journeys)
