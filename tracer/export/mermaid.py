# SPDX-License-Identifier: GPL-2.0-only
"""A sequence diagram of a journey, in Mermaid's language: for a page of Markdown, or a ticket.

A participant is a device, in a box for its namespace; an arrow is the way to the next one, a note
what was done there. Everything but letters, digits and a few signs is written as an entity, so no
name can be taken for a word of the language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tracer.duration import words
from tracer.export.formats import Exported
from tracer.export.stays import Stay, stays
from tracer.model import Device, Journey, Outcome
from tracer.words import change_words, ending, flow_words, verdict_words

_PLAIN = re.compile(r"[^A-Za-z0-9 ._/>-]|->|--")
_NOTES_MOST = 12
"""Functions in a note; of more the middle is left out."""


def mermaid(trace: Exported) -> Iterator[bytes]:
    """Give the diagram of each journey, one after the other."""
    for journey in trace:
        yield ("\n".join(_diagram(journey)) + "\n").encode()


def _diagram(journey: Journey) -> Iterator[str]:
    yield "sequenceDiagram"
    yield f"  title {_text(f'#{journey.id} ' + ' '.join(flow_words(journey.flow)))}"
    parts = stays(journey)
    names: dict[Device | None, str] = {}
    boxes: dict[str, list[Device | None]] = {}
    for stay in parts:
        if stay.device not in names:
            names[stay.device] = f"d{len(names)}"
            netns = "no namespace" if stay.device is None else stay.device.netns.name
            boxes.setdefault(netns, []).append(stay.device)
    for netns, devices in boxes.items():
        # Without a colour a first word that is one's name would be taken for it.
        yield f"  box transparent {_text(netns)}"
        for device in devices:
            ifname = "no device" if device is None else device.ifname
            yield f"    participant {names[device]} as {_text(ifname)}"
        yield "  end"
    for number, stay in enumerate(parts):
        name = names[stay.device]
        if number:
            before = names[parts[number - 1].device]
            yield f"  {before}->>{name}: {_text(f'{words(stay.start_ns)}')}"
        yield f"  Note over {name}: {'<br/>'.join(map(_text, _note(journey, stay)))}"
    if parts:
        name = names[parts[-1].device]
        arrow = "--x" if journey.outcome is Outcome.DROPPED else "->>"
        end = f"{ending(journey)} after {words(journey.duration_ns)}"
        yield f"  {name}{arrow}{name}: {_text(end)}"


def _note(journey: Journey, stay: Stay) -> list[str]:
    said: list[str] = []
    for hop in journey.hops[stay.first : stay.end]:
        what = hop.function
        if hop.verdict is not None:
            what += f" {verdict_words(hop.verdict)[1]}"
        said.append(what)
        said += [" ".join(change_words(c, "to")) for c in hop.changes]
    if len(said) > _NOTES_MOST:
        half = _NOTES_MOST // 2
        left_out = len(said) - 2 * half
        said[half:-half] = [f"... {left_out} more"]
    return said


def _text(text: str) -> str:
    return _PLAIN.sub(lambda found: "".join(f"#{ord(c)};" for c in found[0]), text)
