# SPDX-License-Identifier: GPL-2.0-only
"""The report's page as text: what is in it, and that nothing foreign can become more than data."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.any_journey import captures, journeys, summaries, topologies
from tests.unit.journeys import ALL, CAPTURE, DROPPED, ETH0_C1, NAT, REQUEST, SUMMARY, TCP
from tests.unit.topologies import DOCKER
from tracer.export import report as reports
from tracer.export.html import html
from tracer.export.report import HOPS_MOST, bars
from tracer.export.shown import ALIKE, FIRST, MOST, Shown
from tracer.histogram import Histogram
from tracer.model import Capture, Drop, Hop, Journey, Outcome, Summary, TopologyChange

HOSTILE = "</script><img src=x onerror=alert(1)>'\"`${alert(2)}<!--&lt;"


@dataclass
class Trace:
    """A trace that was never written."""

    journeys: Iterable[Journey]
    capture: Capture = CAPTURE
    summary: Summary | None = SUMMARY
    changes: Sequence[TopologyChange] = field(default_factory=list)

    def __iter__(self) -> Iterator[Journey]:
        return iter(self.journeys)


class Elements(HTMLParser):
    """The elements of a page, as a browser would find them: what they are, and what is in them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, before = self.found[-1]
            self.found[-1] = (tag, attributes, before + data)

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("", {}, ""))  # what comes now is in no element that is of interest

    def of(self, tag: str, **attributes: str) -> list[str]:
        """What is in the elements of that kind."""
        wanted = attributes.items()
        return [text for name, found, text in self.found if name == tag and wanted <= found.items()]


def page(trace: Trace) -> str:
    return b"".join(html(trace)).decode()


def data(trace: Trace) -> Any:
    (found,) = Elements(page(trace)).of("script", type="application/json")
    return json.loads(found)


def alike(journey: Journey, number: int) -> Journey:
    return journey._replace(id=str(number), start_ns=journey.start_ns + 1000 * number)


def test_the_report_holds_journeys_and_statistics_of_the_trace() -> None:
    found = data(Trace(ALL.values()))
    by_id = {journey["id"]: journey for journey in found["journeys"]}
    assert by_id.keys() == {journey.id for journey in ALL.values()}
    assert found["report"]["statistics"]["journeys"] == len(ALL)
    assert found["report"]["shown"] is None
    assert [j["at"] for j in found["journeys"]] == sorted(j["at"] for j in found["journeys"])
    nat = by_id[NAT.id]
    assert nat["flow"] == "TCP S 172.17.0.2:51234 > 203.0.113.7:443"
    changes = [hop[6]["changes"] for hop in nat["hops"] if len(hop) > 6 and "changes" in hop[6]]
    assert ["src 172.17.0.2 → 198.51.100.1", "sport 51234 → 1027"] in changes
    names = [found["report"]["functions"][hop[0]]["name"] for hop in nat["hops"]]
    assert names == [hop.function for hop in NAT.hops]


def test_how_each_ended_is_a_sentence() -> None:
    said = {journey["id"]: journey["said"] for journey in data(Trace(ALL.values()))["journeys"]}
    assert [said[ALL[name].id] for name in ("dropped", "nat", "read", "absorbed")] == [
        "DROP NETFILTER_DROP in nf_hook_slow+0xa5 at host/docker0",
        "transmitted (net_dev_start_xmit) at host/uplink",
        "delivered to udp socket in c2 (__sock_queue_rcv_skb) at c2/eth0, read by socat[177]",
        "absorbed by GRO",
    ]
    assert (
        said[ALL["unfinished"].id] == "unfinished: last seen in enqueue_to_backlog at host/vethc1"
    )
    assert said[ALL["damaged"].id] == "damaged: chunk 1 missing"


def test_a_drop_is_explained_with_its_journey_and_in_the_statistics() -> None:
    found = data(Trace([DROPPED]))
    (journey,), (drop,) = found["journeys"], found["report"]["statistics"]["drops"]
    assert journey["explained"] == drop["explained"]
    assert "netfilter" in drop["explained"]["sentence"]


