# SPDX-License-Identifier: GPL-2.0-only
"""Packets through docker0 on a real kernel, counted against witnesses that are not skbtrace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from tests.kernel.conftest import (
    C1,
    C1_IP,
    C2,
    C2_IP,
    KERNEL,
    Trace,
    capture,
    packets,
    path_of,
    sh,
    skbtrace,
)
from tracer.model import Outcome, Segment
from tracer.probes import MISSION

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

PRIME = 31


def through(src: str, port_in: str, port_out: str, dst: str) -> list[str]:
    """Container to container, as kernel-facts and the articles have it."""
    return [
        f"veth_xmit {src}/eth0",
        f"__dev_forward_skb {src}/eth0",
        f"enqueue_to_backlog host/{port_in}",
        f"process_backlog host/{port_in}",
        f"__netif_receive_skb_core host/{port_in}",
        f"br_handle_frame host/{port_in}",
        f"br_forward host/{port_in}",
        f"veth_xmit host/{port_out}",
        f"__dev_forward_skb host/{port_out}",
        f"enqueue_to_backlog {dst}/eth0",
        f"process_backlog {dst}/eth0",
        f"__netif_receive_skb_core {dst}/eth0",
    ]


DEVICES = {"vethc1": None, "vethc2": None, "c1": C1, "c2": C2}


@pytest.fixture(scope="module")
def ping(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, dict[str, tuple[int, int]]]:
    """PRIME echo requests from c1 to c2, and what the interface counters say meanwhile."""
    folder = tmp_path_factory.mktemp("ping")
    trace = capture(
        folder,
        f"{counters(folder / 'before')}"
        f"ip netns exec {C1} ping -q -c {PRIME} -i 0.02 {C2_IP};"
        f"{counters(folder / 'after')}",
    )
    return trace, {
        name: (
            after[0] - before[0],
            after[1] - before[1],
        )
        for name in DEVICES
        for before in [packets(folder / "before" / name)]
        for after in [packets(folder / "after" / name)]
    }


def counters(folder: Path) -> str:
    """The shell command that keeps every device's counters in the folder."""
    words = [f"mkdir {folder};"]
    for name, netns in DEVICES.items():
        where = f"-n {netns} " if netns else ""
        words.append(
            f"ip {where}-j -s link show dev {'eth0' if netns else name} > {folder / name};"
        )
    return "".join(words)


Ping = tuple[Trace, dict[str, tuple[int, int]]]


def test_every_probe_is_attached_and_none_is_silent(ping: Ping) -> None:
    trace, _ = ping
    assert trace.capture.missing == ()
    assert trace.summary.silent == ()
    assert trace.capture.kernel == os.uname().release


def test_requests_pass_the_mission_functions_in_order(ping: Ping) -> None:
    trace, _ = ping
    requests = trace.of("icmp", C1_IP, icmp_type=8)
    assert len(requests) == PRIME
    for journey in requests:
        assert path_of(journey)[:-1] == [
            *through("c1", "vethc1", "vethc2", "c2"),
            "icmp_rcv c2/eth0",
        ]
        assert journey.hops[-1].function == "skb_release_head_state"
        assert (journey.outcome, journey.proof) == (Outcome.CONSUMED, "icmp_rcv")
    assert [j.flow.icmp_seq for j in requests] == list(range(1, PRIME + 1))
    assert [h.len for h in requests[0].hops[:4]] == [98, 98, 84, 84]


def test_replies_pass_them_the_other_way_and_are_no_drops(ping: Ping) -> None:
    trace, _ = ping
    replies = trace.of("icmp", C2_IP, icmp_type=0)
    assert len(replies) == PRIME
    for journey in replies:
        *path, clone, taken, end = path_of(journey)
        assert path == through("c2", "vethc2", "vethc1", "c1")
        assert (clone, taken) == ("skb_clone c1/eth0", "icmp_rcv c1/eth0")
        assert end.startswith("skb_release_head_state")
        assert (journey.outcome, journey.drop) == (Outcome.DELIVERED, None)


