# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace lab``: the topology builder on its own."""

from __future__ import annotations

import click

from tracer.errors import UsageError
from tracer.text import printable
from tracer.topology import build
from tracer.topology.build import State, Status
from tracer.topology.spec import LABS, Lab

_EXAMPLES = """\b
Examples:
  sudo skbtrace lab up                 build docker0 and its two containers
  sudo skbtrace --topology docker0     trace it
  sudo ip netns exec skbtrace-c1 ping 172.17.0.3
  sudo skbtrace lab down               remove all of it
"""

_name = click.argument("name", metavar="[NAME]", default="docker0")


@click.group(epilog=_EXAMPLES)
def lab() -> None:
    """Build a network to look at, and take it down again.

    A lab is a network of namespaces, veth pairs and a bridge as Docker makes it. It touches
    nothing that skbtrace did not make. `skbtrace --topology docker0` builds one by itself where
    there is no docker0; with these commands it stays until you take it down.
    """


@lab.command(epilog="Example: sudo skbtrace lab up docker0")
@_name
def up(name: str) -> None:
    """Build the lab NAME (default docker0). It stays until `lab down`."""
    lab = _lab(name)
    built = build.up(lab)
    click.echo(f"the lab {lab.name} stands{'' if built else ' already'}: {lab.text}")
    click.echo(f"  {lab.bridge.ifname}  {lab.bridge.address}")
    for container in lab.containers:
        click.echo(
            f"  {container.name}  {container.address}"
            f"  {container.ifname} in {container.netns}, {container.port} on the bridge"
        )
    click.echo(f"trace it:           sudo skbtrace --topology {lab.bridge.ifname}")
    click.echo(f"send something:     sudo ip netns exec {lab.client.netns} ping {lab.server.ip}")
    click.echo(f"take it down again: sudo skbtrace lab down {lab.name}")


@lab.command(epilog="Example: sudo skbtrace lab down docker0")
@_name
def down(name: str) -> None:
    """Remove the lab NAME (default docker0), whole or broken."""
    lab = _lab(name)
    there = build.down(lab)
    click.echo(f"the lab {lab.name} is down" if there else f"there was no lab {lab.name}")


@lab.command(epilog="Example: skbtrace lab status docker0")
@_name
def status(name: str) -> None:
    """Say whether the lab NAME (default docker0) stands. Needs no root."""
    lab = _lab(name)
    click.echo(_sentence(lab, build.status(lab)))


@lab.command(name="list", epilog="Example: skbtrace lab list")
def list_() -> None:
    """List the labs there are and whether they stand. Needs no root."""
    for each in LABS.values():
        click.echo(f"{each.name}  {build.status(each).state}  {each.text}")


def _lab(name: str) -> Lab:
    if name not in LABS:
        raise UsageError(
            f"there is no lab {printable(name)} (there are: {', '.join(LABS)})",
            hint="skbtrace lab list",
        )
    return LABS[name]


def _sentence(lab: Lab, now: Status) -> str:
    if now.state is State.FOREIGN:
        return f"{lab.name}: foreign: a {lab.bridge.ifname} exists that skbtrace did not make"
    if now.state is State.LEFT_BEHIND:
        return f"{lab.name}: left behind by a killed skbtrace; the next start removes it"
    sentence = f"{lab.name}: {now.state}"
    if now.missing and now.state is State.BROKEN:
        sentence += f", missing {', '.join(now.missing)}"
    if now.owner is not None:
        sentence += f", kept by a running skbtrace (pid {now.owner})"
    return sentence
