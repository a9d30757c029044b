# SPDX-License-Identifier: GPL-2.0-only
"""To and from a real driver: two network cards on one wire, a container behind one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import (
    C1,
    C1_IP,
    HOUSE,
    IN_A_GUEST,
    KERNEL,
    TRIES,
    Trace,
    path_of,
    skbtrace,
)
from tracer.model import Change, Journey, Outcome, Segment
from tracer.probes import FREES

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

HERE, THERE = "198.51.100.1", "198.51.100.2"
PINGS = 7
PORT, DATA = 8004, 150_000
UPTIME_NS = 10_000_000
"""What /proc/uptime counts in."""


class Wire(Trace):
    """What was traced, what the cards are called, and their own counters of it."""

    uplink: str
    other: str
    counted: dict[str, int]
    read_ns: list[tuple[float, float]]
    """Before and after its counters were read, first and last."""

    @property
    def at_uplink(self) -> str:
        return f"host/{self.uplink}"

    @property
    def at_other(self) -> str:
        return f"outside/{self.other}"

    def pings(self, src: str, icmp_type: int, ping: int) -> list[Journey]:
        """Journeys that begin with this sender, of the first or second ping."""
        found = [j for j in self.of("icmp", src) if j.flow.icmp_type == icmp_type]
        ids = list(dict.fromkeys(j.flow.icmp_id for j in sorted(found, key=lambda j: j.start_ns)))
        return [j for j in found if j.flow.icmp_id == ids[ping]]


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory, lab: None) -> Iterator[Wire]:
    """c1 speaks to the world outside, through the uplink; then the uplink has RPS."""
    up = subprocess.run(
        [HOUSE / "demo" / "nic", "up"], capture_output=True, text=True, timeout=120, check=False
    )
    if up.returncode == 3 and not IN_A_GUEST:
        pytest.skip("no two network cards on one wire here: make kernel gives a guest two")
    assert up.returncode == 0, up.stderr
    uplink, other = up.stdout.split()[0], up.stdout.split()[3]
    folder = tmp_path_factory.mktemp("nic")
    counters = folder / "counters"
    program = folder / "work.sh"
    ping = f"ip netns exec {C1} ping -q -c {PINGS} -i 0.02 {THERE}"
    program.write_text(
        "set -e\n"
        f"counters() {{ cat /proc/uptime; ip -s -j link show dev {uplink}; cat /proc/uptime; }}\n"
        f"counters >{counters}.before\n"
        f"{ping}\n"
        f"{sys.executable} -m tests.kernel.send_out {PORT} {DATA}\n"
        f"echo 2 >/sys/class/net/{uplink}/queues/rx-0/rps_cpus\n"
        f"{ping}\n"
        f"echo 0 >/sys/class/net/{uplink}/queues/rx-0/rps_cpus\n"
        "sleep 0.5\n"  # virtio_net counts what it has sent when it frees it
        f"counters >{counters}.after\n"
    )
    try:
        for _ in range(TRIES):
            skbtrace(
                *("--topology", "auto", "--layers", "all", "-q", "-f"),
                *("-w", str(folder / "trace.json"), "--", "sh", str(program)),
            )
            traced = Wire(folder / "trace.json")
            if not traced.summary.lost["probe_missed"]:
                break
        traced.uplink, traced.other = uplink, other
        traced.read_ns, counted = [], []
        for when in ("before", "after"):
            from_, stats, to = Path(f"{counters}.{when}").read_text().splitlines()
            traced.read_ns.append((uptime_ns(from_), uptime_ns(to) + UPTIME_NS))
            counted.append(json.loads(stats)[0]["stats64"])
        traced.counted = {
            way: counted[1][way]["packets"] - counted[0][way]["packets"] for way in ("rx", "tx")
        }
        yield traced
    finally:
        subprocess.run([HOUSE / "demo" / "nic", "down"], check=True)


def uptime_ns(line: str) -> float:
    """What /proc/uptime says: the clock of the trace, as long as the guest never slept."""
    return float(line.split(maxsplit=1)[0]) * 1e9


def functions(journey: Journey) -> list[str]:
    return [hop.function for hop in journey.hops]


def test_nothing_is_lost(wire: Wire) -> None:
    lost = {name: count for name, count in wire.summary.lost.items() if count}
    assert lost.keys() <= {"probe_missed"}, lost
    assert not [j for j in wire.journeys if j.outcome is Outcome.DAMAGED]


def test_a_container_reaches_the_world_through_bridge_router_qdisc_and_driver(wire: Wire) -> None:
    requests = wire.pings(C1_IP, 8, 0)
    assert len(requests) == PINGS
    for request in requests[1:]:  # the first one waits for the neighbour, and a table of nat
        path = path_of(request)
        at = path.index("br_pass_frame_up host/vethc1")
        routed = [p for p in path[at + 1 : -1] if not p.startswith(("nf_hook_slow", "nft_do"))]
        assert routed == [
            "__netif_receive_skb_core host/docker0",
            "ip_rcv_core host/docker0",
            "ip_forward host/docker0",
            "ip_output host/docker0",
            f"ip_finish_output2 {wire.at_uplink}",
            f"__dev_queue_xmit {wire.at_uplink}",
            f"net_dev_start_xmit {wire.at_uplink}",
        ]
        assert (request.outcome, request.proof) == (Outcome.TRANSMITTED, "net_dev_start_xmit")
        assert request.hops[-3].segment is Segment.QDISC_WAIT
    first = requests[0]
    assert f"nft_do_chain {wire.at_uplink}" in path_of(first)
    assert first.outcome is Outcome.TRANSMITTED


def test_masquerade_rewrites_the_way_out_and_the_way_back(wire: Wire) -> None:
    for request in wire.pings(C1_IP, 8, 0):
        changes = [c for hop in request.hops for c in hop.changes]
        assert Change("src", C1_IP, HERE) in changes
        assert Change("ttl", 64, 63) in changes
    replies = wire.pings(THERE, 0, 0)
    came = [j for j in replies if path_of(j)[0] == f"napi_gro_receive {wire.at_uplink}"]
    assert len(came) == PINGS
    for reply in came:
        assert Change("dst", HERE, C1_IP) in [c for hop in reply.hops for c in hop.changes]


def test_the_other_card_receives_it_through_napi_and_gro(wire: Wire) -> None:
    requests = wire.pings(HERE, 8, 0)
    assert len(requests) == PINGS
    for request in requests:
        assert path_of(request)[:-1] == [
            f"napi_gro_receive {wire.at_other}",
            f"__netif_receive_skb_core {wire.at_other}",
            f"ip_rcv_core {wire.at_other}",
            f"ip_local_deliver {wire.at_other}",
            f"icmp_rcv {wire.at_other}",
        ]
        assert request.hops[0].segment is Segment.GRO_WAIT


def test_a_reply_is_two_journeys_with_the_wire_in_between(wire: Wire) -> None:
    replies = wire.pings(THERE, 0, 0)
    sent = [j for j in replies if path_of(j)[0].endswith(wire.at_other)]
    came = [j for j in replies if path_of(j)[0] == f"napi_gro_receive {wire.at_uplink}"]
    assert len(sent) == len(came) == PINGS
    for reply in sent:
        assert path_of(reply)[-2] == f"net_dev_start_xmit {wire.at_other}"
        if reply.drop is not None and KERNEL < (5, 15):
            # e1000 freed there what it had sent as if it had dropped it.
            assert reply.drop.function == "e1000_unmap_and_free_tx_resource"
        else:
            assert reply.outcome is Outcome.TRANSMITTED
    for reply in came:
        path = path_of(reply)
        assert path[1:3] == [
            f"__netif_receive_skb_core {wire.at_uplink}",
            f"ip_rcv_core {wire.at_uplink}",
        ]
        assert "enqueue_to_backlog c1/eth0" in path
        assert f"enqueue_to_backlog {wire.at_uplink}" not in path  # no RPS, no input queue
        assert (reply.outcome, reply.proof) == (Outcome.DELIVERED, "__sock_queue_rcv_skb")


def test_rps_puts_what_napi_has_received_on_another_cpus_queue(wire: Wire) -> None:
    came = [
        j for j in wire.pings(THERE, 0, 1) if path_of(j)[0] == f"napi_gro_receive {wire.at_uplink}"
    ]
    assert len(came) == PINGS
    for reply in came:
        assert path_of(reply)[:4] == [
            f"{function} {wire.at_uplink}"
            for function in (
                "napi_gro_receive",
                "enqueue_to_backlog",
                "process_backlog",
                "__netif_receive_skb_core",
            )
        ]
        received, queued, served, core = reply.hops[:4]
        assert queued.cpu == received.cpu
        assert queued.to_cpu == served.cpu == core.cpu == 1
        assert reply.outcome is Outcome.DELIVERED


def test_a_card_without_tso_is_given_segments_and_gro_merges_them_on_the_other_side(
    wire: Wire,
) -> None:
    sent = [j for j in wire.journeys if j.flow.dport == PORT]
    cut = [j for j in sent if "__skb_gso_segment" in functions(j) and j.parent is None]
    assert cut
    for parent in cut:
        assert path_of(parent)[-2] == f"__skb_gso_segment {wire.at_uplink}"
        assert parent.outcome is Outcome.CONSUMED
        for child in (j for j in sent if j.parent == parent.id):
            assert path_of(child)[:2] == [
                f"__skb_gso_segment {wire.at_uplink}",
                f"net_dev_start_xmit {wire.at_uplink}",
            ]
            assert child.outcome is Outcome.TRANSMITTED
    merged = [j for j in sent if j.outcome is Outcome.ABSORBED]
    assert merged
    by_id = {j.id: j for j in wire.journeys}
    for one in merged:
        assert path_of(one)[:2] == [
            f"napi_gro_receive {wire.at_other}",
            f"skb_gro_receive {wire.at_other}",
        ]
        assert one.absorbed_into is not None
        into = by_id[one.absorbed_into]
        whole = sum(j.hops[0].len - 52 for j in merged if j.absorbed_into == into.id)
        assert into.hops[1].function == "__netif_receive_skb_core"
        assert into.hops[1].len == into.hops[0].len + whole


def test_the_cards_own_counters_agree(wire: Wire) -> None:
    """What passes while the counters are read, ARP for one, may be counted or not."""
    (before, begin), (end, after) = wire.read_ns
    certain, possible = (
        Counter(
            place
            for journey in wire.journeys
            for hop, place in zip(journey.hops, path_of(journey), strict=True)
            if since <= journey.start_ns + hop.dt_ns <= until
        )
        for since, until in ((begin, end), (before, after))
    )
    sent, came = (
        f"{function} {wire.at_uplink}" for function in ("net_dev_start_xmit", "napi_gro_receive")
    )
    assert certain[sent] <= wire.counted["tx"] <= possible[sent]
    missed = wire.summary.lost["probe_missed"]
    assert certain[came] <= wire.counted["rx"] <= possible[came] + missed
    assert wire.counted["tx"] > 2 * PINGS + DATA // 1448


def test_all_that_was_transmitted_has_been_freed_by_its_driver(wire: Wire) -> None:
    left = [j for j in wire.journeys if j.outcome is Outcome.TRANSMITTED]
    assert len(left) >= wire.counted["tx"]
    assert all(functions(j)[-1] in FREES for j in left)
    assert all(functions(j)[-2] == "net_dev_start_xmit" for j in left)
