# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace --topology NAME``: the main job: find or build it, trace, show, write."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from tracer import __version__
from tracer.cli import Commands, options, say
from tracer.cli.capture import Notices, Run
from tracer.cli.choose import choosing, wanted_of
from tracer.cli.found import find
from tracer.cli.limit import limiting
from tracer.cli.screen import has_a_screen
from tracer.cli.select import Typed, selecting
from tracer.errors import UNEXPECTED, UsageError
from tracer.text import printable
from tracer.topology.spec import LABS
from tracer.wire import SNAPLEN_MAX

if TYPE_CHECKING:
    from tracer.asked import Asked
    from tracer.cli.judging import Judging
    from tracer.export.rotation import Rotation
    from tracer.model import Layer, Summary
    from tracer.sink import Sink

_EXAMPLES = """\b
Examples:
  sudo skbtrace --topology docker0                 show every packet that crosses docker0
  sudo skbtrace --topology docker0 -w trace.json   and write the trace
  sudo skbtrace --topology auto -w t.json.gz --out-rotate 100M,keep=10   for days, in 1 GB
  sudo skbtrace --topology docker0 -c 20 --json | jq .outcome
  sudo skbtrace --topology docker0 -- docker exec web ping -c 3 db
  sudo skbtrace --topology nat --layers all        every function that can be probed
  sudo skbtrace --topology nat                     build a lab that translates addresses
  sudo skbtrace --topology docker0 --from web --to db   what web sends to db, and what it loses
  sudo skbtrace --topology auto --trigger drop --cpu-limit 30   drops on a busy host
  sudo skbtrace --topology auto --sample 100 --trigger 'latency>5ms'
  sudo skbtrace --topology docker0 tcp port 80 and host 172.17.0.3
  sudo skbtrace --topology docker0 'icmp or (udp and not port 53)'
  sudo skbtrace --topology docker0 --expect network.toml -- ./integration-test
  skbtrace show trace.json                         look at it again, no root needed
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was typed; the names are those of the parameters below."""

    topology: str | None
    write: str | None
    rotate: str | None
    expect: str | None
    force: bool
    count: int | None
    seconds: float | None
    json: bool
    no_ui: bool
    color: str
    ascii_only: bool
    layers: frozenset[Layer]
    changes: bool
    netns: tuple[str, ...]
    container: tuple[str, ...]
    origin: tuple[str, ...]
    device: tuple[str, ...]
    target: tuple[str, ...]
    direction: str | None
    mark: str | None
    process: str | None
    one_in: int | None
    max_rate: int | None
    per_flow: int | None
    cpu_percent: int | None
    trigger: tuple[str, ...]
    snaplen: int | None
    quiet: bool
    verbose: bool
    chosen: Mapping[str, str] = field(default_factory=dict)
    """What the trace says was asked for: see ``Capture.asked``."""

    @property
    def to_stdout(self) -> bool:
        """The trace goes to standard output, so nothing else may."""
        return self.json or self.write == "-"

    @property
    def ends(self) -> Typed:
        """The names of the journeys' namespaces."""
        return Typed(self.netns, self.container, self.origin, self.device, self.target)

    def notice(self, text: str) -> None:
        """Say something on standard error, unless -q."""
        if not self.quiet:
            say(text)


_CHOOSING = frozenset(
    {
        *(*Typed._fields, "direction", "mark", "process", "trigger"),
        *("one_in", "max_rate", "per_flow", "cpu_percent", "snaplen"),
    }
)
"""Parameters that a trace tells of, by the names of their options."""


@click.group(cls=Commands, invoke_without_command=True, epilog=_EXAMPLES)
@click.version_option(__version__, prog_name="skbtrace")
@click.option(
    "--topology",
    metavar="NAME",
    help="The bridge or the lab to trace. One that exists is traced as it is; a lab that does not "
    f"({', '.join(LABS)}) is built, given traffic and taken down again. "
    "auto: every device of this host.",
)
@click.option(
    "-w",
    "write",
    metavar="FILE",
    help="Write the trace to FILE, compressed if that ends in .gz or .zst; - is standard output.",
)
@click.option(
    "--out-rotate",
    "rotate",
    metavar="SPEC",
    help="For -w trace.json, write trace.000001.json, trace.000002.json ...: another one after so "
    "many bytes (100M), after a time (1h), or whichever is first (100M,1h). keep=10 removes all "
    "but the last ten.",
)
@click.option(
    "--expect",
    metavar="SPEC",
    help="Hold the capture against the promises in SPEC, too: see skbtrace expect. Exit code 4 if "
    "one is broken.",
)
@click.option("-f", "force", is_flag=True, help="Let -w overwrite FILE.")
@click.option("-c", "count", type=click.IntRange(1), metavar="N", help="Stop after N journeys.")
@click.option(
    "-t",
    "seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Stop after so many seconds.",
)
@click.option(
    "--snaplen",
    "-s",
    type=click.IntRange(1, SNAPLEN_MAX),
    metavar="N",
    help="Keep the first N bytes of each packet, what its headers carry too, for -w and pcapng; "
    f"at most {SNAPLEN_MAX}, and not what the kernel has in pages. Without -s headers only.",
)
@options.layers
@click.option(
    "--changes/--no-changes",
    default=True,
    show_default=True,
    help="Tell at each hop what is different about the packet: mark, addresses, TTL ...",
)
@choosing
@selecting
@limiting
@click.option("--json", is_flag=True, help="The trace on standard output, no view.")
@click.option("--no-ui", is_flag=True, help="One block per journey (no full screen).")
@options.color
@options.ascii_only
@click.option("-q", "quiet", is_flag=True, help="No journeys and no notices, only errors.")
@click.option("-v", "verbose", is_flag=True, help="Say what is being done, name every probe.")
@click.pass_context
def trace(ctx: click.Context, /, **typed: Any) -> int:
    """Follow every packet through this host, function by function, across namespaces.

    With FILTER, an expression as tcpdump takes it (pcap-filter(7)), only the packets that it
    accepts when they are first seen; those are followed to their end, whatever they become.

    With -- COMMAND, trace while COMMAND runs and stop after it. Behind sudo COMMAND runs as the
    user who typed it; where it needs root: -- sudo COMMAND.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    chosen = {
        option.opts[0].lstrip("-"): words
        for option in ctx.command.params
        if option.name in _CHOOSING and (words := _words(typed[option.name]))
    }
    if filter := ctx.meta.get("filter"):
        chosen = {"filter": printable(" ".join(filter)), **chosen}
    return _trace(Options(**typed, chosen=chosen), filter or [], ctx.meta["command"])


def _words(typed: object) -> str:
    """What was typed behind an option, in a trace's words; empty if nothing was."""
    if typed is None:
        return ""
    return printable(", ".join(typed) if isinstance(typed, tuple) else str(typed))


