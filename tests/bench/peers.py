# SPDX-License-Identifier: GPL-2.0-only
"""skbtrace against pwru and bpftrace in one boot: the same packets, the same functions.

How many packets a second each can follow with nothing lost, what CPU time that takes in user space,
what a packet is delayed by that no filter lets in, and what becomes of traffic when there is far
more of it than skbtrace can tell of. Writes $SKBTRACE_OUT/peers.json. In the guest; says what it
does on standard error.

There are two rates: that of sending, held for two seconds, with buffers that may hold what is told
of later; and that with which it is told of, from the first packet until the last is written.

With ``--count`` the guest has one CPU, whose clock goes by instructions, and what is measured is
the same each time, whatever else the machine does.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import datagrams
from tests.bench.guest import (
    CLIENT,
    HOUSE,
    SAME,
    SERVER_IP,
    SHORT_FLOODS,
    SHORT_REQUESTS,
    floods,
    ours,
    pwru,
    pwru_traces,
    say,
    usage,
)
from tests.kernel.host import called
from tests.vm.peer import BPFTRACE, PWRU
from tracer.kernel.symbols import plain
from tracer.probes import MISSION, PROBES, Attach, Skb, chosen
from tracer.topology.build import standing
from tracer.topology.spec import LABS

NEEDED = (PWRU, BPFTRACE)
CALM_RATE, CALM = 100, 1000
STEP_S = 2
RATE_COUNTED = 3200
"""The highest rate on one CPU, on which who sends keeps who receives from it: as many packets then
wait in a socket, and skbtrace follows each until it is read."""
ATTACHED = 4
"""How often each is attached; the least round trip of all counts.

How long an emulator takes to find its way from a function to a program depends on where the kernel
has put both this time: the same command, attached twice, has differed by half. By instructions it
does not, and once is enough.
"""
PING_MS = 0.001
"""As exactly as ping tells a round trip."""
SLOW_RATE, SLOW = 50, 100
"""For how many lines each writes for a packet."""
BLASTS, BLAST = 3, 2000
RING = 25_000
"""Journeys that skbtrace's ring buffer holds, about."""
WAY = [*MISSION, *MISSION[:5]]
LAYERS = ("--layers", ",".join(SAME), "--no-changes")
SEVEN = ("--layers", "none", "--no-changes")
NOTHING, ANOTHER = "tcp port 1", f"udp port {datagrams.PORT}"

PWRU_RATE, BPFTRACE_RATE = 5, 3
CPU = 1 / 3
FILTERED, FILTERED_ADDED = 1.65, 0.65
ALL, ALL_ADDED, ALL_MEDIAN = 2.0, 0.35, 2.6

Row = tuple[bool, str, str, str]


# --- in the guest ---------------------------------------------------------------------------------


@dataclass
class Tracer:
    """One that is at work."""

    pid: int
    log: Path
    """What it writes, a line for each journey or event."""
    is_told: Callable[[bytes], bool]
    """Whether a line is one of those that are counted."""
    each: int = 1
    """Lines for one packet."""
    quiet_s: float = 3
    """What it writes nothing for so long after is not told of any more."""

    def step(self, rate: int, count: int) -> dict[str, Any]:
        """Send so many packets at this rate, and wait until all of them are written."""
        start, cpu = self.log.stat().st_size, cpu_s(self.pid)
        sender = subprocess.Popen(datagrams.sender(rate, count), stdout=subprocess.PIPE, text=True)
        told, grown = 0, time.monotonic()
        with self.log.open("rb") as stream:
            stream.seek(start)
            while (
                sender.poll() is None
                or time.monotonic() < grown + 0.5
                or (told < self.each * count and time.monotonic() < grown + self.quiet_s)
            ):
                time.sleep(0.02)
                if more := stream.read().count(b"\n"):
                    told, grown = told + more, time.monotonic()
        began, ended = json.loads(sender.communicate()[0])
        with self.log.open("rb") as stream:
            stream.seek(start)
            lines = lost = 0
            for line in stream:
                lines += self.is_told(line)
                if line.startswith(b"Lost "):
                    lost += int(line.split()[1])
        step = {
            "asked": rate,
            "count": count,
            "sent": count / (ended - began),
            "rate": count / (max(ended, grown) - began),
            "lines": lines,
            "lost": lost,
            "cpu_s": cpu_s(self.pid) - cpu,
        }
        step["good"] = lines >= self.each * count and not lost
        return step


