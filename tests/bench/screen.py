# SPDX-License-Identifier: GPL-2.0-only
"""The full-screen view under a flood, and over a large trace: ``python -m tests.bench --screen``.

No guest: a program writes a trace into a pipe at a steady rate, and the real view in a real
terminal looks at it. What its threads took is read from /proc; a key is timed from its press to
the screen that answers it.
"""

from __future__ import annotations

import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.terminal import Terminal
from tests.unit.journeys import ALL, CAPTURE, REPLY, REQUEST, SUMMARY, TCP, UDP
from tracer.export.output import open_trace
from tracer.export.trace_writer import TraceWriter
from tracer.model import Journey

RATE, SECONDS = 20_000, 60
TRACE_HOPS = 1_000_000
TICK_S = 0.02
KEYS_EVERY_S = 2.0
SHOW = [sys.executable, "-m", "tracer", "show"]
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Write the flood to standard output: what the measurement starts."""
    flood(int(sys.argv[1]), float(sys.argv[2]))


def flood(rate: int, seconds: float) -> None:
    """Write a trace with so many journeys a second, and its footer."""
    lines = _lines(5000)
    out = os.fdopen(1, "wb", buffering=0)
    writer = TraceWriter(out, "flood")
    writer.begin(CAPTURE)
    began, written = time.monotonic(), 0
    while (gone := time.monotonic() - began) < seconds:
        due = int(gone * rate) - written
        first = written % len(lines)
        batch = (lines[first:] + lines)[:due]
        out.write(b"".join(batch))
        written += len(batch)
        time.sleep(TICK_S)
    writer.end(type(SUMMARY)(journeys=written))
    print(f"written {written}", file=sys.stderr)


def journeys(count: int, seed: int = 1) -> Iterator[Journey]:
    """Give journeys of all kinds, most of them whole, each with times of its own."""
    chance = random.Random(seed)
    usual, every = [REQUEST, REPLY, TCP, UDP], list(ALL.values())
    start = CAPTURE.monotonic_ns
    for number in range(count):
        base = chance.choice(every if chance.random() < 0.1 else usual)
        start += chance.randrange(1000, 90_000)
        stretch = chance.uniform(0.8, 1.4)
        hops = tuple(hop._replace(dt_ns=int(hop.dt_ns * stretch)) for hop in base.hops)
        flow = base.flow
        if flow.sport is not None:
            flow = flow._replace(sport=1024 + chance.randrange(200))
        yield base._replace(
            id=str(number + 1),
            parent=None,
            branches=(),
            references=(),
            flow=flow,
            hops=hops,
            start_ns=start,
        )


def _lines(count: int) -> list[bytes]:
    into = _Lines()
    TraceWriter(into, "lines").journeys(list(journeys(count)))  # type: ignore[arg-type]
    return [line + b"\n" for line in into.data.splitlines()]


class _Lines:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def measure() -> dict[str, Any]:
    """Do both; the figures."""
    return {
        "flood": measure_flood(),
        "trace": measure_trace("trace.json"),
        "compressed": measure_trace("trace.json.gz"),
    }


def measure_flood() -> dict[str, float]:
    """The view over a stream: CPU of each thread, memory, keys."""
    source = [sys.executable, "-m", "tests.bench.screen", str(RATE), str(SECONDS)]
    file = Path(tempfile.gettempdir(), f"skbtrace-bench-{os.getpid()}.json")
    command = f"{shlex.join(source)} 2>/dev/null | tee {file} | exec {shlex.join([*SHOW, '-'])}"
    with Terminal(["sh", "-c", command], width=120, height=40) as terminal:
        terminal.shows("FOLLOW")
        pid = _child(terminal.pid)
        began, before = time.monotonic(), _threads(pid)
        answers, memory = [], []
        while time.monotonic() - began < SECONDS - 5:
            terminal.rest(KEYS_EVERY_S)
            terminal.type("g")
            terminal.until(lambda: "FOLLOW" not in terminal.lines[0])
            terminal.rest(random.uniform(0.3, 0.6))
            answers.append(terminal.answer("F", b"FOLLOW"))
            memory.append(_resident(pid))
        wall, after = time.monotonic() - began, _threads(pid)
        terminal.shows("ENDED")
        shown = int(terminal.lines[0].split(" journeys")[0].split()[-1])
        frames = terminal.written.count(b"journeys")  # the status line, of each frame
        terminal.type("q")
        status = terminal.ends()
    with file.open("rb") as stream:
        written = sum(1 for _ in stream) - 2  # header and footer
    file.unlink()
    spent = {name: (after[name] - before.get(name, 0.0)) / wall for name in after}
    main_thread = spent.pop(pid)
    return {
        "status": status,
        "rate": shown / SECONDS,
        "shown": shown,
        "written": written,
        "drawing_percent": 100 * main_thread,
        "other_percent": 100 * sum(spent.values()),
        "key_ms": 1000 * max(answers),
        "key_median_ms": 1000 * sorted(answers)[len(answers) // 2],
        "frames_per_s": frames / SECONDS,
        "memory_mb": memory[-1],
        "memory_grown_mb": memory[-1] - memory[len(memory) // 3],
    }


def write_trace(path: Path, most_hops: int = TRACE_HOPS) -> tuple[int, int]:
    """Write a trace of that many hops, or a few more; its journeys and hops."""
    hops = count = 0
    with closing(open_trace(str(path))) as stream:
        writer = TraceWriter(stream, "trace")
        writer.begin(CAPTURE)
        batch: list[Journey] = []
        for journey in journeys(most_hops):
            hops += len(journey.hops)
            count += 1
            batch.append(journey)
            if len(batch) == 1000 or hops >= most_hops:
                writer.journeys(batch)
                batch.clear()
            if hops >= most_hops:
                break
        writer.end(type(SUMMARY)(journeys=count, hops=hops))
    return count, hops


def measure_trace(name: str) -> dict[str, float]:
    """The view over a file of a million hops: the first rows, the far end, memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        count, hops = write_trace(path)
        size = path.stat().st_size
        began = time.monotonic()
        with Terminal([*SHOW, str(path)], width=120, height=40) as terminal:
            terminal.until(lambda: any("#1 " in line for line in terminal.lines))
            first = time.monotonic() - began
            terminal.shows(f"{count} journeys")
            indexed = time.monotonic() - began
            answers = []
            for keys, number in [("G", count), ("g", 1)] * 10:
                answers.append(terminal.answer(keys, f"journey #{number} ".encode()))
                terminal.rest(0.1)
            memory = _resident(terminal.pid)
            terminal.type("q")
            terminal.ends()
    return {
        "hops": hops,
        "journeys": count,
        "file_mb": size / 1e6,
        "first_s": first,
        "indexed_s": indexed,
        "key_ms": 1000 * max(answers),
        "key_median_ms": 1000 * sorted(answers)[len(answers) // 2],
        "memory_mb": memory,
    }


def rows(figures: dict[str, Any]) -> Iterator[tuple[bool, str, str, str]]:
    """Give what was reached, and the bars."""
    flood = figures["flood"]
    due = RATE * SECONDS
    yield (
        flood["shown"] == flood["written"] > 0.99 * due and flood["status"] == 0,
        f"a stream of {RATE} journeys a second for {SECONDS} s, shown",
        f"{flood['shown']} of {flood['written']}",
        "all that was written",
    )
    yield (
        flood["drawing_percent"] < 30,
        "  CPU of the thread that draws and reads keys",
        f"{flood['drawing_percent']:.0f} %",
        "below 30 %",
    )
    yield (True, "  CPU of the thread that takes lines in", f"{flood['other_percent']:.0f} %", "")
    yield (flood["frames_per_s"] <= 11, "  frames", f"{flood['frames_per_s']:.1f}/s", "up to 10/s")
    yield (
        flood["key_ms"] < 100,
        "  a key is answered, longest (median)",
        f"{flood['key_ms']:.0f} ms ({flood['key_median_ms']:.0f} ms)",
        "within 100 ms",
    )
    yield (
        flood["memory_grown_mb"] < 10,
        "  memory, and grown in the last two thirds",
        f"{flood['memory_mb']:.0f} MB, {flood['memory_grown_mb']:+.0f} MB",
        "bounded",
    )
    for trace in (figures["trace"], figures["compressed"]):
        what = f"a trace of {trace['hops']} hops ({trace['file_mb']:.0f} MB): first rows"
        yield (trace["first_s"] < 1, what, f"{trace['first_s']:.2f} s", "within 1 s")
        yield (True, "  every journey found", f"{trace['indexed_s']:.2f} s", "")
        yield (
            trace["key_ms"] < 100,
            "  to its end and back, longest (median)",
            f"{trace['key_ms']:.0f} ms ({trace['key_median_ms']:.0f} ms)",
            "within 100 ms",
        )
        yield (trace["memory_mb"] < 500, "  memory", f"{trace['memory_mb']:.0f} MB", "below 500 MB")


def _child(pid: int) -> int:
    """The view's process: the shell has become it, or started it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in map(int, children):
        if b"show" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
            return child
    return pid


def _threads(pid: int) -> dict[int, float]:
    """Thread → the CPU seconds it took."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
    return found


def _resident(pid: int) -> float:
    """Resident memory, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


if __name__ == "__main__":
    main()
