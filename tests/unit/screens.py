# SPDX-License-Identifier: GPL-2.0-only
"""A journal with journeys of all kinds, and screens of it, for tests."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.journeys import ALL, CAPTURE, CLONE, REPLY, SUMMARY
from tests.unit.topologies import DOCKER
from tracer.journal import Journal
from tracer.model import Branch, Health, Journey
from tracer.view.line import text_of, width_of
from tracer.view.look import Look, names_of
from tracer.view.screen.browser import Browser
from tracer.view.screen.panes import Now, Screen

TOPOLOGY = CAPTURE.topology or DOCKER
SEEN = replace(CAPTURE, topology=TOPOLOGY)
NOW = Now(elapsed_s=42.4, rate=311.6)
STEP_NS = 1_700_000


def journeys(rounds: int = 3) -> list[Journey]:
    """Every kind of journey, some times over, each later than the one before."""
    found: list[Journey] = []
    for number in range(rounds):
        for journey in ALL.values():
            at = SEEN.monotonic_ns + STEP_NS * len(found)
            journey_id = journey.id if not number else f"{number}0{journey.id}"
            found.append(journey._replace(id=journey_id, start_ns=at))
    # The clone of the reply leaves it where it was made.
    return [j._replace(branches=(Branch(CLONE.id, 12),)) if j.id == REPLY.id else j for j in found]


def filled(journal: Journal | None = None, *, ended: bool = False) -> Journal:
    """A journal with these journeys."""
    journal = journal or Journal()
    journal.begin(SEEN)
    journal.journeys(journeys())
    lost = {"ring_full": 0, "probe_missed": 3}
    journal.health = Health(lost=lost, ring=0.12, waiting=900, filled=0.007)
    if ended:
        journal.end(SUMMARY)
    return journal


def look(*, ascii: bool = False) -> Look:
    """With the names of the topology."""
    return Look(ascii, capture=SEEN, names=names_of(TOPOLOGY))


def screen(journal: Journal, browser: Browser, *, live: bool = True, ascii: bool = False) -> Screen:
    """A screen of them."""
    return Screen("docker0", journal, browser, look(ascii=ascii), live=live)


def text(drawn: Screen, width: int, height: int, now: Now = NOW) -> str:
    """What is on it; what is lit otherwise has a sign at its end."""
    signs = {"": "", "bar": "", "chosen": "<", "beside": "-"}
    lines = []
    for line, lit, _, beside in drawn.draw(width, height, now):
        shown = (text_of(line).ljust(width - width_of(beside)) + text_of(beside)).rstrip()
        lines.append(shown + " " * (width - len(shown)) + signs[lit] if signs[lit] else shown)
    return "\n".join(lines) + "\n"
