# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace expect``: whether a trace keeps what was promised. The exit code tells."""

from __future__ import annotations

import os
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli import options, say
from tracer.cli.show import opened
from tracer.cli.stats import told
from tracer.errors import SkbtraceError, TraceFileError, UsageError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.model import Topology
    from tracer.promise import Promise

BROKEN = 4
"""The exit code if a promise is broken: 1 and 2 mean that something failed."""
_EXAMPLES = """\b
Examples:
  skbtrace expect --learn good.json network.toml     write down what a good trace shows
  skbtrace expect today.json network.toml            and see whether it still is so
  skbtrace expect trace.json network.toml --junit report.xml

A promise, of which only the name of the table is needed:
  [[promise]]
  name = "web asks db"
  from = "web"                    # the namespace where it begins
  to = "db"                       # where it ends, or was on its way to
  filter = "tcp dst port 5432"    # pcap-filter(7)
  at_least = 3                    # journeys; 1 if nothing is said. at_most = 10
  path = ["web/eth0", "*", "host/docker0", "*", "db/eth0"]
  passes = ["br_forward"]         # functions or netns/ifname; also: avoids
  outcome = ["delivered"]         # if nothing is said: anything but a loss
  nat = { src = "203.0.113.1" }   # src, dst, sport, dport: what it is rewritten to
  within = "500us"                # every one; p99 = "1ms": 99 of 100
"""


@click.command(epilog=_EXAMPLES)
@click.argument("file")
@click.argument("spec")
@click.option("--learn", is_flag=True, help="Write SPEC: what this trace shows.")
@click.option("-f", "force", is_flag=True, help="Let --learn and --junit overwrite a file.")
@click.option("--junit", "report_file", metavar="FILE", help="Write a JUnit XML report, too.")
@click.option(
    "--github",
    is_flag=True,
    help="Print what is broken as annotations of GitHub Actions, too.",
)
@options.color
@options.ascii_only
def expect(  # noqa: PLR0917 (click calls it by names)
    file: str,
    spec: str,
    learn: bool,
    force: bool,
    report_file: str | None,
    github: bool,
    color: str,
    ascii_only: bool,
) -> int:
    """Tell whether trace FILE keeps the promises in SPEC, a TOML file: exit code 4 if not.

    Of a broken promise it says what was expected, what was seen, in which journey, and at which
    hop it went wrong. A trace that has lost something proves less; that is said, too.

    A trace that is not whole is judged as far as it goes, and then the exit code is 1: it can
    neither prove that a promise is kept, nor that what is missing would not have kept it.
    """
    from tracer.export.trace_reader import TraceReader

    promises = [] if learn else _promises(spec)
    with opened(file) as stream:
        reader = TraceReader(stream, "standard input" if file == "-" else file)
        if learn:
            from tracer.export.output import write_output
            from tracer.learn import learned

            write_output(spec, [learned(told(reader, stream)).encode()], force=force)
            say(f"{printable(spec)} written: look at it before you trust it")
            return 0
        from tracer.promise import Judge

        judge = Judge(promises, _addresses(reader.capture.topology))
        failure: TraceFileError | None = None
        try:
            judge.add_all(told(reader, stream))
        except TraceFileError as error:  # what came before it is good
            failure = error
    verdicts = judge.verdicts()
    from tracer.view.line_view import speaks_unicode, terminal_width, write_lines
    from tracer.view.look import Look
    from tracer.view.promise import github as annotations
    from tracer.view.promise import in_words, report

    look = Look(ascii_only or not speaks_unicode(sys.stdout))
    lines = report(verdicts, terminal_width(sys.stdout), look)
    write_lines(sys.stdout, lines, color=options.is_colored(color, sys.stdout))
    if github:
        sys.stdout.write("".join(f"{line}\n" for line in annotations(verdicts)))
    if report_file is not None:
        from tracer.export.junit import junit
        from tracer.export.output import write_output

        name = os.path.basename(file)  # noqa: PTH119 (- is no path)
        wrong = None if failure is None else failure.message
        write_output(report_file, [junit(verdicts, name, in_words, wrong)], force=force)
    summary = reader.summary
    if summary is not None and summary.lost_total:
        say(f"this trace has lost {summary.lost_total}: what was not seen may have been otherwise")
    if failure is not None:
        with suppress(BrokenPipeError):
            sys.stdout.flush()
        raise failure
    return 0 if all(verdict.kept for verdict in verdicts) else BROKEN


def _promises(spec: str) -> list[Promise]:
    from tracer.promise_file import promises_of

    name = printable(spec)
    try:
        members = tomllib.loads(Path(spec).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError):
            raise SkbtraceError(
                f"cannot read {name}: {error.strerror}",
                hint="skbtrace expect --learn TRACE SPEC   # writes one",
            ) from error
        raise UsageError(f"{name} is not TOML: {printable(str(error))}") from error
    try:
        return promises_of(members)
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", hint=error.hint) from error


def _addresses(topology: Topology | None) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for device, address in () if topology is None else topology.addresses:
        found.setdefault(device.netns.name, set()).add(address.split("/")[0])
    return {name: frozenset(addresses) for name, addresses in found.items()}