def cpu_s(pid: int) -> float:
    """User and system time of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(usage(each)[0] for each in (pid, *map(int, children)))


@contextmanager
def skbtrace(*args: str) -> Iterator[Tracer]:
    log, said = Path("/tmp/skbtrace.json"), Path("/tmp/skbtrace.err")
    command = [sys.executable, "-m", "tracer", "--topology", "docker0", "--json", *args]
    with log.open("w") as out, said.open("w") as words:
        process = subprocess.Popen(command, cwd=HOUSE, stdout=out, stderr=words)
        while "attached" not in said.read_text():
            assert process.poll() is None, said.read_text()
            time.sleep(0.1)
        yield Tracer(process.pid, log, is_whole, quiet_s=20)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=300)


def is_whole(line: bytes) -> bool:
    """Whether it is the journey of one of the packets, and all of it is there."""
    if b'"proto":"udp"' not in line or not re.search(rb'"outcome":"(delivered|dropped)"', line):
        return False
    functions = re.findall(rb'"function":"(\w+)"', line)
    return [name for each in functions if (name := each.decode()) in MISSION] == WAY


def footer(log: Path) -> dict[str, Any]:
    """The last line of a trace."""
    found: dict[str, Any] = json.loads(log.read_bytes().rstrip().rpartition(b"\n")[2])
    return found


@contextmanager
def pwru_alone() -> Iterator[Tracer]:
    log = Path("/tmp/pwru.out")
    with pwru_traces(str(PWRU.tree / PWRU.programs[0]), log, ANOTHER) as (process, _):
        yield Tracer(process.pid, log, lambda line: line.startswith(b"0x"))


@contextmanager
def bpftrace() -> Iterator[Tracer]:
    file, log = Path("/tmp/peers.bt"), Path("/tmp/bpftrace.out")
    file.write_text(script(Path("/proc/kallsyms").read_text()))
    program = BPFTRACE.tree / BPFTRACE.programs[0]
    with log.open("w") as out:
        process = subprocess.Popen(
            [program, file],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"LD_LIBRARY_PATH": BPFTRACE.libraries},
        )
        # It tells how many probes it is about to attach (kprobes, fprobes), and nothing afterwards.
        while not (found := re.search(r"Attaching (\d+) probes", log.read_text())) or (
            len(called()) < int(found[1])
        ):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield Tracer(process.pid, log, lambda line: line.startswith(b"ffff"))
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


_SKB: Mapping[Skb, str] = {
    Skb.ARG1: "arg0",
    Skb.ARG2: "arg1",
    Skb.ARG3: "arg2",
    Skb.ARG4: "arg3",
    Skb.AT_ARG1: "*(uint64 *)arg0",
    Skb.NONE: "0",
}


def script(kallsyms: str) -> str:
    """For bpftrace: a line for each hit of the functions that skbtrace probes."""
    there = {line.split()[2] for line in kallsyms.splitlines()}
    cloned = {plain(symbol) for symbol in there} - there
    probes = {
        probe.function: probe.skb
        for probe in (PROBES[i] for i in chosen(SAME))
        if probe.attach is Attach.KPROBE
    }
    probes |= dict.fromkeys(("kfree_skb_reason", "kfree_skb"), Skb.ARG1)
    probes["sk_skb_reason_drop"] = Skb.ARG2
    clauses = []
    for function, skb in probes.items():
        if function not in there | cloned:
            continue
        name = f"{function}.*" if function in cloned else function
        tells = (
            "$s->dev->ifindex, $s->dev->nd_net.net->ns.inum, $s->len"
            if skb is not Skb.NONE
            else "0, 0, 0"
        )
        clauses.append(
            f"kprobe:{name} {{ $s = (struct sk_buff *){_SKB[skb]};"
            f' printf("%lx {function} %d %u %u %llu %d\\n", $s, {tells}, nsecs, cpu); }}\n'
        )
    return "".join(clauses)


def search(tracer: Tracer) -> dict[str, Any]:
    """What it writes for a packet, what it takes at a calm rate, and at which rates it loses."""
    slow = tracer.step(SLOW_RATE, SLOW)
    tracer.each = max(1, round(slow["lines"] / SLOW))
    calm = tracer.step(CALM_RATE, CALM)
    most = RATE_COUNTED if counts() else None
    return {"each": tracer.each, "calm": calm, "steps": [calm, *ladder(tracer.step, calm, most)]}


def ladder(
    step: Callable[[int, int], dict[str, Any]], first: dict[str, Any], most: int | None = None
) -> Iterator[Any]:
    """Twice the rate, or half of it, until that is one too many; then what is in between."""
    rate, good, bad = CALM_RATE, 0, 0
    latest = first
    while True:
        if latest["good"]:
            good = rate
            if (latest["sent"] < 0.8 * rate and not bad) or rate == most:
                return
        else:
            bad = rate
        if good and bad and bad < 1.2 * good:
            return
        rate = int((good * bad) ** 0.5) if good and bad else 2 * good or bad // 2
        if not rate:
            return
        latest = step(rate, max(STEP_S * rate, SLOW))
        yield latest


def rates() -> dict[str, Any]:
    tracers: dict[str, Callable[[], Any]] = {
        "pwru": pwru_alone,
        "bpftrace": bpftrace,
        "skbtrace": lambda: skbtrace(*LAYERS),
    }
    found: dict[str, Any] = {}
    for name, tracer in tracers.items():
        say(f"rates: {name}")
        with tracer() as at_work:
            run = search(at_work)
            if name == "skbtrace":
                # What each of the others could just follow.
                most = {other: fastest(theirs) for other, theirs in found.items()}
                run["as"] = {o: at_work.step(s["asked"], s["count"]) for o, s in most.items()}
            found[name] = run
        if name == "skbtrace":
            found[name]["lost"] = footer(at_work.log)["lost"]
        for step in found[name]["steps"]:
            say(", ".join(f"{what} {figure}" for what, figure in step.items()))
    return found


def round_trips() -> dict[str, list[dict[str, Any]]]:
    """Each attached several times, in turn, so that what else the machine does is for all alike."""
    peer = str(PWRU.tree / PWRU.programs[0])
    short = counts()
    size = (SHORT_FLOODS, SHORT_REQUESTS) if short else ()
    runs: dict[str, Callable[[], Any]] = {
        "untraced": lambda: {"round_trip": floods(*size)},
        "nothing": lambda: ours(*LAYERS, NOTHING, short=short),
        "another": lambda: another(short=short),
        "seven": lambda: ours(*SEVEN, short=True),
        "pwru nothing": lambda: pwru(peer, NOTHING, short=short),
        "pwru seven": lambda: pwru(peer, layers=(), short=True),
    }
    found: dict[str, list[Any]] = {name: [] for name in runs}
    for _ in range(1 if short else ATTACHED):
        for name, run in runs.items():
            say(f"round trips: {name}")
            found[name].append(run()["round_trip"])
            say(f"... {found[name][-1]['minimum']:.3f} ms")
    return found


def counts() -> bool:
    """Whether this guest's clock goes by instructions."""
    return os.cpu_count() == 1


