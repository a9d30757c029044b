# SPDX-License-Identifier: GPL-2.0-only
"""The lab on a real kernel: built, taken down, interrupted, killed; named, discovered, in use.

Every test leaves the host as it was, byte for byte: the fixture ``host`` sees to that.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.kernel.host import (
    AS_DOCKER,
    LIMIT_S,
    OUTSIDE,
    answered,
    at_step,
    effects,
    exit_code,
    forked,
    guard_of,
    held,
    inside,
    kill,
    kill_itself,
    neighbours,
    open_files,
    run,
    snapshot,
    snmp,
    until,
)
from tracer.cli.lab import lab as lab_command
from tracer.errors import TopologyError
from tracer.model import Device, Netns, Topology
from tracer.topology import links, make, netns, record
from tracer.topology.build import down, standing, up
from tracer.topology.discover import discover, discover_lab, scope
from tracer.topology.names import Names
from tracer.topology.spec import LABS, Interface
from tracer.topology.state import State, Status, status
from tracer.topology.traffic import ECHOES, Traffic

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]

LAB = LABS["docker0"]
C1, C2 = (end for _, end in LAB.pairs)


@pytest.fixture(scope="module")
def untouched() -> dict[str, str]:
    # Let `ip netns` make what it leaves for ever: /run/netns, a mount of its own.
    run("ip", "netns", "add", "first")
    run("ip", "netns", "del", "first")
    if status(LAB).state is not State.DOWN:
        pytest.skip("there is a docker0 on this host: it is left alone")
    with standing(LAB):  # the kernel's modules stay, with the settings they bring
        pass
    return snapshot()


@pytest.fixture(autouse=True)
def host(untouched: dict[str, str]) -> Iterator[None]:
    files = open_files()
    yield
    after = snapshot()
    down(LAB)
    assert after == untouched
    assert open_files() == files
    assert threading.active_count() == 1


@pytest.fixture
def clean_up() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@contextmanager
def process_with_own_netns(comm: str) -> Iterator[int]:
    """A child in a network namespace without a name."""
    ready, tell = os.pipe()
    stop, end = os.pipe()

    def stay() -> None:
        os.close(end)
        netns._libc("unshare", netns._CLONE_NEWNET)
        Path("/proc/self/comm").write_text(comm)
        os.write(tell, b"1")
        os.read(stop, 1)

    pid = forked(stay)
    os.close(tell)
    os.close(stop)
    try:
        assert os.read(ready, 1) == b"1"
        yield pid
    finally:
        os.close(ready)
        os.close(end)
        os.waitpid(pid, 0)


def interface_packets(device: str) -> tuple[int, int]:
    statistics = Path(f"/sys/class/net/{device}/statistics")
    received, sent = (int((statistics / f"{way}_packets").read_text()) for way in ("rx", "tx"))
    return received, sent


def arp_tap(container: Interface) -> socket.socket:
    """A socket that hears every ARP packet the container receives."""

    def hear() -> socket.socket:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        tap.bind((container.ifname, 0x0806))
        return tap

    return netns.inside(f"/run/netns/{container.netns}", hear)


# -- up and down -----------------------------------------------------------------------------


def test_a_lab_goes_up_and_down_and_both_can_be_said_twice() -> None:
    assert up(LAB)
    assert status(LAB) == Status(State.STANDING)
    assert not up(LAB)
    assert status(LAB) == Status(State.STANDING)
    assert down(LAB)
    assert status(LAB) == Status(State.DOWN)
    assert not down(LAB)


def test_the_lab_is_what_docker_makes() -> None:
    with standing(LAB) as built:
        assert built
        assert "172.17.0.1/16" in run("ip", "addr", "show", "docker0")
        ports = run("bridge", "link", "show")
        assert ports.count("master docker0 state forwarding") == 2
        for container in (C1, C2):
            inside = ("ip", "netns", "exec", container.netns, "ip")
            assert container.mac is not None
            assert container.address is not None
            assert container.mac in run(*inside, "link", "show", "eth0")
            assert container.address in run(*inside, "addr", "show", "eth0")
            assert "default via 172.17.0.1 dev eth0" in run(*inside, "route")


@pytest.mark.once
def test_a_standing_lab_is_silent() -> None:
    with standing(LAB), arp_tap(C2) as tap:
        # The kernel's own chatter, if any, comes with the first second of a device.
        assert not select.select([tap], [], [], 1.5)[0]
        assert interface_packets("vethc1") == (0, 0)
        assert interface_packets("vethc2") == (0, 0)


@pytest.mark.once
def test_it_works_while_an_event_loop_runs() -> None:
    async def everything() -> Topology:
        with standing(LAB):
            return discover("docker0", Names())

    assert len(asyncio.run(everything()).ends) == 2


@pytest.mark.once
def test_a_lab_that_was_put_up_stays_when_a_tracer_uses_it() -> None:
    up(LAB)
    with standing(LAB) as built:
        assert not built
    assert status(LAB).state is State.STANDING
    down(LAB)


@pytest.mark.once
def test_a_broken_lab_is_told_and_mended() -> None:
    up(LAB)
    run("ip", "link", "del", "vethc2")
    assert status(LAB) == Status(State.BROKEN, missing=("vethc2",))
    assert up(LAB)
    assert status(LAB).state is State.STANDING
    down(LAB)


@pytest.mark.once
def test_a_lab_whose_record_is_lost_is_still_ours() -> None:
    up(LAB)
    record.erase(LAB.name)
    assert not up(LAB)
    assert down(LAB)
    # What the host's settings were stood nowhere else. Here they are those of a fresh kernel.
    assert forwards() == "1\n"
    run("sysctl", "-qw", "net.ipv4.ip_forward=0")


@pytest.mark.once
def test_an_error_inside_takes_the_lab_down() -> None:
    with pytest.raises(ZeroDivisionError), standing(LAB):
        raise ZeroDivisionError
    assert status(LAB).state is State.DOWN


@pytest.mark.once
def test_an_error_while_building_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make, "_bring_up", fail)
    with pytest.raises(TopologyError, match="No space left on device"):
        up(LAB)
    assert status(LAB).state is State.DOWN


@pytest.mark.once
def test_the_command_line_says_what_to_do_next() -> None:
    def says(*arguments: str) -> str:
        return CliRunner().invoke(lab_command, arguments, catch_exceptions=False).output

    assert says("status") == "docker0: down\n"
    output = says("up")
    assert "sudo skbtrace --topology docker0" in output
    assert "sudo ip netns exec skbtrace-c1 ping 172.17.0.3" in output
    assert "stands already" in says("up")
    assert says("status") == "docker0: standing\n"
    assert says("list").startswith("docker0   standing  two containers")
    assert says("down") == "the lab docker0 is down\n"
    assert says("down") == "there was no lab docker0\n"


# -- what the host forwards ------------------------------------------------------------------

CONF = Path("/proc/sys/net/ipv4/conf")


def forwards() -> str:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text()


def counted(words: str) -> int:
    """How many packets the one rule of the lab with these words counted."""
    (rule,) = (line for line in run("nft", "list", "ruleset").splitlines() if words in line)
    return int(rule.partition("packets ")[2].split()[0])


def test_containers_reach_what_the_host_reaches_and_are_reached_by_nobody() -> None:
    with standing(LAB), neighbours():
        assert effects(inside(C1.netns), C1.ip, C2.ip) == AS_DOCKER
        assert counted("masquerade") == 1
        assert counted('oifname "docker0" ct state') >= 1  # a bridge may ask, too
        assert counted('oifname "docker0" counter') == 1
    assert forwards() == "0\n"


BRIDGES_ASK = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def test_where_a_bridge_asks_ipv4_what_it_forwards_passes(clean_up: ExitStack) -> None:
    if not BRIDGES_ASK.exists():
        run("modprobe", "br_netfilter")
        clean_up.callback(run, "modprobe", "-r", "br_netfilter")
    clean_up.callback(BRIDGES_ASK.write_text, BRIDGES_ASK.read_text())
    BRIDGES_ASK.write_text("1")
    with standing(LAB):
        assert answered(inside(C1.netns), C2.ip)
        assert counted('iifname "docker0" counter') >= 1
        run("ip", "link", "add", "br7", "type", "bridge")
        clean_up.callback(run, "ip", "link", "del", "br7")
        for name in "left", "right":
            run("ip", "netns", "add", name)
            clean_up.callback(run, "ip", "netns", "del", name)
            run(*f"ip link add {name} master br7 up type veth peer name eth0 netns {name}".split())
            clean_up.callback(run, "ip", "link", "del", name)
            run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", "left", "addr", "add", "10.7.0.1/24", "dev", "eth0")
        run("ip", "-n", "right", "addr", "add", "10.7.0.2/24", "dev", "eth0")
        run("ip", "link", "set", "br7", "up")
        assert answered(inside("left"), "10.7.0.2")
        assert counted('iifkind "bridge"') >= 1


@pytest.mark.once
def test_a_host_that_forwards_goes_on_as_before() -> None:
    run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.accept_redirects=1")
    try:
        with neighbours():
            before = snapshot()
            with standing(LAB):
                now = snapshot()
                assert not {n for n in before if n.startswith("/proc/sys") and now[n] != before[n]}
                # But for what is not the lab's, which goes on.
                seen = effects(inside(C1.netns), C1.ip, C2.ip)
                assert seen == {**AS_DOCKER, "from cable to cable": True}
            assert snapshot() == before
    finally:
        run("sysctl", "-qw", "net.ipv4.ip_forward=0")


@pytest.mark.once
def test_what_the_hosts_rules_drop_is_dropped() -> None:
    """An accept of the lab's own table is not the last word; the bridge asks nobody."""
    asked = BRIDGES_ASK.read_text() if BRIDGES_ASK.exists() else None
    if asked is not None:
        BRIDGES_ASK.write_text("0")
    run("nft", "table ip wall { chain f { type filter hook forward priority 0; policy drop; }; }")
    try:
        with neighbours():
            before = snapshot()
            with standing(LAB):
                assert not answered(inside(C1.netns), OUTSIDE)
                assert answered(inside(C1.netns), C2.ip)
                assert answered(inside(C1.netns), "172.17.0.1")
            assert snapshot() == before
    finally:
        run("nft", "delete", "table", "ip", "wall")
        if asked is not None:
            BRIDGES_ASK.write_text(asked)


