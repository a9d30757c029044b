# SPDX-License-Identifier: GPL-2.0-only
"""What tracing costs in instructions: QEMU's clock goes on by 8 ns with each that is executed.

Times in an emulated guest are those of a machine that others use, too; this figure is the same
each time. One CPU, for with two the guest does not come up. Runs in the guest; writes
$SKBTRACE_OUT/instructions.json.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.bench.guest import CLIENT, SERVER_IP, floods, say
from tests.bench.where import RUNS
from tracer.asked import Asked
from tracer.kernel.source import KernelSource
from tracer.probes import LAYERS
from tracer.topology.build import standing
from tracer.topology.discover import discover, scope
from tracer.topology.names import Names
from tracer.topology.spec import LABS

REQUESTS = 500
NS = 8
"""An instruction takes so long: 2 ** 3."""
DEVICES = ("-smp", "1", "-icount", "shift=3")
"""What QEMU is told besides."""
BARE = "the seven without a layer"
MORE = {
    **{f"... and {layer}": Asked((layer,), changes=False) for layer in LAYERS},
    "... and what changed": Asked((), changes=True),
    "... and all of that": Asked(LAYERS, changes=True),
}
BARS = {"the seven alone": 2.0, "the seven, a filter that nothing passes": 1.65}


def traced(asked: Asked) -> float:
    """The least round trip in us."""
    source = KernelSource(scope(discover("docker0", Names())), asked)
    try:
        source.start()
        return round_trip()
    finally:
        source.close()


def round_trip() -> float:
    """The least one of two floods in us, once the caches of the emulator are filled."""
    floods(1, REQUESTS)
    minima: list[float] = floods(2, REQUESTS)["minima"]
    return 1000 * min(minima)


def main() -> None:
    runs = {}
    with standing(LABS["docker0"]):
        ping = ["ip", "netns", "exec", CLIENT, "ping", "-q", "-c", "1", SERVER_IP]
        subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
        say("untraced")
        runs["untraced"] = round_trip()
        for name, asked in {**RUNS, BARE: Asked((), changes=False), **MORE}.items():
            say(name)
            runs[name] = traced(asked)
    Path(os.environ["SKBTRACE_OUT"], "instructions.json").write_text(json.dumps(runs, indent=1))


def counted(us: float) -> int:
    """Return how many instructions take so long."""
    return round(1000 * us / NS)


def rows(runs: dict[str, Any]) -> list[tuple[bool, str, str, str]]:
    """Rows: is it good, what, the figure, the bar."""
    base = runs["untraced"]
    found = []
    for name, us in runs.items():
        bar = BARS.get(name)
        words = f"{counted(us)} = {us / base:.2f} times untraced"
        if name in MORE:
            words += f", {counted(us - runs[BARE])} more"
        said = "" if bar is None else f"<= {bar}"
        what = f"instructions of a round trip: {name}"
        found.append((bar is None or us <= bar * base, what, words, said))
    return found


if __name__ == "__main__":
    main()
