# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel tests share: the real command, the lab, traffic, and other witnesses.

They run as root on a kernel that can trace: in a guest (tests/vm) or on a capable host.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracer.export.opened import opened
from tracer.export.trace_reader import TraceReader
from tracer.kernel.host import checks
from tracer.model import Capture, Journey, Sampling, Summary, TopologyChange

HOUSE = Path(__file__).parents[2]
C1, C2 = "skbtrace-c1", "skbtrace-c2"
C1_IP, C2_IP = "172.17.0.2", "172.17.0.3"
TIMEOUT_S = 180
KERNEL = tuple(int(n) for n in os.uname().release.split(".")[:2])
"""The running one's version, of two numbers."""
IN_A_GUEST = (
    Path("/run/skbtrace/job").exists()  # tests/vm/init
    and os.environ.get("SKBTRACE_REQUIRE") == "kernel"
)
"""Whether this is a guest of the kernel tests, which have two network cards on one wire."""
FOR_ENGINES = IN_A_GUEST and "engines" in Path("/proc/cmdline").read_text().split()
"""Whether it is one for container engines: they leave bridges and rules behind."""
TRIES = 5
"""A card's interrupt in the middle of a probe hides what it receives: then it is tried again."""
NETFILTER = re.compile(
    r"(br_netfilter|(arp|eb|ip6?)_?tables?|(ipt|ip6t|nf|nft|xt)_|x_tables|nfnet)\w*"
)
IN_THE_WAY = re.compile(r"br_netfilter|(arp|eb|ip|ip6)table_\w+|nf_defrag_ipv[46]")
"""Modules that are in the way of packets once they were used. Before 5.13 the last of them stay so
until they are unloaded (commit de8c12110a13)."""


_BEGAN = time.monotonic()
_LEFT_S = float(os.environ.get("SKBTRACE_LEFT_S", "inf"))


def pytest_runtest_setup() -> None:
    """Leave a test out that does not begin in time: see tests/vm/suite.py."""
    if time.monotonic() - _BEGAN > _LEFT_S:
        pytest.skip("no time is left")


@pytest.fixture(scope="session", autouse=True)
def _capable() -> None:
    """A host that cannot trace skips, unless SKBTRACE_REQUIRE says that it must."""
    lacking = [check.found for check in checks() if not check.good]
    if lacking and os.environ.get("SKBTRACE_REQUIRE") != "kernel":
        pytest.skip(lacking[0])
    assert not lacking


def loaded() -> list[str]:
    """The modules that are loaded, the newest first."""
    return [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]


@pytest.fixture(scope="module", autouse=True)
def _modules() -> Iterator[None]:
    """A file of tests leaves no module in the way of the next one's packets."""
    before = loaded()
    yield
    left: list[str] = []
    for _ in range(TIMEOUT_S):
        came = [m for m in loaded() if m not in before and NETFILTER.fullmatch(m)]
        left = [module for module in came if IN_THE_WAY.fullmatch(module)]
        if not left:
            return
        # Those that use others first; some may still have users that are on their way out.
        subprocess.run(["rmmod", *came], stderr=subprocess.DEVNULL, check=False)
        time.sleep(0.5)
    raise AssertionError(f"still loaded: {left}")


def skbtrace(*args: str, status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command; its exit status must be ``status``."""
    done = subprocess.run(
        [sys.executable, "-m", "tracer", *args],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=HOUSE,
        check=False,
        **options,
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout[-3000:]}\n{done.stderr}"
    return done


@pytest.fixture
def as_nobody() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run Python as nobody, in the checkout, also where only root may look into its folder."""
    house = Path("/run/skbtrace-house")
    house.mkdir()
    sh(f"mount --bind {HOUSE} {house}")
    python = house / Path(sys.executable).relative_to(HOUSE)

    def run(*args: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *args],
            input=text,
            cwd=house,
            user="nobody",
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    try:
        yield run
    finally:
        sh(f"umount {house}")
        house.rmdir()


def start_skbtrace(*args: str, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start the real command and wait until every probe is attached."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tracer", *args],
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HOUSE,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "attached" in line:
            return process
    raise AssertionError(f"it ended with {process.wait()} before it was ready: {''.join(said)}")


class Trace:
    """A trace file, read."""

    def __init__(self, path: Path) -> None:
        with opened(str(path)) as stream:
            reader = TraceReader(stream, path.name)
            self.journeys: list[Journey] = list(reader)
            self.capture: Capture = reader.capture
            assert reader.summary is not None
            self.summary: Summary = reader.summary
            self.changes: list[TopologyChange] = reader.changes
            self.samplings: list[Sampling] = reader.samplings
        self.path = path

    def of(self, proto: str, src: str | None = None, **flow: object) -> list[Journey]:
        """Journeys of a protocol, from a sender, with these members of their flow; no clones."""
        return [
            j
            for j in self.journeys
            if j.parent is None
            and j.flow.proto == proto
            and src in (None, j.flow.src)
            and all(getattr(j.flow, name) == value for name, value in flow.items())
        ]


def path_of(journey: Journey) -> list[str]:
    """The hops as ``function netns/ifname``."""
    return [
        f"{h.function} {h.device.netns.name}/{h.device.ifname}" if h.device else h.function
        for h in journey.hops
    ]


def sh(command: str) -> str:
    """Run a shell command, which must succeed; its output."""
    return subprocess.check_output(["sh", "-ec", command], text=True, timeout=TIMEOUT_S)


def packets(counters: Path) -> tuple[int, int]:
    """(received, sent) packets in the output of ``ip -j -s link show dev``."""
    (link,) = json.loads(counters.read_text())
    return link["stats64"]["rx"]["packets"], link["stats64"]["tx"]["packets"]


@pytest.fixture(scope="module")
def lab() -> Iterator[None]:
    """The docker0 lab stands, with the neighbours known to each other."""
    skbtrace("lab", "up")
    try:
        sh(f"ip netns exec {C1} ping -q -c 1 {C2_IP}")
        yield
    finally:
        skbtrace("lab", "down")


def capture(folder: Path, command: str, *, layers: str = "transport,socket") -> Trace:
    """Trace docker0 while a shell command runs; nothing may be lost.

    The seven functions are always there. What all layers show is told in paths.py.
    """
    path = folder / "trace.json"
    skbtrace(
        *("--topology", "docker0", "--layers", layers, "-q", "-f", "-w", str(path)),
        *("--", "sh", "-ec", command),
    )
    trace = Trace(path)
    assert not any(trace.summary.lost.values()), trace.summary.lost
    return trace
