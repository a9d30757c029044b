# SPDX-License-Identifier: GPL-2.0-only
"""``-Q``, ``--mark``, ``--process``: which packets, by what is not in their bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tracer.wanted import Wanted

DIRECTIONS = ("in", "out")


def choosing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; its parameters are ``direction``, ``mark`` and ``process``."""
    command = click.option(
        "--process",
        metavar="NAME|PID",
        help="Only packets that this process sends. What the kernel sends for it later, an "
        "acknowledgement or a repetition, is no process's.",
    )(command)
    command = click.option(
        "--mark",
        metavar="N[/MASK]",
        help="Only packets with this mark when they are first seen.",
    )(command)
    return click.option(
        "-Q",
        "direction",
        type=click.Choice(DIRECTIONS),
        help="Only packets that a device has received when they are first seen (in), or that were "
        "made on this host (out).",
    )(command)


def wanted_of(direction: str | None, mark: str | None, process: str | None) -> Wanted:
    """Return what was typed. Raises UsageError."""
    from tracer.wanted import Wanted, mark_of, process_of

    pid, comm = (None, None) if process is None else process_of(process)
    return Wanted(None if mark is None else mark_of(mark), pid, comm, direction)
