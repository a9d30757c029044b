# SPDX-License-Identifier: GPL-2.0-only
"""Promises from a TOML file, or what one would hold. What it does not know it refuses."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from tracer.duration import nanoseconds
from tracer.errors import SkbtraceError, UsageError
from tracer.filter import filter_of
from tracer.model import Outcome
from tracer.probes import PROBES
from tracer.promise import GOOD, REWRITTEN, Promise
from tracer.text import printable

_FUNCTIONS = frozenset(probe.function for probe in PROBES)
_KEYS = (
    *("name", "from", "to", "filter", "at_least", "at_most", "path", "passes", "avoids"),
    *("outcome", "nat", "within", "p99"),
)


def promises_in(path: str) -> list[Promise]:
    """Return the promises of a file. Raises SkbtraceError, one sentence."""
    name = printable(path)
    try:
        members = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError):
            raise SkbtraceError(
                f"cannot read {name}: {error.strerror}",
                hint="skbtrace expect --learn TRACE SPEC   # writes one",
            ) from error
        raise UsageError(f"{name} is not TOML: {printable(str(error))}") from error
    try:
        return promises_of(members)
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", hint=error.hint) from error


def promises_of(members: Mapping[str, object]) -> list[Promise]:
    """Return the promises of a file's ``[[promise]]`` tables. Raises UsageError, one sentence."""
    tables = members.get("promise")
    unknown = sorted(set(members) - {"promise"})
    if unknown:
        raise UsageError(f"there is no {printable(unknown[0])} in a file of promises")
    if not isinstance(tables, list) or not tables:
        raise UsageError("there is no promise in it", hint="skbtrace expect --learn TRACE SPEC")
    return [_promise(number, table) for number, table in enumerate(tables, start=1)]


def _promise(number: int, table: object) -> Promise:
    if not isinstance(table, dict):
        raise UsageError(f"promise {number} is no table: write [[promise]] above it")
    name = _text(table, "name", f"promise {number}") or f"promise {number}"
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise UsageError(
            f"{name}: there is no {printable(unknown[0])} (there are: {', '.join(_KEYS)})"
        )
    nat = table.get("nat", {})
    if not isinstance(nat, dict) or not set(nat) <= set(REWRITTEN):
        raise UsageError(
            f'{name}: nat is a table of {", ".join(REWRITTEN)}: nat = {{ src = "..." }}'
        )
    words = _text(table, "filter", name)
    return Promise(
        name=name,
        origin=_text(table, "from", name),
        target=_text(table, "to", name),
        filter=None if words is None else filter_of(words.split()),
        at_least=_count(table, "at_least", name, 1),
        at_most=None if "at_most" not in table else _count(table, "at_most", name, 0),
        path=_texts(table, "path", name),
        passes=_places(table, "passes", name),
        avoids=_places(table, "avoids", name),
        outcomes=_outcomes(table, name),
        rewrites={key: str(value) for key, value in nat.items()},
        within_ns=_duration(table, "within", name),
        p99_ns=_duration(table, "p99", name),
    )


def _text(table: Mapping[str, object], key: str, name: str) -> str | None:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name}: {key} is a text")
    return None if value is None else printable(value)


def _texts(table: Mapping[str, object], key: str, name: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"{name}: {key} is a list of texts")
    return tuple(printable(each) for each in value)


def _places(table: Mapping[str, object], key: str, name: str) -> tuple[str, ...]:
    found = _texts(table, key, name)
    for each in found:
        if "/" not in each and each not in _FUNCTIONS:
            raise UsageError(
                f"{name}: {key}: {each} is neither a function that is probed nor netns/ifname",
                hint="skbtrace probes",
            )
    return found


def _count(table: Mapping[str, object], key: str, name: str, default: int) -> int:
    value = table.get(key, default)
    if value.__class__ is not int or value < 0:
        raise UsageError(f"{name}: {key} is a whole number")
    return value


def _outcomes(table: Mapping[str, object], name: str) -> frozenset[Outcome]:
    found = _texts(table, "outcome", name)
    for each in found:
        if each not in {*Outcome}:
            raise UsageError(
                f"{name}: there is no outcome {each} (there are: {', '.join(Outcome)})"
            )
    return frozenset(map(Outcome, found)) or GOOD


def _duration(table: Mapping[str, object], key: str, name: str) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    found = nanoseconds(value) if isinstance(value, str) else None
    if found is None:
        raise UsageError(f'{name}: {key} is a time: {key} = "500us"')
    return found