def _trace(typed: Options, words: list[str], command: list[str]) -> int:
    if typed.topology is None:
        raise UsageError("say what to trace", hint="sudo skbtrace --topology docker0")
    if typed.json and typed.write == "-":
        raise UsageError("--json and -w - both write to standard output", hint="use one of them")
    from tracer.cli.load import Load
    from tracer.cli.signals import ending_signals
    from tracer.kernel.host import require

    rotation = _rotation(typed)
    judging = _judging(typed)
    asked = _asked(typed, words)  # what is wrong is said before anything is built
    require()
    with ExitStack() as stack, ending_signals() as signals:
        writers = _writers(stack, typed, rotation, lambda: run.so_far())  # noqa: PLW0108 (there is no run yet)
        found = find(stack, typed.topology, typed.notice)
        load = Load(command, found.built, to_stdout=typed.to_stdout)
        run = Run(typed, asked, found, load)
        # COMMAND has the terminal for itself: two programs cannot share a screen.
        on_screen = not (typed.no_ui or typed.to_stdout or typed.quiet or command)
        if on_screen and has_a_screen():
            run.on_screen([*writers, *judging], signals)
        else:
            run.as_lines([*writers, *judging, *_views(typed)], signals)
    if load.failure:
        say(load.failure)
    return UNEXPECTED if _broken(typed, judging) else load.status


def _asked(typed: Options, words: list[str]) -> Asked:
    from tracer.asked import Asked
    from tracer.filter import filter_of
    from tracer.limits import Limits
    from tracer.trigger import trigger_of

    return Asked(
        typed.layers,
        typed.changes,
        filter_of(words) if words else None,
        wanted_of(typed.direction, typed.mark, typed.process),
        Limits(typed.one_in or 1, typed.max_rate, typed.per_flow, typed.cpu_percent),
        trigger_of(typed.trigger),
        typed.snaplen,
    )


def _rotation(typed: Options) -> Rotation | None:
    """Check how the trace is written. Raises UsageError."""
    from tracer.export.packed import packing_of
    from tracer.export.rotation import rotation_of

    if typed.write is not None:
        packing_of(typed.write)
    if typed.rotate is None:
        return None
    if typed.write in {None, "-"}:
        raise UsageError(
            "--out-rotate writes files: say how they are called",
            hint=f"-w trace.json --out-rotate {printable(typed.rotate)}",
        )
    return rotation_of(typed.rotate)


def _writers(
    stack: ExitStack, typed: Options, rotation: Rotation | None, so_far: Callable[[], Summary]
) -> list[Sink]:
    from tracer.export.output import open_trace
    from tracer.export.rotated_writer import RotatedWriter
    from tracer.export.trace_writer import TraceWriter

    sinks: list[Sink] = []
    for path in (typed.write, "-" if typed.json else None):
        if path is not None and path != "-" and rotation is not None:
            rotated = RotatedWriter(path, rotation, so_far, force=typed.force)
            sinks.append(stack.enter_context(rotated))
        elif path is not None:
            stream = stack.enter_context(closing(open_trace(path, force=typed.force)))
            sinks.append(TraceWriter(stream, "standard output" if path == "-" else path))
    return sinks


def _judging(typed: Options) -> list[Judging]:
    """Return what holds journeys against promises, if any are to be kept."""
    if typed.expect is None:
        return []
    from tracer.cli.judging import Judging
    from tracer.promise_file import promises_in

    return [Judging(promises_in(typed.expect))]


def _broken(typed: Options, judging: list[Judging]) -> bool:
    """Tell what became of the promises; say whether one is broken."""
    from tracer.cli.judging import tell, tell_losses

    broken = False
    for each in judging:
        verdicts = each.verdicts
        broken = not all(verdict.kept for verdict in verdicts)
        if broken or not typed.quiet:
            stream = sys.stderr if typed.to_stdout else sys.stdout
            tell(verdicts, stream, color=typed.color, ascii_only=typed.ascii_only)
            tell_losses(each.summary)
    return broken


def _views(typed: Options) -> list[Sink]:
    from tracer.topology.names import path_of
    from tracer.view.line_view import LineView

    views: list[Sink] = []
    if typed.quiet:
        return views
    if not typed.to_stdout:
        colored = options.is_colored(typed.color, sys.stdout)
        views.append(LineView(sys.stdout, color=colored, ascii=typed.ascii_only, path_of=path_of))
    views.append(Notices(color=options.is_colored(typed.color, sys.stderr)))
    return views
