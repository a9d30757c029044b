# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace expect``: whether a trace keeps what was promised. The exit code tells."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from tracer.cli import options, say
from tracer.cli.reading import opened, reader_of, told
from tracer.errors import UNEXPECTED, TraceFileError
from tracer.text import printable

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
    from tracer.cli.judging import tell, tell_losses
    from tracer.promise import Judge
    from tracer.promise_file import promises_in

    promises = [] if learn else promises_in(spec)
    with opened(file) as stream:
        reader = reader_of(file, stream)
        if learn:
            from tracer.export.output import write_output
            from tracer.learn import learned

            write_output(spec, [learned(told(reader, stream)).encode()], force=force)
            say(f"{printable(spec)} written: look at it before you trust it")
            return 0
        judge = Judge(promises, reader.capture.topology)
        failure: TraceFileError | None = None
        try:
            judge.add_all(told(reader, stream), reader.changes)
        except TraceFileError as error:  # what came before it is good
            failure = error
    verdicts = judge.verdicts()
    tell(verdicts, sys.stdout, color=color, ascii_only=ascii_only)
    if github:
        from tracer.view.promise import github as annotations

        sys.stdout.write("".join(f"{line}\n" for line in annotations(verdicts)))
    if report_file is not None:
        from tracer.export.junit import junit
        from tracer.export.output import write_output
        from tracer.view.promise import in_words

        name = os.path.basename(file)  # noqa: PTH119 (- is no path)
        wrong = None if failure is None else failure.message
        write_output(report_file, [junit(verdicts, name, in_words, wrong)], force=force)
    tell_losses(reader.summary)
    if failure is not None:
        with suppress(BrokenPipeError):
            sys.stdout.flush()
        raise failure
    return 0 if all(verdict.kept for verdict in verdicts) else UNEXPECTED
