# SPDX-License-Identifier: GPL-2.0-only
"""Every lab is what is declared and does what it says; those apart from the host do not touch it.

What holds for every lab in the same way is tried with docker0, in test_lab.py.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import Trace, skbtrace
from tests.kernel.host import (
    at_step,
    exit_code,
    forked,
    held,
    kill,
    kill_itself,
    open_files,
    run,
    snapshot,
    snmp,
)
from tracer.cli.found import find
from tracer.cli.trace import Options, trace
from tracer.errors import PrerequisiteError, TopologyError
from tracer.model import Device, Rewrite, Topology
from tracer.topology import netns, record, rules
from tracer.topology.build import down, standing, up
from tracer.topology.discover import discover, discover_lab, is_bridge, lab_called, scope
from tracer.topology.names import Names
from tracer.topology.spec import HOST, LABS, PREFIX, Interface, Lab
from tracer.topology.state import State, Status, path_of, status
from tracer.topology.traffic import ECHOES, TURNS, Traffic

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.once,  # how a lab is built and found is not a matter of the kernel
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]

APART = [lab for lab in LABS.values() if not lab.on_host]
VETH, BRIDGE, NAT, CROWD, LOOPBACK = (
    LABS[name] for name in ("veth", "bridge", "nat", "crowd", "loopback")
)
each_apart = pytest.mark.parametrize("lab", APART, ids=lambda lab: lab.name)
each_lab = pytest.mark.parametrize("lab", LABS.values(), ids=list(LABS))
LIMIT_S = 60.0
"""An emulated guest is slow. Nothing waits that long if all is well."""


@pytest.fixture(scope="module")
def untouched() -> dict[str, str]:
    if any(status(lab).state is not State.DOWN for lab in LABS.values()):
        pytest.skip("there are labs on this host: they are left alone")
    with standing(NAT):  # the kernel's modules stay, with the settings they bring
        pass
    return snapshot()


@pytest.fixture(autouse=True)
def host(untouched: dict[str, str]) -> Iterator[None]:
    files = open_files()
    yield
    after = snapshot()
    for lab in LABS.values():
        down(lab)
    assert after == untouched
    assert open_files() == files


def at(place: str, kind: socket.SocketKind) -> socket.socket:
    """A socket there, which gives up in time."""
    made = netns.inside(path_of(place), lambda: socket.socket(socket.AF_INET, kind))
    made.settimeout(LIMIT_S)
    return made


def listener(interface: Interface, port: int) -> socket.socket:
    made = at(interface.at, socket.SOCK_STREAM)
    made.bind((interface.ip, port))
    made.listen()
    return made


def everything_at(place: str) -> socket.socket:
    """A socket that hears every packet there."""

    def hear() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))  # ETH_P_ALL

    return netns.inside(path_of(place), hear)


def name_of(device: Device) -> str:
    return f"{device.netns.name}/{device.ifname}"


def names_of(devices: Iterable[Device]) -> list[str]:
    return [name_of(device) for device in devices]


def read_back(lab: Lab) -> list[Interface]:
    """The lab's devices as `ip` tells of them: what `spec` declares, read back."""
    found = []
    for place in lab.places:
        ip = ("ip", "-j", "-d") if place == HOST else ("ip", "-n", PREFIX + place, "-j", "-d")
        gateways = {
            route["dev"]: route["gateway"]
            for route in json.loads(run(*ip, "route", "show", "default"))
        }
        for link in json.loads(run(*ip, "addr")):
            if link.get("ifalias") != lab.mark:
                continue
            assert link["mtu"] == lab.mtu or link["ifname"] == "lo"
            addresses: list[str | None] = [
                f"{each['local']}/{each['prefixlen']}"
                for each in link["addr_info"]
                if each["family"] == "inet"
            ]
            address, *more = addresses or [None]
            assert not more
            found.append(
                Interface(
                    place,
                    link["ifname"],
                    link["address"],
                    address,
                    gateway=gateways.get(link["ifname"]),
                    is_port=link.get("linkinfo", {}).get("info_slave_kind") == "bridge",
                )
            )
    return found


def free_of_chance(interface: Interface, lab: Lab) -> Interface:
    """Without the Ethernet address, if the kernel chose it."""
    declared = {(each.at, each.ifname): each for each in lab.interfaces}
    chosen = declared[interface.at, interface.ifname].mac is None
    return replace(interface, mac=None) if chosen else interface


