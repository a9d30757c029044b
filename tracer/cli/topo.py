# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace topo``: draw a bridge or a lab and what hangs on it."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from tracer.cli import options
from tracer.errors import PrerequisiteError, TopologyError, UsageError
from tracer.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.model import Topology

_EXAMPLES = """\b
Examples:
  sudo skbtrace topo                    every bridge of this host
  sudo skbtrace topo docker0
  sudo skbtrace topo nat                a lab that stands
  sudo skbtrace topo docker0 --json | jq '.pairs[].other'
  sudo skbtrace topo docker0 --dot | dot -Tsvg >docker0.svg
  sudo skbtrace topo --path web db:5432 the way a packet should take
"""


@click.command(epilog=_EXAMPLES)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each, as in a trace.")
@click.option("--dot", "as_dot", is_flag=True, help="A graph for Graphviz.")
@click.option(
    "--path",
    nargs=2,
    metavar="FROM TO",
    help="Tell the way of a packet from the namespace FROM to TO: a namespace or an address; with "
    ":PORT of TCP, or :PORT/udp; without, an echo request.",
)
@options.color
@options.ascii_only
def topo(
    name: str | None,
    *,
    as_json: bool,
    as_dot: bool,
    path: tuple[str, str] | None,
    color: str,
    ascii_only: bool,
) -> None:
    """Draw the bridge or lab NAME: namespaces, devices, addresses, who is joined with whom.

    Without NAME, or with auto, every bridge of this host; with --path, the first bridge or lab
    that has both.
    """
    if as_json and as_dot:
        raise UsageError("--json and --dot both say how it is printed", hint="use one of them")
    if as_dot and path is not None:
        raise UsageError("--dot draws everything, --path tells one way", hint="use one of them")
    if os.geteuid() != 0:
        raise PrerequisiteError(
            "looking into other network namespaces needs root",
            hint="sudo skbtrace topo" + (f" {printable(name)}" if name else ""),
        )
    if path is not None:
        _tell(path, name, as_json, color, ascii_only)
        return
    found = _found(name)
    if as_json:
        from tracer.export.trace_writer import topology_members

        for topology in found:
            click.echo(json.dumps(topology_members(topology)))
    elif as_dot:
        from tracer.view.dot import graph

        click.echo("\n".join(graph(found)))
    else:
        _draw(found, color, ascii_only)


def _draw(found: list[Topology], color: str, ascii_only: bool) -> None:
    from tracer.view.line_view import speaks_unicode, terminal_width, write_lines
    from tracer.view.look import Look
    from tracer.view.topo import drawing

    look = Look(ascii_only or not speaks_unicode(sys.stdout))
    for number, topology in enumerate(found):
        if number:
            click.echo()
        width = terminal_width(sys.stdout)
        write_lines(
            sys.stdout,
            drawing(topology, look, width),
            color=options.is_colored(color, sys.stdout),
        )


def _tell(
    path: tuple[str, str], name: str | None, as_json: bool, color: str, ascii_only: bool
) -> None:
    from tracer.cli.path import asked
    from tracer.topology.discover import AUTO
    from tracer.view.line_view import speaks_unicode, terminal_width, write_lines
    from tracer.view.look import Look
    from tracer.view.path import listing

    packet = asked(_each() if name in {None, AUTO} else _found(name), *path)
    if as_json:
        click.echo(json.dumps(packet.members()))
        return
    look = Look(ascii_only or not speaks_unicode(sys.stdout))
    lines = listing(packet.way, look, terminal_width(sys.stdout))
    write_lines(sys.stdout, lines, color=options.is_colored(color, sys.stdout))


def _found(name: str | None) -> list[Topology]:
    from tracer.topology import discover
    from tracer.topology.names import Names

    if name is None or name == discover.AUTO:
        bridges = discover.bridges()
        if not bridges:
            raise TopologyError(
                "there is no bridge on this host", hint="sudo skbtrace lab up   # builds one"
            )
        return [discover.discover(each, Names()) for each in bridges]
    lab = discover.lab_called(name)
    if lab is not None and not lab.on_host:
        return [discover.discover_lab(lab, Names())]
    return [discover.discover(name, Names())]


def _each() -> Iterator[Topology]:
    """Every bridge of this host and every lab that stands, one after the other."""
    from tracer.topology import discover
    from tracer.topology.names import Names
    from tracer.topology.spec import LABS
    from tracer.topology.state import State, status

    for bridge in discover.bridges():
        yield discover.discover(bridge, Names())
    for lab in LABS.values():
        if not lab.on_host and status(lab).state is State.STANDING:
            yield discover.discover_lab(lab, Names())
