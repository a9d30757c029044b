# SPDX-License-Identifier: GPL-2.0-only
"""The report in a real browser, opened from disk: what is seen, clicked and typed there.

In every test nothing may be asked of the network, and the console has nothing to say. The folder
of a test keeps a picture of what it ended with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chromium import Page, chromium
from tests.unit.journeys import (
    ALL,
    ARP,
    C1,
    CAPTURE,
    CLONE,
    DROPPED,
    ETH0_C1,
    HOST,
    NAT,
    NFT_DROPPED,
    READ,
    REPLY,
    REQUEST,
    SUMMARY,
)
from tests.unit.test_export_html import Trace
from tests.unit.topologies import DOCKER
from tracer.export.html import html
from tracer.model import Capture, Change, Device, Hop, Journey, Netns, Outcome, Task

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<svg onload=alert(3)>",
    "\"><b onmouseover='alert(4)'>",
    "javascript:alert(5)",
    "${alert(6)}`;alert(7)//",
    "&lt;img src=x onerror=alert(8)&gt;",
    "--><!--",
]
DOCKED: Capture = replace(CAPTURE, topology=DOCKER)
Opens = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    if chromium() is None:
        if "browser" not in os.environ.get("SKBTRACE_REQUIRE", ""):
            pytest.skip("there is no chromium here")
        raise AssertionError("there is no chromium here")
    # Its profile is large and of no use to anybody later.
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile, Page(Path(profile)) as page:
        yield page


@pytest.fixture
def opened(browser: Page, tmp_path: Path) -> Iterator[Opens]:
    """Open a report; when the test ends, look whether everything was as it should be."""
    path = tmp_path / "report.html"

    def open_it(trace: Trace | None = None, fragment: str = "", width: int = 1440) -> Page:
        pieces = html(Trace(ALL.values(), DOCKED) if trace is None else trace)
        path.write_bytes(b"".join(pieces))
        browser.resize(width, 1000)
        browser.problems.clear()
        browser.open(path, fragment)
        return browser

    yield open_it
    browser.screenshot(tmp_path / "report.png", whole=True)
    assert browser.problems == []
    assert browser.dialogs == []
    assert [url.partition("#")[0] for url in browser.requests] == [path.as_uri()]


def row_of(journey: Journey) -> str:
    """The row of a journey in the list, of which ids are numbers here."""
    numbers = sorted(ALL.values(), key=lambda each: each.start_ns)
    return f"#row-{numbers.index(journey)}"


def functions(page: Page) -> list[str]:
    """The functions in the timeline, top down."""
    return [text.split()[0] for text in page.texts("#chosen button.hop .function")]


def test_it_opens_with_the_first_drop_chosen(opened: Opens) -> None:
    page = opened()
    assert page.text("h1") == "docker0"
    assert page.text("#chosen h2").startswith(f"#{DROPPED.id} TCP S 172.17.0.2:51234")
    assert "✗ DROP NETFILTER_DROP in nf_hook_slow" in page.text("#chosen .end")
    assert "netfilter" in page.text("#chosen .why")
    assert page.value("location.hash") == f"#journey={DROPPED.id}"


def test_a_click_on_a_journey_shows_its_timeline(opened: Opens) -> None:
    page = opened()
    page.click(row_of(NAT))
    assert functions(page) == [hop.function for hop in NAT.hops]
    text = page.text("#chosen")
    assert "src 172.17.0.2 → 198.51.100.1, sport 51234 → 1027" in text
    assert "filter/FORWARD accept" in text
    assert "netns c1 → host" in text
    assert page.value(f"document.querySelector('{row_of(NAT)}').ariaSelected") == "true"
    places = page.texts("#chosen .lane .label")
    assert places == ["c1/eth0", "host/vethc1", "host/docker0", "host/uplink"]


def test_an_address_with_a_journey_opens_it(opened: Opens) -> None:
    page = opened(fragment=f"#journey={READ.id}")
    assert "read by socat[177]" in page.text("#chosen .end")
    missing = opened(fragment="#journey=%E0%A4%A")
    assert "is not among the journeys listed here" in missing.text("#chosen")


def test_references_and_branches_lead_to_other_journeys(opened: Opens) -> None:
    page = opened(fragment=f"#journey={REPLY.id}")
    assert page.texts("#chosen .related span")[0] == f"answers #{REQUEST.id}, 26.9 us after it"
    assert f"branch #{CLONE.id} ✓ delivered" in page.text("#chosen .leaving")
    page.click(f'#chosen .leaving a[href="#journey={CLONE.id}"]')
    page.until(f"document.querySelector('#chosen h2').innerText.startsWith('#{CLONE.id} ')")
    assert page.text("#chosen .related") == f"branch of #{REPLY.id}"
    page.click("#chosen .related a")
    page.until(f"document.querySelector('#chosen h2').innerText.startsWith('#{REPLY.id} ')")
    page.click("#chosen .related a")
    page.until(f"document.querySelector('#chosen h2').innerText.startsWith('#{REQUEST.id} ')")
    assert page.text("#chosen .related") == f"answered by #{REPLY.id}"


def test_what_is_not_listed_is_named_but_no_link(opened: Opens) -> None:
    page = opened(Trace([ARP], DOCKED), f"#journey={ARP.id}")
    assert page.texts("#chosen .leaving") == [
        "╰ branch #51 not listed here",
        "╰ branch #52 not listed here",
    ]
    assert page.texts("#chosen .leaving a") == []


def test_the_list_is_filtered_by_words_and_outcomes_and_sorted(opened: Opens) -> None:
    page = opened()
    assert page.text("#count") == f"{len(ALL)} journeys"
    page.press("/", *"udp 9000")
    assert page.text("#count") == f"2 of {len(ALL)} journeys"
    page.press("Escape")
    assert page.text("#count") == f"{len(ALL)} journeys"
    page.click("#outcomes button:has(.dropped)")
    assert page.texts("#list .ending") == ["✗ DROP NETFILTER_DROP"] * 2
    page.click("#outcomes button:has(.dropped)")
    page.click("#heads button[data-by=took]")
    assert page.texts("#list .took")[0] == "5031 us"
    page.click("#heads button[data-by=took]")
    assert page.texts("#list .took")[-1] == "5031 us"


def test_keys_move_through_journeys_and_hops(opened: Opens) -> None:
    page = opened()
    by_time = [j.id for j in sorted(ALL.values(), key=lambda each: each.start_ns)]
    at = by_time.index(DROPPED.id)
    page.press("j", "j", "k")
    assert page.value("location.hash") == f"#journey={by_time[at + 1]}"
    page.click(row_of(NAT))
    page.press("Enter", "ArrowDown", "j", "k")
    assert page.value("document.activeElement.dataset.hop") == "1"
    assert page.text("#facts strong") == NAT.hops[1].function
    page.press("Escape")
    assert page.value("document.activeElement.id") == "list"
    assert not page.value("document.querySelector('#facts').checkVisibility()")


def test_pointing_at_a_hop_tells_what_is_known_of_it(opened: Opens) -> None:
    page = opened(fragment=f"#journey={NAT.id}")
    page.point('button[data-hop="12"]')
    facts = page.text("#facts")
    assert facts.startswith("hop 13 of 19 nft_do_chain")
    assert "ipv4 filter/FORWARD accept" in facts


def test_the_scale_is_proportional_or_equal(opened: Opens) -> None:
    page = opened(fragment=f"#journey={READ.id}")
    widths = "[...document.querySelectorAll('.hops .bar')].map((b) => parseFloat(b.style.width))"
    proportional = page.value(widths)
    page.press("s")
    equal = page.value(widths)
    assert len(set(equal[:8])) < len(set(proportional[:8]))
    assert page.texts("#scale [aria-pressed=true]") == ["equal steps"]


def test_the_way_is_numbered_in_the_topology(opened: Opens) -> None:
    page = opened(fragment=f"#journey={REQUEST.id}")
    boxes = page.value(
        "[...document.querySelectorAll('.topology svg > g')].map((g) => "
        "[...g.querySelectorAll('text')].map((t) => t.textContent).filter(Boolean).join(' '))"
    )
    assert [each for each in boxes if each.startswith("c1")] == ["c1 eth0 172.17.0.2/16 1"]
    assert any("vethc1 2 vethc2 3" in each for each in boxes)
    assert page.value("document.querySelectorAll('.wire.passed').length") == 2
    assert page.value("document.querySelector('.topology svg').ariaLabel").endswith("c2/eth0")


def test_of_a_crowd_those_are_drawn_that_it_came_to(opened: Opens) -> None:
    ends = tuple(Device(Netns(100 + n, f"web{n}"), 2, "eth0") for n in range(30))
    ports = tuple(Device(HOST, 100 + n, f"vethweb{n}") for n in range(30))
    crowd = replace(
        DOCKER,
        ports=(*DOCKER.ports, *ports),
        ends=(*DOCKER.ends, *ends),
        pairs=(*DOCKER.pairs, *zip(ports, ends, strict=True)),
    )
    trace = Trace(ALL.values(), replace(CAPTURE, topology=crowd))
    page = opened(trace, f"#journey={REQUEST.id}")
    assert sorted(page.texts(".topology .name")) == ["c1", "c2", "host"]
    page.click(".topology button")
    assert len(page.texts(".topology .name")) == 33


def test_the_statistics_are_there_and_lead_to_the_list(opened: Opens) -> None:
    page = opened()
    text = page.text("#statistics")
    for part in ("Outcomes", "Drops, by reason and place", "Steps, by time altogether", "Flows"):
        assert part in text
    page.click("#statistics td button.plain")
    assert page.text("#count").endswith(f"of {len(ALL)} journeys")


@pytest.mark.parametrize("width", [390, 760, 1100])
def test_nothing_is_wider_than_the_window(opened: Opens, width: int) -> None:
    page = opened(fragment=f"#journey={NFT_DROPPED.id}", width=width)
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


def test_every_button_has_a_name_and_no_style_stands_in_an_attribute(opened: Opens) -> None:
    page = opened()
    named = "[...document.querySelectorAll('button')].every((b) => b.innerText || b.ariaLabel)"
    assert page.value(named)
    assert page.value("document.querySelectorAll('[onclick]').length") == 0


@pytest.mark.parametrize("trace", [Trace([]), Trace([], replace(CAPTURE, topology=None), None)])
def test_an_empty_trace_is_a_page_too(opened: Opens, trace: Trace) -> None:
    page = opened(trace)
    assert "The trace holds no journey" in page.text("#chosen")


def test_a_trace_that_was_cut_off_says_so(opened: Opens) -> None:
    page = opened(Trace([REQUEST], DOCKED, None))
    assert "cut off" in page.text("#head .remark.bad")
    assert "Nothing lost" not in page.text("#head")


def test_it_can_be_printed(opened: Opens) -> None:
    assert opened(fragment=f"#journey={NAT.id}").printed().startswith(b"%PDF")


def hostile(name: str, number: int) -> Journey:
    """A journey in which everything that can be a text is this one."""
    device = Device(Netns(number, name), 1, name)
    hop = Hop(name, 0, 0, device, 60, None, task=Task(1, name), changes=(Change(name, name, name),))
    flow = REQUEST.flow._replace(proto=name, src=name, dst=name)
    return DROPPED._replace(
        id=name,
        flow=flow,
        proof=name,
        hops=(hop, *DROPPED.hops[1:]),
        outcome=list(Outcome)[number % len(Outcome)],
        damage=name,
        parent=HOSTILE[number - 1],
    )


def test_hostile_names_are_only_ever_text(opened: Opens) -> None:
    name = HOSTILE[1]
    device = Device(C1, 9, name)
    topology = replace(
        DOCKER,
        name=name,
        ends=(*DOCKER.ends, device, Device(Netns(99, HOSTILE[0]), 1, HOSTILE[2])),
        addresses=((device, HOSTILE[3]), (ETH0_C1, HOSTILE[4])),
    )
    asked = dict.fromkeys(HOSTILE, HOSTILE[0])
    capture = replace(DOCKED, topology=topology, kernel=HOSTILE[2], tool=HOSTILE[5], asked=asked)
    summary = replace(SUMMARY, silent=tuple(HOSTILE))
    journeys = [hostile(each, number) for number, each in enumerate(HOSTILE)]
    page = opened(Trace([*journeys, NAT], capture, summary))
    page.value("window.before = document.querySelectorAll('script, style, iframe, link').length")
    for number in range(len(HOSTILE)):
        page.click(f"#row-{number}")
        page.point('button[data-hop="0"]')
        assert page.text("#chosen h2").startswith("#")
    assert page.text("h1") == name
    assert page.value("document.querySelectorAll('script, style, iframe, link').length") == 3
    assert page.value("document.querySelectorAll('img, b[onmouseover], svg[onload]').length") == 0
    assert page.value("[...document.links].every((a) => a.protocol === 'file:')")
    opened(Trace(journeys, capture, summary), "#journey=<img src=x onerror=alert(9)>")


def test_the_policy_stops_what_would_run_nevertheless(browser: Page, tmp_path: Path) -> None:
    """Otherwise the tests of hostile names could not fail for the policy's sake."""
    path = tmp_path / "injected.html"
    whole = b"".join(html(Trace([REQUEST])))
    injected = b"<script>alert(1)</script><img src='file:///x.png' onerror='alert(2)'></body>"
    path.write_bytes(whole.replace(b"</body>", injected))
    browser.dialogs.clear()
    browser.problems.clear()
    browser.open(path)
    assert browser.dialogs == []
    assert any("Content Security Policy" in problem for problem in browser.problems)
    browser.problems.clear()