def another(*, short: bool) -> dict[str, Any]:
    """The floods, beside a flow that the filter lets in."""
    sender = subprocess.Popen(datagrams.sender(CALM_RATE, 10**6), stdout=subprocess.DEVNULL)
    try:
        return ours(*LAYERS, ANOTHER, short=short)
    finally:
        sender.kill()
        sender.wait()


def overload() -> dict[str, Any]:
    """Packets as fast as can be: while skbtrace reads, while it stands still and its ring buffer
    has room, and when that is full.
    """
    found: dict[str, Any] = {"sent": 0}

    def blast(name: str, count: int = BLAST) -> None:
        found["sent"] += count
        found.setdefault(name, []).append(datagrams.send(datagrams.FULL_SPEED, count))

    with skbtrace(*LAYERS) as tracer:
        for name in ("reading", "room", "full"):
            say(f"overload: {name}")
            if name == "room":
                os.kill(tracer.pid, signal.SIGSTOP)
            elif name == "full":
                blast("filling", RING)
            for _ in range(BLASTS):
                blast(name)
            if name == "reading":
                time.sleep(5)
        os.kill(tracer.pid, signal.SIGCONT)
        time.sleep(5)
    with tracer.log.open("rb") as stream:
        found["whole"] = sum(map(is_whole, stream))
    return found | {"lost": footer(tracer.log)["lost"]}


