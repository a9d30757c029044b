# SPDX-License-Identifier: GPL-2.0-only
"""From a good trace to the promises it keeps: what speaks to what, and by which path.

Journeys in, text of a TOML file out. Only what went well is learned, and of a group of journeys
only the path that all of them took. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tracer.model import Journey, Outcome
from tracer.promise import GOOD
from tracer.statistics import Path, path_of
from tracer.tally import FlowKey, flow_key

_MOST = 500


class Kind(NamedTuple):
    """Journeys that should go alike."""

    origin: str
    target: str
    filter: str


class _Learned:
    def __init__(self) -> None:
        self.journeys = 0
        self.paths: set[Path] = set()
        self.outcomes: set[Outcome] = set()


def learned(journeys: Iterable[Journey]) -> str:
    """Return a file of promises that these journeys keep."""
    kinds: dict[Kind, _Learned] = {}
    for journey in journeys:
        kind = _kind(journey)
        if kind is None or (kind not in kinds and len(kinds) >= _MOST):
            continue
        known = kinds.setdefault(kind, _Learned())
        known.journeys += 1
        known.paths.add(path_of(journey))
        known.outcomes.add(journey.outcome)
    head = "# What a trace has shown. Take out what need not be so; skbtrace expect TRACE SPEC\n"
    return head + "".join(f"\n{table}" for table in _tables(kinds))


def _tables(kinds: dict[Kind, _Learned]) -> Iterator[str]:
    for kind, known in sorted(kinds.items(), key=lambda item: -item[1].journeys):
        name = f"{kind.filter}, {kind.origin} to {kind.target}"
        lines = ["[[promise]]", f"name = {_quoted(name)}"]
        lines += [f"from = {_quoted(kind.origin)}", f"to = {_quoted(kind.target)}"]
        lines.append(f"filter = {_quoted(kind.filter)}")
        if len(known.paths) == 1:
            (path,) = known.paths
            lines.append(f"path = {_list(path)}")
        lines.append(f"outcome = {_list(sorted(known.outcomes))}")
        yield "\n".join(lines) + "\n"


def _kind(journey: Journey) -> Kind | None:
    if journey.parent is not None or journey.outcome not in GOOD or journey.frame is None:
        return None
    path = path_of(journey)
    words = _filter(flow_key(journey))
    if not path or words is None:
        return None
    origin, target = (place.partition("/")[0] for place in (path[0], path[-1]))
    for hop in journey.hops:
        if hop.socket is not None and journey.outcome is Outcome.DELIVERED:
            target = hop.socket.netns.name
    return Kind(origin, target, words)


def _filter(flow: FlowKey) -> str | None:
    """Return the expression that accepts what is like that flow."""
    ports = [port for port in (flow.sport, flow.dport) if port is not None and port < 1 << 16]
    if flow.proto in {"tcp", "udp"} and len(ports) == 2:
        # A client takes another port each time; the service's is the lower one.
        if ports[1] <= ports[0]:
            return f"{flow.proto} dst port {ports[1]}"
        return f"{flow.proto} src port {ports[0]}"
    if flow.proto == "icmp" and isinstance(flow.kind, int) and flow.kind < 1 << 8:
        return f"icmp[0] == {flow.kind}"
    if flow.proto == "arp":
        return {"request": "arp[6:2] == 1", "reply": "arp[6:2] == 2"}.get(str(flow.kind), "arp")
    return None


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    """Return a text as TOML writes it: as JSON does, but for what JSON says by two escapes."""
    return json.dumps(text, ensure_ascii=False)
