# SPDX-License-Identifier: GPL-2.0-only
"""Hits that the kernel passed over are counted as the kernel's own file of kprobes tells them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.errors import SkbtraceError
from tracer.kernel.btf import Btf
from tracer.kernel.misses import TABLE, Misses
from tracer.kernel.symbols import Symbols

pytestmark = pytest.mark.kernel

TRACING = Path("/sys/kernel/tracing")
EVENTS = TRACING / "kprobe_events"
OUTER, INNER = "__x64_sys_getpgid", "copy_from_kernel_nofault"
CALLS = 53


def define(*events: str) -> None:
    """Make or remove probes. Python's own append would seek, which this file refuses."""
    for event in events:
        file = os.open(EVENTS, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, event.encode())
        finally:
            os.close(file)


@pytest.fixture
def nested() -> Iterator[None]:
    """A probe that is hit inside another one: to read memory for the outer calls the inner."""
    define(f"p:skbt/outer {OUTER} first=+0(%di):u64\n", f"p:skbt/inner {INNER}\n")
    enable = TRACING / "events" / "skbt" / "enable"
    enable.write_text("1")
    try:
        yield
    finally:
        enable.write_text("0")
        define("-:skbt/outer\n", "-:skbt/inner\n")


def missed() -> int:
    """What the kernel tells of the inner one: event, hits, misses."""
    (line,) = [
        line.split()
        for line in (TRACING / "kprobe_profile").read_text().splitlines()
        if line.split()[0] == "inner"
    ]
    return int(line[2])


def test_hits_inside_another_probe_are_counted_from_now_on(nested: None) -> None:
    os.getpgid(0)
    btf = Btf()
    misses = Misses(btf, Symbols().addresses([TABLE])[TABLE])
    before = missed()
    try:
        assert misses.of({INNER}) == 0
        for _ in range(CALLS):
            os.getpgid(0)
        told = misses.of({INNER, "veth_xmit"})
        assert told == missed() - before >= CALLS
        assert misses.of({OUTER, "veth_xmit"}) == 0
    finally:
        misses.close()
        btf.close()


def test_a_kernel_that_does_not_show_its_kprobes_is_one_that_does_not_tell() -> None:
    btf = Btf()
    try:
        with pytest.raises(SkbtraceError, match="table of kprobes is not known"):
            Misses(btf, None)
        # Nothing is at this address: the walk ends with an error, not with a number.
        with pytest.raises(SkbtraceError, match="cannot be read"):
            Misses(btf, 0x1000)
    finally:
        btf.close()
