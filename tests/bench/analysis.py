# SPDX-License-Identifier: GPL-2.0-only
"""What is done with a trace of a million hops: ``python -m tests.bench --analysis``. No guest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench.screen import write_trace
from tracer.export.formats import FORMATS

SKBTRACE = [sys.executable, "-m", "tracer"]
RUNS: dict[str, tuple[list[str], float | None, int]] = {
    "stats": (["stats"], 6.0, 300),
    "stats --json": (["stats", "--json"], 6.0, 300),
    **{
        f"export --to {name}": (
            ["export", "--to", name, "-f", "-o", "/dev/null"],
            8.0 if name in {"chrome", "pcapng"} else None,
            100,
        )
        for name, format in FORMATS.items()
        if not format.single
    },
}
"""What is run over the file, how many seconds and MB it may take."""


class Run(NamedTuple):
    """What a program took."""

    seconds: float
    memory_mb: float


def measure() -> dict[str, dict[str, float]]:
    """Write the trace and do everything; the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        journeys, hops = write_trace(path)
        began = time.process_time()
        with path.open("rb") as stream:
            for line in stream:
                json.loads(line)
        loads = time.process_time() - began
        figures = {"trace": {"journeys": journeys, "hops": hops, "json_s": loads}}
        for name, (words, _, _) in RUNS.items():
            run = best(run_over([*SKBTRACE, *words, str(path)]) for _ in range(3))
            figures[name] = {"seconds": run.seconds, "memory_mb": run.memory_mb}
        return figures


def best(runs: Iterator[Run]) -> Run:
    """The one that was least disturbed."""
    return min(runs)


def run_over(command: list[str]) -> Run:
    """Run a program to its end."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bench: {' '.join(command)} ended with {process.returncode}")
    return Run(time.monotonic() - began, usage.ru_maxrss / 1000)


def rows(figures: dict[str, dict[str, float]]) -> Iterator[tuple[bool, str, str, str]]:
    """Give what was reached, and the bars."""
    trace = figures["trace"]
    what = f"{trace['journeys']:.0f} journeys of {trace['hops']:.0f} hops: json.loads of each line"
    yield (True, what, f"{trace['json_s']:.2f} s", "")
    for name, (_, seconds, memory) in RUNS.items():
        run = figures[name]
        ratio = run["seconds"] / trace["json_s"]
        yield (
            seconds is None or run["seconds"] < seconds,
            f"  {name}",
            f"{run['seconds']:.2f} s, {ratio:.1f} times that",
            "" if seconds is None else f"below {seconds:.0f} s",
        )
        yield (
            run["memory_mb"] < memory,
            "    memory",
            f"{run['memory_mb']:.0f} MB",
            f"below {memory} MB",
        )