def label(interface: Interface | None) -> str:
    assert interface is not None
    return f"{interface.at}/{interface.ifname}"


def without_namespaces(told: str) -> str:
    """What `ip` tells, without the list of namespaces."""
    return re.sub(rf"^{PREFIX}.*\n", "", told, flags=re.MULTILINE)


# -- each of them ----------------------------------------------------------------------------


@each_lab
def test_what_is_built_and_discovered_is_what_is_declared(lab: Lab) -> None:
    with standing(lab):
        assert {free_of_chance(each, lab) for each in read_back(lab)} == set(lab.interfaces)

        topology = discover_lab(lab, Names())
        assert topology.name == lab.name
        assert topology.bridge is None or name_of(topology.bridge) == label(lab.bridge)
        assert (topology.bridge is None) == (lab.bridge is None)
        assert names_of(topology.ports) == [label(each) for each in lab.interfaces if each.is_port]
        assert sorted(names_of(topology.ends)) == sorted(
            label(each) for each in lab.interfaces if not each.is_port and each != lab.bridge
        )
        given = {(name_of(device), address) for device, address in topology.addresses}
        assert {each for each in given if ":" not in each[1]} == {
            (label(each), each.address) for each in lab.interfaces if each.address
        }
        assert [tuple(names_of(pair)) for pair in topology.pairs] == [
            (label(first), label(second)) for first, second in lab.pairs
        ]
        # Where the bridge is, only it and its ports.
        apart = {end.netns.name for end in topology.ends}
        loopbacks = {f"{place}/lo" for place in apart} - {label(each) for each in lab.loopbacks}
        assert set(names_of(topology.others)) == loopbacks
        found = scope(topology)
        assert found is not None
        assert sum(found.values()) == len(lab.interfaces) + len(loopbacks)
        if lab.on_host:
            assert discover(lab.name, Names()) == topology


def test_docker0s_rules_are_discovered_on_the_host() -> None:
    lab = LABS["docker0"]
    with standing(lab) as built:
        if not built:
            pytest.skip("there is a docker0 on this host: it is left alone")
        masquerade = Rewrite(
            *(Names().host, "POST_ROUTING", "masquerade"), src="172.17.0.0/16", oifname="!docker0"
        )
        for topology in (discover_lab(lab, Names()), discover(lab.name, Names())):
            ours = [r for r in topology.rewrites if r.src == masquerade.src]
            assert [rewrite._replace(rule="") for rewrite in ours] == [masquerade]
        assert "172.17.0.0/16 → masquerade" in skbtrace("topo", lab.name).stdout


