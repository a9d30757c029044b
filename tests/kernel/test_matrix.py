# SPDX-License-Identifier: GPL-2.0-only
"""The verifier accepts every combination: each pair of choices is loaded for real at least once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import pytest

from tracer.asked import Asked
from tracer.filter import filter_of
from tracer.kernel.source import KernelSource
from tracer.limits import EVERYTHING, Limits
from tracer.model import Layer, Outcome
from tracer.probes import DEFAULT_LAYERS
from tracer.trigger import Trigger
from tracer.wanted import ANYTHING, Mark, Wanted
from tracer.wire import SNAPLEN_MAX

pytestmark = pytest.mark.kernel

LONG = " or ".join(f"(host 10.0.{n}.1 and tcp port {1000 + n})" for n in range(24))
CHOICES: dict[str, dict[str, Any]] = {
    "layers": {
        "none": (),
        "default": DEFAULT_LAYERS,
        "all": frozenset(Layer),
        **{layer.value: (layer,) for layer in Layer},
    },
    "changes": {"yes": True, "no": False},
    "filter": {
        "none": None,
        "ports": filter_of(["tcp", "port", "80"]),
        "addresses": filter_of(["ether", "src", "02:42:ac:11:00:02"]),
        "indexed": filter_of(["tcp[tcpflags] & tcp-syn != 0 and ip[2:2] % 7 = 0"]),
        "long": filter_of(LONG.split()),
    },
    "wanted": {
        "anything": ANYTHING,
        "mark": Wanted(Mark(16, 240)),
        "process": Wanted(pid=1),
        "all": Wanted(Mark(1), None, b"ping", "out"),
        "in": Wanted(direction="in"),
    },
    "limits": {
        "none": EVERYTHING,
        "sample": Limits(8),
        "rate": Limits(max_rate=100),
        "all": Limits(8, 100, 10, 50),
        "flow": Limits(per_flow=10),
    },
    "trigger": {
        "none": None,
        "drop": Trigger(frozenset({Outcome.DROPPED})),
        "slow": Trigger(slower_ns=1000),
        "both": Trigger(frozenset({Outcome.DROPPED}), 1000),
    },
    "scope": {"host": None, "devices": {}},
    "snaplen": {"headers": None, "some": 60, "most": SNAPLEN_MAX},
}

Row = dict[str, str]


def pairs(row: Row) -> set[tuple[tuple[str, str], ...]]:
    """Each two choices of a row."""
    return set(combinations(sorted(row.items()), 2))


def matrix() -> Iterator[Row]:
    """Rows that have each two choices together at least once; there are fewer that do, maybe."""
    left = {
        tuple(sorted(((a, x), (b, y))))
        for a, b in combinations(CHOICES, 2)
        for x, y in product(CHOICES[a], CHOICES[b])
    }
    while left:
        row = dict(min(left))
        for name, values in CHOICES.items():
            if name not in row:
                row[name] = max(values, key=lambda v: (len(pairs(row | {name: v}) & left), v))
        left -= pairs(row)
        yield row


ROWS = list(matrix())
EVERYTHING_ON = {
    "layers": "all",
    "changes": "yes",
    "filter": "long",
    "wanted": "all",
    "limits": "all",
    "trigger": "both",
    "scope": "devices",
    "snaplen": "most",
}


def test_every_two_choices_are_in_the_matrix_together() -> None:
    there = set().union(*map(pairs, ROWS))
    for a, b in combinations(sorted(CHOICES), 2):
        assert {(x[1], y[1]) for x, y in there if (x[0], y[0]) == (a, b)} == set(
            product(CHOICES[a], CHOICES[b])
        )


@pytest.mark.parametrize(
    "row",
    [EVERYTHING_ON, *(pytest.param(row, marks=pytest.mark.slow) for row in ROWS)],
    ids=lambda row: " ".join(row.values()),
)
def test_the_kernel_takes_it(row: Row) -> None:
    chosen = {name: CHOICES[name][value] for name, value in row.items()}
    traced = KernelSource(chosen.pop("scope"), Asked(**chosen))
    try:
        places = traced.start()
    finally:
        traced.close()
    assert not [place for place in places if place.symbol is None]
