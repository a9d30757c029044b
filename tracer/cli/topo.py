# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace topo``: draw a bridge or a lab and what hangs on it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from tracer.cli import options
from tracer.errors import TopologyError

if TYPE_CHECKING:
    from tracer.model import Topology

_EXAMPLES = """\b
Examples:
  sudo skbtrace topo                    every bridge of this host
  sudo skbtrace topo docker0
  sudo skbtrace topo nat                a lab that stands
  sudo skbtrace topo docker0 --json | jq '.pairs[].other'
"""


@click.command(epilog=_EXAMPLES)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each, as in a trace.")
@options.color
@options.ascii_only
def topo(name: str | None, as_json: bool, color: str, ascii_only: bool) -> None:
    """Draw the bridge or lab NAME: namespaces, devices, addresses, who is joined with whom.

    Without NAME, every bridge of this host.
    """
    from tracer.view.line_view import speaks_unicode, terminal_width, write_lines
    from tracer.view.look import Look
    from tracer.view.topo import drawing

    found = _found(name)
    look = Look(ascii_only or not speaks_unicode(sys.stdout))
    for number, topology in enumerate(found):
        if as_json:
            from tracer.export.trace_writer import topology_members

            click.echo(json.dumps(topology_members(topology)))
            continue
        if number:
            click.echo()
        width = terminal_width(sys.stdout)
        write_lines(
            sys.stdout,
            drawing(topology, look, width),
            color=options.is_colored(color, sys.stdout),
        )


def _found(name: str | None) -> list[Topology]:
    from tracer.topology import discover
    from tracer.topology.names import Names
    from tracer.topology.spec import LABS

    names = Names()
    bridges = discover.bridges()
    if name is None:
        if not bridges:
            raise TopologyError(
                "there is no bridge on this host", hint="sudo skbtrace lab up   # builds one"
            )
        return [discover.discover(each, names) for each in bridges]
    lab = LABS.get(name)
    if lab is not None and name not in bridges and not lab.on_host:
        return [discover.discover_lab(lab, names)]
    return [discover.discover(name, names)]
