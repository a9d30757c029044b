# SPDX-License-Identifier: GPL-2.0-only
"""Bulk TCP through docker0 while it is traced to a file: ``bulk '-t 10'`` in a guest.

iperf3 from c1 to c2, once with Docker's defaults and once with tso, gso and gro off at all ends of
the veths. What the trace tells is held against what TCP, the devices and iperf3 have counted. The
traces are read where somebody has the time: outside the guest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tracer.export.trace_reader import TraceReader
from tracer.model import Hop, Journey, Outcome
from tracer.probes import FREES
from tracer.topology.build import standing
from tracer.topology.spec import LABS

C1, C2, C2_IP = "skbtrace-c1", "skbtrace-c2", "172.17.0.3"
PORT = 5201
MSS = 1448
HOUSE = Path(__file__).parents[2]
ETHERNET = 14
TCP_HEADERS = 20 + 32
SACK_MOST = 28
DEVICES = (("vethc1", None), ("vethc2", None), ("eth0", C1), ("eth0", C2))
AT_DRIVER = frozenset({"veth_xmit", "__dev_forward_skb", "__dev_queue_xmit", "__skb_gso_segment"})
AT_TRANSPORT = frozenset({"tcp_v4_rcv", "tcp_v4_do_rcv", "tcp_add_backlog", "tcp_conn_request"})


def run(command: str) -> str:
    return subprocess.check_output(["sh", "-ec", command], text=True)


def tcp_counters() -> Counter[str]:
    """TcpOutSegs and TcpRetransSegs of both containers."""
    counted: Counter[str] = Counter()
    for netns in (C1, C2):
        told = json.loads(run(f"ip netns exec {netns} nstat -asjz TcpOutSegs TcpRetransSegs"))
        counted.update(told["kernel"])
    return counted


def received() -> dict[str, int]:
    """Packets that each device has received."""
    counted = {}
    for ifname, netns in DEVICES:
        where = f"-n {netns} " if netns else ""
        (link,) = json.loads(run(f"ip {where}-s -j link show dev {ifname}"))
        name = f"{netns.removeprefix('skbtrace-') if netns else 'host'}/{ifname}"
        counted[name] = link["stats64"]["rx"]["packets"]
    return counted


def workload(amount: str, out: Path) -> None:
    """What runs behind ``--``."""
    before, before_tcp = received(), tcp_counters()
    server = subprocess.Popen(
        ["ip", "netns", "exec", C2, "iperf3", "-s", "-1", "-p", str(PORT), "--forceflush"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    next(line for line in server.stdout if "listening" in line)
    told = run(f"ip netns exec {C1} iperf3 -J -c {C2_IP} -p {PORT} {amount}")
    server.communicate(timeout=60)
    after, after_tcp = received(), tcp_counters()
    figures = {
        "iperf": json.loads(told)["end"]["sum_sent"],
        "received": {name: after[name] - before[name] for name in after},
        "tcp": {name: after_tcp[name] - before_tcp[name] for name in after_tcp},
    }
    out.write_text(json.dumps(figures))


def network_length(hop: Hop) -> int:
    """Length from the IP header on, by where in the stack the function is."""
    if hop.function in AT_DRIVER:
        return hop.len - ETHERNET
    return hop.len + 20 if hop.function in AT_TRANSPORT else hop.len


def payload(journey: Journey) -> tuple[int, bool]:
    """Bytes of data of a TCP packet, whose header has time stamps if it is not a SYN; and whether
    it is sure that they are not a SACK option.
    """
    flags = journey.flow.tcp_flags or ""
    rest = 0 if "S" in flags else network_length(journey.hops[0]) - TCP_HEADERS
    return rest, "P" in flags or rest > SACK_MOST


def is_mixed(journey: Journey) -> bool:
    """Whether its hops cannot be those of one packet: it is longer or shorter, or is twice where
    a packet is once. What waits for a busy process may grow: TCP appends to it.
    """
    lengths, seen = set(), Counter[tuple[str, object]]()
    for hop in journey.hops:
        if hop.function in FREES:
            break
        lengths.add(network_length(hop))
        if hop.function != "nf_hook_slow":  # a device has several
            seen[hop.function, hop.device] += 1
        if hop.function == "tcp_add_backlog":
            break
    return len(lengths) > 1 or max(seen.values(), default=0) > 1


@dataclass
class Told:
    """What the trace tells."""

    journeys: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    mixed: int = 0
    received: Counter[str] = field(default_factory=Counter)
    segments: int = 0
    repeats: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)


def read(path: Path, mss: int) -> Told:
    """Read the trace, journey by journey: it may be large."""
    told = Told()
    sent: dict[tuple[object, ...], list[Sent]] = {}
    with path.open("rb") as stream:
        reader = TraceReader(stream, path.name)
        for journey in reader:
            told.journeys += 1
            told.outcomes[journey.outcome] += 1
            if journey.outcome in (Outcome.UNFINISHED, Outcome.DAMAGED, Outcome.DROPPED):
                told.bad.append(
                    f"{journey.outcome} {journey.flow.tcp_flags} {journey.damage} {journey.drop}"
                    f" {[h.function for h in journey.hops[-4:]]}"
                )
            for hop in journey.hops:
                if hop.function == "__netif_receive_skb_core" and hop.device:
                    told.received[f"{hop.device.netns.name}/{hop.device.ifname}"] += 1
            flow = journey.flow
            if flow.proto != "tcp" or journey.parent is not None:
                continue
            told.mixed += is_mixed(journey)
            data, sure = payload(journey)
            told.segments += max(1, -(-data // mss))
            marks = len({"S", "F"} & set(flow.tcp_flags or ""))
            if data + marks:
                key = (flow.src, flow.sport, flow.dport)
                packet = Sent(journey.start_ns, flow.tcp_seq or 0, data, marks, sure)
                sent.setdefault(key, []).append(packet)
        assert reader.summary is not None
        told.lost = reader.summary.lost
    told.repeats += sum(repeated(packets, mss) for packets in sent.values())
    return told


class Sent(NamedTuple):
    """What a segment takes of the sequence numbers: bytes of data, and one for SYN and for FIN."""

    start_ns: int
    seq: int
    data: int
    marks: int
    sure: bool = True
    """Otherwise it has data only if it is sent again: an ACK is sent at the furthest."""


def repeated(sent: list[Sent], mss: int) -> int:
    """Segments that lie before what was furthest when they were sent, as TCP counts them: a FIN or
    SYN is in the segment of the data, or one of its own.
    """
    count = 0
    furthest = min(sent).seq
    for packet in sorted(sent):
        old = (furthest - packet.seq + 2**31) % 2**32 - 2**31
        if old <= 0 and not packet.sure and not packet.marks:
            continue
        if old > 0:
            count += max(1, -(-min(packet.data, old) // mss))
        furthest += max(0, packet.data + packet.marks - old)
    return count


def offload(state: str) -> None:
    """What the veths leave to their peers. GRO is off, as Docker leaves it."""
    for ifname, netns in DEVICES:
        where = f"ip netns exec {netns} " if netns else ""
        run(f"{where}ethtool -K {ifname} tso {state} gso {state} gro off")


def traced(amount: str, folder: Path, *, offloads: bool) -> None:
    """One run, of so much as iperf3 is told, while the lab stands. It leaves trace.json and
    figures.json in the folder.
    """
    offload("on" if offloads else "off")
    with tempfile.TemporaryDirectory() as near:  # the folder may be far away
        trace = Path(near, "trace.json")
        subprocess.run(
            [
                *(sys.executable, "-m", "tracer", "--topology", "docker0", "-q", "-w", str(trace)),
                *("--", sys.executable, "-m", "tests.bench.bulk"),
                *(amount, f"{folder}/figures.json"),
            ],
            cwd=HOUSE,
            check=True,
        )
        shutil.copyfile(trace, folder / "trace.json")


def figures_of(folder: Path) -> dict[str, Any]:
    """What a run that left its files in the folder has shown."""
    figures: dict[str, Any] = json.loads(Path(folder, "figures.json").read_text())
    told = read(folder / "trace.json", MSS)
    figures["bytes"] = Path(folder, "trace.json").stat().st_size
    figures["told"] = told
    return figures


RUNS = {"defaults": True, "offloads-off": False}
SHARE = 0.001
"""Of all journeys, so many at most may end as unfinished or damaged."""


def rows(name: str, figures: dict[str, Any]) -> list[tuple[bool, str, str, str]]:
    """Rows as of the other measurements: is it good, what, the figure, the bar."""
    told: Told = figures["told"]
    unclear = told.outcomes[Outcome.UNFINISHED] + told.outcomes[Outcome.DAMAGED]
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in told.outcomes.most_common())
    losses = {what: count for what, count in told.lost.items() if count}
    tcp = figures["tcp"]
    return [
        (
            unclear <= SHARE * told.journeys,
            f"{name}: unfinished and damaged of {told.journeys} journeys",
            f"{unclear} = {100 * unclear / told.journeys:.3f} %",
            f"<= {100 * SHARE:.1f} %",
        ),
        (True, f"{name}: outcomes", outcomes, ""),
        (not losses, f"{name}: loss counters that are not 0", f"{losses or 'none'}", "none"),
        (told.mixed == 0, f"{name}: journeys that are two packets", f"{told.mixed}", "0"),
        (
            told.segments == tcp["TcpOutSegs"] + tcp["TcpRetransSegs"],
            f"{name}: TCP segments, seen and counted by TCP",
            f"{told.segments}, {tcp['TcpOutSegs']} + {tcp['TcpRetransSegs']}",
            "equal",
        ),
        (
            told.repeats == tcp["TcpRetransSegs"],
            f"{name}: retransmitted, seen and counted by TCP",
            f"{told.repeats}, {tcp['TcpRetransSegs']}",
            "equal",
        ),
        (
            dict(told.received) == figures["received"],
            f"{name}: received by the devices, seen and counted",
            f"{sum(told.received.values())}, {sum(figures['received'].values())}",
            "equal",
        ),
        (
            True,
            f"{name}: rate while traced, size of the trace",
            f"{figures['iperf']['bits_per_second'] / 1e6:.0f} Mbit/s,"
            f" {figures['bytes'] / 1e6:.0f} MB",
            "",
        ),
    ]


def main() -> None:
    amount = sys.argv[1]
    if len(sys.argv) > 2:
        workload(amount, Path(sys.argv[2]))
        return
    with standing(LABS["docker0"]):
        run(f"ip netns exec {C1} ping -q -c 1 {C2_IP}")
        for name, offloads in RUNS.items():
            folder = Path(os.environ["SKBTRACE_OUT"], name)
            folder.mkdir(exist_ok=True)
            traced(amount, folder, offloads=offloads)


if __name__ == "__main__":
    main()
