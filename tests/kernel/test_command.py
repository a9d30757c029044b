# SPDX-License-Identifier: GPL-2.0-only
"""The command as a person or a CI job meets it: ends, signals, statuses, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kernel.conftest import HOUSE, TIMEOUT_S, Trace, sh, skbtrace, start_skbtrace
from tests.kernel.host import left_behind, until
from tracer.probes import MISSION
from tracer.topology import record

pytestmark = [pytest.mark.kernel, pytest.mark.once]


def docker0() -> bool:
    return Path("/sys/class/net/docker0").exists()


def wait(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def test_the_main_job_builds_the_lab_shows_journeys_and_takes_it_down(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    # one round of the lab's traffic is some 35 journeys
    done = skbtrace("--topology", "docker0", "-c", "80", "-w", str(trace))
    assert "docker0 is built" in done.stderr
    assert "nothing lost" in done.stderr
    for words in (
        "ICMP echo request 172.17.0.2 > 172.17.0.3",
        "c1/eth0 › host/vethc1 › host/vethc2 › c2/eth0",
        "netns c1 → host",
        "process_backlog",
        "TCP S 172.17.0.2:",
        "UDP 172.17.0.2:",
        "ARP",
        "✓ consumed by ICMP (icmp_rcv)",
    ):
        assert words in done.stdout, words
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert left_behind() == []
    with trace.open() as stream:
        shown = skbtrace("show", "-", stdin=stream)
    assert shown.stdout == done.stdout
    kinds = {j.flow.proto for j in Trace(trace).journeys}
    assert kinds == {"icmp", "udp", "tcp", "arp"}
    odd = {"delivered", "consumed", "unfinished"}
    assert [j for j in Trace(trace).journeys if j.outcome not in odd] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_capture_in_order(number: signal.Signals, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    process = start_skbtrace("--topology", "docker0", "--no-ui", "-w", str(trace))
    until(lambda: trace.read_text().count("\n") > 3, "three journeys are written")
    process.send_signal(number)
    status, out, err = wait(process)
    assert status == 0, err
    assert Trace(trace).summary.journeys == out.count("\n#") + out.startswith("#")
    assert left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_capture_leaves_nothing(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tracer", "--topology", "docker0", "-w", "/tmp/early.json"]
    process = subprocess.Popen(
        command, cwd=HOUSE, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(docker0, "the lab is built")
    process.send_signal(number)
    status, _, err = wait(process)
    assert status in (0, 1, 130)  # it may have been attached just then
    assert "Traceback" not in err
    assert left_behind() == []
    assert not Path("/tmp/early.json").exists() or status == 0


def test_killed_it_leaves_no_probe_and_no_lab(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    process = start_skbtrace("--topology", "docker0", "--no-ui", "-w", str(path))
    until(lambda: path.read_text().count("\n") > 3, "three journeys are written")
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    until(lambda: left_behind() == [], "the probes go, and the lab")
    until(lambda: record.read("docker0") is None, "nothing is written down of it")

    readable = skbtrace("show", str(path), status=1)  # no footer, but every line is whole
    assert "#" in readable.stdout
    done = skbtrace("--topology", "docker0", "-q", "-c", "3")
    assert done.stderr == ""
    assert left_behind() == []


def test_a_compressed_trace_is_read_while_it_grows_and_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    process = start_skbtrace("--topology", "docker0", "--no-ui", "-w", str(path))
    until(lambda: path.stat().st_size > 4000, "journeys are written")
    growing = skbtrace("show", str(path), status=1)
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    until(lambda: left_behind() == [], "the probes go, and the lab")
    killed = skbtrace("show", str(path), status=1)
    assert "ends too early" in killed.stderr
    assert killed.stdout.startswith(growing.stdout.rpartition("\n#")[0][:500])
    assert growing.stdout.count("\n#") <= killed.stdout.count("\n#")


def test_a_trace_in_several_files_is_one(tmp_path: Path) -> None:
    user = {"SUDO_UID": "65534", "SUDO_GID": "65534"}
    tmp_path.chmod(0o755)
    folder = tmp_path / "nobodys"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    path = folder / "trace.json.gz"
    rotated = ("-w", str(path), "--out-rotate", "8K")
    skbtrace("--topology", "docker0", "-q", "-c", "200", *rotated, env=os.environ | user)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [
        f"trace.{number:06d}.json.gz" for number in range(1, len(files) + 1)
    ]
    assert len(files) > 1
    assert {file.stat().st_uid for file in files} == {65534}
    each = [Trace(file) for file in files]
    assert [trace.capture.part for trace in each] == list(range(1, len(files) + 1))
    assert sum(trace.summary.journeys for trace in each) == 200
    whole = folder / "whole.gz"
    whole.write_bytes(b"".join(file.read_bytes() for file in files))
    together = Trace(whole)
    assert together.journeys == [journey for trace in each for journey in trace.journeys]
    assert together.summary.counted is not None
    assert together.summary.counted.packets >= 200
    assert not any(together.summary.lost.values())
    shown = skbtrace("show", str(whole))
    assert "200 journeys: " in shown.stderr
    assert "holds" not in shown.stderr
    kept = ("-f", "-w", str(path), "--out-rotate", "8K,keep=1")
    for file in folder.iterdir():
        file.unlink()
    skbtrace("--topology", "docker0", "-q", "-c", "200", *kept, env=os.environ | user)
    (last,) = folder.iterdir()
    assert (Trace(last).capture.part or 0) > 1


def test_exactly_so_many_journeys(tmp_path: Path) -> None:
    done = skbtrace("--topology", "docker0", "-c", "7", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["header", *["journey"] * 7, "footer"]
    assert lines[-1]["journeys"] == 7


def test_w_dash_is_the_same_as_json() -> None:
    done = skbtrace("--topology", "docker0", "-c", "2", "-w", "-")
    assert [json.loads(line)["type"] for line in done.stdout.splitlines()] == [
        "header",
        "journey",
        "journey",
        "footer",
    ]


def test_quiet_is_quiet() -> None:
    done = skbtrace("--topology", "docker0", "-q", "-c", "2")
    assert (done.stdout, done.stderr) == ("", "")


def test_verbose_names_every_probe_and_its_symbol() -> None:
    done = skbtrace("--topology", "docker0", "-v", "-c", "1")
    lines = [line.removeprefix("skbtrace: ") for line in done.stderr.splitlines()]
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert set(MISSION) <= set(told)
    assert told["veth_xmit"] == "veth_xmit"
    # Where this kernel has no tracepoint as the first thing in it: the compiler's name of it.
    receive = told["__netif_receive_skb_core"]
    assert receive == "netif_receive_skb" or receive.startswith("__netif_receive_skb_core")


def test_a_reader_that_goes_away_is_a_quiet_success() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m tracer --topology docker0 --json | head -n 2"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert "rror" not in done.stderr
    until(lambda: left_behind() == [], "everything is taken down")


def test_the_commands_own_status_and_its_words_apart_from_the_trace() -> None:
    done = skbtrace(
        "--topology", "docker0", "--json", "--", "sh", "-c", "echo hi; exit 7", status=7
    )
    assert all(line.startswith("{") for line in done.stdout.splitlines())
    assert "hi" in done.stderr
    assert left_behind() == []


def test_a_command_that_a_signal_ended_or_that_does_not_exist() -> None:
    skbtrace("--topology", "docker0", "-q", "--", "sh", "-c", "kill -TERM $$", status=143)
    missing = skbtrace("--topology", "docker0", "-q", "--", "/nowhere/prog", status=125)
    assert missing.stderr.startswith("skbtrace: cannot start /nowhere/prog: No such file")
    assert left_behind() == []


def test_time_is_up() -> None:
    began = time.monotonic()
    skbtrace("--topology", "docker0", "-q", "-t", "0.2", "--", "sleep", "60", status=143)
    assert time.monotonic() - began < 60
    assert left_behind() == []


def test_a_bridge_that_exists_is_traced_and_left_alone() -> None:
    sh(
        "ip link add docker0 type bridge mcast_snooping 0; ip link set docker0 up;"
        "ip netns add web; ip link add veth7 type veth peer name eth0 netns web;"
        "ip link set veth7 master docker0 up; ip addr add 172.17.0.1/16 dev docker0;"
        "ip -n web addr add 172.17.0.9/16 dev eth0; ip -n web link set eth0 up"
    )
    try:
        done = skbtrace("--topology", "docker0", "--", "ping", "-q", "-c", "3", "172.17.0.9")
        assert "found docker0: 1 port" in done.stderr
        assert "web/eth0" in done.stdout  # named by its namespace
        assert docker0()
        assert "web" in sh("ip netns list")
    finally:
        sh("ip netns del web; ip link del docker0")


def test_an_unknown_topology() -> None:
    done = skbtrace("--topology", "br-nowhere", status=1)
    first, second = done.stderr.splitlines()
    assert first.startswith("skbtrace: there is no bridge br-nowhere on this host")
    assert second.startswith("  try: ")


def test_an_output_that_exists_is_kept_and_nothing_is_built(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("mine")
    done = skbtrace("--topology", "docker0", "-c", "1", "-w", str(path), status=1)
    assert "exists" in done.stderr
    assert "-f" in done.stderr
    assert path.read_text() == "mine"
    assert "compiling" not in done.stderr
    assert left_behind() == []


def test_an_output_that_cannot_be_written() -> None:
    done = skbtrace("--topology", "docker0", "-w", "/nowhere/trace.json", status=1)
    assert done.stderr.startswith("skbtrace: ")
    assert "Traceback" not in done.stderr


def test_a_disk_that_fills_up_keeps_every_whole_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    sh(f"mount -t tmpfs -o size=16k tmpfs {disk}")
    try:
        done = skbtrace("--topology", "docker0", "-q", "-w", str(disk / "t.json"), status=1)
        assert len(done.stderr.splitlines()) <= 2
        assert "journeys" in done.stderr
        lines = (disk / "t.json").read_text().splitlines()
        assert {json.loads(line)["type"] for line in lines} == {"header", "journey"}
    finally:
        sh(f"umount {disk}")
    assert left_behind() == []


def test_not_root(as_nobody: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = as_nobody("-m", "tracer", "--topology", "docker0")
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[1].startswith("  try: sudo skbtrace")


def test_the_output_belongs_to_the_user_behind_sudo(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    path = folder / "trace.json"
    skbtrace(
        "--topology",
        "docker0",
        "-q",
        "-c",
        "1",
        "-w",
        str(path),
        env=os.environ | {"SUDO_UID": "12345", "SUDO_GID": "12345"},
    )
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


@pytest.fixture
def somebody(tmp_path: Path) -> Path:
    """A script that runs skbtrace where a user ``somebody`` (12345) is in three groups."""
    passwd, group, script = tmp_path / "passwd", tmp_path / "group", tmp_path / "run"
    home, shell = "/home/somebody", "/bin/dash"
    passwd.write_text(f"{Path('/etc/passwd').read_text()}somebody:x:12345:12345::{home}:{shell}\n")
    group.write_text(
        f"{Path('/etc/group').read_text()}somebody:x:12345:\nsea:x:12346:somebody\n"
        "river:x:12347:root,somebody\nlake:x:12348:root\n"
    )
    script.write_text(
        f"mount --bind {passwd} /etc/passwd; mount --bind {group} /etc/group\n"
        f'exec {sys.executable} -m tracer --topology docker0 "$@"\n'
    )
    return script


def as_somebody(script: Path, *args: str) -> subprocess.Popen[str]:
    """Start skbtrace with what sudo sets when ``somebody`` types it."""
    sudo = {"SUDO_UID": "12345", "SUDO_GID": "12345", "SUDO_USER": "somebody"}
    of_root = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash"}
    return subprocess.Popen(
        ["unshare", "-m", "sh", "-e", script, *args],
        env=os.environ | sudo | of_root | {"SUDO_COMMAND": "skbtrace", "KEPT": "this"},
        cwd=HOUSE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_behind_sudo_the_command_is_the_user_s(somebody: Path) -> None:
    told = (
        "cd /; grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status;"
        "env | grep -E '^(HOME|USER|LOGNAME|SHELL|KEPT|SUDO_)' | sort; ip link set lo down"
    )
    status, out, err = wait(as_somebody(somebody, "-q", "--", "sh", "-c", told))
    assert status == 2, err  # what ip ends with when it is not permitted
    assert "Operation not permitted" in err
    assert [line.split() for line in out.splitlines()] == [
        ["Uid:", *["12345"] * 4],
        ["Gid:", *["12345"] * 4],
        ["Groups:", "12345", "12346", "12347"],
        ["CapEff:", "0" * 16],
        ["HOME=/home/somebody"],
        ["KEPT=this"],
        ["LOGNAME=somebody"],
        ["SHELL=/bin/dash"],
        ["USER=somebody"],
    ]
    assert left_behind() == []


def test_without_sudo_the_command_is_root_s() -> None:
    done = skbtrace("--topology", "docker0", "-q", "--", "sh", "-c", "id -u; echo $HOME")
    assert done.stdout.splitlines() == ["0", os.environ["HOME"]]


@pytest.mark.parametrize("everybody", [True, False])
def test_a_signal_ends_the_command_of_the_user(everybody: bool, somebody: Path) -> None:
    """As Ctrl-C does, which goes to all of them, and as ``kill`` does."""
    ready = "echo $$; exec sleep 600"
    process = as_somebody(somebody, "-q", "--", "sh", "-c", ready)
    assert process.stdout is not None
    command = int(process.stdout.readline())
    if everybody:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    status, _, err = wait(process)
    assert status == 128 + (signal.SIGINT if everybody else signal.SIGTERM), err
    assert not Path(f"/proc/{command}").exists()
    assert left_behind() == []


def test_what_the_user_may_not_run_is_not_started(somebody: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o700)
    status, _, err = wait(as_somebody(somebody, "-q", "--", str(own)))
    assert status == 125
    assert err == f"skbtrace: cannot start {own}: Permission denied\n"


def test_doctor_finds_this_kernel_fit() -> None:
    done = skbtrace("doctor")
    assert "FAIL" not in done.stdout
    assert "ok    veth_xmit" in done.stdout
    assert left_behind() == []


def test_two_tracers_at_once() -> None:
    """The second finds the first one's lab and traces it, too."""
    first = start_skbtrace("--topology", "docker0", "--no-ui")
    second = skbtrace("--topology", "docker0", "-c", "5", "--json")
    assert "found docker0" in second.stderr
    assert second.stdout.count('"type":"journey"') == 5
    first.send_signal(signal.SIGINT)
    status, out, err = wait(first)
    assert status == 0, err
    assert "#" in out
    assert left_behind() == []
