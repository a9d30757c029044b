# SPDX-License-Identifier: GPL-2.0-only
"""What makes traffic while skbtrace traces: COMMAND, or the lab's own, or neither.

Behind ``sudo`` COMMAND runs as the person who typed it: what it starts with root's rights it must
say itself. The lab's traffic runs as root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tracer.errors import FAILURE, CommandError
from tracer.process import family
from tracer.sudo import user_behind_sudo
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.topology.spec import Lab

GRACE_S = 2.0
"""How long COMMAND may take to end after it was asked to."""
LOOK_S = 0.01
"""How often that is looked at."""


class Load:
    """Started when every probe is attached, ended with the block it is the context of.

    ``lab``: the lab that was built for this capture; its own traffic runs if there is no
    ``command``. ``to_stdout``: the trace goes to standard output, so COMMAND's words must not.
    """

    def __init__(self, command: list[str], lab: Lab | None, *, to_stdout: bool) -> None:
        from tracer.topology.traffic import Traffic

        self._command = command
        self._to_stdout = to_stdout
        self._traffic = Traffic(lab) if lab is not None and not command else None
        self._process: subprocess.Popen[bytes] | None = None
        self.status = 0
        """COMMAND's exit status (128 + N if signal N ended it), once the block is left."""
        self.started = False
        self.failure: str | None = None
        """Why the lab's traffic ended by itself, one sentence."""

    def start(self) -> None:
        """Go. Raises CommandError if COMMAND cannot be started."""
        self.started = True
        if self._traffic is not None:
            self._traffic.start()
        if self._command:
            self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        out = sys.stderr if self._to_stdout else None
        user = user_behind_sudo(os.environ)
        try:
            if user is None:
                return subprocess.Popen(self._command, stdout=out)
            return subprocess.Popen(
                self._command,
                stdout=out,
                env=user.environment(os.environ),
                user=user.uid,
                group=user.gid,
                extra_groups=user.groups,
            )
        except OSError as error:
            name = printable(self._command[0])
            raise CommandError(f"cannot start {name}: {error.strerror}") from error

    def go_on(self) -> bool:
        """Say whether it still runs; without a load there is nothing to end."""
        if self._process is not None and self._process.poll() is not None:
            return False
        return self._traffic is None or self._traffic.running

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        if self._traffic is not None:
            self._traffic.stop()
            self.failure = self._traffic.failure
            self.status = FAILURE if self.failure else 0
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            self._end(process)
        status = process.wait()
        self.status = 128 - status if status < 0 else status

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        # COMMAND may be sudo, which hands on no signal that comes from its own process group.
        members = family(process.pid)
        for member in members:
            member.signal(signal.SIGTERM)
        end = time.monotonic() + GRACE_S
        while any(member.alive for member in members) and time.monotonic() < end:
            time.sleep(LOOK_S)
            process.poll()
        for left in [p for member in members if member.alive for p in family(member.pid)]:
            left.signal(signal.SIGKILL)
