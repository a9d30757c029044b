# SPDX-License-Identifier: GPL-2.0-only
"""Topologies as a graph for Graphviz: a cluster for each namespace, a node for each device.

Pure: topologies in, lines of the DOT language out. Several become one graph, in which what they
have in common stands once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracer.bridge import is_forwarding, nat, state_words, ways
from tracer.model import Device, Netns, Topology

_TO = "→"


def graph(topologies: Sequence[Topology]) -> Iterator[str]:
    """Give the lines of one graph."""
    name = ", ".join(topology.name for topology in topologies)
    yield f"graph {_quoted(name)} {{"
    yield "  rankdir=LR;"
    yield "  node [shape=box];"
    labels: dict[Device, list[str]] = {}
    edges: dict[str, None] = {}
    notes: dict[Netns, list[str]] = {}
    for topology in topologies:
        for device, words in _labels(topology):
            known = labels.setdefault(device, [])
            known += [word for word in words if word not in known]
        edges |= dict.fromkeys(_edges(topology))
        if topology.bridge is not None and not topology.uplinks:
            said = notes.setdefault(topology.bridge.netns, [])
            said += [line for line in nat(topology, _TO) if line not in said]
        if topology.bridge is not None and not is_forwarding(topology):
            said = notes.setdefault(topology.bridge.netns, [])
            said += [line for line in ("IPv4 is not forwarded",) if line not in said]
    for netns in dict.fromkeys(device.netns for device in labels):
        yield f"  subgraph {_quoted(f'cluster_{netns.inum}_{netns.name}')} {{"
        yield f"    label={_quoted(netns.name)};"
        for device, words in labels.items():
            if device.netns == netns:
                yield f"    {_node(device)} [label={_quoted(device.ifname, *words)}];"
        if notes.get(netns):
            node = _quoted(f"note {netns.inum} {netns.name}")
            yield f"    {node} [shape=note, label={_quoted(*notes[netns])}];"
        yield "  }"
    for edge in edges:
        yield f"  {edge};"
    yield "}"


def _labels(topology: Topology) -> Iterator[tuple[Device, list[str]]]:
    states = {port.device: port for port in topology.states}
    for device in dict.fromkeys((*topology.own, *topology.uplinks)):
        addresses = [address for at, address in topology.addresses if at == device]
        is_down = device in topology.down
        yield device, [*addresses, *state_words(states.get(device), is_down=is_down)]


def _edges(topology: Topology) -> Iterator[str]:
    if topology.bridge is not None:
        for port in topology.ports:
            yield f"{_node(topology.bridge)} -- {_node(port)}"
    for one, other in topology.pairs:
        yield f"{_node(one)} -- {_node(other)} [style=bold]"
    rewritten = list(nat(topology, _TO))
    for device, way in ways(topology).items():
        out = _quoted(f"way {device.netns.inum} {device.ifindex}")
        yield f"{out} [shape=plaintext, label={_quoted(way)}]"
        label = f" [label={_quoted(*rewritten)}]" if rewritten else ""
        yield f"{_node(device)} -- {out}{label}"
    for uplink in topology.uplinks:
        if topology.bridge is not None:
            yield f"{_node(topology.bridge)} -- {_node(uplink)} [style=dotted]"


def _node(device: Device) -> str:
    return _quoted(f"{device.netns.inum} {device.netns.name}/{device.ifindex} {device.ifname}")


def _quoted(*lines: str) -> str:
    r"""Lines as one string of DOT. A backslash in a name is one, not the sign before ``\n``."""
    return '"' + "\\n".join(_escaped(line) for line in lines) + '"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
