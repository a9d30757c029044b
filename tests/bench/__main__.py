# SPDX-License-Identifier: GPL-2.0-only
"""Boot a guest, measure in it, print the table: ``python -m tests.bench [--peer pwru]``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.bench import (
    analysis,
    bulk,
    following,
    instructions,
    journeys,
    mechanisms,
    peers,
    screen,
    steps,
    where,
)
from tests.vm import KERNELS, Guest, GuestLost
from tests.vm.peer import PWRU, PeerError

HOUSE = Path(__file__).parents[2]
HELP_S = 0.15
RATIO, ADDED = 3.0, 0.7


OTHERS: dict[str, tuple[ModuleType, str]] = {
    "following": (following, "what following the topology costs"),
    "instructions": (instructions, "what tracing costs in instructions, the same each time"),
    "where": (where, "what the kernel says of each probe's program"),
    "steps": (steps, "what counting in the kernel how long steps take costs"),
    "mechanisms": (mechanisms, "what each way of being called costs by itself"),
    "peers": (peers, "how fast pwru and bpftrace are with the same packets and functions"),
}
"""Other measurements: each is a module that writes NAME.json in the guest and has its rows."""

NO_GUEST: dict[str, ModuleType] = {"screen": screen, "analysis": analysis, "journeys": journeys}
"""What needs none: each measures by itself."""


def main() -> int:
    """Measure and print. The status is 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--kernel", choices=KERNELS, default="6.1")
    parser.add_argument("--peer", choices=["pwru"], help="compare with it; fetches its package")
    parser.add_argument("--bulk", type=int, metavar="S", help="bulk TCP for S seconds instead")
    parser.add_argument(
        "--count", action="store_true", help="a guest whose clock goes by instructions, 8 ns each"
    )
    for name, module in NO_GUEST.items():
        text = (module.__doc__ or "").split(":")[0]
        parser.add_argument(f"--{name}", action="store_true", help=f"{text}; no guest")
    for name, (_, text) in OTHERS.items():
        parser.add_argument(f"--{name}", action="store_true", help=f"{text} instead")
    options = parser.parse_args()
    for name, measured in NO_GUEST.items():
        if getattr(options, name):
            return tell(measured.rows(measured.measure()))
    other = next((name for name in OTHERS if getattr(options, name)), None)
    env = {}
    try:
        if options.peer:
            env["SKBTRACE_PWRU"] = str(PWRU.obtain() / PWRU.programs[0])
        for each in peers.NEEDED if other == "peers" else ():
            each.obtain()
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", f"tests.bench.{other or 'guest'}"]
            if options.bulk:
                command = [sys.executable, "-m", "tests.bench.bulk", f"-t {options.bulk}"]
            counts = options.count or other == "instructions"
            devices = instructions.DEVICES if counts else ()
            guest = Guest(options.kernel, devices=devices)
            status = guest.run(command, out=Path(folder), env=env)
            if status:
                print(f"bench: the measurements ended with status {status}", file=sys.stderr)
                return 1
            if options.bulk:
                return tell(
                    row
                    for name in bulk.RUNS
                    for row in bulk.rows(name, bulk.figures_of(Path(folder, name)))
                )
            figures = json.loads(Path(folder, f"{other or 'bench'}.json").read_text())
    except (PeerError, GuestLost) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return tell(OTHERS[other][0].rows(figures) if other else table(figures, help_seconds()))


def tell(rows: Iterable[tuple[bool, str, str, str]]) -> int:
    """Print the rows. 1 if one misses its bar, else 0."""
    missed = 0
    for good, what, figure, bar in rows:
        print(f"{'ok  ' if good else 'MISS'}  {what:<52} {figure:<24} {bar}")
        missed |= not good
    return missed


def help_seconds() -> float:
    """The best of ten runs of ``skbtrace --help`` on this machine."""
    best = float("inf")
    for _ in range(10):
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "tracer", "--help"],
            check=True,
            cwd=HOUSE,
            stdout=subprocess.DEVNULL,
        )
        best = min(best, time.monotonic() - began)
    return best


def table(figures: dict[str, Any], help_s: float) -> list[tuple[bool, str, str, str]]:
    """Rows: is it good, what, the figure, the bar (empty where there is none)."""
    ours, packets = figures["skbtrace"], 32000
    untraced = min(figures["untraced"]["minimum"], figures["untraced_after"]["minimum"])
    traced = ours["round_trip"]["minimum"]
    lost = sum(ours["lost"].values())
    rows = [
        (True, "kernel, CPUs", f"{figures['kernel']}, {figures['cpus']}", ""),
        (
            ours["whole"] == packets and not ours["twice"] and not ours["odd"],
            f"whole journeys of {packets} packets",
            f"{ours['whole']}, {ours['odd']} odd, {ours['twice']} twice",
            f"{packets}",
        ),
        (lost == 0, "sum of all loss counters", f"{lost}", "0"),
        (
            traced <= RATIO * untraced,
            "round trip, minimum: traced to untraced",
            f"{traced:.3f}/{untraced:.3f} ms = {traced / untraced:.2f}",
            f"<= {RATIO}",
        ),
        (
            True,
            "round trip, median of averages: traced to untraced",
            f"{ours['round_trip']['median'] / figures['untraced']['median']:.2f}",
            "",
        ),
        (True, "command to attached, s", f"{ours['command_s']:.1f}", ""),
        (True, "compile and attach, s", f"{figures['attach_s']:.1f}", ""),
        (True, "... with the start of Python, s", f"{figures['attach_whole_s']:.1f}", ""),
        (True, "from the end of the floods to the tracer's end, s", f"{ours['stop_s']:.1f}", ""),
        (True, "tracer at rest, share of a CPU", f"{ours['idle_cpu']:.3f}", ""),
        (True, "tracer, largest resident size, MB", f"{ours['peak_kb'] / 1000:.0f}", ""),
        (help_s < HELP_S, "skbtrace --help on this machine, s", f"{help_s:.3f}", f"< {HELP_S}"),
    ]
    if "pwru" in figures:
        same = figures["same"]["round_trip"]["minimum"]
        rows += against_pwru(figures["pwru"], figures["attach_s"], same - untraced, untraced)
    return rows


def against_pwru(
    peer: dict[str, Any], attach_s: float, added: float, untraced: float
) -> list[tuple[bool, str, str, str]]:
    """The rows that compare."""
    theirs = peer["round_trip"]["minimum"] - untraced
    return [
        (
            added <= ADDED * theirs,
            "time added to the minimum: skbtrace to pwru",
            f"{added:.3f}/{theirs:.3f} ms = {added / theirs:.2f}",
            f"<= {ADDED}",
        ),
        (
            attach_s < peer["attach_s"],
            "compile and attach: skbtrace, pwru, s",
            f"{attach_s:.1f}, {peer['attach_s']:.1f}",
            "less than pwru",
        ),
        (True, "pwru: events written of the same floods", f"{peer['events']}", ""),
    ]


if __name__ == "__main__":
    sys.exit(main())
