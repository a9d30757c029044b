# SPDX-License-Identifier: GPL-2.0-only
"""How the end of QEMU is read: a status came back, or what the guest died of."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.vm import accel, qemu
from tests.vm.__main__ import main
from tests.vm.boot import exit_status, tail, why_lost
from tests.vm.kernels import Kernel, KernelError
from tests.vm.lost import GuestLost, GuestTimedOut

PANIC = """\
[    2.4] sysrq: Trigger a crash
[    2.5] Kernel panic - not syncing: sysrq triggered crash\r
[    2.6] CPU: 1 PID: 141 Comm: sh Not tainted
[    2.7] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---
"""


@pytest.mark.parametrize(
    ("code", "report", "status"),
    [
        (qemu.ENDED, b"start\nexit 0\n", 0),
        (qemu.ENDED, b"start\nexit 3\n", 3),
        (qemu.ENDED, b"start\nexit 137\n", 137),
        # It said so and then did not end in order: what it said is not to be believed.
        (0, b"start\nexit 0\n", None),
        (-signal.SIGKILL, b"start\nexit 0\n", None),
        # It ended in order and said nothing.
        (qemu.ENDED, b"start\n", None),
        (qemu.ENDED, b"start\nexit ", None),
        (0, b"", None),
        (1, b"", None),
    ],
)
def test_a_status_counts_only_if_the_guest_ended_in_order(
    code: int, report: bytes, status: int | None
) -> None:
    assert exit_status(code, report) == status


@pytest.mark.parametrize(
    ("code", "console", "messages", "why"),
    [
        (0, PANIC, "", "kernel panic: sysrq triggered crash"),
        (0, "", "", "switched itself off"),
        (qemu.ENDED, "", "", "switched itself off"),
        (qemu.NOT_SET_UP, "init: no devtmpfs\r\n", "", "not set up: no devtmpfs"),
        (qemu.NOT_SET_UP, "", "", "not set up: see its console"),
        (-signal.SIGSEGV, "", "", "QEMU was ended by SIGSEGV"),
        (1, "", "qemu: no such device", "QEMU ended with status 1: qemu: no such device"),
        (1, "", "", "QEMU ended with status 1: no message"),
    ],
)
def test_a_lost_guest_is_told_by_what_it_left(
    code: int, console: str, messages: str, why: str
) -> None:
    assert why_lost(code, console, messages) == why


def test_the_codes_of_the_guest_are_ones_that_qemu_can_give() -> None:
    # (v << 1) | 1 in eight bits, and none that QEMU uses for its own ends.
    for code in (qemu.ENDED, qemu.NOT_SET_UP):
        assert code % 2 == 1
        assert 1 < code < 256


def test_the_tail_of_a_console_is_its_last_lines() -> None:
    console = "".join(f"line {number}\r\n" for number in range(1000))
    assert tail(console).splitlines()[-1] == "line 999"
    assert len(tail(console).splitlines()) == 60


def test_a_comma_in_a_path_does_not_end_an_option() -> None:
    assert "path=/a,,b,readonly=on" in " ".join(qemu.share("t", Path("/a,b"), readonly=True))


def test_the_accelerator_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel("6.1", "6.1.0", Path("/nowhere"))
    for forced in ("tcg", "kvm"):
        monkeypatch.setenv(accel.VARIABLE, forced)
        assert accel.choose(kernel) == forced
    monkeypatch.setenv(accel.VARIABLE, "xen")
    with pytest.raises(KernelError, match="'xen', not tcg or kvm"):
        accel.choose(kernel)


def test_kvm_is_tried_once_per_start_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel("6.1", "6.1.0", tmp_path)
    device, boot_id = tmp_path / "kvm", tmp_path / "boot_id"
    device.touch()
    boot_id.write_text("first\n")
    tried: list[Kernel] = []
    works = True

    def trial(kernel: Kernel) -> bool:
        tried.append(kernel)
        return works

    monkeypatch.delenv(accel.VARIABLE, raising=False)
    monkeypatch.setenv("SKBTRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(accel, "_DEVICE", device)
    monkeypatch.setattr(accel, "_BOOT_ID", boot_id)
    monkeypatch.setattr(accel, "_trial_boot", trial)
    assert [accel.choose(kernel), accel.choose(kernel)] == ["kvm", "kvm"]
    assert len(tried) == 1
    boot_id.write_text("second\n")
    works = False
    assert [accel.choose(kernel), accel.choose(kernel)] == ["tcg", "tcg"]
    assert len(tried) == 2
    device.unlink()
    assert accel.choose(kernel) == "tcg"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GuestLost("6.1", "kernel panic", "its last words"), 70),
        (GuestTimedOut("6.1", "not done", ""), 71),
        (KernelError("not there"), 69),
    ],
)
def test_each_way_of_having_no_status_has_its_own_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr("tests.vm.guest.Guest.run", fail)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["run", "--kernel", "6.1", "--", "true"]) == code
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"tests.vm: {error}"
    if code == 70:
        assert "its last words" in said


def test_what_follows_the_dashes_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(_self: object, command: list[str], **_: object) -> int:
        seen.append(command)
        return 3

    monkeypatch.setattr("tests.vm.guest.Guest.run", run)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    command = ["env", "--", "ls", "--kernel", "x", "-a"]
    assert main(["run", "--kernel", "6.1", "--timeout", "5", "--", *command]) == 3
    assert seen == [command]
