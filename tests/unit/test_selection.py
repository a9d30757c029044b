# SPDX-License-Identifier: GPL-2.0-only
"""Which journeys are wanted: playbooks of the lab's journeys, and what holds for any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import (
    ALL,
    C1,
    C1_IP,
    C2,
    C2_IP,
    CLONE,
    DROPPED,
    HOST,
    READ,
    REQUEST,
    TCP,
    UNFINISHED,
)
from tracer.model import Change, Hop, Journey, Netns, Outcome, Socket, Task
from tracer.selection import Namespaces, Selection, met

NOWHERE = Netns(5, "nowhere")
any_journeys = settings(max_examples=40)


def of(*netnses: Netns) -> Namespaces:
    return Namespaces(frozenset(netns.inum for netns in netnses))


def only(field: str, namespaces: Namespaces) -> Selection:
    """What one option asks for."""
    asked: Any = {field: namespaces}
    return Selection(**asked)


def wanted(selection: Selection, journeys: Iterable[str] = ALL) -> set[str]:
    """Names of the lab's journeys that are wanted."""
    return {name for name in journeys if selection(ALL[name])}


def test_nothing_asked_is_everything() -> None:
    assert wanted(Selection()) == set(ALL)


@pytest.mark.parametrize("field", ["netns", "container"])
def test_a_namespace_on_the_way(field: str) -> None:
    """The clone is taken in c1; what is absorbed at the uplink never gets into a container."""
    assert wanted(only(field, of(C1))) == set(ALL) - {"arp-flooded", "absorbed"}
    assert wanted(only(field, of(NOWHERE))) == set()
    assert "clone" not in wanted(only(field, of(HOST)))


def test_a_device_on_the_way() -> None:
    def through(*names: str) -> set[str]:
        return wanted(Selection(devices=frozenset(names)))

    everywhere = {
        f"{d.netns.name}/{d.ifname}" for j in ALL.values() for h in j.hops if (d := h.device)
    }
    for name in everywhere:
        passing = {
            key
            for key, journey in ALL.items()
            if name in {f"{d.netns.name}/{d.ifname}" for h in journey.hops if (d := h.device)}
        }
        assert through(name) == passing != set()
    assert through("eth0") == through("c1/eth0", "c2/eth0") > through("c1/eth0")
    assert through("c1") == through("host/eth0") == set()
    assert through() == set(ALL)


def test_several_of_one_option_are_any_and_different_options_all_hold() -> None:
    assert wanted(Selection(netns=of(C2, NOWHERE))) == wanted(Selection(netns=of(C2)))
    both = Selection(netns=of(C1), container=of(C2))
    assert wanted(both) == wanted(Selection(netns=of(C1))) & wanted(Selection(netns=of(C2)))
    assert wanted(Selection(netns=of(C1), origin=of(NOWHERE))) == set()


def test_where_it_begins() -> None:
    assert wanted(Selection(origin=of(C2))) == {"reply", "unreachable", "read"}
    assert wanted(Selection(origin=of(HOST))) == {"arp-flooded", "absorbed"}


def test_the_process_that_sends_it_may_be_in_another_namespace_than_its_socket() -> None:
    assert READ.hops[0].task == Task(201, "nc", C2)
    assert Selection(origin=of(C2))(READ)
    assert Selection(origin=of(C1))(READ)
    late = READ._replace(hops=(READ.hops[0]._replace(task=None), *READ.hops[1:]))
    assert not Selection(origin=of(C2))(late)


def test_where_it_ends() -> None:
    assert wanted(Selection(target=of(C1))) == {"reply", "clone", "unreachable"}
    assert wanted(Selection(target=of(C2))) == {"request", "tcp", "udp", "arp-flooded", "read"}


def test_the_socket_that_took_it_is_its_end() -> None:
    """A process's socket stays in the namespace it was made in."""
    moved = READ.hops[13]._replace(socket=Socket(HOST, "inet", "dgram", "udp"))
    journey = READ._replace(hops=(*READ.hops[:13], moved, READ.hops[14]))
    assert Selection(target=of(HOST))(journey)
    assert not Selection(target=of(C2))(journey)