def test_each_reply_has_a_clone_that_waits_in_pings_socket(ping: Ping) -> None:
    trace, _ = ping
    clones = [j for j in trace.journeys if j.parent]
    assert len(clones) == PRIME
    replies = {j.id: j for j in trace.of("icmp", C2_IP, icmp_type=0)}
    for clone in clones:
        assert clone.parent is not None
        (branch,) = replies[clone.parent].branches
        assert branch.id == clone.id
        assert [h.function for h in clone.hops] == [
            "skb_clone",
            "__sock_queue_rcv_skb",
            "skb_release_head_state",
        ]
        assert (clone.outcome, clone.hops[1].segment) == (Outcome.DELIVERED, Segment.SOCKET)


def test_nothing_else_was_seen_or_made_up(ping: Ping) -> None:
    trace, _ = ping
    others = [j for j in trace.journeys if j.flow.proto not in ("icmp", "arp")]
    assert others == []
    assert trace.summary.journeys == len(trace.journeys)
    assert trace.summary.hops == sum(len(j.hops) for j in trace.journeys)
    assert set(trace.summary.outcomes) <= {"delivered", "consumed"}


def test_interface_counters_agree(ping: Ping) -> None:
    """What every device received and sent, by the kernel's own count."""
    trace, counted = ping
    for name, (received, sent) in counted.items():
        place = f"host/{name}" if name.startswith("veth") else f"{name}/eth0"
        seen = [p for j in trace.journeys for p in path_of(j)]
        assert (
            seen.count(f"__netif_receive_skb_core {place}"),
            seen.count(f"veth_xmit {place}"),
        ) == (received, sent), name
        assert received >= PRIME


def test_waiting_is_split_and_never_before_the_enqueue(ping: Ping) -> None:
    trace, _ = ping
    dequeues = 0
    for journey in trace.journeys:
        for before, served, core in zip(
            journey.hops, journey.hops[1:], journey.hops[2:], strict=False
        ):
            if served.function != "process_backlog":
                continue
            dequeues += 1
            assert (before.function, core.function) == (
                "enqueue_to_backlog",
                "__netif_receive_skb_core",
            )
            assert before.dt_ns <= served.dt_ns <= core.dt_ns
            assert served.cpu == core.cpu == before.to_cpu
            assert served.already_running == (served.dt_ns == before.dt_ns)
            assert (before.segment, served.segment) == (Segment.SOFTIRQ_WAIT, Segment.BACKLOG_WAIT)
    assert dequeues == sum(j.parent is None for j in trace.journeys) * 2


def test_the_trace_validates_against_the_published_schema(ping: Ping) -> None:
    trace, _ = ping
    schema = json.loads(skbtrace("schema").stdout)
    validator = jsonschema.Draft202012Validator(schema)
    lines = trace.path.read_text().splitlines()
    assert [json.loads(line)["type"] for line in (lines[0], lines[-1])] == ["header", "footer"]
    for line in (lines[0], lines[-1], *lines[1:12]):
        validator.validate(json.loads(line))


