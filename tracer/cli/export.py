# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace export``: a trace in the format of another program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from tracer.cli import say
from tracer.cli.pick import Pick, Picked, picking
from tracer.cli.reading import opened, reader_of, told
from tracer.errors import TraceFileError, UsageError
from tracer.export.formats import FORMATS
from tracer.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.export.opened import Opened
    from tracer.export.trace_reader import TraceReader
    from tracer.model import Capture, Journey, Summary, TopologyChange

_EXAMPLES = """\b
Examples:
  skbtrace export trace.json --to html -o report.html
  skbtrace export trace.json --to pcapng -o trace.pcapng && wireshark trace.pcapng
  skbtrace export trace.json --to chrome -o chrome.json      open it at ui.perfetto.dev
  skbtrace export trace.json --to mermaid --journey 17
  skbtrace export trace.json --to folded tcp | flamegraph.pl --countname ns > flame.svg
  skbtrace export trace.json --to json --after 2s --before 3s -o second.json
"""


class _Listed(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table of formats."""
        with formatter.section("Formats"):
            formatter.write_dl([(name, format.text) for name, format in FORMATS.items()])
        super().format_epilog(ctx, formatter)


@click.command(cls=_Listed, epilog=_EXAMPLES)
@click.argument("file")
@click.option(
    "--to", "name", required=True, type=click.Choice([*FORMATS]), help="The format; see below."
)
@click.option(
    "-o", "path", default="-", metavar="OUT", help="The file to write; standard output without."
)
@click.option("-f", "force", is_flag=True, help="Let -o overwrite OUT.")
@partial(picking, but="--to")
def export(file: str, name: str, path: str, force: bool, **typed: Any) -> None:
    """Convert trace FILE for another program; - is standard input.

    Of a trace that is cut off what can be read is converted.
    """
    from tracer.export.output import write_output

    format = FORMATS[name]
    pick = Pick(**typed)
    if path == "-" and not format.readable and sys.stdout.isatty():
        raise UsageError(
            f"{name} is not for a terminal", hint=f"skbtrace export ... --to {name} -o FILE"
        )
    if format.single and len(pick.ids) != 1:
        raise UsageError(
            f"{name} shows one journey", hint=f"skbtrace export ... --to {name} --journey ID"
        )
    exporter = format.load()
    with opened(file) as stream:
        trace = _Chosen(reader_of(file, stream), pick, stream)
        write_output(path, exporter(trace), force=force)
    if trace.failure is None:
        trace.picked.check(file)
    if path != "-":
        many = "journey" if trace.count == 1 else "journeys"
        say(f"{printable(path)} written: {trace.count} {many}, {format.text}")
    if trace.failure is not None:
        raise trace.failure


class _Chosen:
    """What was asked for of a trace; ends where that cannot be read any more."""

    def __init__(self, reader: TraceReader, pick: Pick, stream: Opened) -> None:
        self.capture: Capture = reader.capture
        self.picked = Picked(pick, reader.capture)
        self.count = 0
        self.failure: TraceFileError | None = None
        self._reader = reader
        self._stream = stream

    @property
    def summary(self) -> Summary | None:
        """See Exported."""
        return self._reader.summary

    @property
    def changes(self) -> Sequence[TopologyChange]:
        """See Exported."""
        return self._reader.changes

    def __iter__(self) -> Iterator[Journey]:
        """Give the journeys."""
        try:
            for journey in self.picked.chosen(told(self._reader, self._stream, self.picked.ids)):
                self.count += 1
                yield journey
        except TraceFileError as error:  # what came before it is good
            self.failure = error
