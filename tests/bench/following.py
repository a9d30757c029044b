# SPDX-License-Identifier: GPL-2.0-only
"""What it costs a packet that the topology is looked at and followed, with many containers beside.

Floods in the lab docker0, traced to a file by the same parts as the main job has: with its devices
named once, and followed; alone, and with a bridge of three hundred containers on the same host.
Writes one JSON object to $SKBTRACE_OUT/following.json. In the guest; says what it does on standard
error.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tests.bench.guest import CLIENT, HOUSE, SAME, SERVER_IP, floods, say, usage
from tests.kernel.many import MANY, bridge_of_many
from tracer.asked import Asked
from tracer.export.trace_writer import TraceWriter
from tracer.kernel.source import KernelSource
from tracer.session import Session
from tracer.topology.build import standing
from tracer.topology.discover import discover, everything, root, scope
from tracer.topology.engines import listen
from tracer.topology.names import Names
from tracer.topology.spec import LABS
from tracer.topology.watch import Watch

ROUNDS, FLOODS, REQUESTS = 2, 2, 2000
ONCE, FOLLOWED, ALL = "named once", "followed", "all devices, followed"
TRACE = Path("/tmp/bench-trace.json")


def trace(how: str) -> None:
    """Trace until standard input ends; says on standard output when every probe is attached."""
    names = Names()

    def look() -> Any:
        return everything(Names()) if how == ALL else discover("docker0", Names())

    topology = everything(names) if how == ALL else discover("docker0", names)
    source = KernelSource(scope(topology), Asked(SAME, changes=False))
    watch = None
    if how != ONCE:
        watch = Watch(topology, look, path=root(topology, names), others=listen())
    gc.freeze()
    with TRACE.open("wb") as stream, watch or nullcontext():
        session = Session(source, names, TraceWriter(stream, TRACE.name), topology, watch=watch)
        os.set_blocking(0, False)
        summary = session.run(ready=lambda _: print("ready", flush=True), go_on=_is_open)
    print(json.dumps({"journeys": summary.journeys, "lost": summary.lost_total}), flush=True)


def _is_open() -> bool:
    try:
        return os.read(0, 1) != b""
    except BlockingIOError:
        return True


def measured(how: str) -> dict[str, Any]:
    """Floods while that traces."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.following", how],
        cwd=HOUSE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    before = usage(process.pid)[0]
    figures = floods(FLOODS, REQUESTS)
    figures["cpu_s"] = usage(process.pid)[0] - before
    process.stdin.close()
    figures |= json.loads(process.stdout.readline())
    assert process.wait() == 0
    return figures


def main() -> None:
    if len(sys.argv) > 1:
        trace(sys.argv[1])
        return
    runs: dict[str, list[dict[str, Any]]] = {}
    with standing(LABS["docker0"]):
        ping = ["ip", "netns", "exec", CLIENT, "ping", "-q", "-c", "1", SERVER_IP]
        subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
        for beside in (0, MANY):
            with bridge_of_many() if beside else nullcontext():
                for number in range(ROUNDS):
                    for how in (ONCE, FOLLOWED, *((ALL,) if beside else ())):
                        say(f"{how}, {beside} containers beside, {number + 1} of {ROUNDS}")
                        runs.setdefault(f"{how}, {beside} beside", []).append(measured(how))
    Path(os.environ["SKBTRACE_OUT"], "following.json").write_text(json.dumps(runs, indent=1))


def rows(runs: dict[str, list[dict[str, Any]]]) -> list[tuple[bool, str, str, str]]:
    """Rows: is it good, what, the figure, the bar: no more than the rounds differ by themselves."""
    minima = {name: [1000 * run["minimum"] for run in each] for name, each in runs.items()}
    base = minima[f"{ONCE}, 0 beside"]
    bar = statistics.mean(base) + max(max(each) - min(each) for each in minima.values())
    found = []
    for name, each in runs.items():
        cpu = [1000 * 1000 * run["cpu_s"] / run["journeys"] for run in each]
        found.append(
            (
                statistics.mean(minima[name]) <= bar,
                f"smallest round trip, CPU a journey: {name}",
                f"{statistics.mean(minima[name]):.1f} us ({min(minima[name]):.0f} to"
                f" {max(minima[name]):.0f}), {statistics.mean(cpu):.0f} us,"
                f" {sum(run['lost'] for run in each)} lost",
                f"<= {bar:.1f} us",
            )
        )
    return found


if __name__ == "__main__":
    main()
