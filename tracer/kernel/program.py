# SPDX-License-Identifier: GPL-2.0-only
"""The kernel program: bpf/skbtrace.bpf.c, compiled by bcc for the kernel that runs.

Everything that differs between kernels is a number taken from BTF and handed to the compiler
as a definition; no kernel headers are needed. This module knows nothing of journeys.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tracer.errors import PrerequisiteError, SkbtraceError
from tracer.kernel.btf import Btf
from tracer.probes import PROBES, Handler

SOURCE = next(
    path
    for path in (
        Path(__file__).parents[2] / "bpf",  # in a checkout
        Path(__file__).parents[1] / "bpf",  # installed
    )
    if path.is_dir()
)

LIVE_MAX = 16384
"""Packets followed at once. Bounds the kernel's memory: 0.6 kB each."""
RING_PAGES = 4096
"""Ring buffer, in pages of 4 KiB: 16 MiB hold some 35,000 journeys that nobody has read yet."""

# bcc optimizes by itself what clang hands it, and nobody debugs this program with DWARF: leaving
# both out halves the time to compile.
_LIGHT = ("-Xclang", "-disable-llvm-passes", "-g0")

_DISTRIBUTION = (
    Path("/usr/lib/python3/dist-packages/bcc/__init__.py"),
    *sorted(Path("/usr/lib").glob("python3*/site-packages/bcc/__init__.py")),
)

# struct, member, and the name of its offset in bpf/skb.h
_OFFSETS = (
    ("sk_buff", "dev"),
    ("sk_buff", "len"),
    ("sk_buff", "head"),
    ("sk_buff", "protocol"),
    ("sk_buff", "mac_header"),
    ("sk_buff", "network_header"),
    ("sk_buff", "vlan_tci"),
    ("net_device", "ifindex"),
    ("net_device", "nd_net"),
)


def bcc_path() -> Path | None:
    """Where the distribution has put bcc, or None."""
    return next((path for path in _DISTRIBUTION if path.exists()), None)


def load_bcc() -> ModuleType:
    """The distribution's bcc, also from a virtual environment that does not see its packages."""
    if "bcc" in sys.modules:
        return sys.modules["bcc"]
    found = bcc_path()
    if found is None:
        raise PrerequisiteError(
            "bcc is not installed (it comes from the distribution, not from PyPI)",
            hint="sudo apt-get install python3-bpfcc",
        )
    spec = importlib.util.spec_from_file_location("bcc", found)
    assert spec is not None
    assert spec.loader is not None
    bcc = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = bcc
    try:
        spec.loader.exec_module(bcc)
    except (ImportError, OSError) as error:
        del sys.modules["bcc"]
        raise PrerequisiteError(
            f"bcc cannot be loaded: {error}", hint="sudo apt-get install --reinstall python3-bpfcc"
        ) from error
    return bcc


def definitions(btf: Btf, *, cpus: int, scoped: bool) -> list[str]:
    """What the compiler is told: offsets, sizes and the probe table.

    Raises PrerequisiteError if the kernel's types are not those of a kernel we know.
    """
    values: dict[str, int | str] = {
        "SKBTRACE_CPUS": cpus,
        "SKBTRACE_LIVE": LIVE_MAX,
        "SKBTRACE_RING_PAGES": RING_PAGES,
        "SKBTRACE_KFREE_ARGS": btf.tracepoint_args("kfree_skb") or 2,
        "OFF_NET_NS_INUM": _offset(btf, "net", "ns") + _offset(btf, "ns_common", "inum"),
    }
    for struct, member in _OFFSETS:
        values[f"OFF_{struct}_{member}".upper()] = _offset(btf, struct, member)
    for member in ("network_header", "mac_header"):  # read_headers() reads all in one go
        if not 0 <= _offset(btf, "sk_buff", member) - _offset(btf, "sk_buff", "protocol") <= 6:
            raise PrerequisiteError(f"this kernel's sk_buff keeps {member} far from protocol")
    present = btf.bit_field("sk_buff", "vlan_present")
    if present is not None:
        values["OFF_SK_BUFF_VLAN_PRESENT"] = present.byte
        values["MASK_SK_BUFF_VLAN_PRESENT"] = present.mask
    else:
        values["OFF_SK_BUFF_VLAN_ALL"] = _offset(btf, "sk_buff", "vlan_all")
    if scoped:
        values["SKBTRACE_SCOPED"] = 1
    for position, probe in enumerate(PROBES):
        if probe.handler in (Handler.XMIT, Handler.ENQUEUE, Handler.CLONE):
            values[f"SKBTRACE_{probe.handler.upper()}"] = position
    rows = " ".join(
        f"X({position},{probe.attach},{probe.handler},{probe.skb},{int(probe.final)})"
        for position, probe in enumerate(PROBES)
    )
    return [f"-D{name}={value}" for name, value in values.items()] + [
        f"-DSKBTRACE_PROBES(X)={rows}"
    ]


def _offset(btf: Btf, struct: str, member: str) -> int:
    found = btf.offset(struct, member)
    if found is None:
        raise PrerequisiteError(f"this kernel's struct {struct} has no member {member}")
    return found


def compile_program(defined: list[str]) -> Any:
    """Compile and return bcc's BPF object. SkbtraceError with the compiler's words if it fails."""
    bcc = load_bcc()
    os.environ["BCC_KERNEL_SOURCE"] = str(SOURCE / "stubs")
    flags = [*defined, f"-I{SOURCE}", *_LIGHT]
    with stderr_kept() as said:
        try:
            return bcc.BPF(src_file=str(SOURCE / "skbtrace.bpf.c").encode(), cflags=flags)
        except Exception as error:  # bcc raises bare Exceptions
            words = "".join(said())
            raise SkbtraceError(f"the kernel program does not compile: {words or error}") from error


@contextlib.contextmanager
def stderr_kept() -> Iterator[Any]:
    """Keep what C code (clang, libbcc) writes to standard error; the yielded call returns it."""
    sys.stderr.flush()
    saved = os.dup(2)
    kept = os.memfd_create("stderr")
    os.dup2(kept, 2)

    def said() -> str:
        size = os.lseek(kept, 0, os.SEEK_END)
        return os.pread(kept, size, 0).decode(errors="replace")

    try:
        yield said
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(kept)
