# SPDX-License-Identifier: GPL-2.0-only
"""What this host must have before it can trace, and how to get it.

Cheap to ask: nothing is compiled or attached here, bcc is not imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tracer.errors import PrerequisiteError
from tracer.kernel.bcc import bcc_path
from tracer.kernel.btf import VMLINUX

GUEST = "make demo   # in a checkout: runs the same job in a guest whose kernel can"

_KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe")
_LOCKDOWN = Path("/sys/kernel/security/lockdown")


class Check(NamedTuple):
    """One thing tracing needs."""

    name: str
    good: bool
    found: str
    """What was found, in words."""
    fix: str | None = None
    """The command that helps, where there is one."""


def checks() -> Iterator[Check]:
    """Everything tracing needs that can be seen without trying it, in the order of use."""
    root = os.geteuid() == 0
    yield Check("root", root, "yes" if root else "loading a kernel program needs root", "sudo !!")
    machine = os.uname().machine
    yield Check(
        "machine",
        machine == "x86_64",
        machine if machine == "x86_64" else f"{machine}: only x86_64's registers are known",
    )
    path = bcc_path()
    yield Check(
        "bcc",
        path is not None,
        str(path) if path else "bcc is not installed (it comes from the distribution)",
        "sudo apt-get install python3-bpfcc",
    )
    kprobes = _KPROBE_PMU.exists()
    yield Check(
        "kprobes",
        kprobes,
        "yes" if kprobes else "this kernel has no kprobes (CONFIG_KPROBE_EVENTS)",
        GUEST,
    )
    yield Check(
        "BTF",
        VMLINUX.exists(),
        str(VMLINUX)
        if VMLINUX.exists()
        else f"this kernel has no type information ({VMLINUX} is missing: CONFIG_DEBUG_INFO_BTF)",
        GUEST,
    )
    lockdown = _lockdown()
    yield Check(
        "lockdown",
        lockdown != "confidentiality",
        lockdown
        if lockdown != "confidentiality"
        else "this kernel is locked down (confidentiality): it lets nobody read its memory",
        GUEST,
    )


def require() -> None:
    """Raise PrerequisiteError for the first check that is not good, with what would fix it."""
    for check in checks():
        if not check.good:
            raise PrerequisiteError(
                check.found, hint="sudo skbtrace ..." if check.name == "root" else check.fix
            )


def _lockdown() -> str:
    """none, integrity or confidentiality: security/lockdown/lockdown.c marks it with brackets."""
    try:
        words = _LOCKDOWN.read_text().split()
    except OSError:
        return "none"
    return next((word.strip("[]") for word in words if word.startswith("[")), "none")