def main() -> None:
    figures: dict[str, Any] = {"kernel": os.uname().release, "cpus": os.cpu_count()}
    out = Path(os.environ["SKBTRACE_OUT"], "peers.json")
    with standing(LABS["docker0"]):
        ping = ["ip", "netns", "exec", CLIENT, "ping", "-q", "-c", "1", SERVER_IP]
        subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
        # Nobody shall ask again who has the address: those would be packets, too.
        keep = ["ip", "-n", CLIENT, "neigh", "change", SERVER_IP, "dev", "eth0", "nud", "permanent"]
        subprocess.run(keep, check=True)
        # Nor shall the bridge forget where that is, who only listens, and flood.
        hour = ["ip", "link", "set", "docker0", "type", "bridge", "ageing_time", "360000"]
        subprocess.run(hour, check=True)
        with datagrams.received():
            for part in (rates, round_trips) if counts() else (rates, round_trips, overload):
                figures[part.__name__] = part()
                out.write_text(json.dumps(figures, indent=1))


# --- on the host ----------------------------------------------------------------------------------


def rows(figures: dict[str, Any]) -> list[Row]:
    """Rows: is it good, what, the figure, the bar."""
    found = [(True, "kernel, CPUs", f"{figures['kernel']}, {figures['cpus']}", "")]
    if "rates" in figures:
        found += [*rate_rows(figures["rates"]), *cpu_rows(figures["rates"])]
    found += trip_rows(figures["round_trips"])
    if "overload" in figures:
        found += overload_rows(figures["overload"])
    return found


def fastest(run: dict[str, Any]) -> dict[str, Any]:
    """The step of the highest rate with nothing lost; the first one if there is none."""
    good = [step for step in run["steps"] if step["good"]]
    found: dict[str, Any] = max(good, key=lambda step: step["asked"], default=run["calm"])
    return found


def highest(run: dict[str, Any], which: str) -> float:
    """The highest rate with nothing lost."""
    return max((step[which] for step in run["steps"] if step["good"]), default=0.0)


def rate_rows(rates: dict[str, dict[str, Any]]) -> list[Row]:
    found = []
    for name, run in rates.items():
        never = ">= " if all(step["good"] for step in run["steps"]) else ""
        sent, told = highest(run, "sent"), highest(run, "rate")
        figure = f"{never}{sent:.0f} a second, {never}{told:.0f}"
        found.append((sent > 0, f"{name}: nothing lost, sent and told of", figure, ""))
    ours = rates["skbtrace"]
    steps = [*ours["steps"], *ours["as"].values()]
    missing = sum(step["count"] - step["lines"] for step in steps if not step["good"])
    lost = sum(ours["lost"].values())
    counted = "skbtrace: packets not told of; loss counters"
    found.append((lost == missing, counted, f"{missing}; {lost}", "equal"))
    for which, words in (("sent", "sent"), ("rate", "told of")):
        for name, bar in (("pwru", PWRU_RATE), ("bpftrace", BPFTRACE_RATE)):
            theirs = highest(rates[name], which)
            ratio = highest(ours, which) / theirs if theirs else float("inf")
            what = f"highest rate {words}, skbtrace to {name}"
            found.append((ratio >= bar, what, f"{ratio:.1f} times", f">= {bar} times"))
    return found