@each_apart
def test_a_lab_stands_beside_the_host_and_everybody_is_answered(
    lab: Lab, untouched: dict[str, str]
) -> None:
    assert up(lab)
    after = snapshot()
    changed = {part for part in after | untouched if after.get(part) != untouched.get(part)}
    assert changed <= {"ip -4", "namespaces", "mounts", "records"}
    assert without_namespaces(after["ip -4"]) == without_namespaces(untouched["ip -4"])

    # At once: who comes up second must not lose what is sent first.
    traffic = Traffic(lab, rounds=len(lab.talks) // TURNS + 1, pause_s=0)
    traffic.start()
    traffic.wait(LIMIT_S)

    assert not up(lab)
    with standing(lab) as built:
        assert not built
    assert status(lab) == Status(State.STANDING)
    assert down(lab)
    assert status(lab) == Status(State.DOWN)
    assert not down(lab)


@pytest.mark.parametrize("lab", [BRIDGE, CROWD], ids=lambda lab: lab.name)
def test_a_standing_lab_is_silent(lab: Lab) -> None:
    assert lab.bridge is not None
    with standing(lab):
        with everything_at(lab.client.at) as tap:
            assert not select.select([tap], [], [], 1.5)[0]
        ports = run("bridge", "-n", lab.bridge.netns, "link", "show")
        assert ports.count("master br0 state forwarding") == len(lab.pairs)


def test_in_a_crowd_everybody_has_a_turn() -> None:
    asked = Counter(server for _, server in CROWD.talks)
    with standing(CROWD):
        traffic = Traffic(CROWD, rounds=len(CROWD.talks) // TURNS, pause_s=0)
        traffic.start()
        traffic.wait(LIMIT_S)
        for client, _ in CROWD.talks:
            counted = snmp(client)
            assert (counted["IcmpOutEchos"], counted["IcmpInEchoReps"]) == (ECHOES, ECHOES)
            assert (counted["UdpInDatagrams"], counted["TcpActiveOpens"]) == (1, 1)
        for server, times in asked.items():
            counted = snmp(server)
            assert counted["IcmpInEchos"] == times * ECHOES
            assert (counted["UdpInDatagrams"], counted["TcpPassiveOpens"]) == (times, times)


def test_a_crowd_stands_beside_docker0() -> None:
    with standing(LABS["docker0"]) as also, standing(CROWD) as built:
        assert not discover_lab(CROWD, Names()).forwards  # though the host does
        assert built
        assert also
        assert status(CROWD).state is status(LABS["docker0"]).state is State.STANDING


def test_anybody_may_ask_what_stands() -> None:
    def ask() -> None:
        os.setuid(65534)
        assert status(NAT) == Status(State.STANDING, owner=os.getppid())
        assert status(VETH).state is State.DOWN

    with standing(NAT):
        assert exit_code(forked(ask)) == 0


# -- what is told of it ----------------------------------------------------------------------

ROUTE_TYPES = {"unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit"}


def told(place: str, program: str, *words: str) -> list[dict[str, Any]]:
    """What iproute2 says there."""
    where = () if place == HOST else ("-n", PREFIX + place)
    return list(json.loads(run(program, "-j", *where, *words) or "[]"))


def routes_of(place: str) -> set[tuple[object, ...]]:
    found: set[tuple[object, ...]] = set()
    for family, bits, default in (("-4", 32, "0.0.0.0/0"), ("-6", 128, "::/0")):
        for table in ("local", "main"):
            for route in told(place, "ip", family, "route", "show", "table", table):
                kind = route.get("type", "unicast")
                dst = default if route["dst"] == "default" else route["dst"]
                dst = dst if "/" in dst else f"{dst}/{bits}"
                if kind in ROUTE_TYPES:
                    way = (route.get("gateway"), route.get("dev"), route.get("metric", 0))
                    found.add((place, kind, dst, *way))
    return found


def routes_found(topology: Topology) -> set[tuple[object, ...]]:
    return {
        (r.netns.name, r.type, r.dst, r.gateway, r.device and r.device.ifname, r.metric)
        for r in topology.routes
    }


def ports_of(place: str, bridge: str) -> dict[str, tuple[object, ...]]:
    members = ("state", "isolated", "hairpin", "learning", "flood")
    ports = told(place, "bridge", "-d", "link", "show", "master", bridge)
    return {port["ifname"]: tuple(port[member] for member in members) for port in ports}


def ports_found(topology: Topology) -> dict[str, tuple[object, ...]]:
    return {p.device.ifname: tuple(p)[1:6] for p in topology.states}


def entries_of(place: str, bridge: str) -> set[tuple[object, ...]]:
    return {
        (entry["mac"], entry["ifname"], entry.get("vlan"), entry["state"] == "permanent")
        for entry in told(place, "bridge", "fdb", "show", "br", bridge)
        if entry.get("master") == bridge
    }


def entries_found(topology: Topology) -> set[tuple[object, ...]]:
    return {(e.mac, e.device.ifname, e.vlan, e.local) for e in topology.fdb}


@pytest.mark.parametrize("lab", LABS.values(), ids=lambda lab: lab.name)
def test_what_is_told_of_a_lab_is_what_ip_and_bridge_say(lab: Lab) -> None:
    with standing(lab) as built:
        if not built:
            pytest.skip(f"there is a {lab.name} on this host: it is left alone")
        everybody = -(-len(lab.talks) // TURNS)
        traffic = Traffic(lab, rounds=everybody, pause_s=0)
        traffic.start()
        traffic.wait(LIMIT_S)
        topology = discover_lab(lab, Names())

        assert routes_found(topology) == set().union(*(routes_of(place) for place in lab.places))
        devices = [topology.bridge, *topology.ports, *topology.ends, *topology.others]
        every = {name_of(device) for device in devices if device is not None}
        macs = {(name_of(device), mac) for device, mac in topology.macs}
        for place in lab.places:
            links = {f"{place}/{each['ifname']}": each for each in told(place, "ip", "link")}
            if place in {end.netns.name for end in topology.ends}:
                assert links.keys() <= every
            given = {(name, links[name]["address"]) for name in links.keys() & every}
            assert {mac for mac in macs if mac[0] in links} == {
                mac for mac in given if mac[1] != "00:00:00:00:00:00"
            }
        assert topology.down == ()
        router = () if lab.router is None else (lab.router.at,)
        if not lab.on_host:
            uplinks = [f"{at}/uplink" for at in router]
            assert [name_of(device) for device in topology.uplinks] == uplinks
        assert tuple(each.name for each in topology.forwards) == router
        if lab.bridge is not None:
            at, bridge = lab.bridge.at, lab.bridge.ifname
            assert ports_found(topology) == ports_of(at, bridge)
            assert entries_found(topology) == entries_of(at, bridge)
            learned = {(e.mac, e.device.ifname) for e in topology.fdb if not e.local}
            on_bridge = {(two.mac, one.ifname) for one, two in lab.pairs if one.is_port}
            assert learned == on_bridge
        if lab.on_host:
            host = discover(lab.name, Names())
            assert routes_found(host) == routes_found(topology)
            assert ports_found(host) == ports_found(topology)
            assert entries_found(host) == entries_found(topology)
            assert set(host.others) == set(topology.others)
            assert set(host.macs) == set(topology.macs)


def test_ports_that_are_not_as_usual() -> None:
    run_in_router = ("ip", "-n", "skbtrace-router")
    with standing(BRIDGE):
        for words in (
            "link set br0 type bridge vlan_filtering 1",
            "link set veth1_p type bridge_slave isolated on hairpin on learning off flood off",
            "link set veth2_p down",
        ):
            run(*run_in_router, *words.split())
        # The bridge hears of that up to a second later (linkwatch). `ip link set type bridge_slave`
        # would make it look at the carrier and enable the port again.
        time.sleep(2)
        run("bridge", "-n", "skbtrace-router", "link", "set", "dev", "veth1_p", "state", "0")
        run("bridge", "-n", "skbtrace-router", "vlan", "add", "vid", "10-12", "dev", "veth2_p")
        topology = discover_lab(BRIDGE, Names())
        assert ports_found(topology) == ports_of("router", "br0")
        one, two = topology.states
        assert tuple(one)[1:6] == ("disabled", True, True, False, False)
        assert two.state == "disabled"
        assert ((one.vlans, one.pvid), (two.vlans, two.pvid)) == (((1,), 1), ((1, 10, 11, 12), 1))
        pair = {"router/veth2_p", "net2/veth2"}
        # The bridge has no port left that forwards, and so no carrier.
        assert {name_of(device) for device in topology.down} == {*pair, "router/br0"}
        assert entries_found(topology) == entries_of("router", "br0")
        assert {entry.vlan for entry in topology.fdb} > {1, 10}


def test_the_routers_way_out_and_its_rules() -> None:
    with standing(NAT):
        for words in (
            "default via 203.0.113.2",
            "10.1.0.0/16 via 192.168.0.2 metric 7",
            "blackhole 10.2.0.0/16",
            "unreachable 2001:db8::/32",
            "10.3.0.0/16 nexthop via 192.168.0.2 nexthop via 203.0.113.2",
            "10.4.0.0/16 via 203.0.113.2 tos 8",
        ):
            run("ip", "-n", "skbtrace-router", "route", "add", *words.split())
        topology = discover_lab(NAT, Names())
        assert [name_of(device) for device in topology.uplinks] == ["router/uplink"]
        several = {"192.168.0.2": "br0", "203.0.113.2": "uplink"}
        usual = {r for r in routes_found(topology) if r[2] != "10.3.0.0/16"}
        expected = routes_of("router") | routes_of("net1") | routes_of("outside")
        assert usual == {r for r in expected if r[2] not in {"10.3.0.0/16", "10.4.0.0/16"}}
        assert routes_found(topology) - usual == {
            ("router", "unicast", "10.3.0.0/16", gateway, device, 0)
            for gateway, device in several.items()
        }
        router = topology.forwards[0]
        rules = run("ip", "netns", "exec", "skbtrace-router", "nft", "list", "ruleset")
        assert rules.count("dnat to") == rules.count("masquerade") == 1
        assert [rewrite._replace(rule="") for rewrite in topology.rewrites] == [
            Rewrite(
                *(router, "PRE_ROUTING", "dnat", "192.168.0.2:80"),
                proto="tcp",
                dport="8088",
                iifname="uplink",
            ),
            Rewrite(
                *(router, "POST_ROUTING", "masquerade"), src="192.168.0.0/24", oifname="uplink"
            ),
        ]
        # But for counters, the rules are written as nft writes them.
        written = re.sub(r"counter packets \d+ bytes \d+ ", "", rules)
        assert all(rewrite.rule in written for rewrite in topology.rewrites)


# -- the router ------------------------------------------------------------------------------


def test_nat_translates_both_ways_and_counts() -> None:
    net1, outside = NAT.client, NAT.server
    with standing(NAT):
        with listener(outside, 7777) as server, at("net1", socket.SOCK_STREAM) as client:
            client.connect((outside.ip, 7777))
            answer, seen = server.accept()
            answer.close()
            assert seen[0] == "203.0.113.1"
            assert client.getsockname()[0] == "192.168.0.2"
        with listener(net1, 80) as server, at("outside", socket.SOCK_STREAM) as caller:
            caller.connect(("203.0.113.1", 8088))
            answer, seen = server.accept()
            assert answer.getsockname() == ("192.168.0.2", 80)
            assert seen == caller.getsockname()
            answer.close()
        told = json.loads(
            run("ip", "netns", "exec", "skbtrace-router", "nft", "-j", "list ruleset")
        )
        expressions = [each["rule"]["expr"] for each in told["nftables"] if "rule" in each]
        counted = [e["counter"]["packets"] for rule in expressions for e in rule if "counter" in e]
        assert len(counted) == len(expressions) == 5
        assert all(counted)


def test_without_translation_nothing_comes_back_or_in() -> None:
    with standing(NAT):
        with at("outside", socket.SOCK_STREAM) as caller:
            assert caller.connect_ex(("192.168.0.2", 80)) == errno.ENETUNREACH
        route = ("route", "add", "192.168.0.0/24", "via", "203.0.113.1")
        run("ip", "-n", "skbtrace-outside", *route)
        with listener(NAT.client, 80), at("outside", socket.SOCK_STREAM) as caller:
            caller.settimeout(0.5)
            with pytest.raises(TimeoutError):
                caller.connect(("192.168.0.2", 80))


def test_rules_without_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(rules, "_SBIN", "/nowhere")
    with pytest.raises(PrerequisiteError, match="nft, which is not installed") as caught:
        up(NAT)
    assert caught.value.hint == "sudo apt-get install nftables"
    assert status(NAT).state is State.DOWN


def test_rules_the_kernel_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    lack = rules.load
    monkeypatch.setattr(rules, "load", lambda _: lack("table ip skbtrace { chain no { no } }"))
    with pytest.raises(PrerequisiteError, match="does not take the lab's firewall rules"):
        up(NAT)
    assert status(NAT).state is State.DOWN


# -- labs that have a namespace of the same name ---------------------------------------------


@pytest.mark.parametrize("recorded", [True, False])
def test_a_lab_that_stands_is_not_built_over(recorded: bool) -> None:
    up(VETH)
    if not recorded:
        record.erase(VETH.name)
    for act in (up, lambda lab: standing(lab).__enter__()):
        with pytest.raises(TopologyError) as caught:
            act(BRIDGE)
        assert caught.value.message == (
            "the lab bridge needs the namespace skbtrace-net1, which the lab veth has"
        )
        assert caught.value.hint == "sudo skbtrace lab down veth"
    assert status(BRIDGE).state is State.DOWN
    assert not down(BRIDGE)
    assert status(VETH).state is State.STANDING
    assert up(LOOPBACK)  # shares nothing
    assert down(VETH)
    assert up(BRIDGE)
    assert down(BRIDGE)
    assert down(LOOPBACK)


def test_a_lab_that_is_kept_is_not_built_over() -> None:
    with held(NAT) as pid:
        with pytest.raises(TopologyError, match=f"the lab nat has .kept by .* pid {pid}") as caught:
            up(VETH)
        assert caught.value.hint == f"sudo kill {pid}"
        assert status(NAT) == Status(State.STANDING, owner=pid)
        os.kill(pid, signal.SIGTERM)
        exit_code(pid)


@pytest.mark.parametrize(
    ("killed", "following"),
    [(NAT, BRIDGE), *((lab, lab) for lab in APART)],
    ids=lambda lab: lab.name,
)
def test_what_a_killed_owner_left_is_removed_at_the_next_start(killed: Lab, following: Lab) -> None:
    with held(killed) as pid:
        kill(pid, and_guard=True)
    assert status(killed).state is State.LEFT_BEHIND
    with standing(following) as built:
        assert built
    assert status(killed).state is State.DOWN


@each_apart
def test_what_a_killed_owner_kept_is_taken_down_at_once(lab: Lab) -> None:
    before = snapshot()
    with held(lab) as pid:
        kill(pid, and_guard=False)
    assert snapshot() == before


def test_a_bridge_of_the_host_that_is_called_like_a_lab() -> None:
    run("ip", "link", "add", "nat", "type", "bridge")
    before = snapshot()
    assert is_bridge("nat")
    assert lab_called("nat") is None
    assert lab_called("veth") == VETH
    assert not is_bridge("lo")
    with standing(NAT) as built:
        assert built
    assert snapshot() == before
    run("ip", "link", "del", "nat")


# -- killed ------------------------------------------------------------------------------------


def test_killed_at_some_steps_the_next_start_cleans_up() -> None:
    step = 11
    while True:

        def build_and_die(step: int = step) -> None:
            at_step(step, kill_itself)
            up(NAT)

        code = exit_code(forked(build_and_die))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert status(NAT).state is State.LEFT_BEHIND
        down(NAT)
        assert not any(netns.exists(name) for name in NAT.namespaces)
        step += 29
    assert step > 60
    assert down(NAT)


# -- traced ----------------------------------------------------------------------------------


def test_a_lab_is_built_given_traffic_and_taken_down(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    done = skbtrace("--topology", "nat", "-c", "80", "-q", "-w", str(path))
    assert done.stderr == ""
    seen = Trace(path)
    assert seen.capture.topology is not None
    assert seen.capture.topology.built
    echo = seen.of("icmp", "192.168.0.2", icmp_type=8)[0]
    devices = dict.fromkeys(name_of(hop.device) for hop in echo.hops if hop.device)
    assert list(devices) == [
        "net1/veth1",
        "router/veth1_p",
        "router/br0",
        "router/uplink",
        "outside/eth0",
    ]
    call = seen.of("tcp", "203.0.113.2", dport=8088)[0]
    assert "net1/veth1" in {name_of(hop.device) for hop in call.hops if hop.device}
    assert status(NAT).state is State.DOWN


def test_in_a_crowd_a_question_goes_to_everybody(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    ping = ("ip", "netns", "exec", CROWD.client.netns, "ping", "-q", "-c", "1", CROWD.server.ip)
    up(CROWD)
    skbtrace("--topology", "crowd", "-q", "-w", str(path), "--", *ping)
    down(CROWD)
    seen = Trace(path)
    assert not any(seen.summary.lost.values()), seen.summary.lost
    (question,) = seen.of("arp", CROWD.client.ip)
    clones = [journey for journey in seen.journeys if journey.parent == question.id]
    heard = [{hop.device.netns.name for hop in each.hops if hop.device} for each in clones]
    assert sorted(heard, key=sorted) == sorted(
        ({"crowd", end.at} for _, end in CROWD.pairs if end != CROWD.client), key=sorted
    )
    (answer,) = seen.of("arp", CROWD.server.ip)
    assert {name_of(hop.device) for hop in answer.hops if hop.device} == {
        "box1/eth0",
        "crowd/veth1",
        "crowd/veth6",
        "box6/eth0",
    }


@pytest.mark.parametrize("stands", [True, False])
def test_what_topology_does(stands: bool, capsys: pytest.CaptureFixture[str]) -> None:
    if stands:
        up(VETH)
    with trace.make_context("skbtrace", ["--topology", "veth", "-c", "1"]) as context:
        asked = Options(**context.params)
    with ExitStack() as stack:
        topology, names, lab, _ = find(stack, "veth", asked.notice)
        assert status(VETH).state is State.STANDING
        assert topology == replace(discover_lab(VETH, names), built=not stands)
        assert lab == (None if stands else VETH)
    assert status(VETH).state is (State.STANDING if stands else State.DOWN)
    how = "found the lab veth" if stands else "the lab veth is built, and taken down at the end"
    assert capsys.readouterr().err == f"skbtrace: {how}\n"
    down(VETH)


def test_everything_is_traced(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    up(LOOPBACK)
    ping = "ip netns exec skbtrace-alone ping -q -c 3 127.0.0.1; ping -q -c 2 127.0.0.1"
    done = skbtrace("--topology", "auto", "-w", str(path), "--", "sh", "-c", ping)
    assert "tracing every device of this host" in done.stderr
    echoes = Trace(path).of("icmp", icmp_type=8)
    where = [name_of(echo.hops[0].device) for echo in echoes if echo.hops[0].device]
    assert where == ["alone/lo"] * 3 + ["host/lo"] * 2
    down(LOOPBACK)
