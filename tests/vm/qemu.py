# SPDX-License-Identifier: GPL-2.0-only
"""The virtual machine: what QEMU is told, and how it is started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from tests.vm.kernels import Kernel, KernelError

PROGRAM = "qemu-system-x86_64"

# /init ends QEMU by writing a number v to isa-debug-exit, which makes (v << 1) | 1 of it.
ENDED = 16 << 1 | 1
NOT_SET_UP = 32 << 1 | 1

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

_PROCESSOR = {
    # Multi-threaded emulation has crashed guests when probes were attached under traffic.
    # max has rdrand, so random numbers are there at once. Five-level page tables only cost time,
    # and so does erms: with it the kernel copies with `rep movsb`, emulated byte by byte. Where
    # there is smap, each access to a user's memory ends a block of what is translated, and looks
    # pages up in a table of its own.
    "tcg": ("-accel", "tcg,thread=single", "-cpu", "max,la57=off,erms=off,smap=off"),
    "kvm": ("-accel", "kvm", "-cpu", "host"),
}
ACCELERATORS = tuple(_PROCESSOR)

_KERNEL_ARGUMENTS = (
    "quiet console=ttyS0",
    # A kernel that is broken must end, not limp on: with -no-reboot its reboot ends QEMU.
    "panic=-1 oops=panic",
    # AppArmor would deny Docker in the guest things for which the host has loaded profiles.
    "apparmor=0",
    # Emulated time is late time: the kernel's check whether the timer works may find it broken.
    "no_timer_check",
    # Nor believe that it cannot trust the TSC: the HPET it would take instead costs twice as much
    # to read, and every probe reads the clock.
    "tsc=reliable",
    # What protects a kernel from its users costs time, and there are none. Memory is given out as
    # it was left: what is read beyond a packet's bytes is then seen.
    "mitigations=off hardened_usercopy=off randomize_kstack_offset=off audit=0 init_on_alloc=0",
    # rep_good, of which 5.10 knows no name: with it pages are cleared by `rep stosq`, see erms.
    "clearcpuid=112",
)


# Two network cards of different drivers on one wire that leads nowhere else. No boot from them.
NICS = tuple(
    word
    for number, card in enumerate(("virtio-net-pci", "e1000"))
    for word in (
        *("-netdev", f"hubport,id=wire{number},hubid=0"),
        *("-device", f"{card},netdev=wire{number},romfile="),
    )
)


def machine(accelerator: str, kernel: Kernel, ramdisk: Path, memory_mib: int) -> list[str]:
    """A machine with nothing in it but the way out."""
    return [
        *(PROGRAM, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "q35", *_PROCESSOR[accelerator], "-smp", "2", "-m", f"{memory_mib}M"),
        *("-kernel", str(kernel.image), "-initrd", str(ramdisk)),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
    ]


def kernel_arguments(more: str) -> list[str]:
    """The kernel's command line."""
    return ["-append", " ".join((*_KERNEL_ARGUMENTS, more)).rstrip()]


def share(tag: str, folder: Path, *, readonly: bool = False) -> list[str]:
    """A folder of the host that the guest can mount."""
    # multidevs=remap: a tree may span file systems, and its inode numbers must stay unique.
    backend = f"local,id={tag},security_model=none,multidevs=remap,path={escaped(folder)}"
    return [
        *("-fsdev", backend + ",readonly=on" * readonly),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    ]


def console(log: Path) -> list[str]:
    """The serial line, written to a file."""
    return ["-chardev", f"file,id=console,path={escaped(log)}", "-serial", "chardev:console"]


def port_bus() -> list[str]:
    """What the ports are plugged into."""
    return ["-device", "virtio-serial-pci,id=ports"]


def port(name: str, number: int, device: str) -> list[str]:
    """A byte stream between the guest and a socket that QEMU inherits."""
    return [
        *("-chardev", f"socket,id=port{number},fd={number}"),
        *("-device", f"{device},bus=ports.0,chardev=port{number},name={name}"),
    ]


def escaped(path: Path) -> str:
    """A path as part of a QEMU option, where a comma separates."""
    return str(path).replace(",", ",,")


def start(
    arguments: Sequence[str], messages: BinaryIO, inherit: Collection[int] = ()
) -> subprocess.Popen[bytes]:
    """Start QEMU so that it cannot outlive this process, however that ends."""
    launcher = os.getpid()

    def die_with_launcher() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # If the launcher died before the call above, no signal is coming.
        if os.getppid() != launcher:
            os._exit(1)

    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            pass_fds=inherit,
            # Threads may be running, but all this does is two calls into libc, already loaded.
            preexec_fn=die_with_launcher,  # noqa: PLW1509
            # Ctrl-C is for the launcher, which then ends QEMU.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise KernelError(f"{PROGRAM} is needed and is not installed") from error
