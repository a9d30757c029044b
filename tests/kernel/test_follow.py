# SPDX-License-Identifier: GPL-2.0-only
"""Namespaces and devices that come, go and are renamed while they are traced."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import C1, C1_IP, Trace, path_of, sh, skbtrace
from tracer.model import Device, Journey

pytestmark = [pytest.mark.kernel, pytest.mark.once]

BRIDGE, GATEWAY = "br-follow", "10.99.0.1"
SETTLED_S = 4
"""In an emulated guest the topology is known again after a second or two."""


def joins(name: str, number: int) -> str:
    """Commands that put a namespace with a device eth0 on the bridge."""
    return (
        f"ip netns add {name}\n"
        f"ip link add v{name} type veth peer name eth0 netns {name}\n"
        f"ip link set v{name} master {BRIDGE} up\n"
        f"ip -n {name} addr add 10.99.0.{number}/24 dev eth0\n"
        f"ip -n {name} link set eth0 up\n"
        f"sleep {SETTLED_S}\n"
    )


def pings(name: str, count: int) -> str:
    return f"ip netns exec {name} ping -q -c {count} -i 0.1 {GATEWAY}\n"


WORK = (
    pings("fa", 2)
    + joins("fb", 12)
    + pings("fb", 3)
    + "ip -n fb link set eth0 down\n"
    + "ip -n fb link set eth0 name lan0\n"
    + f"ip -n fb link set lan0 up\nsleep {SETTLED_S}\n"
    + pings("fb", 4)
    + "ip link set vfb down\nip link set vfb name port\nip link set port up\n"
    + f"sleep {SETTLED_S}\n"
    + pings("fb", 5)
    + f"ip netns del fb\nsleep {SETTLED_S}\n"
    + joins("fc", 13)  # its inode number may well be that of the one before
    + pings("fc", 6)
)


class Followed(Trace):
    """What was traced, and what was said meanwhile."""

    said: str


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    path = tmp_path_factory.mktemp("follow") / "t.json"
    sh(
        f"ip link add {BRIDGE} type bridge\n"
        f"ip addr add {GATEWAY}/24 dev {BRIDGE}\n"
        f"ip link set {BRIDGE} up\n" + joins("fa", 11)
    )
    options = ("--layers", "transport", "--color", "never", "-w", str(path))
    try:
        done = skbtrace("--topology", BRIDGE, *options, "--", "sh", "-ec", WORK)
        followed = Followed(path)
        followed.said = done.stderr
        yield followed
    finally:
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)
        for name in ("fa", "fb", "fc"):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def requests(trace: Trace, number: int) -> list[Journey]:
    """Echo requests of a namespace, in the order in which they began."""
    found = trace.of("icmp", f"10.99.0.{number}", icmp_type=8)
    return sorted(found, key=lambda j: j.start_ns)


def name_of(device: Device) -> str:
    return f"{device.netns.name}/{device.ifname}"


def test_who_was_there_from_the_beginning(trace: Followed) -> None:
    assert [path_of(j)[0] for j in requests(trace, 11)] == ["veth_xmit fa/eth0"] * 2


def test_who_came_is_followed_from_its_own_device_on(trace: Followed) -> None:
    first, *_ = requests(trace, 12)
    path = [name for name in path_of(first) if "/" in name]
    assert path[0] == "veth_xmit fb/eth0"
    assert "br_handle_frame host/vfb" in path
    assert path[-1] == f"icmp_rcv host/{BRIDGE}"


def test_each_hop_is_called_what_its_device_was_called_then(trace: Followed) -> None:
    begins = [path_of(j)[0] for j in requests(trace, 12)]
    assert begins == [*["veth_xmit fb/eth0"] * 3, *["veth_xmit fb/lan0"] * 9]
    ports = [next(n for n in path_of(j) if "br_handle_frame" in n) for j in requests(trace, 12)]
    assert [name.split()[1] for name in ports] == [*["host/vfb"] * 7, *["host/port"] * 5]


def test_who_comes_after_is_not_mistaken_for_who_went(trace: Followed) -> None:
    assert [path_of(j)[0] for j in requests(trace, 13)] == ["veth_xmit fc/eth0"] * 6


def test_the_trace_holds_what_changed_and_when(trace: Followed) -> None:
    ends = [{name_of(d) for d in change.topology.ends} for change in trace.changes]
    order = list(dict.fromkeys(map(frozenset, ends)))
    states: list[set[str]] = [{"fa/eth0", "fb/eth0"}, {"fa/eth0", "fb/lan0"}, {"fa/eth0"}]
    states.append({"fa/eth0", "fc/eth0"})
    assert [set(each) for each in order if set(each) in states] == states
    times = [change.at_ns for change in trace.changes]
    assert times == sorted(times)
    came = next(c.at_ns for c, e in zip(trace.changes, ends, strict=True) if "fb/eth0" in e)
    renamed = next(c.at_ns for c, e in zip(trace.changes, ends, strict=True) if "fb/lan0" in e)
    begun = [j.start_ns for j in requests(trace, 12)]
    assert came < begun[0]
    assert begun[2] < renamed < begun[3]


def test_it_is_said_who_came_and_who_went(trace: Followed) -> None:
    said = trace.said.splitlines()
    for line in ("+ fb/eth0", "= fb/lan0, was fb/eth0", "- fb/lan0", "+ fc/eth0"):
        assert any(each.startswith(line) for each in said), trace.said
    assert "= host/port, was host/vfb" in said


def test_nothing_was_lost(trace: Followed) -> None:
    lost = {name for name, count in trace.summary.lost.items() if count}
    assert lost <= {"probe_missed"}


def test_show_reads_it(trace: Followed) -> None:
    shown = skbtrace("show", str(trace.path)).stdout
    assert "fb/lan0" in shown
    assert "ns:" not in shown


def test_what_is_left_of_a_lab_is_followed_on(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    ping = f"ip netns exec {C1} ping -q -c 2 172.17.0.1"
    work = f"{ping}; ip link del vethc2; sleep {SETTLED_S}; {ping}"
    skbtrace(
        *("--topology", "docker0", "--layers", "transport", "-q", "-w", str(path)),
        *("--", "sh", "-ec", work),
    )
    trace = Trace(path)
    assert trace.capture.topology is not None
    assert trace.capture.topology.built
    begins = [path_of(j)[0] for j in trace.of("icmp", C1_IP, icmp_type=8)]
    assert begins == ["veth_xmit c1/eth0"] * 4
    assert [name_of(d) for d in trace.changes[-1].topology.ends] == ["c1/eth0"]