def cpu_rows(rates: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """Give what the same packets take: few in a second, and as many as the other can follow."""
    for name in ("pwru", "bpftrace"):
        ours = rates["skbtrace"]
        pairs = (ours["calm"], rates[name]["calm"]), (ours["as"][name], fastest(rates[name]))
        for mine, theirs in pairs:
            ratio = mine["cpu_s"] / theirs["cpu_s"]
            some = "" if mine["good"] and theirs["good"] else ", some lost"
            yield (
                ratio <= CPU,
                f"CPU of {mine['count']} packets, {mine['asked']}/s, skbtrace to {name}",
                f"{mine['cpu_s']:.2f}/{theirs['cpu_s']:.2f} s = {ratio:.2f}{some}",
                f"<= {CPU:.2f}",
            )


def trip_rows(trips: dict[str, list[dict[str, Any]]]) -> list[Row]:
    best = {name: min(runs, key=lambda run: run["minimum"]) for name, runs in trips.items()}
    least: dict[str, float] = {name: run["minimum"] for name, run in best.items()}
    typical = {name: statistics.median(r["median"] for r in runs) for name, runs in trips.items()}
    untraced = least["untraced"]

    def to_untraced(name: str, what: str, bar: float) -> Row:
        ratio = least[name] / untraced
        figure = f"{1000 * least[name]:.1f}/{1000 * untraced:.1f} us = {ratio:.2f}"
        return ratio <= bar, what, figure, f"<= {bar}"

    def to_pwru(name: str, what: str, bar: float) -> Row:
        mine, theirs = (1000 * (least[each] - untraced) for each in (name, f"pwru {name}"))
        figure = f"{mine:.1f}/{theirs:.1f} us = {mine / theirs:.2f}"
        return mine <= bar * theirs, what, figure, f"<= {bar}"

    compared = [best[name]["minima"] for name in ("nothing", "another")]
    spread = max(PING_MS, *(max(minima) - min(minima) for minima in compared))
    median = typical["seven"] / typical["untraced"]
    return [
        to_untraced("nothing", "nothing passes the filter: round trip to untraced", FILTERED),
        to_pwru("nothing", "... time added, skbtrace to pwru", FILTERED_ADDED),
        (
            least["another"] <= least["nothing"] + spread,
            "another flow passes it: round trip of the others",
            f"{1000 * least['another']:.1f} us",
            f"<= {1000 * least['nothing']:.1f} us, +- {1000 * spread:.1f}",
        ),
        to_untraced("seven", "everything, the seven alone: round trip to untraced", ALL),
        to_pwru("seven", "... time added, skbtrace to pwru", ALL_ADDED),
        (
            median <= ALL_MEDIAN,
            "... median of averages, to untraced",
            f"{median:.2f}",
            f"<= {ALL_MEDIAN}",
        ),
    ]


def overload_rows(overload: dict[str, Any]) -> list[Row]:
    found = []
    full = statistics.mean(overload["full"])
    for name, words in (("reading", "it is read"), ("room", "it has room")):
        spread = max(max(overload[each]) - min(overload[each]) for each in (name, "full"))
        found.append(
            (
                full >= statistics.mean(overload[name]) - spread,
                f"packets a second: ring is full; {words}",
                f"{full:.0f}; {statistics.mean(overload[name]):.0f}",
                f"no less, +- {spread:.0f}",
            )
        )
    lost = sum(overload["lost"].values())
    found.append(
        (
            overload["whole"] + lost == overload["sent"] and lost >= BLASTS * BLAST,
            "journeys, lost ones; packets sent",
            f"{overload['whole']}, {lost}; {overload['sent']}",
            f"equal, {BLASTS * BLAST} lost or more",
        )
    )
    return found


if __name__ == "__main__":
    main()
