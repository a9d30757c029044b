# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace lab``: the topology builder on its own."""

from __future__ import annotations

import click

from tracer.errors import UsageError
from tracer.text import printable
from tracer.topology import build, state
from tracer.topology.spec import HOST, LABS, PREFIX, Interface, Lab
from tracer.topology.state import State, Status

_EXAMPLES = """\b
Examples:
  sudo skbtrace lab up                 build docker0 and its two containers
  sudo skbtrace --topology docker0     trace it
  sudo ip netns exec skbtrace-c1 ping 172.17.0.3
  sudo skbtrace lab down               remove all of it
  skbtrace lab list                    which labs there are
"""

_MOST_LINES = 7
"""Of a lab's devices, when it is built."""

_name = click.argument("name", metavar="[NAME]", default="docker0")


@click.group(epilog=_EXAMPLES)
def lab() -> None:
    """Build a network to look at, and take it down again.

    A lab is a network of namespaces, veth pairs, bridges and firewall rules. It touches nothing
    that skbtrace did not make. `skbtrace --topology NAME` builds one by itself where it does not
    stand; with these commands it stays until you take it down.
    """


@lab.command(epilog="Example: sudo skbtrace lab up docker0")
@_name
def up(name: str) -> None:
    """Build the lab NAME (default docker0). It stays until `lab down`."""
    lab = _lab(name)
    built = build.up(lab)
    click.echo(f"the lab {lab.name} stands{'' if built else ' already'}: {lab.text}")
    for line in _folded(_devices(state.as_called(lab))):
        click.echo(f"  {line}")
    for what, command in _commands(lab):
        click.echo(f"{what + ':':<19} sudo {command}")


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
    click.echo(_sentence(lab, state.status(lab)))


@lab.command(name="list", epilog="Example: skbtrace lab list")
def list_() -> None:
    """List the labs there are and whether they stand. Needs no root."""
    rows = [(each.name, state.status(each).state, each.text) for each in LABS.values()]
    wide, wider = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, now, text in rows:
        click.echo(f"{name:<{wide}}  {now:<{wider}}  {text}")


def _lab(name: str) -> Lab:
    if name not in LABS:
        raise UsageError(
            f"there is no lab {printable(name)} (there are: {', '.join(LABS)})",
            hint="skbtrace lab list",
        )
    return LABS[name]


def _devices(lab: Lab) -> list[str]:
    """A line for each device that has an address, and one for what the lab publishes."""
    ports = {end: port for port, end in lab.pairs if port.is_port}
    lines = [_device(each, ports.get(each)) for each in lab.interfaces if each.address is not None]
    if lab.published is not None:
        there = lab.published
        lines.append(
            f"published  {there.ip}:{there.port}  port {there.server_port} of {there.server.at}"
        )
    return lines


def _folded(lines: list[str]) -> list[str]:
    """Of many lines, which are much alike, the first and the last."""
    if len(lines) <= _MOST_LINES:
        return lines
    first = lines[: _MOST_LINES - 2]
    return [*first, f"... {len(lines) - len(first) - 1} more", lines[-1]]


def _device(interface: Interface, port: Interface | None) -> str:
    if interface.at == HOST:
        return f"{interface.ifname}  {interface.address}"
    line = f"{interface.at}  {interface.address}  {interface.ifname} in {interface.netns}"
    return f"{line}, {port.ifname} on the bridge" if port is not None else line


def _commands(lab: Lab) -> list[tuple[str, str]]:
    """What to type next, and what it does."""
    commands = [
        ("trace it", f"skbtrace --topology {lab.name}"),
        ("draw it", f"skbtrace topo {lab.name}"),
        ("send something", f"ip netns exec {lab.client.netns} ping {lab.server.ip}"),
    ]
    published = lab.published
    if published is not None:
        inner, outer = published.server.netns, published.caller.netns
        serve = f"ip netns exec {inner} python3 -m http.server {published.server_port}"
        fetch = f"ip netns exec {outer} curl http://{published.ip}:{published.port}/"
        commands += [("serve something", serve), ("fetch it", fetch)]
    if lab.router is not None:
        where = "" if lab.router.at == HOST else f"ip netns exec {PREFIX}{lab.router.at} "
        commands.append(("see the rules", f"{where}nft list table ip {lab.router.table}"))
    return [*commands, ("take it down again", f"skbtrace lab down {lab.name}")]


def _sentence(lab: Lab, now: Status) -> str:
    if now.state is State.FOREIGN:
        return f"{lab.name}: foreign: a {lab.name} exists that skbtrace did not make"
    if now.state is State.LEFT_BEHIND:
        return f"{lab.name}: left behind by a killed skbtrace; the next start removes it"
    sentence = f"{lab.name}: {now.state}"
    if now.missing and now.state is State.BROKEN:
        sentence += f", missing {', '.join(now.missing)}"
    if now.owner is not None:
        sentence += f", kept by a running skbtrace (pid {now.owner})"
    return sentence
