# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace probes``: list the kernel functions skbtrace looks at, from PROBES."""

from __future__ import annotations

import sys

import click

from tracer.probes import DEFAULT_LAYERS, LAYERS, PROBES, Attach, Probe, Skb

_SKB = {
    Skb.ARG1: "arg 1",
    Skb.ARG2: "arg 2",
    Skb.ARG3: "arg 3",
    Skb.ARG4: "arg 4",
    Skb.AT_ARG1: "*arg 1",
    Skb.NONE: "-",
}
_ON_DEMAND = [layer for layer in LAYERS if layer not in DEFAULT_LAYERS]
_NOT_ENTRY = {Attach.KRETPROBE: " return", Attach.RAW_TRACEPOINT: " tracepoint"}


@click.command(
    help=f"""List the kernel functions skbtrace probes, and what reaching each one means.

    The seven marked with * are those a packet meets between two containers; they and the layer
    skb are always probed, the other layers by --layers. Those marked with - are left out unless
    they are asked for ({", ".join(_ON_DEMAND)}). "skb" is where the function has its packet.
    """,
    epilog="Example: skbtrace probes | grep bridge",
)
def probes() -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tracer.view.line_view import terminal_width

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("function", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    table.add_column("skb", no_wrap=True)
    table.add_column("meaning")
    for probe in PROBES:
        style = "bold" if probe.mission else ""
        mark = "*" if probe.mission else "-" if probe.layer in _ON_DEMAND else ""
        row = (mark, _name(probe), probe.layer.value, _SKB[probe.skb], probe.text)
        table.add_row(*(Text(cell) for cell in row), style=style)
    console = Console(file=sys.stdout, width=terminal_width(sys.stdout), highlight=False)
    with console.capture() as text:
        console.print(table)
    for line in text.get().splitlines():
        click.echo(line.rstrip())


def _name(probe: Probe) -> str:
    return probe.function + _NOT_ENTRY.get(probe.attach, "")
