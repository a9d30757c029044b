# SPDX-License-Identifier: GPL-2.0-only
"""The harness itself: what comes back from a guest, and what happens when nothing does."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.terminal import Terminal
from tests.vm import KERNELS, Guest, GuestLost, GuestTimedOut
from tests.vm.kernels import obtain

pytestmark = pytest.mark.vm

# Which kernel makes no difference to the harness where a test does not say so.
KERNEL = "6.1"
LIMIT_S = 120.0

HOUSE = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "tests.vm", "run", "--kernel", KERNEL]


def run(guest: Guest, *command: str, **more: float) -> tuple[int, bytes, bytes]:
    """Exit status, standard output and standard error of a command in a guest."""
    stdout, stderr = io.BytesIO(), io.BytesIO()
    limit = more.get("timeout_s", LIMIT_S)
    status = guest.run(command, stdout=stdout, stderr=stderr, timeout_s=limit)
    return status, stdout.getvalue(), stderr.getvalue()


def children() -> set[int]:
    """The processes that this one has started and that have not been waited for."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(number) for task in tasks for number in task.read_text().split()}


def wait_until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait for something that another process does; there is nothing to block on."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_comes_up_with_everything_a_tracer_needs(kernel: str, tmp_path: Path) -> None:
    script = """
        set -e
        uname -r
        test -s /sys/kernel/btf/vmlinux
        # Neither is there before somebody asks for it, and nobody asks for br_netfilter.
        ! grep -E '^(veth|bridge) ' /proc/modules
        modprobe veth
        modprobe bridge
        grep -w veth_xmit /sys/kernel/tracing/available_filter_functions
        ! grep '^br_netfilter ' /proc/modules
        ip netns add left
        ip netns add right
        ip -n left link add veth0 type veth peer name veth0 netns right
        ip -n left address add 10.0.0.1/24 dev veth0
        ip -n right address add 10.0.0.2/24 dev veth0
        ip -n left link set veth0 up
        ip -n right link set veth0 up
        ip netns exec left ping -q -c 1 -W 10 10.0.0.2 >"$SKBTRACE_OUT/ping"
        ping -q -c 1 -W 10 127.0.0.1 >/dev/null
        test -e /sys/fs/cgroup/cgroup.procs
        test -d /sys/fs/bpf
        test -c /dev/ptmx
        test "$(pwd)" = "$1"
    """
    stdout, stderr = io.BytesIO(), io.BytesIO()
    status = Guest(kernel).run(
        ["sh", "-c", script, "sh", str(Path.cwd())],
        out=tmp_path,
        stdout=stdout,
        stderr=stderr,
        timeout_s=LIMIT_S,
    )
    assert (status, stderr.getvalue()) == (0, b"")
    assert stdout.getvalue().decode().splitlines() == [obtain(kernel).release, "veth_xmit [veth]"]
    assert "1 received" in (tmp_path / "ping").read_text()


def test_the_exit_status_comes_back_and_the_two_outputs_stay_apart() -> None:
    result = run(
        Guest(KERNEL), "sh", "-c", "echo out; echo err >&2; echo more >/dev/stdout; exit 3"
    )
    assert result == (3, b"out\nmore\n", b"err\n")


def test_a_command_that_is_not_there_has_the_status_that_shells_give_it() -> None:
    assert run(Guest(KERNEL), "no-such-command")[0] == 127


def test_a_signal_has_the_status_that_shells_give_it() -> None:
    assert run(Guest(KERNEL), "sh", "-c", "kill -9 $$")[0] == 128 + signal.SIGKILL


def test_every_byte_comes_back_on_a_port_and_in_the_results_folder(tmp_path: Path) -> None:
    stdout = io.BytesIO()
    script = 'head -c 3000000 /dev/urandom | tee "$SKBTRACE_OUT/copy"'
    folder = tmp_path / "with, a comma"
    status = Guest(KERNEL).run(["sh", "-c", script], out=folder, stdout=stdout, timeout_s=LIMIT_S)
    assert status == 0
    assert len(stdout.getvalue()) == 3_000_000
    assert (folder / "copy").read_bytes() == stdout.getvalue()


def test_words_and_environment_arrive_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKBTRACE_HERE", "it's")
    monkeypatch.setenv("SOMETHING_ELSE", "not for guests")
    stdout = io.BytesIO()
    script = 'echo "$0|$1|$GIVEN|$SKBTRACE_HERE|$SOMETHING_ELSE|$LANG"'
    status = Guest(KERNEL).run(
        ["sh", "-c", script, "*", "two words"],
        env={"GIVEN": 'a "b"'},
        stdout=stdout,
        timeout_s=LIMIT_S,
    )
    assert (status, stdout.getvalue()) == (0, b'*|two words|a "b"|it\'s||C.UTF-8\n')


