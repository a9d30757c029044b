# SPDX-License-Identifier: GPL-2.0-only
"""Where the nanoseconds go: what the kernel says of each probe's program while a ping floods.

The kernel counts runs and their time itself (kernel.bpf_stats_enabled), which costs some: compare
the programs with one another. A program that hands on is told with what it hands on to. Runs in
the guest; writes $SKBTRACE_OUT/where.json.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.guest import CLIENT, SAME, SERVER_IP, floods, say
from tracer.asked import Asked
from tracer.filter import filter_of
from tracer.kernel.source import KernelSource
from tracer.probes import DEFAULT_LAYERS, PROBES
from tracer.topology.build import standing
from tracer.topology.discover import discover, scope
from tracer.topology.names import Names
from tracer.topology.spec import LABS

REQUESTS = 2000
NOBODY = filter_of(["tcp", "port", "1"])
RUNS: Mapping[str, Asked] = {
    "the seven alone": Asked(SAME, changes=False),
    "the seven, a filter that nothing passes": Asked(SAME, changes=False, filter=NOBODY),
    "the default": Asked(DEFAULT_LAYERS),
    "the default, a filter that nothing passes": Asked(DEFAULT_LAYERS, filter=NOBODY),
}


def told(program: int) -> tuple[int, int]:
    """(runs, ns) so far, of a program by its descriptor."""
    lines = Path(f"/proc/self/fdinfo/{program}").read_text().splitlines()
    found = dict(line.split(":\t") for line in lines if ":\t" in line)
    return int(found["run_cnt"]), int(found["run_time_ns"])


def measured(asked: Asked) -> dict[str, Any]:
    """Function → runs and ns of its probe in a flood; the flood's least round trip without that."""
    source = KernelSource(scope(discover("docker0", Names())), asked)
    try:
        source.start()
        figures: dict[str, Any] = {"us": 1000 * floods(1, REQUESTS)["minimum"]}
        source.read()
        Path("/proc/sys/kernel/bpf_stats_enabled").write_text("1")
        loaded = source._running._loaded
        before = {name: told(program) for name, program in loaded.items()}
        floods(1, REQUESTS)
        after = {name: told(program) for name, program in loaded.items()}
        Path("/proc/sys/kernel/bpf_stats_enabled").write_text("0")
        rows = figures["probes"] = {}
        for name, (runs, ns) in after.items():
            number = name.removeprefix("skbtrace_")
            if number.isdigit() and runs > before[name][0]:
                probe = PROBES[int(number)]
                typed = probe.typed if int(number) in source._targets else None
                told_apart = f"{probe.function} ({typed or probe.attach})"
                rows[told_apart] = (runs - before[name][0], ns - before[name][1])
    finally:
        source.close()
    return figures


def main() -> None:
    runs = {}
    with standing(LABS["docker0"]):
        ping = ["ip", "netns", "exec", CLIENT, "ping", "-q", "-c", "1", SERVER_IP]
        subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
        runs["untraced"] = {"us": 1000 * floods(2, REQUESTS)["minimum"], "probes": {}}
        for name, asked in RUNS.items():
            say(name)
            runs[name] = measured(asked)
    Path(os.environ["SKBTRACE_OUT"], "where.json").write_text(json.dumps(runs, indent=1))


def rows(runs: dict[str, Any]) -> list[tuple[bool, str, str, str]]:
    """Rows: good, what, the figure, no bar."""
    base = runs["untraced"]["us"]
    found = [(True, "round trip, least: untraced", f"{base:.1f} us", "")]
    for name, run in runs.items():
        if name == "untraced":
            continue
        found.append((True, f"round trip, least: {name}", f"{run['us']:.1f} us", ""))
        found.append((True, "... to untraced", f"{run['us'] / base:.2f}", ""))
        probes = sorted(run["probes"].items(), key=lambda row: -row[1][1])
        total = sum(ns for _, (_, ns) in probes)
        for function, (count, ns) in probes:
            words = f"{count / REQUESTS:.1f} x {ns / count:.0f} ns = {ns / REQUESTS / 1000:.2f} us"
            found.append((True, f"    {function}", words, ""))
        found.append((True, "    all of them", f"{total / REQUESTS / 1000:.2f} us", ""))
    return found


if __name__ == "__main__":
    main()
