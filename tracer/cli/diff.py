# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace diff``: what is different between two traces; the exit code says if anything is."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from tracer.cli import options, say
from tracer.cli.pick import Pick, Picked, picking
from tracer.cli.reading import opened, reader_of, told
from tracer.errors import UNEXPECTED, TraceFileError

if TYPE_CHECKING:
    from tracer.difference import Differences, Side
    from tracer.model import Capture

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

    A trace that is not whole is compared as far as it goes; then the exit code is 1.

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
    failures: list[TraceFileError] = []
    for file in (one, other):
        side, capture, failure = _read(file, pick)
        sides.append(side)
        captures.append(capture)
        failures += [] if failure is None else [failure]
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
    if failures:  # whether what is missing would differ is not known, so it is neither 0 nor 4
        with suppress(BrokenPipeError):
            sys.stdout.flush()
        for failure in failures[:-1]:
            say(failure.message)
        raise failures[-1]
    return UNEXPECTED if found else 0


def _read(file: str, pick: Pick) -> tuple[Side, Capture, TraceFileError | None]:
    """Read a trace as far as it goes; return what it holds, and what is wrong then."""
    from tracer.difference import Side

    side = Side()
    with opened(file) as stream:
        reader = reader_of(file, stream)
        picked = Picked(pick, reader.capture)
        try:
            side.add_all(picked.chosen(told(reader, stream, picked.ids)))
        except TraceFileError as error:  # what came before it is good
            return side, reader.capture, error
        picked.check(file)
    return side, reader.capture, None
