# SPDX-License-Identifier: GPL-2.0-only
"""What there is of a lab: told by names, by what is written down, and by marks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracer.process import Process
from tracer.topology import links, netns, record
from tracer.topology.links import Link
from tracer.topology.record import Record
from tracer.topology.spec import HOST, LABS, Lab
from tracer.topology.state import State, Status, as_called, is_of_another, path_of, status

VETH, BRIDGE, NAT, DOCKER0 = (LABS[name] for name in ("veth", "bridge", "nat", "docker0"))


class World:
    """Namespaces by path, each with its devices; or with the error of who looks into it."""

    def __init__(self) -> None:
        self.links: dict[str, list[Link] | OSError] = {netns.OWN: []}
        self._here = netns.OWN

    def inside(self, path: str, work: Callable[[], Any]) -> Any:
        self._here = path
        return work()

    def read(self) -> list[Link]:
        found = self.links[self._here]
        if isinstance(found, OSError):
            raise found
        return found

    def exists(self, name: str) -> bool:
        return str(netns.RUN_NETNS / name) in self.links

    def build(self, lab: Lab, *, mark: str | None = None) -> None:
        for place in lab.places:
            found = self.links.setdefault(path_of(place), [])
            assert isinstance(found, list)
            for index, interface in enumerate(lab.at(place), 2):
                alias = lab.mark if mark is None else mark
                found.append(Link(index, interface.ifname, "veth", alias))

    def hide(self) -> None:
        """There is no root."""
        for path in self.links:
            if path != netns.OWN:
                self.links[path] = PermissionError(1, "Operation not permitted")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World()
    monkeypatch.setattr(netns, "inside", world.inside)
    monkeypatch.setattr(netns, "exists", world.exists)
    monkeypatch.setattr(links, "read", world.read)
    monkeypatch.setattr(record, "FOLDER", tmp_path)
    return world


@pytest.mark.parametrize("lab", LABS.values(), ids=list(LABS))
def test_a_lab_stands_if_all_of_it_is_there(lab: Lab, world: World) -> None:
    assert status(lab) == Status(State.DOWN)
    world.build(lab)
    assert status(lab) == Status(State.STANDING)
    world.hide()
    assert status(lab) == Status(State.STANDING)


def test_what_is_missing_is_named(world: World) -> None:
    world.build(NAT)
    router = world.links[path_of("router")]
    assert isinstance(router, list)
    router[:] = [link for link in router if link.ifname != "uplink"]
    del world.links[path_of("net1")]
    assert status(NAT) == Status(State.BROKEN, missing=("uplink", "skbtrace-net1"))


def test_a_namespace_that_goes_while_it_is_looked_into_is_missing(world: World) -> None:
    world.build(VETH)
    world.links[path_of("net2")] = FileNotFoundError(2, "No such file or directory")
    assert status(VETH) == Status(State.BROKEN, missing=("skbtrace-net2",))


def test_a_device_on_the_host_without_the_mark_is_foreign(world: World) -> None:
    world.build(DOCKER0, mark="somebody's")
    assert status(DOCKER0).state is State.FOREIGN


def test_a_port_that_gave_way_is_found_by_its_mark(world: World) -> None:
    world.build(DOCKER0.renamed({"vethc2": "skbt-vethc2"}))
    found = world.links[netns.OWN]
    assert isinstance(found, list)
    found.append(Link(9, "vethc2", "veth"))
    ports = [each.ifname for each in as_called(DOCKER0).at(HOST) if each.is_port]
    assert ports == ["vethc1", "skbt-vethc2"]
    assert status(DOCKER0) == Status(State.STANDING)
    assert as_called(NAT) == NAT


@pytest.mark.parametrize("written", [True, False])
def test_labs_with_a_namespace_of_one_name_are_told_apart(written: bool, world: World) -> None:
    world.build(BRIDGE)
    if written:
        record.write(BRIDGE.name, Record(None, BRIDGE.namespaces))
        world.hide()
    assert status(BRIDGE).state is State.STANDING
    assert status(VETH).state is status(NAT).state is State.DOWN
    for name in BRIDGE.namespaces:
        assert not is_of_another(BRIDGE, name)
        assert all(is_of_another(lab, name) for lab in (VETH, NAT) if name in lab.namespaces)


def test_a_half_made_lab_is_its_own(world: World) -> None:
    gone = Process(2**22 + 1, 1)
    record.write(NAT.name, Record(gone, NAT.namespaces))
    world.links[path_of("net1")] = []
    assert is_of_another(VETH, "skbtrace-net1")
    assert not is_of_another(NAT, "skbtrace-net1")
    assert status(NAT).state is State.LEFT_BEHIND
    assert status(VETH).state is State.DOWN
