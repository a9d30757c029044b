# SPDX-License-Identifier: GPL-2.0-only
"""COMMAND and what it has started end with the capture."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tracer.cli import load as load_module
from tracer.cli.load import Load


def running(word: str) -> list[str]:
    """Processes one of whose arguments is this."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            found.append(cmdline.parent.name)
    return found


@pytest.mark.parametrize(
    ("script", "seconds", "grace_s", "status"),
    [
        # as sudo does with a signal of its own process group
        ("trap : TERM; sleep {0}; exit 7", "98761", 60.0, 7),
        ("sh -c 'trap : TERM; sleep {0}; sleep {0}'; exit 8", "98762", 2.0, 128 + 15),
        ("trap '' TERM; while :; do sleep {0}; done", "98763", 0.1, 128 + 9),
    ],
)
def test_what_command_has_started_ends_with_it(
    script: str, seconds: str, grace_s: float, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "GRACE_S", grace_s)
    load = Load(["sh", "-c", script.format(seconds)], None, to_stdout=False)
    with load:
        load.start()
        while not running(seconds):
            time.sleep(0.01)
    assert load.status == status
    end = time.monotonic() + 10
    while running(seconds):  # a signal takes its time
        assert time.monotonic() < end
        time.sleep(0.01)
