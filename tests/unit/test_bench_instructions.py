# SPDX-License-Identifier: GPL-2.0-only
"""How what was counted in instructions is told and judged."""

from __future__ import annotations

from tests.bench.instructions import BARE, MORE, rows

UNTRACED, OVER, BAR = 122.0, 183.0, "the seven, a filter that nothing passes"


def test_what_a_layer_adds_is_told_against_the_seven_without_one() -> None:
    layer = next(iter(MORE))
    found = rows({"untraced": UNTRACED, BARE: OVER, layer: OVER + 8})
    assert [row[2] for row in found] == [
        "15250 = 1.00 times untraced",
        "22875 = 1.50 times untraced",
        "23875 = 1.57 times untraced, 1000 more",
    ]


def test_a_bar_is_met_or_missed() -> None:
    assert [row[0] for row in rows({"untraced": UNTRACED, BAR: 1.65 * UNTRACED})] == [True, True]
    assert [row[0] for row in rows({"untraced": UNTRACED, BAR: 1.66 * UNTRACED})] == [True, False]
