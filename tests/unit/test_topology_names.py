# SPDX-License-Identifier: GPL-2.0-only
"""Names: one dict access where they are known, one reading a second where they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracer.errors import TopologyError
from tracer.model import Device, Netns, Topology, TopologyChange
from tracer.topology import links, names, netns
from tracer.topology.bundles import Told
from tracer.topology.engines import Engines
from tracer.topology.links import Link
from tracer.topology.names import MOST_CHANGES, PATIENCE_S, Names, Place


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
        return [Link(ifindex, ifname, None) for ifindex, ifname in self.ifnames.items()]


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


def test_what_somebody_else_has_read_is_not_read_again(known: Names, world: World) -> None:
    host = known.host
    assert known[host.inum, 7].ifname == "if7"
    first, readings = known[host.inum, 2], world.readings
    known.learn(host, [Link(2, "eth0", None), Link(7, "v\x1b7", None)])
    assert known[host.inum, 2] is first
    assert known[host.inum, 7] == Device(host, 7, r"v\x1b7")
    assert world.readings == readings


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


def test_files_that_an_engine_named_say_nothing_if_anything_else_does(
    known: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    podman = "netns-2f0c96cc-2b4f-9d4e-5a51-2f6f1d2ba5a7"
    cni = "cni-ad94c1a1-3fd6-1ba1-1d31-9d4b0c1a6f2e"
    kept = {7: Path("/run/netns", podman), 8: Path("/run/netns/netns-mine"), 9: Path("/x", cni)}
    monkeypatch.setattr(names, "_files", lambda _: kept)
    assert set(names._named_places(known.host.inum)) == {8, known.host.inum}
    shown = {inum: place.netns for inum, place in known.places().items()}
    assert (shown[7].name, shown[8].name, shown[9].name) == (podman, "netns-mine", cni)
    assert [shown[inum].provisional for inum in (7, 8, 9)] == [True, False, True]


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


def test_it_is_said_whether_anything_may_be_called_otherwise(known: Names, world: World) -> None:
    host = known.host
    assert known[host.inum, 2].ifname == "eth0"
    assert known.netns(host.inum) == host
    before = known.renames()
    assert known[host.inum, 1].ifname == "lo"
    assert known.renames() == before
    world.ifnames[2] = "wan0"
    changed(known, 100, Device(host, 2, "wan0"))
    assert known.renames() != before
    before = known.renames()
    assert known.renames() == before
    # What has no name may get one at any time ...
    assert known[host.inum, 7].ifname == "if7"
    assert known.renames() != known.renames()
    known.learn(host, [Link(7, "eth7", None)])
    before = known.renames()
    assert known.renames() == before
    # ... and so may a namespace.
    assert known.netns(9).name == "ns:9"
    assert known.renames() != known.renames()
    known.refresh()
    assert known.renames() == known.renames() != before


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


# -- found by name ---------------------------------------------------------------------------

WEB, SIDE, HOSTED, POD = (digits * 16 for digits in ("ab01", "ac02", "ad03", "ae04"))


class Found:
    """A host with an `ip netns` namespace, containers, a service and a process."""

    def __init__(self, known: Names) -> None:
        self.known = known
        self.host = known.host.inum

    def called(self, *words: str) -> list[set[int]]:
        return [set(self.known.find(word)) for word in words]

    def wrong(self, find: Callable[[str], object], name: str) -> TopologyError:
        with pytest.raises(TopologyError) as caught:
            find(name)
        assert caught.value.exit_code == 1
        return caught.value


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Found:
    told = {
        WEB: Told("web"),
        SIDE: Told("side"),
        HOSTED: Told("hosted\x1b[31m"),
        POD: Told("nginx", "shop-0"),
    }
    known = Names(engines=Engines([], written=told.get))
    host = known.host.inum
    shown = {101: "c1", 102: "web", 103: "shop-0", 104: "nc:7", host: "host"}
    places = {inum: Place("", Netns(inum, name)) for inum, name in shown.items()}
    monkeypatch.setattr(Names, "places", lambda _: places)
    monkeypatch.setattr(
        names,
        "_processes",
        lambda: iter(
            [
                ("0::/init.scope\n", host),
                (f"0::/system.slice/docker-{WEB}.scope\n", 102),
                (f"0::/system.slice/docker-{SIDE}.scope\n", 102),
                (f"0::/system.slice/docker-{HOSTED}.scope\n", host),
                (f"0::/kubepods.slice/cri-containerd-{POD}.scope\n", 103),
                ("0::/system.slice/nginx.service\n", host),
                ("0::/system.slice/app@1.service\n", 105),
                ("0::/system.slice/app@1.service\n", 106),
            ]
        ),
    )
    monkeypatch.setattr(netns, "RUN_NETNS", tmp_path)
    monkeypatch.setattr(netns, "exists", lambda name: (tmp_path / name).is_file())
    return Found(known)


def test_a_namespace_is_found_by_what_it_is_shown_as(found: Found) -> None:
    assert found.called("c1", "web", "nc:7", "host") == [{101}, {102}, {104}, {found.host}]


def test_a_namespace_is_found_by_its_file(found: Found, tmp_path: Path) -> None:
    file = tmp_path / "skbtrace-c1"
    file.touch()
    assert found.called("skbtrace-c1") == [{file.stat().st_ino}]
    for name in ("../skbtrace-c1", "nul\0", ""):
        assert "no namespace" in found.wrong(found.known.find, name).message


def test_a_namespace_is_found_by_its_number(found: Found) -> None:
    assert found.called("101", "ns:101") == [{101}, {101}]
    assert found.called("ns:777") == [{777}]  # shown so where nobody knows it
    assert "no namespace" in found.wrong(found.known.find, "777").message


def test_a_container_is_found_by_name_and_id_also_in_anothers_namespace(found: Found) -> None:
    assert found.called("side", "nginx", "app@1", "app@1.service") == [
        {102},
        {103},
        {105, 106},
        {105, 106},
    ]
    for name in ("web", WEB, WEB[:4], WEB[:12], "side", SIDE[:7]):
        assert found.known.container(name) == {102}
    assert found.known.container("hosted\x1b[31m") == {found.host}
    assert found.known.container(r"hosted\x1b[31m") == {found.host}
    assert found.known.container("shop-0") == found.known.container("nginx") == {103}


def test_what_is_not_there_is_told_with_what_there_is(found: Found) -> None:
    error = found.wrong(found.known.find, "nope\x1b")
    assert error.message == (
        r"there is no namespace, container or service nope\x1b on this host"
        r" (there are: c1, host, hosted\x1b[31m, nc:7, nginx, shop-0, side, web)"
    )
    assert error.hint == "sudo skbtrace topo"
    for name in ("nope", "c1", WEB[:3], "nginx.service"):
        assert found.wrong(found.known.container, name).message == (
            rf"no container {name} runs on this host"
            r" (there are: hosted\x1b[31m, nginx, side, web)"
        )


def test_an_id_that_several_begin_with(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"abcd{digit}" + "0" * 59 for digit in "123"]
    processes = [(f"0::/docker/{each}\n", 100 + n) for n, each in enumerate(ids)]
    monkeypatch.setattr(names, "_processes", lambda: iter(processes))
    assert found.wrong(found.known.container, "abcd").message == (
        "the ids of 3 containers begin with abcd"
        f" (there are: {ids[0][:12]}, {ids[1][:12]}, {ids[2][:12]})"
    )
    assert found.known.container("abcd2") == {101}


def test_a_message_names_only_a_few() -> None:
    assert names.few([]) == ""
    assert names.few(["b", "a"]) == " (there are: a, b)"
    assert names.few(str(n) for n in range(10)) == " (there are: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more)"