def test_show_prints_every_journey_without_root_and_without_bcc(
    ping: Ping, as_nobody: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    trace, _ = ping
    program = "import sys; sys.modules['bcc'] = None; from tracer.cli import main; main()"
    done = as_nobody("-c", program, "show", "-", text=trace.path.read_text())
    assert done.returncode == 0, done.stderr
    for journey in trace.journeys:
        assert f"#{journey.id} " in done.stdout
    assert done.stdout.count("veth_xmit") == trace.summary.hits["veth_xmit"]


def test_arp_is_flooded_as_a_branch_to_the_host(tmp_path: Path) -> None:
    sh(f"ip -n {C1} neigh flush all; ip -n {C2} neigh flush all")
    trace = capture(tmp_path, f"ip netns exec {C1} ping -q -c 1 {C2_IP}")
    request = trace.of("arp", C1_IP, arp_op="request")[0]
    clones = [j for j in trace.journeys if j.parent == request.id]
    assert len(clones) == len(request.branches) == 1
    both = [path_of(request), path_of(clones[0])]
    takers = sorted(p for path in both for p in path if p.startswith("arp_rcv"))
    assert takers == ["arp_rcv c2/eth0", "arp_rcv host/docker0"]
    assert {request.outcome, clones[0].outcome} == {Outcome.CONSUMED}
    reply = trace.of("arp", C2_IP, arp_op="reply")[0]
    assert path_of(reply)[:12] == through("c2", "vethc2", "vethc1", "c1")


def test_container_to_host_is_received_a_second_time_by_the_bridge(tmp_path: Path) -> None:
    trace = capture(tmp_path, f"ip netns exec {C1} ping -q -c 3 -i 0.02 172.17.0.1")
    for request in trace.of("icmp", C1_IP):
        assert path_of(request)[:-1] == [
            *through("c1", "vethc1", "vethc2", "c2")[:6],
            "__netif_receive_skb_core host/docker0",
            "icmp_rcv host/docker0",
        ]
    replies = trace.of("icmp", "172.17.0.1")
    assert len(replies) == 3
    for reply in replies:  # no br_handle_frame: the bridge itself transmits
        assert path_of(reply)[:2] == ["br_forward host/docker0", "veth_xmit host/vethc1"]


def test_a_closed_udp_port_is_a_drop_that_the_kernel_counts_too(tmp_path: Path) -> None:
    def no_ports() -> int:
        text = sh(f"ip netns exec {C2} nstat -asz UdpNoPorts")
        return int(text.split("UdpNoPorts")[1].split()[0])

    before = no_ports()
    program = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        f"[s.sendto(b'x', ('{C2_IP}', 9)) for _ in range(7)]"
    )
    trace = capture(tmp_path, f'ip netns exec {C1} {sys.executable} -c "{program}"')
    dropped = [j for j in trace.of("udp", C1_IP) if j.outcome is Outcome.DROPPED]
    assert len(dropped) == no_ports() - before == 7
    for journey in dropped:
        assert journey.drop is not None
        assert journey.drop.reason == ("NO_SOCKET" if KERNEL >= (5, 17) else None)
        assert journey.drop.function is not None
        assert "udp" in journey.drop.function
    # the kernel answers: port unreachable
    assert len(trace.of("icmp", C2_IP, icmp_type=3, icmp_code=3)) >= 1


def test_tcp_both_ways_is_delivered_whole(tmp_path: Path) -> None:
    program = tmp_path / "talk.py"
    program.write_text(
        "import os, socket, sys\n"
        "sys.path.insert(0, os.getcwd())\n"
        "from tracer.topology.netns import inside\n"
        "make = lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)\n"
        f"server = inside('/run/netns/{C2}', make); client = inside('/run/netns/{C1}', make)\n"
        f"server.bind(('{C2_IP}', 8080)); server.listen(); client.connect(('{C2_IP}', 8080))\n"
        "peer, _ = server.accept()\n"
        "client.sendall(b'q' * 20000); client.shutdown(socket.SHUT_WR)\n"
        "got = b''.join(iter(lambda: peer.recv(65536), b''))\n"
        "assert len(got) == 20000\n"
        "peer.sendall(b'a' * 30000); peer.close()\n"
        "got = b''.join(iter(lambda: client.recv(65536), b''))\n"
        "assert len(got) == 30000\n"
        "client.close()\n"
    )
    trace = capture(tmp_path, f"{sys.executable} {program}")
    asked, answered = trace.of("tcp", C1_IP, dport=8080), trace.of("tcp", C2_IP, sport=8080)
    assert asked[0].flow.tcp_flags == "S"
    assert answered[0].flow.tcp_flags == "S."
    # header bytes: Ethernet, IP, TCP with its time stamps; a SYN's and a FIN's are no data
    for journeys, data in ((asked, 20000), (answered, 30000)):
        assert (
            sum(j.hops[0].len - 66 for j in journeys if "S" not in (j.flow.tcp_flags or "")) == data
        )
    for journey in asked + answered:
        assert journey.outcome is Outcome.DELIVERED, journey
    assert path_of(asked[0])[:12] == through("c1", "vethc1", "vethc2", "c2")
    assert path_of(answered[0])[:12] == through("c2", "vethc2", "vethc1", "c1")


