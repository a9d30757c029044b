# SPDX-License-Identifier: GPL-2.0-only
"""Names: one dict access where they are known, one reading a second where they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracer.model import Device, Netns, Topology, TopologyChange
from tracer.topology import links, names, netns
from tracer.topology.links import Link
from tracer.topology.names import MOST_CHANGES, PATIENCE_S, Names


class World:
    """A host with devices ``ifnames`` (by ifindex), and how often they were read."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ifnames = {1: "lo", 2: "eth0"}
        self.readings = 0

    def inside(self, path: str, work: Callable[[], Any]) -> Any:
        assert path == netns.OWN
        return work()

    def read(self) -> list[Link]:
        self.readings += 1
        return [
            Link(ifindex, ifname, None, None, True, None, False, None, None)
            for ifindex, ifname in self.ifnames.items()
        ]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(netns, "inside", world.inside)
    monkeypatch.setattr(links, "read", world.read)
    return world


@pytest.fixture
def known(world: World) -> Names:
    return Names(clock=lambda: world.now)


def test_a_known_device_costs_one_dict_access(known: Names, world: World) -> None:
    host = known.host.inum
    first = known[host, 2]
    assert first == Device(Netns(host, "host"), 2, "eth0")
    assert known[host, 2] is first
    assert known.device(host, 2) is first
    assert known[host, 1].ifname == "lo"
    assert world.readings == 1
    assert type(known).__getitem__ is dict.__getitem__


def test_an_unknown_device_is_read_for_once_a_second(known: Names, world: World) -> None:
    host = known.host.inum
    for _ in range(1000):
        assert known[host, 7] == Device(Netns(host, "host"), 7, "if7")
    assert world.readings == 1
    world.now += PATIENCE_S
    assert known[host, 7].ifname == "if7"
    assert world.readings == 2


def test_a_device_that_appears_is_found_after_a_second_or_a_refresh(
    known: Names, world: World
) -> None:
    host = known.host.inum
    assert known[host, 7].ifname == "if7"
    world.ifnames[7] = "veth7"
    assert known[host, 7].ifname == "if7"
    world.now += PATIENCE_S
    assert known[host, 7].ifname == "veth7"
    world.ifnames[8] = "veth8"
    known.refresh()
    assert known[host, 8].ifname == "veth8"


def test_a_new_name_replaces_the_old_and_the_same_name_is_the_same_object(
    known: Names, world: World
) -> None:
    host = known.host.inum
    loopback, ethernet = known[host, 1], known[host, 2]
    world.ifnames[2] = "wan"
    known.refresh()
    assert known[host, 1] is loopback
    assert known[host, 2] == Device(ethernet.netns, 2, "wan")


def test_a_device_that_goes_keeps_its_name(known: Names, world: World) -> None:
    ethernet = known[known.host.inum, 2]
    del world.ifnames[2]
    known.refresh()
    assert known[known.host.inum, 2] is ethernet


def test_names_are_made_safe(known: Names, world: World) -> None:
    world.ifnames[3] = "v\x1b[31mx\u202e"
    assert known[known.host.inum, 3].ifname == r"v\x1b[31mx\u202e"


def test_a_namespace_nobody_knows(known: Names, world: World) -> None:
    assert known[5, 3] == Device(Netns(5, "ns:5"), 3, "if3")
    assert known.netns(5) == Netns(5, "ns:5")
    assert world.readings == 0


def test_a_namespace_that_cannot_be_read_is_no_error(
    known: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: str, work: Callable[[], Any]) -> Any:
        raise FileNotFoundError(path)

    monkeypatch.setattr(netns, "inside", gone)
    assert known[known.host.inum, 1].ifname == "if1"


def test_memory_is_bounded(known: Names, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MOST_DEVICES", 10)
    host = known.host.inum
    for ifindex in range(3, 100):
        world.ifnames = {ifindex: f"veth{ifindex}"}
        world.now += PATIENCE_S
        assert known[host, ifindex].ifname == f"veth{ifindex}"
        assert known[host, 1000 + ifindex].ifname == f"if{1000 + ifindex}"
        assert known[ifindex, 1].netns.name == f"ns:{ifindex}"
    assert len(known) <= 10
    assert len(known._unknown) <= 10
    assert len(known._read_at) <= 10


def test_a_lab_is_shown_without_its_prefix_unless_that_name_is_taken() -> None:
    assert names._short("skbtrace-c1", {"skbtrace-c1"}) == "c1"
    assert names._short("skbtrace-c1", {"skbtrace-c1", "c1"}) == "skbtrace-c1"
    assert names._short("skbtrace-host", {"skbtrace-host"}) == "skbtrace-host"
    assert names._short("web", {"web"}) == "web"


def test_a_file_that_is_no_namespace_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half-made").touch()
    monkeypatch.setattr(netns, "RUN_NETNS", tmp_path)
    monkeypatch.setattr(netns, "RUN_DOCKER_NETNS", tmp_path / "missing")
    known = Names()
    assert [place.netns.name for place in known.places().values()][:1] == ["host"]
    assert "half-made" not in {place.netns.name for place in known.places().values()}


# -- what was, and what is -------------------------------------------------------------------


def changed(names_: Names, at_ns: int, *devices: Device) -> None:
    names_.change(TopologyChange(at_ns, Topology("docker0")), devices)


def test_a_hop_is_named_by_what_was_true_when_it_happened(known: Names, world: World) -> None:
    host = known.host
    assert known.device(host.inum, 2, at_ns=50).ifname == "eth0"
    world.ifnames[2] = "wan0"
    changed(known, 100, Device(host, 2, "wan0"))
    assert known.device(host.inum, 2, at_ns=99).ifname == "eth0"
    assert known.device(host.inum, 2, at_ns=100).ifname == "wan0"
    assert known.device(host.inum, 2).ifname == "wan0"
    changed(known, 200, Device(host, 2, "up0"))
    told = [known.device(host.inum, 2, at_ns).ifname for at_ns in (0, 99, 100, 199, 200, 999)]
    assert told == ["eth0", "eth0", "wan0", "wan0", "up0", "up0"]


def test_what_a_change_does_not_speak_of_is_read_again(known: Names, world: World) -> None:
    assert known.device(known.host.inum, 1, at_ns=50).ifname == "lo"
    world.ifnames[1] = "loop"
    changed(known, 100)
    assert known.device(known.host.inum, 1, at_ns=50).ifname == "lo"
    assert known.device(known.host.inum, 1, at_ns=150).ifname == "loop"


def test_an_inode_number_that_is_used_again_is_two_namespaces(known: Names) -> None:
    web, db = Netns(7, "web"), Netns(7, "db")
    changed(known, 100, Device(web, 2, "eth0"))
    changed(known, 200, Device(db, 2, "eth0"))
    assert known.netns(7, at_ns=150) == known.device(7, 2, at_ns=150).netns == web
    assert known.device(7, 2, at_ns=200).netns == db


def test_a_name_that_becomes_known_holds_for_the_time_before(known: Names) -> None:
    for name in ("ns:7", "runc:[2:INIT]:831", "0123456789ab"):
        changed(known, 100, Device(Netns(7, name), 2, "eth0"))
        changed(known, 200, Device(Netns(7, "web"), 2, "eth0"))
        assert known.device(7, 2, at_ns=150).netns.name == "web"
        assert known.netns(7, at_ns=150).name == "web"


def test_so_many_changes_are_remembered_and_no_more(known: Names) -> None:
    for number in range(MOST_CHANGES + 2):
        changed(known, number, Device(Netns(7, f"c{number}x"), 2, "eth0"))
    assert len(known._past) == MOST_CHANGES
