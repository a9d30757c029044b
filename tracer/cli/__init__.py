# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the table of commands, and the one place where errors become words.

A command is one file and one line in COMMANDS. Modules are imported when their command runs.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from tracer import __version__
from tracer.errors import FAILURE, USAGE, SkbtraceError
from tracer.text import printable

COMMANDS = {
    "show": ("tracer.cli.show:show", "Look at the journeys of a trace file."),
    "stats": ("tracer.cli.stats:stats", "Tell where the time of a trace's journeys goes."),
    "diff": ("tracer.cli.diff:diff", "Tell what is different between two traces."),
    "expect": ("tracer.cli.expect:expect", "Tell whether a trace keeps what was promised."),
    "export": ("tracer.cli.export:export", "Convert a trace for other programs."),
    "lab": ("tracer.cli.lab:lab", "Build a network to look at, take it down."),
    "topo": ("tracer.cli.topo:topo", "Draw a bridge or a lab, and who is joined with whom."),
    "probes": ("tracer.cli.probes:probes", "List the kernel functions that are probed."),
    "schema": ("tracer.cli.schema:schema", "Print the JSON Schema of the trace file."),
    "doctor": ("tracer.cli.doctor:doctor", "Say whether this host can trace, and what it lacks."),
}

INTERRUPTED = 130
"""128 + SIGINT: Ctrl-C before the capture began."""


class Commands(click.Group):
    """The top command: options of a capture and a filter, or a subcommand.

    Takes FILTER and ``-- COMMAND`` apart first.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What stands behind ``--`` is a command to run, what stands before it is a filter."""
        options = args[: args.index("--")] if "--" in args else args
        typed, words, _ = self.make_parser(ctx).parse_args(list(options))
        command: list[str] = []
        if not words or words[0] not in COMMANDS:
            command = args[len(options) + 1 :]
            if "--" in args and not command:
                raise click.UsageError("there is no command behind --", ctx)
            # Without --topology the first word is what nobody knows the command of.
            if "topology" in typed:
                options = options[: len(options) - len(words)]
                ctx.meta["filter"] = words
            args = options
        ctx.meta["command"] = command
        if not args and not command:
            args = ["--help"]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What may stand where."""
        return ["[OPTIONS] [FILTER...] [-- COMMAND...]", "| COMMAND [ARGS...]"]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table: --help imports no command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def main(args: list[str] | None = None) -> None:
    """Run skbtrace and exit: the only place that turns an error into words and a status."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:  # noqa: PLR0911 (each kind of end is a line of its own)
    """Run skbtrace and return its exit status."""
    from tracer.cli.trace import trace

    try:
        # Not trace.main(): that turns a broken pipe into exit status 1.
        with trace.make_context("skbtrace", args) as context:
            status = trace.invoke(context)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as done:  # --help and --version
        return done.exit_code
    except BrokenPipeError:
        # Nobody reads any more, which is fine; keep Python from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except SkbtraceError as error:
        say(error.message)
        if error.hint:
            click.echo(f"  try: {error.hint}", err=True)
        return error.exit_code
    except click.ClickException as error:
        told = io.StringIO()
        error.show(told)
        for line in told.getvalue().splitlines():
            click.echo(printable(line), err=True)
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return INTERRUPTED
    except OSError as error:
        say(f"{error.strerror}{f': {printable(str(error.filename))}' if error.filename else ''}")
        return FAILURE


def say(text: str) -> None:
    """A line on standard error."""
    click.echo(f"skbtrace: {text}", err=True)


@contextmanager
def saying(notes: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Say what is to be said when the block is left, in whatever way."""
    try:
        yield
    finally:
        for note in notes():
            say(note)


__all__ = ["COMMANDS", "Commands", "__version__", "main", "run", "say", "saying"]