@pytest.mark.parametrize("killed", [False, True])
def test_every_setting_of_forwarding_is_put_back(killed: bool, clean_up: ExitStack) -> None:
    for name in "one", "two":
        run("ip", "link", "add", name, "type", "bridge")
        clean_up.callback(run, "ip", "link", "del", name)
    odd = {"one/forwarding": "1", "default/forwarding": "1", "all/accept_redirects": "0"}
    for name, value in odd.items():
        clean_up.callback((CONF / name).write_text, (CONF / name).read_text())
        (CONF / name).write_text(value)
    before = snapshot()
    with held(LAB) as pid:
        assert {(CONF / name / "forwarding").read_text() for name in ("one", "two", "all")} == {
            "1\n"
        }
        if killed:
            kill(pid, and_guard=True)
            assert snapshot() != before
            down(LAB)
        else:
            os.kill(pid, signal.SIGTERM)
            exit_code(pid)
    assert snapshot() == before


@pytest.mark.once
def test_a_device_that_came_meanwhile_forwards_as_later_ones_do(clean_up: ExitStack) -> None:
    with standing(LAB):
        run("ip", "link", "add", "late", "type", "bridge")
        clean_up.callback(run, "ip", "link", "del", "late")
        assert (CONF / "late/forwarding").read_text() == "1\n"
    assert (CONF / "late/forwarding").read_text() == "0\n"


