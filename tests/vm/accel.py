# SPDX-License-Identifier: GPL-2.0-only
"""Whether a kernel runs on KVM here, or in emulation."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.vm import initramfs, qemu
from tests.vm.kernels import Kernel, KernelError, cache_folder

VARIABLE = "SKBTRACE_VM_ACCEL"

_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TRIAL_S = 10.0


def choose(kernel: Kernel) -> str:
    """`kvm` where a trial boot of this kernel has worked since the host started, else `tcg`."""
    forced = os.environ.get(VARIABLE)
    if forced:
        if forced not in qemu.ACCELERATORS:
            raise KernelError(f"{VARIABLE} is {forced!r}, not {' or '.join(qemu.ACCELERATORS)}")
        return forced
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return "tcg"
    boot = _BOOT_ID.read_text().strip()
    verdict = cache_folder() / "accel" / kernel.release
    try:
        known, accelerator = verdict.read_text().split()
        if known == boot and accelerator in qemu.ACCELERATORS:
            return accelerator
    except (OSError, ValueError):
        pass
    # That the device can be opened says little: in nested machines KVM may hang or crash guests.
    accelerator = "kvm" if _trial_boot(kernel) else "tcg"
    verdict.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=verdict.parent, delete=False) as file:
        file.write(f"{boot} {accelerator}\n")
    Path(file.name).replace(verdict)
    return accelerator


def _trial_boot(kernel: Kernel) -> bool:
    """Whether this kernel gets as far as PID 1 on KVM."""
    with tempfile.TemporaryDirectory(prefix="skbtrace-vm-") as folder:
        ramdisk = Path(folder) / "initramfs"
        ramdisk.write_bytes(initramfs.build_trial())
        arguments = qemu.machine("kvm", kernel, ramdisk, 512) + qemu.kernel_arguments("")
        with tempfile.TemporaryFile() as messages:
            process = qemu.start(arguments, messages)
            try:
                return process.wait(_TRIAL_S) == qemu.ENDED
            except subprocess.TimeoutExpired:
                return False
            finally:
                process.kill()
                process.wait()
