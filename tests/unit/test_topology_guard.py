# SPDX-License-Identifier: GPL-2.0-only
"""What a guard does when its parent is killed, and that it does nothing else. Needs no root."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tracer.topology.guard import NAME, Guard

LIMIT_S = 20.0


def parent(work: Callable[[], None]) -> int:
    """A child that does it and is killed; how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ended(reader: int) -> bytes:
    """What came through a pipe until nobody has its other end."""
    said = b""
    while select.select([reader], [], [], LIMIT_S)[0]:
        part = os.read(reader, 100)
        if not part:
            return said
        said += part
    raise AssertionError("somebody still holds the pipe")


def test_it_acts_when_its_parent_is_killed_and_not_before(tmp_path: Path) -> None:
    done, told = tmp_path / "done", tmp_path / "told"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def act() -> None:
        with fifo.open("w") as out:
            out.write(Path("/proc/self/comm").read_text())
        done.touch()

    def work() -> None:
        Guard(act)
        told.write_text(str(done.exists()))

    assert parent(work) == -signal.SIGKILL
    assert fifo.read_text().strip() == NAME
    assert told.read_text() == "False"


def test_who_reads_from_its_parent_sees_the_end_of_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader, writer = os.pipe()

    def say() -> None:
        fifo.write_text("over")  # waits until that is read

    def work() -> None:
        Guard(say)
        os.write(writer, b"said")

    assert parent(work) == -signal.SIGKILL
    os.close(writer)
    assert ended(reader) == b"said"
    os.close(reader)
    assert fifo.read_text() == "over"


@pytest.mark.parametrize("ignored", [False, True])
def test_where_it_was_ended_nothing_is_done(tmp_path: Path, ignored: bool) -> None:
    done = tmp_path / "done"
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        guard = Guard(done.touch)
        guard.end()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not Path(f"/proc/{guard.pid}").exists()
    assert not done.exists()


def test_one_that_was_killed_itself_can_be_ended() -> None:
    guard = Guard(lambda: None)
    os.kill(guard.pid, signal.SIGKILL)
    guard.end()
