# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace diff``: what is different between two traces; the exit code says if anything is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tracer.cli import options
from tracer.cli.pick import Pick, Picked, picking
from tracer.cli.show import opened
from tracer.cli.stats import told

if TYPE_CHECKING:
    from tracer.difference import Differences, Side
    from tracer.model import Capture

DIFFERENT = 4
"""The exit code if there is a difference: 1 and 2 mean that something failed."""
_EXAMPLES = """\b
Examples:
  skbtrace diff yesterday.json today.json
  skbtrace diff yesterday.json today.json tcp port 443
  skbtrace diff --json before.json after.json | jq .steps
"""


@click.command(epilog=_EXAMPLES)
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@picking
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
@click.option(
    "--top",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    metavar="N",
    help="Of each kind of difference.",
)
@options.color
@options.ascii_only
def diff(  # noqa: PLR0917 (click calls it by names)
    one: str,
    other: str,
    as_json: bool,
    top: int,
    color: str,
    ascii_only: bool,
    **typed: Any,
) -> int:
    """Tell what is different between traces A and B: exit code 4 if anything is, else 0.

    Paths and drops that only one of them has, steps that take more time or less, flows that
    usually go another way. Names of devices and namespaces must mean the same in both.

    A step is called slower or faster if chance would do that in at most one of a hundred
    comparisons of two such traces, and if it is so for at least 55 of 100 pairs of times.
    """
    from tracer.difference import differences
    from tracer.export.difference import members
    from tracer.view.difference import report
    from tracer.view.line_view import speaks_unicode, terminal_width, write_lines
    from tracer.view.look import Look, names_of, styles_of

    pick = Pick(**typed)
    sides: list[Side] = []
    captures: list[Capture] = []
    for file in (one, other):
        side, capture = _read(file, pick)
        sides.append(side)
        captures.append(capture)
    found: Differences = differences(*sides)
    if as_json:
        json.dump(members(found), sys.stdout)
        sys.stdout.write("\n")
    else:
        topology = captures[1].topology
        look = Look(
            ascii_only or not speaks_unicode(sys.stdout),
            styles_of(topology),
            names=names_of(topology),
        )
        lines = report(found, terminal_width(sys.stdout), look, most=top)
        write_lines(sys.stdout, lines, color=options.is_colored(color, sys.stdout))
    return DIFFERENT if found else 0


def _read(file: str, pick: Pick) -> tuple[Side, Capture]:
    from tracer.difference import Side
    from tracer.export.trace_reader import TraceReader

    side = Side()
    with opened(file) as stream:
        reader = TraceReader(stream, "standard input" if file == "-" else file)
        picked = Picked(pick, reader.capture)
        side.add_all(told(picked.chosen(reader), stream))
        picked.check(file)
    return side, reader.capture
