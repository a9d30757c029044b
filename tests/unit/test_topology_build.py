# SPDX-License-Identifier: GPL-2.0-only
"""Building: signals wait, and errors are told in a sentence."""

from __future__ import annotations

import errno
import os
import signal
import threading

import pytest
from click.testing import CliRunner

from tracer.cli.lab import lab as lab_command
from tracer.errors import PrerequisiteError, TopologyError, UsageError
from tracer.topology import build, state
from tracer.topology.spec import LABS
from tracer.topology.state import State, Status

LAB = LABS["docker0"]


def test_a_signal_waits_until_the_block_is_done() -> None:
    steps = []

    def work() -> None:
        with build._uninterrupted() as arrived:
            signal.raise_signal(signal.SIGINT)
            steps.append("after the signal")
            assert arrived == [signal.SIGINT]

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["after the signal"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_is_not_lost_in_an_error() -> None:
    def work() -> None:
        with build._uninterrupted():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt):
        work()


def test_handlers_are_as_before() -> None:
    before = [signal.getsignal(number) for number in build._SIGNALS]
    with build._uninterrupted():
        assert [signal.getsignal(number) for number in build._SIGNALS] != before
    assert [signal.getsignal(number) for number in build._SIGNALS] == before


def test_in_another_thread_nothing_is_done_about_signals() -> None:
    failures: list[BaseException] = []

    def body() -> None:
        try:
            with build._uninterrupted() as arrived:
                assert arrived == []
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert not failures


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EOPNOTSUPP, PrerequisiteError),
        (errno.EPERM, PrerequisiteError),
        (errno.ENOSPC, TopologyError),
    ],
)
def test_errors_of_the_kernel_are_explained(number: int, kind: type[Exception]) -> None:
    explained = build._explained(OSError(number, os.strerror(number)), "cannot build")
    assert type(explained) is kind
    assert "Errno" not in explained.message


def test_what_is_already_explained_stays() -> None:
    error = TopologyError("a sentence", hint="a command")
    assert build._explained(error, "cannot build") is error


@pytest.mark.parametrize("command", ["up", "down"])
def test_building_needs_root(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(lab_command, [command])
    assert isinstance(result.exception, PrerequisiteError)
    assert result.exception.hint == f"sudo skbtrace lab {command} docker0"


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_a_lab_nobody_knows(command: str) -> None:
    result = CliRunner().invoke(lab_command, [command, "\x1b[31mlab"])
    assert isinstance(result.exception, UsageError)
    assert (
        result.exception.message == rf"there is no lab \x1b[31mlab (there are: {', '.join(LABS)})"
    )


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Status(State.DOWN), "docker0: down"),
        (Status(State.STANDING), "docker0: standing"),
        (
            Status(State.STANDING, owner=12),
            "docker0: standing, kept by a running skbtrace (pid 12)",
        ),
        (
            Status(State.BROKEN, missing=("vethc1", "skbtrace-c1")),
            "docker0: broken, missing vethc1, skbtrace-c1",
        ),
        (Status(State.FOREIGN), "docker0: foreign: a docker0 exists that skbtrace did not make"),
        (
            Status(State.LEFT_BEHIND),
            "docker0: left behind by a killed skbtrace; the next start removes it",
        ),
    ],
)
def test_status_is_a_sentence(now: Status, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "status", lambda lab: now)
    assert CliRunner().invoke(lab_command, ["status"]).output == said + "\n"
    listed = CliRunner().invoke(lab_command, ["list"]).output
    assert listed.startswith(f"docker0   {now.state}  two containers")
    assert len(listed.splitlines()) == len(LABS)


@pytest.mark.parametrize("name", LABS)
def test_a_lab_that_is_up_is_explained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "up", lambda lab: True)
    output = CliRunner().invoke(lab_command, ["up", name]).output
    assert f"trace it:           sudo skbtrace --topology {name}\n" in output
    assert output.endswith(f"take it down again: sudo skbtrace lab down {name}\n")
    assert ("on the bridge" in output) == (LABS[name].bridge is not None)


def test_a_router_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "up", lambda lab: True)
    assert CliRunner().invoke(lab_command, ["up", "nat"]).output == (
        "the lab nat stands: a network behind a router that translates addresses\n"
        "  router  192.168.0.1/24  br0 in skbtrace-router\n"
        "  net1  192.168.0.2/24  veth1 in skbtrace-net1, veth1_p on the bridge\n"
        "  router  203.0.113.1/24  uplink in skbtrace-router\n"
        "  outside  203.0.113.2/24  eth0 in skbtrace-outside\n"
        "  published  203.0.113.1:8088  port 80 of net1\n"
        "trace it:           sudo skbtrace --topology nat\n"
        "draw it:            sudo skbtrace topo nat\n"
        "send something:     sudo ip netns exec skbtrace-net1 ping 203.0.113.2\n"
        "serve something:    sudo ip netns exec skbtrace-net1 python3 -m http.server 80\n"
        "fetch it:           sudo ip netns exec skbtrace-outside curl http://203.0.113.1:8088/\n"
        "see the rules:      sudo ip netns exec skbtrace-router nft list table ip skbtrace\n"
        "take it down again: sudo skbtrace lab down nat\n"
    )


def test_a_lab_of_many_is_explained_on_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "up", lambda lab: True)
    assert CliRunner().invoke(lab_command, ["up", "crowd"]).output == (
        "the lab crowd stands: thirty containers on one bridge\n"
        "  crowd  10.0.30.100/24  br0 in skbtrace-crowd\n"
        "  box1  10.0.30.1/24  eth0 in skbtrace-box1, veth1 on the bridge\n"
        "  box2  10.0.30.2/24  eth0 in skbtrace-box2, veth2 on the bridge\n"
        "  box3  10.0.30.3/24  eth0 in skbtrace-box3, veth3 on the bridge\n"
        "  box4  10.0.30.4/24  eth0 in skbtrace-box4, veth4 on the bridge\n"
        "  ... 25 more\n"
        "  box30  10.0.30.30/24  eth0 in skbtrace-box30, veth30 on the bridge\n"
        "trace it:           sudo skbtrace --topology crowd\n"
        "draw it:            sudo skbtrace topo crowd\n"
        "send something:     sudo ip netns exec skbtrace-box6 ping 10.0.30.1\n"
        "take it down again: sudo skbtrace lab down crowd\n"
    )


def test_a_port_is_told_by_the_name_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "up", lambda lab: True)
    monkeypatch.setattr(state, "as_called", lambda lab: lab.renamed({"vethc2": "skbt-vethc2"}))
    output = CliRunner().invoke(lab_command, ["up"]).output
    assert "eth0 in skbtrace-c1, vethc1 on the bridge\n" in output
    assert "eth0 in skbtrace-c2, skbt-vethc2 on the bridge\n" in output


@pytest.mark.parametrize("command", ["", "up", "down", "status", "list"])
def test_help_ends_with_an_example(command: str) -> None:
    output = CliRunner().invoke(lab_command, [*command.split(), "--help"]).output
    assert "Example" in output.strip().rpartition("\n\n")[2]
    assert f"skbtrace lab {command}".strip() in output.strip().rpartition("\n\n")[2]
