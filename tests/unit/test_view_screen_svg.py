# SPDX-License-Identifier: GPL-2.0-only
"""Whole screens as pictures: what the golden texts cannot show is what a colour looks like.

``SKBTRACE_GOLDEN=write`` draws them anew; look at each in a browser before you keep it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.segment import Segment, Segments
from rich.terminal_theme import TerminalTheme

from tests.unit.golden import assert_golden
from tests.unit.journeys import DROPPED, NFT_DROPPED, REPLY, explained
from tests.unit.screens import NOW, filled, screen
from tracer.view.screen import pages
from tracer.view.screen.browser import Browser, Listed, Wanted
from tracer.view.screen.canvas import strip_of
from tracer.view.screen.field import Field
from tracer.view.screen.panes import Now, Screen

DARK = TerminalTheme(
    (24, 24, 24),
    (208, 208, 208),
    [
        *((0, 0, 0), (205, 60, 60), (60, 170, 60), (200, 160, 40)),
        *((80, 120, 220), (180, 90, 200), (60, 170, 180), (200, 200, 200)),
    ],
    [
        *((110, 110, 110), (255, 100, 100), (110, 220, 110), (255, 220, 100)),
        *((130, 170, 255), (230, 140, 250), (110, 230, 230), (255, 255, 255)),
    ],
)
LIGHT = TerminalTheme(
    (255, 255, 255),
    (36, 36, 36),
    [
        *((0, 0, 0), (180, 0, 0), (0, 120, 0), (150, 100, 0)),
        *((0, 50, 180), (140, 0, 140), (0, 120, 130), (170, 170, 170)),
    ],
    [
        *((90, 90, 90), (220, 40, 40), (0, 150, 0), (180, 130, 0)),
        *((40, 90, 230), (180, 40, 180), (0, 150, 160), (255, 255, 255)),
    ],
)
# A format of our own: the one of rich has a window around it and fonts from elsewhere.
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} {terminal_height}">
<style>
text {{ font: {char_height}px monospace; white-space: pre }}
{styles}
</style>
<rect width="100%" height="100%" fill="BACKGROUND"/>
{backgrounds}
{matrix}
</svg>
"""


@pytest.fixture(autouse=True)
def _explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.view.journey.explain", explained)


def picture(
    drawn: Screen,
    width: int,
    height: int,
    now: Now = NOW,
    *,
    theme: TerminalTheme = DARK,
    color: bool = True,
) -> str:
    """What a terminal shows, as SVG."""
    console = Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="standard",
        legacy_windows=False,
    )
    for shown in drawn.draw(width, height, now):
        strip = strip_of(shown, width, color=color)
        console.print(Segments([*strip, Segment.line()]), end="", soft_wrap=True)
    svg = console.export_svg(title="", theme=theme, code_format=FORMAT, unique_id="s")
    # Nothing is cut: each text is as long as it says.
    svg = re.sub(r' clip-path="[^"]*"', "", svg).replace("><", ">\n<")
    return svg.replace("BACKGROUND", theme.background_color.hex)


def listed(browser: Browser, _: Screen) -> None:
    assert browser.open(REPLY.id)


def at_a_drop(browser: Browser, _: Screen) -> None:
    assert browser.open(NFT_DROPPED.id)
    browser.in_detail = True
    browser.step(99)


def flows(browser: Browser, _: Screen) -> None:
    browser.turn_to(Listed.FLOWS)


def drops_only(browser: Browser, _: Screen) -> None:
    browser.want(Wanted(drops=True))


def map_page(browser: Browser, screen: Screen) -> None:
    assert browser.open(REPLY.id)
    screen.page = pages.map_page(screen.look, browser.journey)


def compared(browser: Browser, screen: Screen) -> None:
    for journey_id in (REPLY.id, DROPPED.id):
        assert browser.open(journey_id)
        browser.mark()
    screen.page = pages.compare_page(*browser.marks)


def help_page(_: Browser, screen: Screen) -> None:
    screen.page = pages.help_page()


def drawn(state: Callable[[Browser, Screen], None], *, ascii: bool = False) -> Screen:
    journal = filled()
    browser = Browser(journal)
    made = screen(journal, browser, ascii=ascii)
    browser.look(lambda: False)
    state(browser, made)
    browser.look(lambda: False)
    return made


@pytest.mark.parametrize("state", [listed, at_a_drop, flows, map_page, compared, help_page])
def test_the_screen_is_painted_as_accepted(state: Callable[[Browser, Screen], None]) -> None:
    assert_golden(f"screen-{state.__name__}.svg", picture(drawn(state), 100, 32))


def test_a_wide_screen_is_painted_as_accepted() -> None:
    assert_golden("screen-wide.svg", picture(drawn(at_a_drop), 140, 36))


def test_a_wrong_filter_is_painted_as_accepted() -> None:
    made = drawn(drops_only)
    field = Field()
    field.begin("tcp prot 80")
    made.failure = "the filter cannot be understood: prot"
    svg = picture(made, 100, 24, NOW._replace(field=field))
    assert_golden("screen-wrong_filter.svg", svg)


def test_on_a_light_terminal_it_is_painted_as_accepted() -> None:
    assert_golden("screen-light.svg", picture(drawn(at_a_drop), 100, 32, theme=LIGHT))


def test_without_colours_it_is_painted_as_accepted() -> None:
    svg = picture(drawn(at_a_drop, ascii=True), 100, 32, color=False)
    assert_golden("screen-ascii.svg", svg)
    grey = {"#" + f"{shade:02x}" * 3 for shade in range(256)}
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) <= grey
