# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace stats``: where the time of a trace's journeys goes, and what became of them."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from tracer.cli import options
from tracer.cli.pick import Pick, Picked, picking
from tracer.cli.reading import opened, reader_of, told

if TYPE_CHECKING:
    from tracer.model import Stepped, Summary

_EXAMPLES = """\b
Examples:
  skbtrace stats trace.json
  skbtrace stats --by path trace.json
  skbtrace stats trace.json tcp port 80
  skbtrace stats --json trace.json | jq '.steps[0]'
"""
_BY = ("flow", "path", "outcome", "netns", "cpu")
"""As ``statistics.By``, whose import would make --help slow; a test compares."""


@click.command(epilog=_EXAMPLES)
@click.argument("file")
@click.option(
    "--by", type=click.Choice(_BY), default="flow", show_default=True, help="Group journeys by it."
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    metavar="N",
    help="Rows of each table.",
)
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
@picking
@options.color
@options.ascii_only
def stats(  # noqa: PLR0917 (click calls it by names)
    file: str,
    by: str,
    top: int,
    as_json: bool,
    color: str,
    ascii_only: bool,
    **typed: Any,
) -> None:
    """Tell where the time of the journeys in trace FILE goes; - is standard input.

    Percentiles are within 1.6 % of the true ones; everything else is exact. How complete the
    capture was goes to standard error. Where packets were followed of which the trace has no
    journey, a second table of steps tells what the kernel has counted of all.
    """
    from tracer.errors import TraceFileError
    from tracer.export.statistics import members
    from tracer.statistics import By, Statistics
    from tracer.view.capture import closing, opening
    from tracer.view.line_view import speaks_unicode, terminal_width, write_lines
    from tracer.view.look import Look, names_of, styles_of
    from tracer.view.statistics import report

    pick = Pick(**typed)
    statistics = Statistics(By(by))
    failure: TraceFileError | None = None
    with opened(file) as stream:
        reader = reader_of(file, stream)
        picked = Picked(pick, reader.capture)
        try:
            statistics.add_all(picked.chosen(told(reader, stream, picked.ids)))
        except TraceFileError as error:  # what came before it is good
            failure = error
        if failure is None:
            picked.check(file)
    topology = reader.capture.topology
    if as_json:
        json.dump(members(statistics, reader.capture, reader.summary), sys.stdout)
        sys.stdout.write("\n")
    else:
        look = Look(
            ascii_only or not speaks_unicode(sys.stdout),
            styles_of(topology),
            capture=reader.capture,
            names=names_of(topology),
        )
        width = terminal_width(sys.stdout)
        counted = None if reader.summary is None else reader.summary.counted
        lines = report(
            statistics,
            width,
            look,
            most=top,
            counted=counted_besides(reader.summary),
            backlog=None if counted is None else counted.backlog,
        )
        write_lines(sys.stdout, lines, color=options.is_colored(color, sys.stdout))
        on_stderr = options.is_colored(color, sys.stderr)
        write_lines(sys.stderr, opening(reader.capture), color=on_stderr)
        if reader.summary is not None:
            write_lines(sys.stderr, closing(reader.capture, reader.summary), color=on_stderr)
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    if failure is not None:
        raise failure


def counted_besides(summary: Summary | None) -> tuple[Stepped, ...]:
    """Return the steps the kernel has counted, if some of their packets have no journey here."""
    if summary is None or summary.counted is None:
        return ()
    lost = summary.lost.get("ring_full", 0) + summary.lost.get("unread", 0)
    lacking = lost + summary.unselected + summary.untriggered
    return summary.counted.steps if lacking else ()
