# SPDX-License-Identifier: GPL-2.0-only
"""``--sample``, ``--max-rate``, ``--per-flow``, ``--cpu-limit``, ``--trigger``: how much of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_LIMITS = (
    (
        "--sample",
        "one_in",
        click.IntRange(1, 1 << 20),
        "Follow one packet in N, drawn at first sight; a clone or segment goes with its packet.",
    ),
    ("--max-rate", "max_rate", click.IntRange(1), "Follow at most N packets a second."),
    (
        "--per-flow",
        "per_flow",
        click.IntRange(1),
        "Follow at most N packets a second of each flow (addresses, protocol, ports; both ways).",
    ),
)


def limiting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; its parameters are ``trigger`` and the fields of ``Limits``."""
    command = click.option(
        "--trigger",
        multiple=True,
        metavar="WHAT",
        help="Keep only journeys that end so: drop, 'latency>500us' (ns, us, ms, s), or an outcome "
        "(delivered, transmitted ...). The first two are told in the kernel, which then sends "
        "nothing else; by other outcomes all are read and few kept. May be given again: any of "
        "them.",
    )(command)
    command = click.option(
        "--cpu-limit",
        "cpu_percent",
        type=click.IntRange(1),
        metavar="PERCENT",
        help="Sample harder by itself while skbtrace takes more than this of one CPU, and say so.",
    )(command)
    for option, name, type_, text in reversed(_LIMITS):
        command = click.option(option, name, type=type_, metavar="N", help=text)(command)
    return command
