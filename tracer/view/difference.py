# SPDX-License-Identifier: GPL-2.0-only
"""What is different between two captures, as lines.

Pure: differences in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracer.difference import ALPHA, LEAST, Differences, Parting, SlowerStep
from tracer.duration import short
from tracer.view.counts import Counts, Row, flow_text, table
from tracer.view.line import Line, Span, fill
from tracer.view.look import Look

_ONLY = ("only in A", "only in B")


def report(found: Differences, width: int, look: Look, *, most: int) -> Iterator[Line]:
    """Give the report's lines; ``most`` of each kind of difference."""
    judged = f"{found.judged} steps compared, those with at least {LEAST} times on each side; "
    judged += f"Mann and Whitney, Holm's correction, {ALPHA:.0%} for all together"
    yield from fill([(word, "dim") for word in judged.split()], width, look.signs.cut)
    if not found:
        yield (("no difference found", "good"),)
        return
    if found.steps:
        yield ()
        yield ((f"steps that take another time: {len(found.steps)}", "flow"),)
        yield from table(_steps(found.steps[:most], look), width, look)
    if found.drops:
        yield ()
        yield (("drops", "flow"),)
        for place, here, there in found.drops[:most]:
            device = place.device
            where = "-" if device is None else device.place
            why = f"{place.reason or 'no reason given'} in {place.function or '?'} at {where}"
            yield from _only(why, here, there, width, look)
    if found.paths:
        yield ()
        yield (("paths", "flow"),)
        for path, here, there in found.paths[:most]:
            yield from _only(f" {look.signs.to} ".join(path) or "-", here, there, width, look)
    if found.partings:
        yield ()
        yield (("flows that usually go another way", "flow"),)
        for parting in found.partings[:most]:
            yield from _parting(parting, width, look)


def _steps(steps: tuple[SlowerStep, ...], look: Look) -> Counts:
    rows = []
    for found in steps:
        step, device = found.placed
        before, now = found.medians_ns
        times = f"{now / before:.2f}" if before else "-"
        style = "dropped" if found.slower else "good"
        rows.append(
            Row(
                found.placed,
                (
                    (look.name(f"{step.function} {look.signs.across} {step.following}"), ""),
                    look.place(device),
                    ("slower" if found.slower else "faster", style),
                    (short(before), ""),
                    (short(now), ""),
                    (times, style),
                    (f"{found.probability:.2f}", "dim"),
                    (f"{found.p_value:.0e}" if found.p_value else "0", "dim"),
                    (f"{found.counts[0]}, {found.counts[1]}", "dim"),
                ),
            )
        )
    headings = ("step", "at", "B is", "p50 A", "p50 B", "times", "P(B>A)", "p", "samples")
    return Counts(headings, tuple(rows), (8, 7, 6), 36, frozenset(range(3, 9)))


def _only(what: str, here: int, there: int, width: int, look: Look) -> Iterator[Line]:
    side = _ONLY[1 if there else 0]
    count = here + there
    words: list[Span] = [(f"{side}, {count} journey{'' if count == 1 else 's'}:", "change")]
    words += [(word, "") for word in look.name(what).split()]
    yield from fill(words, width, look.signs.cut)


def _parting(parting: Parting, width: int, look: Look) -> Iterator[Line]:
    said: list[Span] = [(look.name(flow_text(parting.flow, look)) + ":", "flow")]
    if parting.after is None:
        text = "other from the first hop on;"
    else:
        text = f"the same as far as {' '.join(parting.after)};"
    for side, hop in zip("AB", parting.goes_on, strict=True):
        text += f" {side} " + ("ends there" if hop is None else f"goes on with {' '.join(hop)}")
        text += "," if side == "A" else "."
    said += [(word, "") for word in look.name(text).split()]
    yield from fill(said, width, look.signs.cut)
