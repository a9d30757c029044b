# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from dataclasses import replace

from tests.unit.journeys import CAPTURE, ETH0_C1, SUMMARY
from tracer.completeness import LOSSES
from tracer.correlate import Correlator, Names
from tracer.model import Sampling, Summary
from tracer.view.capture import closing, opening, sampling
from tracer.view.line import Line, text_of
from tracer.view.theme import STYLES
from tracer.wire import LOSSES as KERNEL_LOSSES


def said(lines: list[Line]) -> list[str]:
    assert {style for line in lines for _, style in line} <= STYLES.keys()
    return [text_of(line) for line in lines]


def test_the_opening_says_what_where_and_with_how_much() -> None:
    assert said(opening(CAPTURE)) == [
        "docker0, built as a lab, on Linux 6.1.0-26-amd64 (x86_64): "
        f"{len(CAPTURE.attached)} probes attached",
        "! no probe on icmpv6_rcv: this kernel has no such symbol",
    ]


def test_the_closing_says_which_probes_went_with_their_module() -> None:
    (_, line) = said(closing(CAPTURE, Summary(lost={"probe_missed": 0}, unloaded=("a", "b"))))[:2]
    assert line.startswith("! not seen any more since the module was unloaded: a, b; start")


def test_the_opening_says_what_was_asked_for() -> None:
    asked = replace(CAPTURE, asked={"filter": "tcp port 80", "Q": "in"})
    assert said(opening(asked))[1:3] == ["filter: tcp port 80", "Q: in"]


def test_the_opening_tells_a_found_bridge_and_a_whole_host_from_a_lab() -> None:
    assert CAPTURE.topology is not None
    found = replace(CAPTURE, topology=replace(CAPTURE.topology, built=False))
    assert said(opening(found))[0].startswith("docker0, found on this host, on Linux")
    assert said(opening(replace(CAPTURE, topology=None)))[0].startswith("this host on Linux")


def test_the_closing_counts_and_says_what_each_loss_means() -> None:
    assert said(closing(CAPTURE, SUMMARY)) == [
        "15 journeys: 6 delivered, 1 transmitted, 3 consumed, 1 absorbed, 2 dropped, "
        "1 unfinished, 1 damaged",
        f"! end_missed 1: {LOSSES['end_missed']}",
        "! udpv6_rcv never fired, although its neighbours did",
        "! not probed: icmpv6_rcv",
    ]


def test_nothing_lost_is_said_too() -> None:
    summary = Summary(journeys=1, lost={"ring_full": 0}, outcomes={"delivered": 1, "dropped": 0})
    assert said(closing(CAPTURE, summary))[0] == "1 journey: 1 delivered; nothing lost"


def test_what_was_not_asked_for_is_counted_apart() -> None:
    summary = Summary(journeys=1, outcomes={"delivered": 1}, unselected=12)
    assert said(closing(CAPTURE, summary))[0] == (
        "1 journey: 1 delivered; nothing lost; 12 not selected"
    )
    lost = said(closing(CAPTURE, replace(summary, lost={"ring_full": 2})))
    assert lost[0] == "1 journey: 1 delivered; 12 not selected"
    assert lost[1].startswith("! ring_full 2: ")


def test_what_did_not_trigger_is_counted_apart() -> None:
    summary = Summary(journeys=1, outcomes={"dropped": 1}, untriggered=12, unselected=3)
    assert said(closing(CAPTURE, summary))[0] == (
        "1 journey: 1 dropped; nothing lost; 3 not selected; 12 not triggered"
    )


def test_what_was_passed_over_is_said() -> None:
    over = {"sample": 900, "max_rate": 0, "per_flow": 0}
    assert said(closing(CAPTURE, Summary(passed_over=over)))[1].startswith("! ")
    fixed = said(closing(CAPTURE, Summary(passed_over=over, sampled=(8, 8))))
    assert fixed[1] == "sampled: one in 8, 900 packets passed over"
    refused = said(closing(CAPTURE, Summary(passed_over={"filter": 7})))
    assert "the filter refused 7 packets" in refused
    varied = Summary(passed_over={"sample": 1, "max_rate": 2, "per_flow": 3}, sampled=(1, 64))
    assert said(closing(CAPTURE, varied))[1:4] == [
        "sampled: one in 1 to 64, 1 packet passed over",
        "--max-rate: 2 packets passed over",
        "--per-flow: 3 packets passed over",
    ]


def test_how_much_is_followed_and_why() -> None:
    assert text_of(sampling(Sampling(1, 8))) == "sampling one in 8"
    assert text_of(sampling(Sampling(1, 8, 54, 50))) == (
        "sampling one in 8: this traffic took 54 % of a CPU, the limit is 50 %"
    )
    assert text_of(sampling(Sampling(1, 1, 3, 50))) == (
        "sampling no more: this traffic took 3 % of a CPU, the limit is 50 %"
    )


def test_no_journeys_is_a_sentence() -> None:
    assert said(closing(CAPTURE, Summary()))[0] == "0 journeys; nothing lost"


def test_a_loss_nobody_explained_is_still_shown() -> None:
    assert "! odd 3: lost" in said(closing(CAPTURE, Summary(lost={"odd": 3})))


def test_every_loss_counter_of_the_kernel_program_is_explained() -> None:
    lost = Correlator(
        Names(lambda *_: ETH0_C1, lambda *_: ETH0_C1.netns, lambda _: None, str, lambda *_: None)
    ).lost
    assert {*KERNEL_LOSSES, *lost, "probe_missed", "unread"} == LOSSES.keys()


def test_hits_that_nobody_counted_are_not_claimed_to_be_none() -> None:
    lines = said(closing(CAPTURE, Summary(lost={"ring_full": 0})))
    assert (
        "! hits of probes that were passed over are not counted: this kernel does not tell" in lines
    )
