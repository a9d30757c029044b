# SPDX-License-Identifier: GPL-2.0-only
"""What `lab up` prints can be typed, and does what it says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.conftest import HOUSE, TIMEOUT_S
from tests.kernel.host import run
from tracer.topology.build import down
from tracer.topology.spec import LABS, Interface, Lab
from tracer.topology.state import State, status

pytestmark = [pytest.mark.kernel, pytest.mark.once]


@pytest.fixture(autouse=True)
def labs() -> Iterator[None]:
    """None stands before, nor after."""
    if any(status(lab).state is not State.DOWN for lab in LABS.values()):
        pytest.skip("there are labs on this host: they are left alone")
    yield
    for lab in LABS.values():
        down(lab)


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Types a command where there are skbtrace and sudo; it is ended at the end."""
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{HOUSE}/.venv/bin:{os.environ['PATH']}"}
    with ExitStack() as stack:

        def start(command: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    shlex.split(command),
                    env=environ,
                    cwd=tmp_path,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def says(process: subprocess.Popen[str], word: str, *, stream: str = "stdout") -> None:
    """Wait until it says a line with that word."""
    said = []
    for line in getattr(process, stream):
        said.append(line)
        if word in line:
            return
    raise AssertionError(f"it ended and never said {word}: {''.join(said)}")


def ended(process: subprocess.Popen[str], number: int | None = None) -> str:
    """What it said until it ended, which must be well; interrupted, if that must be."""
    if number is not None:
        process.send_signal(number)
    assert process.stdout is not None
    assert process.stderr is not None
    said, wrong = process.stdout.read(), process.stderr.read()
    status = process.wait(TIMEOUT_S)
    assert status == 0, f"{process.args!r}: {status}\n{said}\n{wrong}"
    return said


@pytest.mark.parametrize(
    "lab",
    [
        pytest.param(lab, id=name, marks=[] if name in {"docker0", "nat"} else pytest.mark.slow)
        for name, lab in LABS.items()
    ],
)
def test_what_is_printed_can_be_typed(
    lab: Lab, typed: Callable[[str], subprocess.Popen[str]]
) -> None:
    printed = ended(typed(f"skbtrace lab up {lab.name}"))
    commands = dict(re.findall(r"^(\w[\w ]+): +(sudo .+)$", printed, re.MULTILINE))
    assert {"trace it", "draw it", "send something", "take it down again"} <= set(commands)

    drawn = ended(typed(commands.pop("draw it")))
    assert all(each.at in drawn and each.ifname in drawn for each in lab.interfaces)
    tracer = typed(commands.pop("trace it"))
    says(tracer, "attached", stream="stderr")
    ping = typed(commands.pop("send something"))
    says(ping, "bytes from")
    says(tracer, f"ICMP echo request {lab.client.ip} > ")
    ended(ping, signal.SIGINT)
    ended(tracer, signal.SIGINT)
    if lab.published is not None:
        server = typed(commands.pop("serve something"))
        until_somebody_listens(lab.published.server, lab.published.server_port)
        assert "Directory listing" in ended(typed(commands.pop("fetch it")))
        server.terminate()
    if lab.router is not None:
        assert "table ip skbtrace" in ended(typed(commands.pop("see the rules")))
    assert ended(typed(commands.pop("take it down again"))) == f"the lab {lab.name} is down\n"
    assert commands == {}


def until_somebody_listens(interface: Interface, port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    look = ("ip", "netns", "exec", interface.netns, "ss", "-Hltn", f"sport = {port}")
    while not run(*look):
        assert time.monotonic() < deadline
        time.sleep(0.05)
