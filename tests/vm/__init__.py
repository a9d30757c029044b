# SPDX-License-Identifier: GPL-2.0-only
"""Boots real kernels in QEMU and runs commands in them; README.md tells how.

kernels (from mirror) and initramfs (with a job, for init) are what boots; qemu and accel are what
it boots on; boot follows it, with a terminal if wanted; guest puts them together; lost is what
happens otherwise.
"""

from tests.vm.guest import Guest
from tests.vm.kernels import KERNELS, KernelError
from tests.vm.lost import GuestLost, GuestTimedOut

__all__ = ["KERNELS", "Guest", "GuestLost", "GuestTimedOut", "KernelError"]