def test_a_datagram_nobody_has_read_is_unfinished(tmp_path: Path) -> None:
    program = tmp_path / "send.py"
    program.write_text(
        "import os, socket, sys\n"
        "sys.path.insert(0, os.getcwd())\n"
        "from tracer.topology.netns import inside\n"
        "make = lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"server = inside('/run/netns/{C2}', make); client = inside('/run/netns/{C1}', make)\n"
        f"server.bind(('{C2_IP}', 5555))\n"
        f"for n in range(2): client.sendto(b'hello', ('{C2_IP}', 5555))\n"
        "server.recv(10)\n"
        "os.set_inheritable(server.fileno(), True)\n"
        "os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '20')  # keeps the socket and its queue\n"
    )
    trace = capture(tmp_path, f"{sys.executable} {program}")
    read, unread = sorted(trace.of("udp", C1_IP, dport=5555), key=lambda j: j.start_ns)
    assert (read.outcome, read.proof) == (Outcome.DELIVERED, "__udp_enqueue_schedule_skb")
    assert (unread.outcome, unread.proof) == (Outcome.UNFINISHED, None)
    assert path_of(unread) == [
        *through("c1", "vethc1", "vethc2", "c2"),
        "udp_rcv c2/eth0",
        "__udp_enqueue_schedule_skb c2/eth0",
    ]


def test_a_wait_of_more_than_four_seconds_is_told_in_full(tmp_path: Path) -> None:
    """2^32 ns are 4.3 s: the hop's 32 bits are not enough."""
    program = tmp_path / "wait.py"
    program.write_text(
        "import os, socket, sys, time\n"
        "sys.path.insert(0, os.getcwd())\n"
        "from tracer.topology.netns import inside\n"
        "make = lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"server = inside('/run/netns/{C2}', make); client = inside('/run/netns/{C1}', make)\n"
        f"server.bind(('{C2_IP}', 5556)); client.sendto(b'hello', ('{C2_IP}', 5556))\n"
        "time.sleep(4.7); server.recv(10)\n"
    )
    trace = capture(tmp_path, f"{sys.executable} {program}")
    (journey,) = trace.of("udp", C1_IP, dport=5556)
    assert journey.outcome is Outcome.DELIVERED
    assert 4.7e9 < journey.duration_ns < 20e9
    assert journey.hops[-2].segment is Segment.SOCKET


def test_a_journey_of_more_hops_than_a_record_has_slots(tmp_path: Path) -> None:
    """c3 hangs on a second bridge that hangs on docker0: thirty hops and more, in chunks."""
    sh(
        "ip link add br-far type bridge mcast_snooping 0; ip link set br-far up;"
        "ip link add far0 type veth peer name far1;"
        "ip link set far0 master docker0 up; ip link set far1 master br-far up;"
        "ip netns add far-c3; ip link add far2 type veth peer name eth0 netns far-c3;"
        "ip link set far2 master br-far up; ip -n far-c3 link set eth0 up;"
        "ip -n far-c3 addr add 172.17.0.4/16 dev eth0;"
        f"until ip netns exec {C1} ping -q -c 1 -W 1 172.17.0.4; do :; done"
    )
    try:
        trace = capture(
            tmp_path, f"ip netns exec {C1} ping -q -c 5 -i 0.02 172.17.0.4", layers="all"
        )
    finally:
        sh("ip netns del far-c3; ip link del far0; ip link del br-far")
    requests = trace.of("icmp", C1_IP)
    assert len(requests) == 5
    for journey in requests:
        assert len(journey.hops) > 30
        assert [h.function for h in journey.hops if h.function in MISSION] == [
            *MISSION,
            *MISSION,
            *MISSION[:5],
        ]
        assert (journey.outcome, journey.proof) == (Outcome.CONSUMED, "icmp_rcv")


