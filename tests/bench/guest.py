# SPDX-License-Identifier: GPL-2.0-only
"""The measurements, inside the guest: floods of echo requests from c1 to c2, traced and not.

Writes one JSON object to $SKBTRACE_OUT/bench.json. Says what it does on standard error.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracer.export.trace_reader import TraceReader
from tracer.model import Journey, Layer, Outcome
from tracer.probes import MISSION, PROBES, Attach, chosen
from tracer.topology.build import standing
from tracer.topology.spec import LABS

FLOODS, REQUESTS = 4, 4000
SHORT_FLOODS, SHORT_REQUESTS = 2, 2000
"""Where there are many to be compared."""
CLIENT, SERVER_IP = "skbtrace-c1", "172.17.0.3"
IDLE_S = 10
HOUSE = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def floods(count: int = FLOODS, requests: int = REQUESTS) -> dict[str, Any]:
    """Round trips in ms: the floods' minima, averaged, and the median of their averages.

    ping tells thousandths of a millisecond, which here is several percent: hence the average.
    """
    minima, averages = [], []
    for _ in range(count):
        out = subprocess.check_output(
            ["ip", "netns", "exec", CLIENT, "ping", "-f", "-q", "-c", str(requests), SERVER_IP],
            text=True,
        )
        assert f"{requests} received" in out, out
        found = re.search(r"= ([\d.]+)/([\d.]+)/", out)
        assert found is not None
        minima.append(float(found[1]))
        averages.append(float(found[2]))
    return {
        "minimum": statistics.mean(minima),
        "median": statistics.median(averages),
        "minima": minima,
    }


def usage(pid: int) -> tuple[float, int]:
    """CPU seconds and the largest resident size in kB so far of a process."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert peak is not None
    return (int(stat[11]) + int(stat[12])) / _TICKS, int(peak[1])


SAME = (Layer.TRANSPORT, Layer.SOCKET)
"""Layers whose functions pwru is given too."""


def ours(*args: str, idle_s: int = 0, short: bool = False) -> dict[str, Any]:
    """The real command, writing a trace while the floods run."""
    inside, trace = Path("/tmp/bench-inside.json"), Path("/tmp/bench-trace.json")
    command = [sys.executable, "-m", "tracer", "--topology", "docker0", "-q", "-f", "-w"]
    command += [str(trace), *args]
    measure = [sys.executable, "-m", "tests.bench.guest", str(inside), str(idle_s)]
    measure += [str(SHORT_FLOODS), str(SHORT_REQUESTS)] if short else []
    began = time.monotonic()
    done = subprocess.run([*command, "--", *measure], cwd=HOUSE, check=False)
    ended = time.monotonic()
    figures: dict[str, Any] = json.loads(inside.read_text())
    figures["command_s"] = figures["ready"] - began
    figures["stop_s"] = ended - figures["stopped"]
    figures["status"] = done.returncode
    return figures | check(trace)


def while_traced(result: Path, idle_s: int, *flood: int) -> None:
    """What runs behind ``--``: it begins when every probe is attached; its parent is the tracer."""
    figures: dict[str, Any] = {"ready": time.monotonic()}
    tracer = os.getppid()
    before = usage(tracer)[0]
    time.sleep(idle_s)
    figures["idle_cpu"] = (usage(tracer)[0] - before) / max(idle_s, 1)
    figures["round_trip"] = floods(*flood)
    figures["cpu_s"], figures["peak_kb"] = usage(tracer)
    figures["stopped"] = time.monotonic()
    result.write_text(json.dumps(figures))


def attach_seconds() -> tuple[float, float]:
    """Compile and attach and nothing else, in a fresh process, as pwru's is: without Python's own
    start, and with it.
    """
    program = (
        "import time; from tracer.asked import Asked\n"
        "from tracer.kernel.source import KernelSource\n"
        "began = time.monotonic()\n"
        f"source = KernelSource({{}}, Asked({[*map(str, SAME)]}, changes=False))\n"
        "source.start()\n"
        "print(time.monotonic() - began, flush=True); source.close()"
    )
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=HOUSE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    inside = float(process.stdout.readline())
    whole = time.monotonic() - began
    process.communicate()
    return inside, whole


