# SPDX-License-Identifier: GPL-2.0-only
"""The soak, inside the guest: flood, churn, samples of the tracer. ``tests.soak.guest SECONDS``.

Writes one JSON object to $SKBTRACE_OUT/soak.json. Says what it does on standard error.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.bench import datagrams
from tests.kernel.host import complaints, probed
from tracer import exchanges, recurring
from tracer.session import BACKLOG_BYTES
from tracer.topology.build import standing
from tracer.topology.spec import LABS

CLIENT, SERVER_IP = "skbtrace-c1", "172.17.0.3"
HOUSE = Path(__file__).parents[2]
FLOWS, EACH = recurring.MOST * 3 // 2, 4
"""More than the tracer remembers ways of, each seen often enough to be remembered."""
ASKING = exchanges.MOST * 5 // 2
"""More echo requests than are kept for who answers."""
FILLING = BACKLOG_BYTES // 335
"""More datagrams than may wait to be read: the record of one has half as much again. The first of
them are kept for an ICMP error to be about, until there are enough of those.
"""
STILL_S = 5
"""What nothing is written for so long after has been read."""
ROUND, BLAST = 500, 1000
"""Requests in one flood, and the datagrams after it."""
SAMPLE_S = 2.0


def sh(command: str) -> str:
    return subprocess.check_output(["sh", "-ec", command], text=True)


class Reader(threading.Thread):
    """Reads the trace as it is written: how many journeys, and the footer."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self.journeys = 0
        self.footer: dict[str, Any] = {}

    def rest(self) -> None:
        """Wait until all that was sent is written."""
        before = -1
        while before != self.journeys:
            before = self.journeys
            time.sleep(STILL_S)

    def run(self) -> None:
        for line in self._stream:
            if line.startswith(b'{"type":"journey"'):
                self.journeys += 1
            elif line.startswith(b'{"type":"footer"'):
                self.footer = json.loads(line)


class Churn(threading.Thread):
    """Containers on docker0 that come, ask c2 three times, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()
        self.came = 0
        self.answered = 0

    def run(self) -> None:
        while not self.over.is_set():
            name = f"soak{self.came % 7}"
            inside = f"ip netns exec {name}"
            out = sh(
                f"ip netns add {name};"
                f"ip link add veth{name} type veth peer name eth0 netns {name};"
                f"ip link set veth{name} master docker0 up;"
                f"{inside} ip addr add 172.17.0.{20 + self.came % 200}/16 dev eth0;"
                f"{inside} ip link set eth0 up;"
                f"{inside} ping -q -c 3 -i 0.05 -W 5 {SERVER_IP} || true;"
                f"ip netns del {name}; ip link del veth{name} 2>/dev/null || true"
            )
            self.answered += _received(out)
            self.came += 1


def _received(out: str) -> int:
    found = re.search(r"(\d+) received", out)
    assert found is not None, out
    return int(found[1])


def sample(pid: int) -> dict[str, int]:
    """What the tracer holds: resident kB, open descriptors."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return {"kb": int(found[1]), "files": len([*Path(f"/proc/{pid}/fd").iterdir()])}


def flood(requests: int) -> int:
    """Send echo requests as fast as they are answered. Return how many were."""
    return _received(sh(f"ip netns exec {CLIENT} ping -f -q -c {requests} {SERVER_IP}"))


def blast(count: int, *each: int) -> None:
    """Send datagrams as fast as can be."""
    datagrams.send(datagrams.FULL_SPEED, count, *each)


def soak(seconds: float) -> dict[str, Any]:
    """Trace docker0 for so long."""
    before = complaints()
    with Path("/tmp/said").open("w+") as said:
        tracer = subprocess.Popen(
            [sys.executable, "-m", "tracer", "--topology", "docker0", "--json"],
            cwd=HOUSE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        reader, churn = Reader(tracer.stdout), Churn()
        reader.start()
        while "attached" not in Path("/tmp/said").read_text():
            assert tracer.poll() is None, Path("/tmp/said").read_text()
            time.sleep(0.1)
        # What is bounded shall reach its bound first: what grows after that is a leak. Behind what
        # waits to be read it would be reached after minutes.
        print("soak: filling what is remembered", file=sys.stderr, flush=True)
        blast(FLOWS * EACH, EACH)
        answered = flood(ASKING)
        reader.rest()
        began = looked = time.monotonic()
        samples = [sample(tracer.pid)]
        churn.start()
        blast(FILLING)
        while time.monotonic() < began + seconds:
            answered += flood(ROUND)
            blast(BLAST)
            if time.monotonic() > looked + SAMPLE_S:
                looked = time.monotonic()
                samples.append(sample(tracer.pid))
                print(f"soak: {looked - began:.0f} s, {samples[-1]}", file=sys.stderr, flush=True)
        churn.over.set()
        churn.join()
        over = time.monotonic()
        tracer.send_signal(signal.SIGINT)
        status = tracer.wait()
        reader.join()
        sys.stderr.write(Path("/tmp/said").read_text())
    return {
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
        "s": over - began,
        "came": churn.came,
        "requests": answered + churn.answered,
        "late": 3 * churn.came,
        "journeys": reader.journeys,
        "footer": reader.footer,
        "samples": samples,
        "status": status,
        "left": sorted(probed()),
        "complaints": [line for line in complaints() if line not in before],
    }


def main() -> None:
    with standing(LABS["docker0"]):
        sh(f"ip netns exec {CLIENT} ping -q -c 1 {SERVER_IP}")
        with datagrams.received():
            figures = soak(float(sys.argv[1]))
    Path(os.environ["SKBTRACE_OUT"], "soak.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
