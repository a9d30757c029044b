# SPDX-License-Identifier: GPL-2.0-only
"""A guest: a machine with one of the kernels, to run a command in."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.vm import accel, initramfs, kernels, qemu
from tests.vm.boot import Boot
from tests.vm.compiling import PORT, Compiling
from tests.vm.job import job
from tests.vm.terminal import Terminal

DEFAULT_TIMEOUT_S = 1200.0
DEFAULT_MEMORY_MIB = 2048


@dataclass(frozen=True, slots=True)
class Guest:
    """What to boot. Every `run` is a boot of its own; only the results folder outlives it."""

    kernel: str
    """An alias, one of KERNELS."""
    memory_mib: int = DEFAULT_MEMORY_MIB
    append: str = ""
    """More words for the kernel's command line."""
    devices: Sequence[str] = ()
    """More arguments for QEMU, for instance emulated network cards."""

    def run(
        self,
        command: Sequence[str],
        *,
        out: Path | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        tty: bool = False,
        stdout: BinaryIO | None = None,
        stderr: BinaryIO | None = None,
    ) -> int:
        """Boot, run the command as root where the caller is, and give back its exit status.

        `out` is the results folder: the command may write to it, at the same path and as
        $SKBTRACE_OUT; the guest's console is in it as console.log. The command's standard output
        and error go to `stdout` and `stderr` (by default the caller's own) while it runs; with
        `tty` it has the caller's terminal instead.

        Raises GuestLost or GuestTimedOut when there is no exit status to give back.
        """
        kernel = kernels.obtain(self.kernel)
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skbtrace-vm-")))
            out = (out or scratch / "out").resolve()
            out.mkdir(parents=True, exist_ok=True)
            terminal = stack.enter_context(Terminal()) if tty else None
            boot = stack.enter_context(Boot(self.kernel, out / "console.log"))
            if terminal:
                boot.connect_terminal(terminal)
            else:
                boot.connect_output("skbtrace.out", stdout or sys.stdout.buffer)
                boot.connect_output("skbtrace.err", stderr or sys.stderr.buffer)
            boot.connect_answers(PORT, Compiling(scratch).answer)
            files = job(
                kernel,
                command,
                folder=Path.cwd(),
                out=out,
                env=env or {},
                size=terminal.size() if terminal else None,
            )
            ramdisk = scratch / "initramfs"
            ramdisk.write_bytes(initramfs.build(kernel, files))
            arguments = [
                *qemu.machine(accel.choose(kernel), kernel, ramdisk, self.memory_mib),
                *qemu.kernel_arguments(self.append),
                *qemu.console(out / "console.log"),
                *qemu.share("root", Path("/"), readonly=True),
                *qemu.share("out", out),
                *self.devices,
            ]
            return boot.follow(arguments, timeout_s)