# -- what is not ours ------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(
    ("device", "how"),
    [
        ("docker0", ["type", "bridge"]),
        ("docker0", ["type", "veth", "peer", "name", "other"]),
    ],
)
def test_a_device_of_somebody_else_is_refused_and_untouched(device: str, how: list[str]) -> None:
    run("ip", "link", "add", device, *how)
    before = snapshot()
    with pytest.raises(TopologyError, match=f"a device {device} exists") as caught:
        up(LAB)
    assert caught.value.hint == f"ip -d link show {device}"
    assert not down(LAB)
    assert snapshot() == before
    run("ip", "link", "del", device)


@pytest.mark.once
def test_a_port_gives_way_to_a_device_of_its_name(clean_up: ExitStack) -> None:
    run("ip", "link", "add", "vethc2", "type", "veth", "peer", "name", "other")
    clean_up.callback(run, "ip", "link", "del", "vethc2")
    before = snapshot()
    with standing(LAB) as built:
        assert built
        assert status(LAB) == Status(State.STANDING, owner=os.getpid())
        topology = discover_lab(LAB, Names())
        assert [d.ifname for d in topology.ports] == ["vethc1", "skbt-vethc2"]
        assert topology == discover("docker0", Names())
        traffic = Traffic(LAB, rounds=1)
        traffic.start()
        traffic.wait(LIMIT_S)
    assert snapshot() == before
    with held(LAB) as pid:
        kill(pid, and_guard=True)
    assert up(LAB)
    run("ip", "link", "del", "skbt-vethc2")
    assert status(LAB) == Status(State.BROKEN, missing=("vethc2",))
    assert down(LAB)
    assert snapshot() == before