def test_what_was_lost_is_said_and_nothing_lost_only_if_so() -> None:
    lost = data(Trace([TCP]))["report"]["completeness"]
    assert lost["nothing_lost"] is False
    assert ["bad", "end_missed 1: journeys ended unseen; they are shown as damaged"] in lost[
        "remarks"
    ]
    whole = Summary(journeys=1, lost={"ring_full": 0, "probe_missed": 0})
    complete = replace(CAPTURE, probes=CAPTURE.probes[:1])
    found = data(Trace([TCP], complete, whole))["report"]["completeness"]
    assert found == {"whole": True, "lost": 0, "nothing_lost": True, "remarks": []}


def test_a_trace_that_was_cut_off_says_so() -> None:
    found = data(Trace([TCP], summary=None))["report"]["completeness"]
    assert (found["whole"], found["lost"], found["nothing_lost"]) == (False, None, False)
    assert "cut off" in found["remarks"][0][1]


def test_an_empty_trace_is_a_report_too() -> None:
    found = data(Trace([], replace(CAPTURE, topology=None), Summary()))
    assert found["journeys"] == []
    assert found["report"]["topologies"] == []
    assert found["report"]["capture"]["first"] is None


def test_the_topology_is_told_with_its_changes() -> None:
    later = TopologyChange(TCP.start_ns + 5, replace(DOCKER, name="docker0", down=(ETH0_C1,)))
    capture = replace(CAPTURE, topology=DOCKER)
    report = data(Trace([TCP], capture, changes=[later]))["report"]
    before, after = report["topologies"]
    assert (before["from"], after["from"]) == (None, 5)
    devices = {report["devices"][d["device"]]["ifname"]: d for d in after["devices"]}
    assert devices["docker0"]["role"] == "bridge"
    assert devices["eth0"]["addresses"] == ["172.17.0.3/16"]
    assert devices["uplink"]["way"] == "default via 10.0.2.2"
    assert any("down" in device.get("unusual", []) for device in after["devices"])
    assert "172.17.0.0/16 → masquerade" in after["nat"]


# --- how much -------------------------------------------------------------------------------------


def test_of_many_journeys_a_bounded_number_is_listed_and_all_are_counted() -> None:
    many = [alike(REQUEST, number) for number in range(3 * MOST)]
    late = alike(DROPPED, 3 * MOST)
    slow = many[-7] = many[-7]._replace(hops=(*many[-7].hops, Hop("x", 10**9, 0, None, 0, None)))
    found = data(Trace([*many, late]))
    ids = [journey["id"] for journey in found["journeys"]]
    assert len(ids) == len(set(ids)) <= MOST
    assert ids[:FIRST] == [journey.id for journey in many[:FIRST]]
    assert {late.id, slow.id} <= set(ids)
    report = found["report"]
    assert report["statistics"]["journeys"] == 3 * MOST + 1
    assert report["shown"].startswith(f"Listed are {len(ids):,} of {3 * MOST + 1:,} journeys")


def test_the_rarest_bad_end_is_listed_however_late_it_comes() -> None:
    shown = Shown()
    often = DROPPED._replace(drop=Drop("OFTEN", "f"))
    for number in range(FIRST + 2000):
        shown.add(alike(often, number))
    rare = alike(DROPPED._replace(drop=Drop("RARE", "f")), 1 << 20)
    shown.add(rare)
    for number in range(2000):
        shown.add(alike(often, number))
    assert rare in shown.all
    assert len(shown.all) <= MOST
    assert len([j for j in shown.all[FIRST:] if j.drop == Drop("OFTEN", "f")]) > ALIKE


def test_the_even_sample_reaches_from_begin_to_end() -> None:
    shown = Shown()
    for number in range(50_000):
        shown.add(alike(REQUEST, number))
    numbers = [int(journey.id) for journey in shown.all[FIRST:]]
    assert numbers == sorted(numbers)
    for tenth in range(1, 10):
        assert any(tenth * 5000 <= number < (tenth + 1) * 5000 for number in numbers)


