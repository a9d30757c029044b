# SPDX-License-Identifier: GPL-2.0-only
"""A CI job that must prove a path: promises while tracing, the fixture for pytest, the exports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.conftest import C1, C2_IP, HOUSE, TIMEOUT_S, capture

pytestmark = [pytest.mark.kernel, pytest.mark.once]

PING = ["ip", "netns", "exec", C1, "ping", "-q", "-c", "3", C2_IP]
KEPT = """
[[promise]]
name = "c1 reaches c2 over the bridge"
from = "c1"
to = "c2"
filter = "icmp[icmptype] = icmp-echo"
at_least = 3
at_most = 3
path = ["c1/eth0", "host/vethc1", "*", "c2/eth0"]
avoids = ["ip_forward"]
"""


def traced(spec: Path, *more: str) -> subprocess.CompletedProcess[str]:
    skbtrace = [sys.executable, "-m", "tracer", "--topology", "docker0", "-q"]
    return subprocess.run(
        [*skbtrace, "--expect", str(spec), *more, "--", *PING],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.usefixtures("lab")
def test_promises_are_judged_while_tracing(tmp_path: Path) -> None:
    spec = tmp_path / "network.toml"
    spec.write_text(KEPT)
    done = traced(spec, "-w", str(tmp_path / "trace.json"))
    assert done.returncode == 0, done.stderr
    spec.write_text(KEPT.replace('"*", "c2/eth0"', '"host/docker0"'))
    done = traced(spec)
    assert done.returncode == 4, done.stderr
    assert "✗ c1 reaches c2 over the bridge 3 journeys" in done.stdout
    assert "expected" in done.stdout
    assert "1 of 1 promises broken" in done.stdout
    # The same of the trace, afterwards.
    expect = [sys.executable, "-m", "tracer", "expect", str(tmp_path / "trace.json"), str(spec)]
    again = subprocess.run(expect, cwd=HOUSE, capture_output=True, text=True, check=False)
    assert again.returncode == 4
    spec.write_text("colour = 1\n")
    done = traced(spec)
    assert done.returncode == 2
    assert "there is no colour in a file of promises" in done.stderr


@pytest.mark.usefixtures("lab")
def test_the_fixture_traces_what_a_test_does(tmp_path: Path) -> None:
    (tmp_path / "test_network.py").write_text(f"""
import subprocess

def test_c1_reaches_c2(skbtrace):
    with skbtrace("docker0", "icmp") as trace:
        subprocess.run({PING}, check=True)
    trace.expect({{"from": "c1", "to": "c2", "filter": "icmp[icmptype] = 8", "at_least": 3}})
    assert "c2" in {{hop.device.netns.name for j in trace for hop in j.hops if hop.device}}

def test_c1_does_not_reach_c2(skbtrace):
    with skbtrace("docker0", "icmp") as trace:
        subprocess.run({PING}, check=True)
    trace.expect({{"name": "nobody pings", "filter": "icmp", "at_least": 0, "at_most": 0}})
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_network.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "nobody pings: broken" in done.stdout


@pytest.mark.usefixtures("lab")
def test_tcpdump_and_the_exported_packets_agree(tmp_path: Path) -> None:
    """What tcpdump sees c1 send, and what is exported as first seen there, are the same packets."""
    trace = capture(tmp_path, f"ip netns exec {C1} ping -q -c 5 {C2_IP}")
    out = tmp_path / "trace.pcapng"
    export = [sys.executable, "-m", "tracer", "export", str(trace.path), "--to", "pcapng"]
    subprocess.run(
        [*export, "-o", str(out), "--from", "c1", "icmp[icmptype] = icmp-echo"],
        cwd=HOUSE,
        check=True,
    )
    said = subprocess.run(
        ["tcpdump", "-nr", str(out)], capture_output=True, text=True, check=True
    ).stdout
    asked = [line for line in said.splitlines() if "echo request" in line]
    sequence = [int(line.partition("seq ")[2].partition(",")[0]) for line in asked]
    assert sorted(set(sequence)) == [1, 2, 3, 4, 5]
    chrome = tmp_path / "chrome.json"
    subprocess.run([*export[:-1], "chrome", "-o", str(chrome)], cwd=HOUSE, check=True)
    events = json.loads(chrome.read_text())["traceEvents"]
    names = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert {"c1", "c2", "host"} <= names