@pytest.mark.once
def test_a_port_for_which_there_is_no_name_left_is_refused(clean_up: ExitStack) -> None:
    for name in ("vethc2", "skbt-vethc2"):
        run("ip", "link", "add", name, "type", "bridge")
        clean_up.callback(run, "ip", "link", "del", name)
    before = snapshot()
    with pytest.raises(TopologyError, match="a device vethc2 exists") as caught:
        up(LAB)
    assert caught.value.hint == "ip -d link show vethc2"
    assert snapshot() == before


@pytest.mark.once
def test_a_bridge_of_somebody_else_is_used_and_untouched() -> None:
    run("ip", "link", "add", "docker0", "type", "bridge")
    before = snapshot()
    assert status(LAB).state is State.FOREIGN
    with standing(LAB) as built:
        assert not built
        assert discover("docker0", Names()).ports == ()
    assert snapshot() == before
    run("ip", "link", "del", "docker0")


@pytest.mark.once
def test_an_address_of_somebody_else_is_refused() -> None:
    run("ip", "link", "add", "office", "type", "bridge")
    run("ip", "addr", "add", "172.17.9.9/16", "dev", "office")
    run("ip", "link", "set", "office", "up")
    with pytest.raises(TopologyError, match="already reaches it through office"):
        up(LAB)
    run("ip", "link", "del", "office")


# -- interrupted and killed ------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", [1, 40])
def test_a_signal_while_building_leaves_nothing(number: signal.Signals, step: int) -> None:
    def build_interrupted() -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)
        at_step(step, lambda: os.kill(os.getpid(), number))
        up(LAB)

    # KeyboardInterrupt, or what the signal does by itself.
    expected = 1 if number is signal.SIGINT else -number
    assert exit_code(forked(build_interrupted)) == expected
    assert status(LAB).state is State.DOWN