def test_the_longest_journeys_are_cut_and_say_so() -> None:
    hops = tuple(Hop("veth_xmit", n, 0, ETH0_C1, 0, None) for n in range(HOPS_MOST + 5))
    (journey,) = data(Trace([REQUEST._replace(hops=hops)]))["journeys"]
    assert (len(journey["hops"]), journey["more"]) == (HOPS_MOST, 5)


def test_tables_have_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "ROWS_MOST", 3)
    statistics = data(Trace(ALL.values()))["report"]["statistics"]
    for name in ("steps", "groups"):
        assert len(statistics[name]) == 3 < statistics[f"{name}_of"]


@pytest.mark.parametrize(
    ("ns", "at"), [(0, 0), (9, 0), (10, 0), (31, 0), (32, 1), (100, 2), (10**6, 10), (10**12, 17)]
)
def test_a_histogram_has_two_bars_for_each_power_of_ten(ns: int, at: int) -> None:
    took = Histogram()
    took.add(ns)
    assert [n for n, count in enumerate(bars(took)) if count] == [at]


# --- what is foreign ------------------------------------------------------------------------------


def test_the_policy_names_the_hashes_of_the_one_script_and_the_one_style() -> None:
    elements = Elements(page(Trace(ALL.values())))
    (policy,) = (
        attributes["content"] or ""
        for tag, attributes, _ in elements.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    (style,) = elements.of("style")
    _, script = elements.of("script")
    for kind, text in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_the_script_makes_no_markup_of_text_and_calls_nobody() -> None:
    _, script = Elements(page(Trace([]))).of("script")
    assert '"use strict"' in script
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "srcdoc",
        "DOMParser",
    ):
        assert word not in script


def test_no_element_asks_for_anything_outside() -> None:
    for tag, attributes, _ in Elements(page(Trace(ALL.values()))).found:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "style", "onload", "onclick"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")


def test_hostile_names_stay_data() -> None:
    flow = REQUEST.flow._replace(proto="udp", src=HOSTILE)
    hostile = REQUEST._replace(id=HOSTILE, flow=flow, proof=HOSTILE)
    assert CAPTURE.topology is not None
    topology = replace(CAPTURE.topology, name=HOSTILE)
    trace = Trace([hostile], replace(CAPTURE, topology=topology, asked={HOSTILE: HOSTILE}))
    whole = page(trace)
    assert HOSTILE not in whole
    ordinary = [tag for tag, _, _ in Elements(page(Trace([REQUEST]))).found]
    assert [tag for tag, _, _ in Elements(whole).found] == ordinary
    found = data(trace)
    assert found["journeys"][0]["id"] == HOSTILE
    assert found["report"]["capture"]["asked"] == [[HOSTILE, HOSTILE]]


@given(
    capture=captures(),
    found=st.lists(journeys(), max_size=4),
    changes=st.lists(st.builds(TopologyChange, st.integers(0, 2**62), topologies), max_size=2),
    summary=st.none() | summaries(4),
)
def test_any_trace_becomes_a_page_whose_data_can_be_read(
    capture: Capture,
    found: list[Journey],
    changes: list[TopologyChange],
    summary: Summary | None,
) -> None:
    whole = b"".join(html(Trace(found, capture, summary, changes))).decode()
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', whole, re.DOTALL)
    assert match is not None
    block = match[1]
    assert block.isascii()
    assert not set("<>&") & set(block)
    read = json.loads(block)
    assert sorted(j["id"] for j in read["journeys"]) == sorted(j.id for j in found)
    assert read["report"]["completeness"]["whole"] == (summary is not None)
    for journey in read["journeys"]:
        assert Outcome(journey["outcome"])
        for hop in journey["hops"]:
            assert hop[0] < len(read["report"]["functions"])
            assert -1 <= hop[3] < len(read["report"]["devices"])
