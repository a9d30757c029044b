# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace --topology NAME``: the main job: find or build it, trace, show, write."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from tracer import __version__
from tracer.cli import Commands, say
from tracer.errors import FAILURE, CommandError, UsageError

if TYPE_CHECKING:
    from tracer.model import Capture, Topology
    from tracer.sink import Sink
    from tracer.topology.spec import Lab

_EXAMPLES = """\b
Examples:
  sudo skbtrace --topology docker0                 show every packet that crosses docker0
  sudo skbtrace --topology docker0 -w trace.json   and write the trace
  sudo skbtrace --topology docker0 -c 20 --json | jq .outcome
  sudo skbtrace --topology docker0 -- docker exec web ping -c 3 db
  skbtrace show trace.json                         look at it again, no root needed
"""

COMMAND_GRACE_S = 2.0
"""How long COMMAND may take to end after it was asked to."""


@click.group(cls=Commands, invoke_without_command=True, epilog=_EXAMPLES)
@click.version_option(__version__, prog_name="skbtrace")
@click.option(
    "--topology",
    metavar="NAME",
    help="The bridge to trace. One that exists is traced as it is; the lab docker0 is built, given "
    "traffic and taken down again where there is no docker0.",
)
@click.option("-w", "write", metavar="FILE", help="Write the trace to FILE; - is standard output.")
@click.option("-f", "force", is_flag=True, help="Let -w overwrite FILE.")
@click.option("-c", "count", type=click.IntRange(1), metavar="N", help="Stop after N journeys.")
@click.option(
    "-t",
    "seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Stop after so many seconds.",
)
@click.option("--json", "json_", is_flag=True, help="The trace on standard output, no view.")
@click.option("--no-ui", is_flag=True, help="One block per journey (no full screen).")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="auto: on a terminal, unless NO_COLOR is set.",
)
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only.")
@click.option("-q", "quiet", is_flag=True, help="No journeys and no notices, only errors.")
@click.option("-v", "verbose", is_flag=True, help="Say what is being done, name every probe.")
@click.pass_context
def trace(ctx: click.Context, /, **options: Any) -> int:
    """Follow every packet through this host, function by function, across namespaces.

    With -- COMMAND behind the options, trace while COMMAND runs and stop after it.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    return _trace(ctx.meta["command"], **options)


def _trace(
    command: list[str],
    *,
    topology: str | None,
    write: str | None,
    force: bool,
    count: int | None,
    seconds: float | None,
    json_: bool,
    no_ui: bool,
    color: str,
    ascii_only: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    if topology is None:
        raise UsageError("say what to trace", hint="sudo skbtrace --topology docker0")
    if json_ and write == "-":
        raise UsageError("--json and -w - both write to standard output", hint="use one of them")
    from tracer.kernel.host import require

    require()
    notice = (lambda _: None) if quiet else say
    with ExitStack() as stack, _ending_signals() as signals:
        sinks = _sinks(
            stack,
            write=write,
            force=force,
            json_=json_,
            color=color,
            ascii_only=ascii_only,
            quiet=quiet,
        )
        found, lab = _topology(stack, topology, notice)
        return _capture(
            found,
            lab,
            sinks,
            command,
            signals,
            notice=notice,
            count=count,
            seconds=seconds,
            quiet=quiet,
            verbose=verbose,
            color=color,
            to_stdout=json_ or write == "-",
        )


def _capture(
    found: tuple[Topology, Any],
    lab: Lab | None,
    sinks: list[Sink],
    command: list[str],
    signals: _Signals,
    *,
    notice: Callable[[str], None],
    count: int | None,
    seconds: float | None,
    quiet: bool,
    verbose: bool,
    color: str,
    to_stdout: bool,
) -> int:
    from tracer.kernel.source import KernelSource
    from tracer.session import Session
    from tracer.sink import Tee
    from tracer.topology.discover import scope
    from tracer.view.capture import closing, opening
    from tracer.view.line_view import write_lines
    from tracer.view.theme import use_color

    topology, names = found
    colored = use_color(color, isatty=sys.stderr.isatty(), environ=os.environ)
    source = KernelSource(scope(topology))
    session = Session(source, names.device, Tee(*sinks), topology)
    load = _Load(command, lab, to_stdout=to_stdout)
    # What is made per packet holds no cycles; looking for some costs more than making journeys.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    seen: list[Capture] = []

    def ready(capture: Capture) -> None:
        seen.append(capture)
        if not quiet:
            write_lines(sys.stderr, opening(capture), color=colored)
        if verbose:
            for place in capture.probes:
                say(f"{place.function}: {place.symbol or place.why_missing}")
        load.start()

    notice("compiling and attaching the probes")
    with load, signals.call(session.stop):
        summary = session.run(ready=ready, go_on=load.go_on, most=count, seconds=seconds)
    if not quiet:
        write_lines(sys.stderr, closing(seen[0], summary), color=colored)
    if load.failure:
        say(load.failure)
        return FAILURE
    return load.status


def _sinks(
    stack: ExitStack,
    *,
    write: str | None,
    force: bool,
    json_: bool,
    color: str,
    ascii_only: bool,
    quiet: bool,
) -> list[Sink]:
    from tracer.export.output import open_output
    from tracer.export.trace_writer import TraceWriter
    from tracer.view.line_view import LineView
    from tracer.view.theme import use_color

    sinks: list[Sink] = []
    if write is not None:
        stream = stack.enter_context(open_output(write, force=force))
        sinks.append(TraceWriter(stream, "standard output" if write == "-" else write))
    if json_:
        sinks.append(TraceWriter(stack.enter_context(open_output("-")), "standard output"))
    elif write != "-" and not quiet:
        colored = use_color(color, isatty=sys.stdout.isatty(), environ=os.environ)
        sinks.append(LineView(sys.stdout, color=colored, ascii=ascii_only))
    return sinks


def _topology(
    stack: ExitStack, name: str, notice: Callable[[str], None]
) -> tuple[tuple[Topology, Any], Lab | None]:
    """The topology, its names, and the lab if it was built for this capture."""
    from dataclasses import replace

    from tracer.topology.build import standing
    from tracer.topology.discover import discover
    from tracer.topology.names import Names
    from tracer.topology.spec import LABS

    names = Names()
    built = False
    lab = LABS.get(name)
    if lab is not None:
        built = stack.enter_context(standing(lab))
    topology = replace(discover(name, names), built=built)
    if built:
        assert lab is not None
        notice(f"no {name} on this host: the lab {name} is built, and taken down at the end")
        return (topology, names), lab
    notice(f"found {name}: {len(topology.ports)} ports")
    return (topology, names), None


class _Load:
    """What makes traffic meanwhile: COMMAND, or the lab's own, or neither."""

    def __init__(self, command: list[str], lab: Lab | None, *, to_stdout: bool) -> None:
        from tracer.topology.traffic import Traffic

        self._command = command
        self._to_stdout = to_stdout
        self._traffic = Traffic(lab) if lab is not None and not command else None
        self._process: subprocess.Popen[bytes] | None = None
        self.status = 0
        self.failure: str | None = None

    def start(self) -> None:
        """Everything is attached: go."""
        if self._traffic is not None:
            self._traffic.start()
        if self._command:
            try:
                # Its words must not get between the lines of the trace.
                out = sys.stderr if self._to_stdout else None
                self._process = subprocess.Popen(self._command, stdout=out)
            except OSError as error:
                raise CommandError(f"cannot start {self._command[0]}: {error.strerror}") from error

    def go_on(self) -> bool:
        """False when COMMAND has ended, or the lab's traffic by itself."""
        if self._process is not None and self._process.poll() is not None:
            return False
        if self._traffic is not None and not self._traffic.running:
            self.failure = self._traffic.failure
            return False
        return True

    def __enter__(self) -> _Load:
        return self

    def __exit__(self, *_: object) -> None:
        if self._traffic is not None:
            self._traffic.stop()
            self.failure = self.failure or self._traffic.failure
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(COMMAND_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        status = process.wait()
        self.status = 128 - status if status < 0 else status


class _Signals:
    """SIGINT, SIGTERM and SIGHUP end the capture in order; before it, they end the program."""

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None

    def arrive(self, number: int, frame: object) -> None:
        """The handler."""
        if self._stop is None:
            raise KeyboardInterrupt
        self._stop()

    @contextmanager
    def call(self, stop: Callable[[], None]) -> Iterator[None]:
        """A signal calls ``stop`` meanwhile."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None


@contextmanager
def _ending_signals() -> Iterator[_Signals]:
    signals = _Signals()
    kept = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            kept[number] = signal.signal(number, signals.arrive)
    try:
        yield signals
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