@pytest.mark.once
def test_a_signal_whose_handler_returns_still_stops_the_building() -> None:
    def build_interrupted() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        at_step(20, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(TopologyError, match="interrupted"), standing(LAB):
            os._exit(3)

    assert exit_code(forked(build_interrupted)) == 0
    assert status(LAB).state is State.DOWN


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_stands_takes_it_down(number: signal.Signals) -> None:
    with held(LAB) as pid:
        assert status(LAB) == Status(State.STANDING, owner=pid)
        os.kill(pid, number)
        assert exit_code(pid) == 1
    assert status(LAB).state is State.DOWN


def test_what_a_killed_owner_kept_is_taken_down_at_once() -> None:
    before = snapshot()
    with held(LAB) as pid:
        guard = guard_of(pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guard, number)
        # It keeps nothing of its owner's open, else who reads from it would wait for ever.
        assert {str(Path(f"/proc/{guard}/fd/{n}").readlink()) for n in range(3)} == {os.devnull}
        kill(pid, and_guard=False)
    assert snapshot() == before
    assert status(LAB) == Status(State.DOWN, missing=status(LAB).missing)


@pytest.mark.once
def test_what_a_killed_owner_and_its_guard_left_is_removed_at_the_next_start() -> None:
    with held(LAB) as pid:
        kill(pid, and_guard=True)
    assert status(LAB).state is State.LEFT_BEHIND
    with standing(LAB) as built:
        assert built
        assert status(LAB) == Status(State.STANDING, owner=os.getpid())
    assert status(LAB).state is State.DOWN


@pytest.mark.once
def test_a_lab_that_is_kept_by_a_running_tracer_is_left_to_it() -> None:
    with held(LAB) as pid:
        for act in (up, down):
            with pytest.raises(TopologyError, match=f"kept by a running skbtrace .pid {pid}.") as e:
                act(LAB)
            assert e.value.hint == f"sudo kill {pid}"
        with standing(LAB) as built:
            assert not built
        assert status(LAB) == Status(State.STANDING, owner=pid)
        os.kill(pid, signal.SIGTERM)
        exit_code(pid)


@pytest.mark.parametrize("act", [up, down])
def test_killed_at_any_step_the_next_start_cleans_up(act: Callable[..., bool]) -> None:
    def present() -> set[str]:
        namespaces = {file.name for file in netns.RUN_NETNS.iterdir()}
        return namespaces | {link.ifname for link in netns.inside(netns.OWN, links.read)}

    before = present()
    step = 1
    while True:
        if act is down:
            up(LAB)

        def do_and_die(step: int = step) -> None:
            at_step(step, kill_itself)
            act(LAB)

        code = exit_code(forked(do_and_die))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        # Whatever there is, nobody is told that half of it stands.
        assert status(LAB).state in {State.DOWN, State.LEFT_BEHIND, State.STANDING}
        down(LAB)
        assert status(LAB).state is State.DOWN
        assert present() == before
        step += 7 if act is up else 3
    assert step > 20
    down(LAB)


@pytest.mark.once
def test_killed_at_any_step_its_guard_leaves_nothing() -> None:
    before = snapshot()
    step = 1
    while True:

        def stand_and_die(step: int = step) -> None:
            tracer = os.getpid()
            at_step(step, lambda: kill_itself() if os.getpid() == tracer else None)
            with standing(LAB):
                pass

        code = exit_code(forked(stand_and_die))
        assert code in {0, -signal.SIGKILL}
        until(lambda: record.read(LAB.name) is None, "the guard takes down what there is")
        assert status(LAB).state is State.DOWN
        assert snapshot() == before
        if code == 0:
            break
        step += 9
    assert step > 40


@pytest.mark.once
def test_a_lab_that_others_took_over_is_not_its_guards(clean_up: ExitStack) -> None:
    with held(LAB) as pid:
        guard = guard_of(pid)
        ended = os.pidfd_open(guard)
        os.kill(guard, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        exit_code(pid)
        assert up(LAB)
        clean_up.callback(down, LAB)
        os.kill(guard, signal.SIGCONT)
        assert select.select([ended], [], [], LIMIT_S)[0]
        os.close(ended)
    assert status(LAB) == Status(State.STANDING)


@pytest.mark.once
def test_no_guard_is_left_where_a_lab_was_taken_down() -> None:
    with standing(LAB):
        guard = guard_of(os.getpid())
    assert not Path(f"/proc/{guard}").exists()
    with standing(LAB), standing(LAB) as built:
        assert not built
        guard_of(os.getpid())  # one, not two


@pytest.mark.once
def test_two_starts_at_once_build_one_lab() -> None:
    said, say = os.pipe()
    go, start = os.pipe()
    done, finish = os.pipe()

    def stand() -> None:
        os.close(start)
        os.close(finish)
        os.read(go, 1)
        with standing(LAB) as built:
            os.write(say, b"1" if built else b"0")
            os.read(done, 1)

    pids = [forked(stand) for _ in range(3)]
    os.close(start)
    answers = b"".join(os.read(said, 1) for _ in pids)
    assert sorted(answers) == sorted(b"001")
    os.close(finish)
    assert [exit_code(pid) for pid in pids] == [0, 0, 0]
    for end in (said, say, go, done):
        os.close(end)
    assert status(LAB).state is State.DOWN


# -- names and discovery ---------------------------------------------------------------------


def test_the_lab_is_discovered_and_named() -> None:
    with standing(LAB):
        names = Names()
        topology = discover("docker0", names)
        inum = {c.at: netns.inum(f"/run/netns/{c.netns}") for c in (C1, C2)}
    host = Netns(netns.inum(netns.OWN), "host")
    assert topology.bridge is not None
    assert (topology.bridge.netns, topology.bridge.ifname) == (host, "docker0")
    assert [(d.netns, d.ifname) for d in topology.ports] == [(host, "vethc1"), (host, "vethc2")]
    assert [(d.netns, d.ifname) for d in topology.ends] == [
        (Netns(inum["c1"], "c1"), "eth0"),
        (Netns(inum["c2"], "c2"), "eth0"),
    ]
    assert [(d.netns.name, d.ifname, address) for d, address in topology.addresses] == [
        ("host", "docker0", "172.17.0.1/16"),
        ("c1", "eth0", "172.17.0.2/16"),
        ("c2", "eth0", "172.17.0.3/16"),
    ]
    assert [(d.netns.name, d.ifname) for d in topology.others] == [("c1", "lo"), ("c2", "lo")]
    assert sum((scope(topology) or {}).values()) == 7


@pytest.mark.once
def test_there_is_no_such_bridge() -> None:
    with pytest.raises(TopologyError, match="there is no bridge nosuch") as caught:
        discover("nosuch", Names())
    assert caught.value.hint == "ip link show type bridge"
    with pytest.raises(TopologyError) as caught:
        discover("docker0", Names())
    assert caught.value.hint == "sudo skbtrace lab up docker0"
    with pytest.raises(TopologyError, match="lo is not a bridge"):
        discover("lo", Names())


@pytest.mark.once
def test_a_container_without_a_name_is_named_by_its_first_process(clean_up: ExitStack) -> None:
    pid = clean_up.enter_context(process_with_own_netns("web\x1b[31m"))
    run("ip", "link", "add", "br7", "type", "bridge")
    clean_up.callback(run, "ip", "link", "del", "br7")
    run(
        *("ip", "link", "add", "port7", "master", "br7", "type", "veth"),
        *("peer", "name", "eth0", "netns", str(pid)),
    )
    clean_up.callback(run, "ip", "link", "del", "port7")
    (end,) = discover("br7", Names()).ends
    assert (end.netns.name, end.ifname) == (f"web\\x1b[31m:{pid}", "eth0")


@pytest.mark.once
def test_a_veth_pair_whose_ends_are_both_here(clean_up: ExitStack) -> None:
    run("ip", "link", "add", "br7", "type", "bridge")
    clean_up.callback(run, "ip", "link", "del", "br7")
    run("ip", "link", "add", "port7", "master", "br7", "type", "veth", "peer", "name", "end7")
    clean_up.callback(run, "ip", "link", "del", "port7")
    (end,) = discover("br7", Names()).ends
    assert (end.netns.name, end.ifname) == ("host", "end7")


@pytest.mark.once
@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"v\x1b[31mx", r"v\x1b[31mx"),
        ("v\u202ex".encode(), r"v\u202ex"),
        ("vé漢".encode(), "vé漢"),
        (b"v\x7f\xc2\x9bx", r"v\x7f\x9bx"),
    ],
)
def test_a_hostile_device_name_is_made_safe(raw: bytes, shown: str, clean_up: ExitStack) -> None:
    run("ip", "link", "add", raw, "type", "bridge")
    clean_up.callback(run, "ip", "link", "del", raw)
    ifindex = socket.if_nametoindex(os.fsdecode(raw))
    names = Names()
    assert names.device(names.host.inum, ifindex) == Device(names.host, ifindex, shown)
    assert discover(os.fsdecode(raw), names).name == shown


