# SPDX-License-Identifier: GPL-2.0-only
"""The kernel program of a guest, compiled on its host: in emulation that takes a minute.

What is compiled depends on what the guest says of its kernel, and on nothing of the host's: the
guest has the host's files, its compiler too. In tests/kernel it is checked that both make the same.
"""

from __future__ import annotations

import json
import subprocess
from functools import cached_property
from pathlib import Path

from tracer.kernel import compiler

PORT = "skbtrace.compile"
"""Where the guest asks; see compile() in init."""

_APART = Path(__file__).with_name("elsewhere.c")


class Compiling:
    """Answers a guest. What it needs for that it makes in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def answer(self, request: bytes) -> bytes:
        """Take the number of who asks, and what compiler.child says to its child; the program.

        Nothing behind the number: the guest has to do it itself.
        """
        number, _, asked = request.partition(b" ")
        try:
            _, flags = json.loads(asked)
            done = compiler.child(flags, **self._environment)
        except (OSError, ValueError):
            return number + b" "
        return number + b" " + (b"" if done.returncode else done.stdout.encode())

    @cached_property
    def _environment(self) -> dict[str, str]:
        """What frees the compiler of this host's kernel. Without it, it may need root's rights."""
        made = self._folder / "elsewhere.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(made), str(_APART)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return {}
        return {"LD_PRELOAD": str(made)}