def check(trace: Path) -> dict[str, Any]:
    """Whether every packet of the floods is one whole journey, and nothing was lost."""
    there = [*MISSION, *MISSION[:5], "icmp_rcv", "skb_release_head_state"]
    back = [*there[:12], "skb_clone", *there[12:]]
    expected = {8: (there, Outcome.CONSUMED), 0: (back, Outcome.DELIVERED)}
    whole: dict[tuple[int | None, ...], int] = {}
    odd = 0
    with trace.open("rb") as stream:
        reader = TraceReader(stream, trace.name)
        for journey in reader:
            if journey.flow.proto != "icmp" or journey.parent is not None:
                continue
            if _is_whole(journey, expected):
                key = journey.flow.icmp_type, journey.flow.icmp_id, journey.flow.icmp_seq
                whole[key] = whole.get(key, 0) + 1
            else:
                odd += 1
        assert reader.summary is not None
        lost = reader.summary.lost
    return {
        "whole": len(whole),
        "twice": sum(n > 1 for n in whole.values()),
        "odd": odd,
        "lost": lost,
        "bytes": trace.stat().st_size,
    }


_COUNTED = {*MISSION, "icmp_rcv", "skb_clone", "skb_release_head_state"}


def _is_whole(journey: Journey, expected: dict[int, tuple[list[str], Outcome]]) -> bool:
    functions = [hop.function for hop in journey.hops if hop.function in _COUNTED]
    return (functions, journey.outcome) == expected.get(journey.flow.icmp_type or 0)


@contextmanager
def pwru_traces(
    program: str, log: Path, *accepted: str, layers: Collection[Layer] = SAME
) -> Iterator[tuple[subprocess.Popen[str], float]]:
    """pwru on the same functions, telling of each packet what skbtrace tells; and how long it took
    to attach.
    """
    functions = "|".join(
        dict.fromkeys(
            PROBES[i].function
            for i in chosen(layers)
            if PROBES[i].attach is not Attach.RAW_TRACEPOINT
        )
    )
    began = time.monotonic()
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                program,
                "--all-kmods",
                "--output-meta",
                "--output-tuple",
                "--timestamp",
                "relative",
                "--filter-func",
                f"^({functions}|kfree_skb_reason|sk_skb_reason_drop|kfree_skb)$",
                *accepted,
            ],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "Listening" in line:
                break
        else:
            raise SystemExit(f"pwru does not start: {said}")
        yield process, time.monotonic() - began
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def pwru(
    program: str, *accepted: str, layers: Collection[Layer] = SAME, short: bool = False
) -> dict[str, Any]:
    """The floods while pwru traces."""
    log = Path("/tmp/pwru.out")
    with pwru_traces(program, log, *accepted, layers=layers) as (process, attach_s):
        figures: dict[str, Any] = {"attach_s": attach_s}
        figures["round_trip"] = floods(SHORT_FLOODS, SHORT_REQUESTS) if short else floods()
        figures["cpu_s"], figures["peak_kb"] = usage(process.pid)
    figures["events"] = log.read_text(errors="replace").count("\n") - 1
    return figures


def main() -> None:
    if len(sys.argv) > 1:
        while_traced(Path(sys.argv[1]), *map(int, sys.argv[2:]))
        return
    peer = os.environ.get("SKBTRACE_PWRU")
    figures: dict[str, Any] = {"kernel": os.uname().release, "cpus": os.cpu_count()}
    with standing(LABS["docker0"]):
        subprocess.run(
            ["ip", "netns", "exec", CLIENT, "ping", "-q", "-c", "1", SERVER_IP],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        say(f"{FLOODS} floods of {REQUESTS} echo requests, untraced")
        figures["untraced"] = floods()
        say("the same, traced to a file")
        figures["skbtrace"] = ours(idle_s=IDLE_S)
        say("the same, with the functions that the peer is given")
        figures["same"] = ours("--layers", ",".join(SAME), "--no-changes")
        say("compile and attach alone")
        figures["attach_s"], figures["attach_whole_s"] = min(attach_seconds() for _ in range(2))
        say("the same, untraced again")
        figures["untraced_after"] = floods()
        if peer:
            say("the same, with pwru")
            runs = [pwru(peer) for _ in range(2)]
            figures["pwru"] = min(runs, key=lambda run: run["round_trip"]["minimum"])
            figures["pwru"]["attach_s"] = min(run["attach_s"] for run in runs)
    Path(os.environ["SKBTRACE_OUT"], "bench.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