@pytest.mark.once
def test_a_device_name_that_is_not_utf_8(clean_up: ExitStack) -> None:
    run("ip", "link", "add", b"v\xff\xfex", "type", "bridge")
    clean_up.callback(run, "ip", "link", "del", b"v\xff\xfex")
    ifindex = socket.if_nametoindex(os.fsdecode(b"v\xff\xfex"))
    names = Names()
    assert names.device(names.host.inum, ifindex).ifname == r"v\udcff\udcfex"
    assert discover(os.fsdecode(b"v\xff\xfex"), names).bridge is not None
    assert up(LAB)
    assert down(LAB)


@pytest.mark.once
def test_docker_and_ip_netns_names(clean_up: ExitStack) -> None:
    run("ip", "netns", "add", "mine")
    clean_up.callback(run, "ip", "netns", "del", "mine")
    file = netns.RUN_DOCKER_NETNS / "0123456789ab"
    missing = [folder for folder in (file.parent, file.parent.parent) if not folder.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        clean_up.callback(folder.rmdir)
    file.touch()
    clean_up.callback(file.unlink)
    with process_with_own_netns("web") as pid:
        run("mount", "--bind", f"/proc/{pid}/ns/net", str(file))
        clean_up.callback(run, "umount", str(file))
    names = Names()
    assert names.netns(netns.inum("/run/netns/mine")).name == "mine"
    assert names.netns(netns.inum(str(file))).name == "0123456789ab"


CONTAINER = "ab" * 32


@pytest.mark.once
@pytest.mark.parametrize(
    ("group", "name"),
    [
        (f"docker-{CONTAINER}.scope", CONTAINER[:12]),  # as no engine knows it
        ("skbtrace-test.service", "skbtrace-test"),
    ],
)
def test_a_namespace_is_called_by_its_processs_control_group(
    group: str, name: str, clean_up: ExitStack
) -> None:
    folder = Path("/sys/fs/cgroup/system.slice") / group
    for each in (folder.parent, folder):
        if not each.exists():
            each.mkdir()
            clean_up.callback(each.rmdir)
    with process_with_own_netns("web") as pid:
        (folder / "cgroup.procs").write_text(str(pid))
        assert Names().netns(netns.inum(f"/proc/{pid}/ns/net")).name == name


@pytest.mark.once
def test_the_pause_container_gives_its_pod_no_name(clean_up: ExitStack) -> None:
    with process_with_own_netns("pause") as pid:
        inum = netns.inum(f"/proc/{pid}/ns/net")
        assert Names().netns(inum).name == f"pause:{pid}"
        inner = subprocess.Popen(["nsenter", f"--net=/proc/{pid}/ns/net", "sleep", "60"])
        clean_up.callback(inner.wait)
        clean_up.callback(inner.kill)
        comm = Path(f"/proc/{inner.pid}/comm")
        while comm.read_text() != "sleep\n":  # nsenter becomes it once it is inside
            assert inner.poll() is None
        assert Names().netns(inum).name == f"sleep:{inner.pid}"


@pytest.mark.once
def test_names_outlive_what_they_name_and_unknown_ones_cost_little() -> None:
    names = Names()
    with process_with_own_netns("web") as pid:
        inum = netns.inum(f"/proc/{pid}/ns/net")
        loopback = names.device(inum, 1)
        assert (loopback.netns.name, loopback.ifname) == (f"web:{pid}", "lo")
    assert names.device(inum, 1) is loopback
    began = time.monotonic()
    for _ in range(10_000):
        assert names.device(inum, 7).ifname == "if7"
    assert time.monotonic() - began < LIMIT_S
    names.refresh()
    assert names.device(inum, 1) is loopback
    assert names.device(12345, 7) == Device(Netns(12345, "ns:12345"), 7, "if7")


# -- traffic ---------------------------------------------------------------------------------


@pytest.mark.once
def test_traffic_is_echo_udp_tcp_and_arp() -> None:
    rounds = 3
    with standing(LAB), arp_tap(C2) as tap:
        traffic = Traffic(LAB, rounds=rounds, pause_s=0)
        traffic.start()
        traffic.wait(LIMIT_S)
        c1, c2 = snmp(C1), snmp(C2)
        assert c1["IcmpOutEchos"] == c1["IcmpInEchoReps"] == rounds * ECHOES
        assert c2["IcmpInEchos"] == c2["IcmpOutEchoReps"] == rounds * ECHOES
        assert c1["UdpOutDatagrams"] == c1["UdpInDatagrams"] == rounds
        assert c2["UdpOutDatagrams"] == c2["UdpInDatagrams"] == rounds
        assert c1["TcpActiveOpens"] == c2["TcpPassiveOpens"] == rounds
        assert c1["TcpEstabResets"] == c2["TcpEstabResets"] == c2["TcpOutRsts"] == 0
        received, sent = interface_packets("vethc1")
        assert received >= rounds * (1 + ECHOES + 1 + 6)
        assert sent >= rounds * (1 + ECHOES + 1 + 4)
        assert not traffic.running
        assert traffic.failure is None
        requests = 0
        while select.select([tap], [], [], 0)[0]:
            frame = tap.recv(64)
            requests += frame[20:22] == b"\x00\x01"
        assert requests >= rounds


@pytest.mark.once
def test_traffic_stops_at_once_and_can_be_stopped_twice() -> None:
    with standing(LAB), arp_tap(C2) as tap:
        traffic = Traffic(LAB, pause_s=3600)
        with traffic:
            assert select.select([tap], [], [], LIMIT_S)[0]
            assert traffic.running
        traffic.stop()
        assert traffic.failure is None


@pytest.mark.once
def test_traffic_does_not_outlive_a_killed_tracer() -> None:
    with standing(LAB), arp_tap(C2) as tap:
        told, tell = os.pipe()

        def trace_and_die() -> None:
            traffic = Traffic(LAB, pause_s=3600)
            traffic.start()
            assert traffic._child is not None
            os.write(tell, str(traffic._child.pid).encode())
            select.select([tap], [], [], LIMIT_S)
            kill_itself()

        pid = forked(trace_and_die)
        child = os.pidfd_open(int(os.read(told, 16)))
        assert exit_code(pid) == -signal.SIGKILL
        assert select.select([child], [], [], LIMIT_S)[0]
        for end in (told, tell, child):
            os.close(end)


@pytest.mark.once
def test_traffic_that_is_not_answered_goes_on_and_says_so() -> None:
    with standing(LAB):
        run("ip", "link", "set", "vethc2", "down")
        traffic = Traffic(LAB, rounds=1)
        traffic.start()
        with pytest.raises(TopologyError, match="not answered: echo, udp, tcp"):
            traffic.wait(LIMIT_S)


@pytest.mark.once
def test_traffic_without_its_lab_says_why_it_ended() -> None:
    traffic = Traffic(LAB)
    traffic.start()
    with pytest.raises(TopologyError, match=r"the lab's traffic ended: .*No such file"):
        traffic.wait(LIMIT_S)
    assert not traffic.running
