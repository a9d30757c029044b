# SPDX-License-Identifier: GPL-2.0-only
"""What became of promises, as lines, and as annotations of a CI system. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracer.model import Outcome
from tracer.promise import Breach, Verdict
from tracer.view.line import Line, Span, fill
from tracer.view.look import Look


def report(verdicts: Sequence[Verdict], width: int, look: Look) -> Iterator[Line]:
    """Give a line for each promise, and below a broken one what was expected and what was seen."""
    signs = look.signs.outcomes
    for verdict in verdicts:
        count = f"{verdict.journeys} journey{'' if verdict.journeys == 1 else 's'}"
        sign, style = (
            (signs[Outcome.DELIVERED], "good") if verdict.kept else (signs[Outcome.DROPPED], "bad")
        )
        head: list[Span] = [(f"{sign} {look.name(verdict.promise.name)}", style), (count, "dim")]
        yield from fill(head, width, look.signs.cut)
        for breach in verdict.breaches:
            for label, text in _words(breach):
                words: list[Span] = [(f"{label:8}", "heading")]
                words += [(word, "") for word in look.name(text).split()]
                for line in fill(words, width - 2, look.signs.cut, indent=9):
                    yield (("  ", ""), *line)
    broken = sum(not verdict.kept for verdict in verdicts)
    if broken:
        yield ((f"{broken} of {len(verdicts)} promises broken", "bad"),)
    else:
        yield ((f"all {len(verdicts)} promises kept", "good"),)


def in_words(breach: Breach) -> str:
    """Return a breach as one text of some lines."""
    return "\n".join(f"{label}: {text}" for label, text in _words(breach))


def github(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Give a line for each breach that GitHub shows as an error of the run."""
    for verdict in verdicts:
        for breach in verdict.breaches:
            title = _escaped(verdict.promise.name).replace(":", "%3A").replace(",", "%2C")
            yield f"::error title={title}::{_escaped(in_words(breach))}"


def _words(breach: Breach) -> Iterator[tuple[str, str]]:
    yield "expected", breach.expected
    yield "seen", breach.seen
    if breach.at is not None:
        yield "at", breach.at
    if breach.journey is not None:
        more = f", and {breach.journeys - 1} more" if breach.journeys > 1 else ""
        yield "journey", f"#{breach.journey}{more}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
