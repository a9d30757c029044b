# SPDX-License-Identifier: GPL-2.0-only
"""Journeys chosen by name: from, to and through a namespace, live and again from the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.conftest import C1, C1_IP, C2, C2_IP, Trace, path_of, skbtrace
from tracer.model import Journey, Outcome
from tracer.topology import netns

pytestmark = [pytest.mark.kernel, pytest.mark.once, pytest.mark.usefixtures("lab")]

PINGS = 7
LOST = 3
PING = (
    f"ip netns exec {C1} ping -q -c {PINGS} -i 0.02 {C2_IP};"
    f"ip netns exec {C2} ping -q -c {PINGS} -i 0.02 172.17.0.1"
)


def selected(path: Path, *options: str, command: str = PING) -> Trace:
    skbtrace(
        *("--topology", "docker0", "-q", "-f", "-w", str(path), *options),
        *("--", "sh", "-ec", command),
    )
    return Trace(path)


def begins_and_ends(journey: Journey) -> tuple[str, str]:
    netnses = [h.device.netns.name for h in journey.hops if h.device is not None]
    return netnses[0], netnses[-1]


def test_from_one_to_the_other_is_the_requests_and_nothing_else(tmp_path: Path) -> None:
    trace = selected(tmp_path / "t.json", "--from", "c1", "--to", "c2")
    assert {begins_and_ends(j) for j in trace.journeys} == {("c1", "c2")}
    assert len(trace.of("icmp", C1_IP, icmp_type=8)) == PINGS
    assert trace.of("icmp", C2_IP) == []
    # The replies, and both ways between c2 and the host.
    assert trace.summary.unselected >= 3 * PINGS
    assert trace.summary.silent == ()


def test_through_one_by_any_of_its_names(tmp_path: Path) -> None:
    inum = netns.inum(f"/run/netns/{C2}")
    counts = []
    for name in ("c2", C2, f"ns:{inum}", str(inum)):
        trace = selected(tmp_path / "t.json", "--netns", name, command=PING)
        assert all(any("c2/" in p for p in path_of(j)) for j in trace.journeys)
        counts.append(len(trace.of("icmp")))
    assert counts == [4 * PINGS] * 4
    both = selected(tmp_path / "t.json", "--netns", "c1", "--netns", "c2", "--to", "host")
    assert {j.flow.dst for j in both.of("icmp")} == {"172.17.0.1"}


def test_through_a_device(tmp_path: Path) -> None:
    """c2's requests to the host do not pass c1's port, and its own by either name."""
    path = tmp_path / "t.json"
    trace = selected(path, "--device", "vethc1")
    assert {j.flow.src for j in trace.of("icmp")} == {C1_IP, C2_IP}
    assert len(trace.of("icmp")) == 2 * PINGS
    whole = selected(path, "--device", "host/vethc2")
    assert len(whole.of("icmp")) == 4 * PINGS
    shown = skbtrace("show", "--device", "host/vethc1", str(path))
    assert "not selected" in shown.stderr
    done = skbtrace("show", "--device", "vethc9", str(path), status=1)
    assert "no device of this trace is called vethc9 (there are: " in done.stderr


def test_what_did_not_arrive_was_on_its_way(tmp_path: Path) -> None:
    """The bridge drops what is for c2: its port is down by then."""
    lose = (
        f"ip link set vethc2 down; ip -n {C1} neigh replace {C2_IP} lladdr 02:42:ac:11:00:03"
        f" dev eth0 nud permanent;"
        f"ip netns exec {C1} ping -q -c {LOST} -i 0.2 -W 1 {C2_IP} || true;"
        f"ip link set vethc2 up; ip -n {C1} neigh del {C2_IP} dev eth0"
    )
    trace = selected(tmp_path / "t.json", "--from", "c1", "--to", "c2", command=lose)
    requests = trace.of("icmp", C1_IP, icmp_type=8)
    assert len(requests) == LOST
    assert {begins_and_ends(j)[1] for j in requests} == {"host"}
    assert {j.outcome for j in requests} <= {Outcome.DROPPED, Outcome.CONSUMED}


def test_so_many_of_those_that_are_selected(tmp_path: Path) -> None:
    ping = f"ip netns exec {C1} ping -q -c 100 -i 0.1 {C2_IP}"
    path = tmp_path / "t.json"
    skbtrace(
        *("--topology", "docker0", "-c", "5", "--from", "c2", "-w", str(path)),
        *("--", *ping.split()),
        status=143,
    )
    trace = Trace(path)
    assert len(trace.journeys) == trace.summary.journeys == 5
    assert {j.flow.src for j in trace.of("icmp")} == {C2_IP}


def test_show_selects_from_a_file_what_live_would_have(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    every = selected(path)
    assert every.summary.unselected == 0
    shown = skbtrace("show", "--from", "c1", "--to", "c2", str(path))
    assert shown.stdout.count("echo request") == PINGS
    assert "echo reply" not in shown.stdout
    left = every.summary.journeys - shown.stdout.count("\n#") - shown.stdout.startswith("#")
    assert f"; {left} not selected" in shown.stderr


def test_a_name_that_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    done = skbtrace("--topology", "docker0", "-w", str(path), "--from", "c3", status=1)
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("skbtrace: there is no namespace, container or service c3 on this host")
    assert " (there are: " in error
    assert hint == "  try: sudo skbtrace topo"
    assert not path.exists()
    done = skbtrace("--topology", "docker0", "--container", "c1", status=1)
    assert "no container c1 runs on this host" in done.stderr

    selected(path, command="true")
    done = skbtrace("show", "--netns", "c3", str(path), status=1)
    assert "no namespace of this trace is called c3 (there are: " in done.stderr