def test_what_the_command_leaves_running_does_not_keep_the_guest() -> None:
    script = "sleep 1000 & setsid sleep 1000 & echo done"
    assert run(Guest(KERNEL), "sh", "-c", script, timeout_s=60) == (0, b"done\n", b"")


def test_the_host_keeps_its_files(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("as it was")
    command = f"echo changed >/etc/skbtrace-test && rm -rf /etc/hostname {tmp_path}"
    assert run(Guest(KERNEL), "sh", "-c", command)[0] == 0
    assert kept.read_text() == "as it was"
    assert not Path("/etc/skbtrace-test").exists()
    assert Path("/etc/hostname").exists()


def test_two_guests_at_once() -> None:
    with ThreadPoolExecutor() as pool:
        releases = pool.map(lambda kernel: run(Guest(kernel), "uname", "-r")[1], ["5.10", "newest"])
    assert [r.partition(b".")[0] for r in releases] == [b"5", obtain("newest").release[0].encode()]


def test_devices_and_kernel_arguments_can_be_added() -> None:
    hub = "-netdev hubport,id=h1,hubid=0 -device e1000,netdev=h1"
    guest = Guest(KERNEL, append="skbtrace.test=1", devices=hub.split(), memory_mib=1024)
    script = "grep -o skbtrace.test=1 /proc/cmdline; cat /sys/bus/pci/devices/*/device"
    status, stdout, _ = run(guest, "sh", "-c", script)
    lines = stdout.split()
    assert (status, lines[0]) == (0, b"skbtrace.test=1")
    assert b"0x100e" in lines


# --- when nothing comes back ----------------------------------------------------------------------


def test_a_panic_loses_the_guest() -> None:
    with pytest.raises(GuestLost, match="kernel panic: sysrq triggered crash") as lost:
        run(Guest(KERNEL), "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000")
    assert lost.value.kernel == KERNEL
    assert "while the command ran" in lost.value.why
    assert "Kernel panic - not syncing" in lost.value.console
    assert not isinstance(lost.value, GuestTimedOut)


def test_switching_off_loses_the_guest() -> None:
    with pytest.raises(GuestLost, match="switched itself off"):
        run(Guest(KERNEL), "sh", "-c", "echo o >/proc/sysrq-trigger; sleep 1000")


def test_a_guest_that_never_gets_to_the_command_is_lost() -> None:
    with pytest.raises(GuestLost, match=r"kernel panic: .* \(before the command ran\)"):
        run(Guest(KERNEL, append="rdinit=/nothing"), "true")


def test_what_qemu_does_not_accept_is_told_in_its_words() -> None:
    with pytest.raises(GuestLost, match="'no-such-device' is not a valid device"):
        run(Guest(KERNEL, devices=["-device", "no-such-device"]), "true")


def test_the_end_of_qemu_loses_the_guest() -> None:
    before = children()

    def end_it() -> None:
        wait_until(lambda: bool(children() - before))
        (number,) = children() - before
        os.kill(number, signal.SIGKILL)

    ender = threading.Thread(target=end_it)
    ender.start()
    with pytest.raises(GuestLost, match="QEMU was ended by SIGKILL"):
        run(Guest(KERNEL), "sleep", "1000")
    ender.join()


def test_a_command_that_hangs_is_timed_out() -> None:
    before = children()
    with pytest.raises(GuestTimedOut, match="not done after 8 s") as lost:
        run(Guest(KERNEL), "sleep", "1000", timeout_s=8)
    assert isinstance(lost.value, GuestLost)
    assert children() == before


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "script", "status", "message"),
    [
        ([], "exit 3", 3, ""),
        ([], "echo c >/proc/sysrq-trigger", 70, "guest 6.1 lost: kernel panic"),
        (["--timeout", "8"], "sleep 1000", 71, "guest 6.1 lost: not done after 8 s"),
    ],
)
def test_a_failed_a_lost_and_a_late_command_have_their_own_exit_codes(
    options: list[str], script: str, status: int, message: str
) -> None:
    command = [*LAUNCH, *options, "--", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == status
    assert message in (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_guest_ends_with_its_launcher(number: signal.Signals, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        [*LAUNCH, "--", "sh", "-c", "echo up; sleep 1000"],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        (qemu,) = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        launcher.send_signal(number)
        status = launcher.wait(30)
    wait_until(lambda: not Path(f"/proc/{qemu}/exe").exists())
    if number == signal.SIGKILL:
        assert status == -number
    else:
        assert status == 128 + number
        assert list(temporary.iterdir()) == []


# --- the terminal ---------------------------------------------------------------------------------


class Person:
    """Somebody at a terminal."""

    def __init__(self, *command: str) -> None:
        self.side, self.terminal = pty.openpty()
        termios.tcsetwinsize(self.terminal, (33, 101))
        self.before = termios.tcgetattr(self.terminal)
        self.seen = b""
        self.launcher = subprocess.Popen(
            [*LAUNCH, "--tty", "--", *command],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
        )

    def wait_for(self, text: bytes) -> None:
        """Read until something is on the screen."""
        wait_until(lambda: self._read() and text in self.seen, LIMIT_S)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.side, keys)

    def status(self) -> int:
        """Wait for the end."""
        wait_until(lambda: self._read() and self.launcher.poll() is not None, LIMIT_S)
        # However the guest ended, its terminal is again as it was.
        assert termios.tcgetattr(self.terminal) == self.before
        return self.launcher.returncode

    def _read(self) -> bool:
        while select.select([self.side], [], [], 0.02)[0]:
            self.seen += os.read(self.side, 4096)
        return True


@pytest.fixture
def person() -> Iterator[Callable[..., Person]]:
    """A chair at a terminal."""
    with contextlib.ExitStack() as stack:

        def seat(*command: str) -> Person:
            one = Person(*command)
            stack.callback(os.close, one.side)
            stack.callback(os.close, one.terminal)
            stack.callback(one.launcher.wait)
            stack.callback(one.launcher.kill)
            return one

        yield seat


def test_a_command_has_a_terminal_of_the_right_size(person: Callable[..., Person]) -> None:
    someone = person("sh", "-c", "stty size; test -t 0 -a -t 1 -a -t 2; exit 5")
    assert someone.status() == 5
    assert someone.seen == b"33 101\r\n"


def test_the_terminal_passes_keys_on(person: Callable[..., Person]) -> None:
    someone = person("sh", "-c", "echo who; read name; echo hello $name")
    someone.wait_for(b"who")
    someone.type(b"you\r")
    assert someone.status() == 0
    assert someone.seen.endswith(b"hello you\r\n")


def test_control_c_belongs_to_the_command(person: Callable[..., Person]) -> None:
    someone = person("sh", "-c", "trap 'echo caught; exit 9' INT; echo up; sleep 1000 & wait")
    someone.wait_for(b"up")
    someone.type(b"\x03")
    assert someone.status() == 9
    assert b"caught" in someone.seen


def test_control_bracket_ends_a_guest_that_does_not_listen(person: Callable[..., Person]) -> None:
    someone = person("sh", "-c", "trap '' INT; echo up; sleep 1000")
    someone.wait_for(b"up")
    someone.type(b"\x03\x1d")
    assert someone.status() == 128 + signal.SIGINT


def test_the_command_learns_of_a_new_size(person: Callable[..., Person]) -> None:
    script = "trap 'stty size; exit 7' WINCH; echo up; while :; do sleep 0.1; done"
    someone = person("sh", "-c", script)
    someone.wait_for(b"up")
    termios.tcsetwinsize(someone.terminal, (40, 120))
    # The kernel tells only processes whose own terminal it is, and the launcher's it is not.
    someone.launcher.send_signal(signal.SIGWINCH)
    assert someone.status() == 7
    assert someone.seen.endswith(b"40 120\r\n")


@pytest.mark.parametrize(
    ("script", "status"), [("echo c >/proc/sysrq-trigger; sleep 1000", 70), ("sleep 1000", 143)]
)
def test_the_terminal_is_given_back_however_the_guest_ends(
    script: str, status: int, person: Callable[..., Person]
) -> None:
    someone = person("sh", "-c", f"echo up; {script}")
    someone.wait_for(b"up")
    if status != 70:
        someone.launcher.send_signal(signal.SIGTERM)
    assert someone.status() == status


def test_without_a_terminal_the_command_still_has_one() -> None:
    done = subprocess.run(
        [*LAUNCH, "--tty", "--", "sh", "-c", "test -t 1 && stty size"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=LIMIT_S,
        env={**os.environ, "LINES": "50", "COLUMNS": "132"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"50 132\r\n")


# --- what is built on it --------------------------------------------------------------------------


def test_the_demo_shows_here_what_is_traced_in_a_guest() -> None:
    """On a host that can be traced it would be the host's own packets."""
    with Terminal(["make", "demo"], width=100, height=30, cwd=HOUSE) as terminal:
        terminal.until(lambda: "STARTING" in terminal.lines[0], LIMIT_S)
        terminal.until(lambda: "ICMP request c1 > c2" in terminal.text, LIMIT_S)
        assert terminal.lines[0].startswith(" docker0  LIVE")
        terminal.type("g\r")
        terminal.until(lambda: "hop 1 of" in terminal.text)
        terminal.type("q")
        assert terminal.ends(LIMIT_S) == 0
        assert terminal.is_clean
        after = terminal.written.rsplit(b"\x1b[?1049l", 1)[1]
        assert b"probes attached" in after  # what the tracer said meanwhile