def test_a_packet_socket_that_looks_on_is_not_its_end() -> None:
    seen = REQUEST.hops[4]._replace(socket=Socket(HOST, "packet", "raw", "packet"))
    journey = REQUEST._replace(hops=(*REQUEST.hops[:4], seen, *REQUEST.hops[5:]))
    assert Selection(target=of(C2))(journey)
    assert not Selection(target=of(HOST))(journey)


@pytest.mark.parametrize(
    "outcome", [Outcome.DROPPED, Outcome.UNFINISHED, Outcome.DAMAGED, Outcome.TRANSMITTED]
)
def test_what_did_not_arrive_was_on_its_way(outcome: Outcome) -> None:
    lost = UNFINISHED._replace(outcome=outcome)
    assert Selection(target=of(C2), addresses=frozenset({C2_IP}))(lost)
    assert not Selection(target=of(C2))(lost)
    assert not Selection(target=of(C1), addresses=frozenset({C1_IP}))(lost)


def test_what_somebody_else_took_was_not_on_its_way() -> None:
    """Who has c2? asks c1; the host looks at the question, too."""
    assert wanted(Selection(target=of(C2), addresses=frozenset({C2_IP}))) == {
        *("request", "tcp", "udp", "arp-flooded", "read"),
        *("unfinished", "damaged", "absorbed"),
    }


def test_where_it_goes_is_what_nat_made_of_it() -> None:
    rewritten = DROPPED.hops[3]._replace(
        changes=(Change("dst", "198.51.100.7", "10.0.0.9"), Change("dst", "10.0.0.9", None))
    )
    journey = DROPPED._replace(hops=(*DROPPED.hops[:3], rewritten, *DROPPED.hops[4:]))

    def to(address: str) -> Selection:
        return Selection(target=of(NOWHERE), addresses=frozenset({address}))

    assert to("10.0.0.9")(journey)
    assert not to("198.51.100.7")(journey)
    assert to("198.51.100.7")(DROPPED)


def test_a_branch_is_judged_by_itself() -> None:
    ends_in_c1 = Selection(origin=of(C1), target=of(C1))
    assert ends_in_c1(CLONE)
    assert not ends_in_c1(ALL["reply"])


def test_namespaces_go_by_number_or_name() -> None:
    assert Selection(netns=Namespaces(names=frozenset({"c2"})))(TCP)
    assert not Selection(netns=Namespaces(names=frozenset({"c3"})))(TCP)
    assert not Namespaces()
    assert C1 not in Namespaces()


def test_a_journey_of_which_no_hop_is_known_is_nobodys() -> None:
    empty = DROPPED._replace(hops=())
    for selection in (Selection(netns=of(C1)), Selection(origin=of(C1)), Selection(target=of(C1))):
        assert not selection(empty)


@any_journeys
@given(any_journey.journeys())
def test_whoever_is_asked_for_by_everything_it_met_passes(journey: Journey) -> None:
    everywhere = of(NOWHERE, *met(journey))
    devices = any(hop.device is not None for hop in journey.hops)
    assert Selection(netns=everywhere, container=everywhere)(journey) == devices
    assert Selection(origin=everywhere)(journey) or not devices
    assert Selection(target=everywhere)(journey) or not devices
    assert not Selection(netns=of(Netns(2**40, "other")))(journey)


@any_journeys
@given(any_journey.journeys(), st.sets(any_journey.netnses, max_size=2), any_journey.netnses)
def test_more_namespaces_select_no_less_and_more_options_no_more(
    journey: Journey, some: set[Netns], one: Netns
) -> None:
    for field in ("netns", "container", "origin", "target"):
        few, more = of(*some), of(*some, one)
        if some and only(field, few)(journey):
            assert only(field, more)(journey)
        if replace(only(field, few), netns=more)(journey):
            assert Selection(netns=more)(journey)


@any_journeys
@given(any_journey.journeys(least_hops=1))
def test_where_it_begins_and_ends_it_also_passes(journey: Journey) -> None:
    """But for a process or a socket whose namespace it met in no other way."""
    plain = journey._replace(hops=tuple(Hop(*hop[:8]) for hop in journey.hops))
    for netns in set(met(plain)):
        for selection in (Selection(origin=of(netns)), Selection(target=of(netns))):
            assert not selection(plain) or Selection(netns=of(netns))(plain)
