# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace show``: print the journeys of a trace file, without root and without bcc."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from tracer.cli import options, saying
from tracer.cli.pick import Pick, Picked, picking
from tracer.cli.reading import name_of, opened, reader_of
from tracer.cli.screen import has_a_screen

if TYPE_CHECKING:
    pass


_EXAMPLES = """\b
Examples:
  skbtrace show trace.json
  skbtrace show --color always trace.json | less -R
  skbtrace show --from c1 --to c2 trace.json
  skbtrace show trace.json tcp port 80 and host 172.17.0.3
  skbtrace show trace.json.gz
  cat trace.*.json | skbtrace show -        all files of --out-rotate as one trace
"""


@click.command(epilog=_EXAMPLES)
@click.argument("file")
@picking
@click.option("--no-ui", is_flag=True, help="Print one block per journey (no full screen).")
@options.color
@options.ascii_only
def show(
    file: str,
    no_ui: bool,
    color: str,
    ascii_only: bool,
    **typed: Any,
) -> None:
    """Look at the journeys in trace FILE; - is standard input.

    FILE may be compressed, and several traces one after the other.

    On a terminal full screen, as while tracing; else, and with --no-ui, a block for each journey.

    With FILTER, an expression as tcpdump takes it (pcap-filter(7)), only those whose packets it
    accepts as they were first seen.

    Clones, copies and segments stand below the packet they were made from, and what TCP sent
    again below the first of it; from a pipe journeys come as they ended.

    What the trace says of itself (kernel, probes, losses) goes to standard error.
    """
    pick = Pick(**typed)
    if not no_ui and has_a_screen(keyboard=file != "-"):
        _on_screen(file, pick, color, ascii_only=ascii_only)
        return
    from tracer.export.trace_reader import TraceReader
    from tracer.topology.names import path_of
    from tracer.view.capture import closing, opening
    from tracer.view.line_view import LineView, write_lines
    from tracer.view.tree import families

    on_stderr = options.is_colored(color, sys.stderr)
    with opened(file) as stream:
        reader = reader_of(file, stream)

        def read_again() -> TraceReader:
            nonlocal reader
            stream.rewind()
            reader = TraceReader(stream, file, reader.changes)
            return reader

        write_lines(sys.stderr, opening(reader.capture), color=on_stderr)
        view = LineView(
            sys.stdout,
            color=options.is_colored(color, sys.stdout),
            ascii=ascii_only,
            path_of=path_of,
        )
        view.begin(reader.capture)
        picked = Picked(pick, reader.capture)
        outcomes: Counter[str] = Counter()
        changes = 0

        def tell_changes() -> None:
            nonlocal changes
            for change in reader.changes[changes:]:
                view.topology(change)
            changes = len(reader.changes)

        with saying(lambda: reader.notes):
            if file != "-" and stream.seekable():
                for family in families(lambda: picked.chosen(read_again().journeys(picked.ids))):
                    tell_changes()
                    view.family(family)
                    outcomes.update([journey.outcome for _, journey in family])
            else:  # one by one: the other end may still be tracing
                for journey in picked.chosen(reader.journeys(picked.ids)):
                    tell_changes()
                    view.journeys((journey,))
                    outcomes[journey.outcome] += 1
        picked.check(file)
        summary = reader.summary
        if summary is not None:
            if pick:
                count = outcomes.total()
                left = summary.journeys - count + summary.unselected
                summary = replace(summary, journeys=count, outcomes=outcomes, unselected=left)
            view.end(summary)
            write_lines(sys.stderr, closing(reader.capture, summary), color=on_stderr)


def _on_screen(file: str, pick: Pick, color: str, *, ascii_only: bool) -> None:
    from tracer.cli.show_screen import show_file, show_stream

    always = partial(Picked, pick) if pick else None
    with opened(file) as stream:
        if stream.anywhere:
            show_file(stream, file, color=color, ascii_only=ascii_only, always=always)
        else:
            show_stream(stream, name_of(file), color=color, ascii_only=ascii_only, always=always)
