# SPDX-License-Identifier: GPL-2.0-only
"""What it costs to count in the kernel how long each step takes.

Floods with it and without, in turn, in one boot: the least round trip, and what the kernel says of
all programs together (see ``where``). In the guest; writes $SKBTRACE_OUT/steps.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bench.guest import CLIENT, SERVER_IP, say
from tests.bench.where import REQUESTS, measured
from tracer.asked import Asked
from tracer.kernel import definitions
from tracer.probes import DEFAULT_LAYERS
from tracer.topology.build import standing
from tracer.topology.spec import LABS

ROUNDS = 8
RUNS: Mapping[str, Asked] = {
    "the default": Asked(DEFAULT_LAYERS),
}
MOST = 0.2
"""Of what the programs take without, so much more at most. Emulation takes longest where memory is
touched that was not touched just before, which is most of what is added here."""


def main() -> None:
    runs: dict[str, dict[str, list[Any]]] = {name: {"with": [], "without": []} for name in RUNS}
    with standing(LABS["docker0"]):
        ping = ["ip", "netns", "exec", CLIENT, "ping", "-q", "-c", "1", SERVER_IP]
        subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
        for number in range(ROUNDS):
            for name, asked in RUNS.items():
                # In turn, and each goes first as often: what else the machine does is for both.
                for how in sorted(runs[name], reverse=bool(number % 2)):
                    say(f"{name}, {how}, {number + 1} of {ROUNDS}")
                    with pytest.MonkeyPatch.context() as patch:
                        if how == "without":
                            patch.setattr(definitions, "STEPS_MAX", 0)
                        runs[name][how].append(measured(asked))
    Path(os.environ["SKBTRACE_OUT"], "steps.json").write_text(json.dumps(runs, indent=1))


def rows(runs: dict[str, dict[str, list[Any]]]) -> list[tuple[bool, str, str, str]]:
    """Rows: is it good, what, the figure, the bar."""
    found = []
    for name, each in runs.items():
        took: dict[str, list[float]] = {}
        hits = 0.0
        for how, measurements in each.items():
            us = [run["us"] for run in measurements]
            programs = [
                sum(ns for _, ns in run["probes"].values()) / REQUESTS / 1000
                for run in measurements
            ]
            hits = sum(count for count, _ in measurements[0]["probes"].values()) / REQUESTS
            took[how] = programs
            found.append(
                (
                    True,
                    f"{name}, {how}: round trip, least; all programs",
                    f"{min(us):.0f} us ({', '.join(f'{each:.0f}' for each in us)});"
                    f" {min(programs):.1f} us ({', '.join(f'{each:.1f}' for each in programs)})",
                    "",
                )
            )
        least = {how: min(programs) for how, programs in took.items()}
        added = least["with"] - least["without"]
        share = 100 * added / least["without"]
        typical = statistics.median(took["with"]) - statistics.median(took["without"])
        found.append(
            (
                added <= MOST * least["without"],
                f"{name}: what it adds to the programs of a round trip",
                f"{added:.2f} us = {share:.1f} %, {1000 * added / hits:.0f} ns each of {hits:.0f}"
                f" hits (of medians: {typical:.2f} us)",
                f"<= {100 * MOST:.0f} %",
            )
        )
    return found


if __name__ == "__main__":
    main()
