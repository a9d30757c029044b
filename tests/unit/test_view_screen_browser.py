# SPDX-License-Identifier: GPL-2.0-only
"""What is chosen and listed, where some of it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.journeys import CAPTURE, REQUEST
from tests.unit.screens import look
from tracer.errors import TraceFileError
from tracer.export.opened import opened
from tracer.export.trace_index import TraceIndex
from tracer.export.trace_writer import TraceWriter
from tracer.model import Journey
from tracer.view.screen.browser import Browser, Wanted
from tracer.view.screen.panes import Now, Screen

WRONG = 3


def never() -> bool:
    return False


@pytest.fixture
def index(tmp_path: Path) -> Iterator[TraceIndex]:
    """A trace of eight journeys; one of them begins like one and is none."""
    path = tmp_path / "trace.json"
    with path.open("wb", buffering=0) as stream:
        writer = TraceWriter(stream, "x")
        writer.begin(CAPTURE)
        writer.journeys([REQUEST._replace(id=str(number)) for number in range(8)])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[WRONG + 1] = lines[WRONG + 1][:40] + b"\n"
    path.write_bytes(b"".join(lines))
    with opened(str(path)) as stream:
        index = TraceIndex(stream, "x")
        with pytest.raises(TraceFileError, match="has no footer"):
            index.scan()
        yield index


def shown(browser: Browser, index: TraceIndex) -> list[str]:
    made = Screen("x", index, browser, look(), live=False)
    return ["".join(text for text, _ in each.line) for each in made.draw(100, 30, Now())]


def test_what_cannot_be_read_is_gone_past_and_said_only_while_it_is_chosen(
    index: TraceIndex,
) -> None:
    browser = Browser(index, follow=False)
    browser.look(never)
    for _ in range(WRONG):
        assert not browser.failure
        browser.move(1)
    said = "x: line 5 is not JSON"
    assert (browser.chosen, browser.journey, browser.failure) == (WRONG, None, said)
    drawn = shown(browser, index)
    assert said in drawn[1]
    assert any(line.startswith("› (cannot be read)") for line in drawn)
    browser.move(1)
    assert (browser.chosen, browser.failure) == (WRONG + 1, "")
    shown(browser, index)  # its row is drawn again
    assert "JSON" not in shown(browser, index)[1]


def test_what_cannot_be_read_does_not_end_the_list(index: TraceIndex) -> None:
    def odd(journey: Journey) -> bool:
        return int(journey.id) % 2 == 1

    browser = Browser(index, follow=False)
    browser.want(Wanted(filter=odd, words="odd"))
    browser.look(never)
    assert browser.looked_at_all
    listing = browser.listing
    assert [listing.number(at) for at in range(len(listing))] == [1, 5, 7]
    assert "line 5 is not JSON" in browser.failure
    browser.move(0)
    browser.look(never)
    assert not browser.failure
    browser.failure = "x is cut off"
    browser.want(Wanted(drops=True))  # of what is listed then there is something to be said
    assert not browser.failure