@pytest.mark.skipif(os.cpu_count() == 1, reason="RPS needs a second CPU")
def test_rps_moves_the_dequeue_to_the_cpu_it_was_queued_for(tmp_path: Path) -> None:
    mask = Path("/sys/class/net/vethc1/queues/rx-0/rps_cpus")
    was = mask.read_text().strip()
    mask.write_text("2")
    try:
        trace = capture(tmp_path, f"taskset -c 0 ip netns exec {C1} ping -q -c 5 -i 0.02 {C2_IP}")
    finally:
        mask.write_text(was)
    for journey in trace.of("icmp", C1_IP):
        enqueue, served, core = journey.hops[2:5]
        assert enqueue.cpu == 0
        assert enqueue.to_cpu == served.cpu == core.cpu == 1
        assert journey.outcome is Outcome.CONSUMED


def test_other_devices_are_not_traced(tmp_path: Path) -> None:
    sh(
        "ip netns add other; ip link add other0 type veth peer name eth0 netns other;"
        "ip addr add 192.0.2.1/24 dev other0; ip link set other0 up;"
        "ip -n other addr add 192.0.2.2/24 dev eth0; ip -n other link set eth0 up"
    )
    try:
        trace = capture(
            tmp_path,
            f"ping -q -c 3 -i 0.02 192.0.2.2; ip netns exec {C1} ping -q -c 3 -i 0.02 {C2_IP}",
        )
    finally:
        sh("ip netns del other")
    assert len(trace.of("icmp", C1_IP)) == 3
    assert not [j for j in trace.journeys if j.flow.src and j.flow.src.startswith("192.0.2.")]


def test_a_vlan_tag_and_ipv6_are_read_from_real_packets(tmp_path: Path) -> None:
    """The tag of a VLAN device lies beside the packet, not in it; where differs between kernels."""
    for netns, last in ((C1, 1), (C2, 2)):
        sh(
            f"ip netns exec {netns} sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0"
            " net.ipv6.conf.eth0.accept_dad=0;"
            f"ip -n {netns} link add link eth0 name eth0.100 type vlan id 100;"
            f"ip -n {netns} addr add 192.0.2.{last}/24 dev eth0.100;"
            f"ip -n {netns} link set eth0.100 up;"
            f"ip -n {netns} addr add 2001:db8::{last}/64 dev eth0 nodad"
        )
    try:
        trace = capture(
            tmp_path,
            f"ip netns exec {C1} ping -q -c 3 -i 0.02 192.0.2.2;"
            f"ip netns exec {C1} ping -q -c 3 -i 0.02 2001:db8::2",
        )
    finally:
        for netns in (C1, C2):
            sh(
                f"ip -n {netns} link del eth0.100;"
                f"ip netns exec {netns} sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"
            )
    tagged = trace.of("icmp", "192.0.2.1", icmp_type=8)
    assert [j.flow.vlan for j in tagged] == [100] * 3
    plain = trace.of("icmpv6", "2001:db8::1", icmp_type=128)
    assert [(j.flow.vlan, j.flow.icmp_seq) for j in plain] == [(None, 1), (None, 2), (None, 3)]
    for journey in tagged + plain:
        assert path_of(journey)[:12] == through("c1", "vethc1", "vethc2", "c2")
        assert journey.outcome is Outcome.CONSUMED
    assert {j.proof for j in plain} == {"icmpv6_rcv"}
