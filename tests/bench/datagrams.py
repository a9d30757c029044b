# SPDX-License-Identifier: GPL-2.0-only
"""UDP from c1 to c2 of the lab docker0, at a rate: see paced.py. In the guest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORT = 7000
FULL_SPEED = 10**6
"""More than can be sent in a second."""

_CLIENT, _SERVER = "skbtrace-c1", "skbtrace-c2"
_PACED = [sys.executable, str(Path(__file__).with_name("paced.py")), str(PORT)]


def sender(rate: int, count: int, *each: int) -> list[str]:
    """The command that sends ``count`` datagrams, so many a second; ``each``: in how large flows.

    It prints when it began and ended.
    """
    arguments = map(str, (rate, count, *each))
    return ["ip", "netns", "exec", _CLIENT, *_PACED, *arguments]


def send(rate: int, count: int, *each: int) -> float:
    """Send them. Return how many that were in a second."""
    began, ended = json.loads(subprocess.check_output(sender(rate, count, *each)))
    return float(count / (ended - began))


@contextmanager
def received() -> Iterator[None]:
    """Somebody takes them in meanwhile."""
    command = ["ip", "netns", "exec", _SERVER, *_PACED]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as receiver:
        assert receiver.stdout is not None
        try:
            receiver.stdout.readline()
            yield
        finally:
            receiver.kill()
