# SPDX-License-Identifier: GPL-2.0-only
"""A session with a source that plays records back: order, counts, ends, and what is lost."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.unit.test_correlate import (
    C1,
    C2,
    ETH0,
    REASONS,
    SYMBOLS,
    TAKEN,
    TO_C2,
    TO_THE_BRIDGE,
    device,
    netns,
    record,
)
from tracer import session as session_module
from tracer import wire
from tracer.limits import Ceiling, Limits
from tracer.model import (
    Capture,
    Device,
    Health,
    Journey,
    Outcome,
    ProbePlace,
    Sampling,
    Scope,
    Segment,
    Stepped,
    Summary,
    Topology,
    TopologyChange,
)
from tracer.probes import PROBES
from tracer.session import SLICE, Session
from tracer.trigger import Trigger

WHOLE = (*TO_THE_BRIDGE, *TO_C2, *TAKEN)


class _Places:
    device = staticmethod(device)
    netns = staticmethod(netns)
    renames = staticmethod(int)  # they never are

    def __init__(self) -> None:
        self.told: list[tuple[int, list[Device]]] = []

    def change(self, change: TopologyChange, devices: Iterable[Device]) -> None:
        self.told.append((change.at_ns, list(devices)))


PLACES = _Places()


class Playback:
    """A source: batches of records to read, then those that live at the stop."""

    def __init__(self, *batches: list[wire.Record], alive: Sequence[wire.Record] = ()) -> None:
        self.batches = [[wire.encode(r) for r in batch] for batch in batches]
        self.left = [wire.encode(r) for r in alive]
        self.calls: list[str] = []
        self.held_back = 0
        self.hit = {"veth_xmit": 9, "__dev_forward_skb": 9, "enqueue_to_backlog": 9}
        self.ended: list[wire.EndCount] = []
        self.stepped: list[wire.StepCount] = []

    def start(self) -> tuple[ProbePlace, ...]:
        self.calls.append("start")
        return tuple(ProbePlace(p.function, p.function) for p in PROBES)

    def read(self) -> list[bytes]:
        return self.batches.pop(0) if self.batches else []

    def rescope(self, scope: Scope) -> None:
        self.calls.append(f"rescope {sorted(scope)}")

    def pause(self) -> None:
        self.calls.append("pause")

    def stop(self) -> list[bytes]:
        self.calls.append("stop")
        return self.left

    def lost(self) -> dict[str, int]:
        return dict.fromkeys(wire.LOSSES, 0) | {"ring_full": 3}

    def ring_fill(self) -> float:
        return 0.25

    def unloaded(self) -> tuple[str, ...]:
        return ("br_forward",)

    def beside(self) -> int:
        return 7

    def hits(self) -> dict[str, int]:
        return self.hit

    def ends(self) -> list[wire.EndCount]:
        return self.ended

    def steps(self) -> list[wire.StepCount]:
        return self.stepped

    def sample(self, one_in: int) -> None:
        self.calls.append(f"sample {one_in}")

    def passed(self) -> dict[str, int]:
        return {"filter": 4, "sample": 5, "max_rate": 0, "per_flow": 0, "trigger": self.held_back}

    def close(self) -> None:
        self.calls.append("close")

    def table(self, address: int, handle: int) -> None:
        return None

    def symbol(self, address: int) -> tuple[str, int] | None:
        return SYMBOLS.get(address)

    def reason(self, number: int) -> str:
        return REASONS[number]


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.seen: list[Journey] = []
        self.summary: Summary | None = None

    def begin(self, capture: Capture) -> None:
        self.calls.append("begin")

    def topology(self, change: TopologyChange) -> None:
        self.calls.append(f"topology {change.topology.name}")

    def sampling(self, now: Sampling) -> None:
        self.calls.append(f"sampling {now.one_in}")

    def journeys(self, batch: Sequence[Journey]) -> None:
        self.calls.append("journeys")
        self.seen += batch

    def end(self, summary: Summary) -> None:
        self.calls.append("end")
        self.summary = summary


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "QUIET_S", 0.0)
    monkeypatch.setattr(session_module, "DRAIN_S", 0.0)


def run(
    source: Playback,
    sink: Kept,
    *,
    most: int | None = None,
    looks: int = 3,
    ready: Callable[[Capture], None] = lambda _: None,
    selects: Callable[[Journey], bool] | None = None,
) -> Summary:
    """Run until the source was looked at a few times."""
    left = iter(range(looks))
    session = Session(source, PLACES, sink, selects=selects)
    return session.run(ready=ready, go_on=lambda: next(left, None) is not None, most=most)


def records(count: int) -> list[wire.Record]:
    return [record(*WHOLE, id=n + 1) for n in range(count)]


def test_everything_happens_in_order() -> None:
    source, sink = Playback(records(1)), Kept()
    run(source, sink, ready=lambda _: source.calls.append("ready"))
    assert source.calls == ["start", "ready", "pause", "stop", "close"]
    assert sink.calls == ["begin", "journeys", "end"]


def test_what_was_counted_is_what_was_handed_over() -> None:
    source, sink = Playback(records(3), records(2), alive=[record(*TO_C2, flags=0, id=99)]), Kept()
    summary = run(source, sink)
    assert summary is sink.summary
    assert summary.journeys == len(sink.seen) == 6
    assert summary.hops == sum(len(j.hops) for j in sink.seen)
    assert summary.outcomes == {"consumed": 5, "unfinished": 1}
    assert summary.hits["veth_xmit"] == 5 * 2 + 1
    assert summary.hits["arp_rcv"] == 0
    assert summary.lost == {
        **dict.fromkeys(wire.LOSSES, 0),
        "ring_full": 3,
        "hop_missing": 0,
        "chunk_lost": 0,
        "unread": 0,
    }


def test_packets_that_come_one_by_one_are_read_some_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Trickling(Playback):
        looks = 0

        def read(self) -> list[bytes]:
            self.looks += 1
            # Where it is looked again, another one is there.
            return [wire.encode(record(*WHOLE, id=self.looks))] if self.looks % 2 else []

    monkeypatch.setattr(session_module, "QUIET_S", 0.1)
    source, sink = Trickling(), Kept()
    Session(source, PLACES, sink).run(seconds=0.35)
    assert 3 <= len(sink.seen) == source.looks // 2 <= 6


def test_what_the_ring_buffer_still_holds_at_the_stop_is_read() -> None:
    many = records(SLICE * 3 + 5)
    source, sink = Playback(many), Kept()
    run(source, sink, looks=0)
    assert [j.id for j in sink.seen] == [str(r.id) for r in many]


def test_a_burst_is_saved_from_the_ring_buffer_before_it_is_worked_on() -> None:
    source, sink = Playback(*[records(SLICE)] * 4), Kept()
    left = []

    def go_on() -> bool:
        left.append(len(source.batches))
        return len(left) < 3

    Session(source, PLACES, sink).run(go_on=go_on)
    assert left == [4, 0, 0]


def test_what_waits_takes_no_more_memory_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [records(SLICE)] * 12
    size = sum(len(wire.encode(each)) for each in batches[0])
    # It is looked for more as long as there is room: at first three batches are read, then one.
    monkeypatch.setattr(session_module, "BACKLOG_BYTES", 2 * size + 1)
    monkeypatch.setattr(session_module, "HEALTH_S", 0)
    source, sink = Playback(*batches), Kept()
    told: list[Health] = []
    left: list[int] = []

    def go_on() -> bool:
        left.append(len(source.batches))
        return len(left) < 5

    Session(source, PLACES, sink).run(go_on=go_on, health=told.append)
    assert left == [12, 9, 8, 7, 6]
    assert {health.waiting for health in told} == {2 * SLICE}
    assert all(0.99 < health.filled < 1 for health in told)
    assert len(sink.seen) == 12 * SLICE


def test_no_more_journeys_than_asked_for() -> None:
    for most in (1, 4, SLICE + 1):
        source, sink = Playback(records(SLICE), records(SLICE)), Kept()
        assert run(source, sink, most=most, looks=10).journeys == len(sink.seen) == most
    source, sink = Playback(records(2), alive=[record(*TO_C2, flags=0, id=99)]), Kept()
    assert run(source, sink, most=2).outcomes == {"consumed": 2}


def even(journey: Journey) -> bool:
    return int(journey.id) % 2 == 0


def test_only_what_is_selected_is_handed_over_and_the_rest_is_counted() -> None:
    source, sink = Playback(records(5), alive=[record(*TO_C2, flags=0, id=98)]), Kept()
    summary = run(source, sink, selects=even)
    assert [j.id for j in sink.seen] == ["2", "4", "98"]
    assert (summary.journeys, summary.unselected) == (3, 3)
    assert summary.outcomes == {"consumed": 2, "unfinished": 1}
    assert summary.hops == sum(summary.hits.values()) == sum(len(j.hops) for j in sink.seen)
    assert run(Playback(records(5)), Kept()).unselected == 0


def test_no_more_selected_journeys_than_asked_for_and_nothing_is_counted_after_the_last() -> None:
    for most in (1, 3, SLICE):
        source, sink = Playback(records(SLICE * 2 + 9)), Kept()
        summary = run(source, sink, most=most, looks=10, selects=even)
        assert [j.id for j in sink.seen] == [str(2 * n + 2) for n in range(most)]
        assert (summary.journeys, summary.unselected) == (most, most)


def test_a_sink_can_ask_what_was_counted_up_to_the_batch_it_is_given() -> None:
    class Asking(Kept):
        def journeys(self, batch: Sequence[Journey]) -> None:
            super().journeys(batch)
            so_far.append((session.so_far(), len(self.seen)))

    so_far: list[tuple[Summary, int]] = []
    session = Session(Playback(records(SLICE * 2)), PLACES, Asking())
    summary = session.run(seconds=0.01)
    assert [told.journeys for told, _ in so_far] == [seen for _, seen in so_far]
    assert len(so_far) == 2
    assert sum(so_far[0][0].hits.values()) == so_far[0][0].hops == summary.hops // 2


def echo(number: int, icmp_type: int) -> wire.Record:
    """An echo request (8) from one end, or its reply (0) from the other."""
    ends = [bytes([172, 17, 0, 2]), bytes([172, 17, 0, 3])]
    ip = bytes([0x45, 0, 0, 84, 0, 1, 0, 0, 64, 1, 0, 0]) + b"".join(
        ends[:: 1 if icmp_type else -1]
    )
    packet = bytes(12) + b"\x08\x00" + ip + bytes([icmp_type, 0, 0, 0, 0, 7, 0, 1])
    headers = packet.ljust(wire.HEADER_BYTES, b"\0")
    return record(*WHOLE, id=number)._replace(headers=headers)


def test_a_journey_refers_to_one_that_was_not_selected() -> None:
    sink = Kept()
    run(Playback([echo(1, 8), echo(2, 0)]), sink, selects=even)
    (reply,) = sink.seen
    assert [(r.kind, r.id) for r in reply.references] == [("answers", "1")]


def test_time_is_up() -> None:
    source, sink = Playback(records(2)), Kept()
    summary = Session(source, PLACES, sink).run(seconds=0.01)
    assert summary.journeys == 2


def test_stop_ends_it() -> None:
    source, sink = Playback(records(2)), Kept()
    session = Session(source, PLACES, sink)
    session.run(ready=lambda _: session.stop())
    assert sink.calls[-1] == "end"


def test_a_signal_stops_it_at_whatever_line_it_waits() -> None:
    """A signal's handler runs between two steps of what it interrupts, also of the wait itself."""
    for at in range(60):
        session = Session(Playback(), PLACES, Kept())
        steps = itertools.count()

        def interrupt(
            frame: FrameType,
            event: str,
            _: object,
            *,
            at: int = at,
            session: Session = session,
            steps: Iterator[int] = steps,
        ) -> object:
            waits = Path(frame.f_code.co_filename).name == "threading.py"
            if event == "line" and waits and next(steps) == at:
                session.stop()
            return interrupt

        def run(*, interrupt: Any = interrupt, session: Session = session) -> None:
            sys.settrace(interrupt)
            session.run(seconds=0.2)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), f"it waits for ever: stopped at step {at}"
        if next(steps) <= at:
            return


def test_told_again_to_stop_it_leaves_what_it_has_not_read_and_counts_it() -> None:
    class Impatient(Kept):
        def journeys(self, batch: Sequence[Journey]) -> None:
            super().journeys(batch)
            session.stop()

    source, sink = Playback(records(SLICE + 9), records(5)), Impatient()
    session = Session(source, PLACES, sink)
    summary = session.run(ready=lambda _: session.stop())
    assert (summary.journeys, summary.lost["unread"]) == (SLICE, 9 + 5)
    assert sink.calls[-1] == "end"


def test_how_much_is_left_to_read_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "WAITING_S", 0)
    left: list[int] = []
    session = Session(Playback(records(2 * SLICE + 9)), PLACES, Kept())
    session.run(ready=lambda _: session.stop(), waiting=left.append)
    assert left == [SLICE + 9, 9]


def test_a_sink_that_fails_leaves_no_probe() -> None:
    class Full(Kept):
        def journeys(self, batch: Sequence[Journey]) -> None:
            raise BrokenPipeError

    source = Playback(records(2))
    with pytest.raises(BrokenPipeError):
        run(source, Full())
    assert source.calls[-1] == "close"


def test_a_probe_that_never_fired_while_its_neighbour_did_is_named() -> None:
    def silent(**hits: int) -> tuple[str, ...]:
        source = Playback()
        source.hit = hits
        return run(source, Kept()).silent

    assert silent(veth_xmit=9, __dev_forward_skb=9) == ("enqueue_to_backlog",)
    assert silent(veth_xmit=9) == ("__dev_forward_skb",)
    assert silent() == silent(process_backlog=9) == ()


# -- the topology changes --------------------------------------------------------------------

NOW = Topology("docker0", ends=(device(C1, ETH0), device(C2, ETH0)))


class Playlist:
    """A watch: each time it is asked, whether it is unsettled, and what it has found."""

    def __init__(self, *asked: tuple[bool, list[TopologyChange]]) -> None:
        self.asked = list(asked)
        self.found: list[TopologyChange] = []

    @property
    def unsettled(self) -> bool:
        unsettled, self.found = self.asked.pop(0) if self.asked else (False, [])
        return unsettled

    def changes(self) -> Iterator[TopologyChange]:
        yield from self.found


def watched(source: Playback, sink: Kept, watch: Playlist, looks: int = 3) -> _Places:
    places, left = _Places(), iter(range(looks))
    session = Session(source, places, sink, Topology("docker0"), watch=watch)
    session.run(go_on=lambda: next(left, None) is not None)
    return places


def test_journeys_wait_until_a_change_is_known() -> None:
    source, sink = Playback(records(2)), Kept()
    change = TopologyChange(5, NOW)
    places = watched(source, sink, Playlist((True, []), (True, []), (False, [change])))
    assert places.told == [(5, list(NOW.ends))]
    assert sink.calls == ["begin", "topology docker0", "journeys", "end"]
    assert f"rescope {sorted([(C1, ETH0), (C2, ETH0)])}" in source.calls


def test_they_do_not_wait_for_ever_where_it_is_never_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "UNSETTLED_MAX_S", 0.0)
    handed: list[int] = []
    sink, left = Kept(), iter(range(4))

    def go_on() -> bool:
        handed.append(len(sink.seen))
        time.sleep(0.001)
        return next(left, None) is not None

    churn = Playlist(*[(True, [TopologyChange(n, NOW)]) for n in range(9)])
    source = Playback(records(1), records(1), records(1))
    Session(source, _Places(), sink, watch=churn).run(go_on=go_on)
    assert handed[:2] == [0, 0]  # the first time they wait
    assert handed[-1] == 3


def test_they_do_not_wait_at_the_end() -> None:
    sink = Kept()
    watched(Playback(records(2)), sink, Playlist(*[(True, [])] * 9))
    assert sink.calls == ["begin", "journeys", "end"]
    assert len(sink.seen) == 2


def test_what_passed_beside_is_in_the_summary() -> None:
    assert run(Playback(), Kept()).beside == 7


# -- not all of it ---------------------------------------------------------------------------


def test_what_the_kernel_has_counted_is_named() -> None:
    """What ended alike is one, wherever in the function that dropped it."""
    source = Playback()
    address, (function, _) = next(iter(SYMBOLS.items()))
    xmit = [p.function for p in PROBES].index("veth_xmit")
    dropped = wire.EndCount(address, wire.NO_REASON, C1, ETH0, xmit, False, True, 3, 300)
    source.ended = [
        dropped,
        dropped._replace(netns=0, ifindex=0, drop_at=0, dropped=False, packets=9, bytes=900),
        dropped._replace(packets=2, bytes=100),
        wire.EndCount(0, wire.NO_REASON, 0, 0, wire.END_OTHER, False, False, 1, 10),
    ]
    source.stepped = [wire.StepCount(xmit, xmit, 7, 7, ((7, 1),))]
    counted = run(source, Kept()).counted
    assert counted is not None
    assert counted.steps == (Stepped("veth_xmit", "veth_xmit", Segment.WORK, 7, 7, ((7, 1),)),)
    assert counted.hits == source.hit
    told = [(e.function, e.device and e.device.ifname, e.packets, e.bytes) for e in counted.ended]
    assert told == [("veth_xmit", None, 9, 900), ("veth_xmit", "eth0", 5, 400), (None, None, 1, 10)]
    assert [e.drop and e.drop.function for e in counted.ended] == [None, function, None]
    assert counted.packets == 15


def test_what_was_passed_over_is_in_the_summary() -> None:
    summary = run(Playback(), Kept())
    assert summary.passed_over == {"filter": 4, "sample": 5, "max_rate": 0, "per_flow": 0}
    assert (summary.sampled, summary.untriggered) == ((1, 1), 0)


def test_only_what_was_triggered_is_handed_over() -> None:
    source, sink = Playback(records(2), alive=[record(*TO_C2, flags=0, id=98)]), Kept()
    source.held_back = 7
    left = iter(range(3))
    trigger = Trigger(frozenset({Outcome.UNFINISHED}))
    session = Session(source, PLACES, sink, selects=lambda _: True, trigger=trigger)
    summary = session.run(go_on=lambda: next(left, None) is not None)
    assert [j.id for j in sink.seen] == ["98"]
    assert (summary.journeys, summary.untriggered, summary.unselected) == (1, 7 + 2, 0)
    assert summary.hits["br_handle_frame"] == 0


def test_above_its_ceiling_it_samples_harder_and_says_so() -> None:
    class Told(Ceiling):
        def look(self, arrived: int, made: int) -> Sampling | None:
            looked.append((arrived, made))
            return told.pop(0)

    looked: list[tuple[int, int]] = []
    told = [None, Sampling(1, 8, 90, 50), Sampling(2, 4, 10, 50), None]
    source, sink, left = Playback(records(3), records(2)), Kept(), iter(range(4))
    session = Session(source, PLACES, sink, limits=Limits(2, cpu_percent=50), ceiling=Told)
    summary = session.run(go_on=lambda: next(left, None) is not None)
    assert [c for c in sink.calls if c != "journeys"] == [
        *("begin", "sampling 2", "sampling 8", "sampling 4", "end")
    ]
    assert [c for c in source.calls if c.startswith("sample")] == ["sample 8", "sample 4"]
    assert summary.sampled == (2, 8)
    assert looked[-1] == (5, 5)


def test_it_is_told_how_the_capture_keeps_up() -> None:
    told: list[Health] = []
    source = Playback(records(2))
    session = Session(source, PLACES, Kept())
    source.stepped = [wire.StepCount(*wire.STEP_OTHER, 7, 7, ((7, 1),))]
    session.run(health=told.append, go_on=lambda: not told)
    assert [health.steps[0].packets for health in told] == [1]
    assert [(health.ring, health.waiting) for health in told] == [(0.25, 0)]
    assert told[0].lost["ring_full"] == 3
    assert told[0].filled == 0


def test_journeys_of_another_session_have_other_ids() -> None:
    sink = Kept()
    left = iter(range(3))
    session = Session(Playback(records(2)), PLACES, sink, ids="2-")
    session.run(go_on=lambda: next(left, None) is not None)
    assert [journey.id for journey in sink.seen] == ["2-1", "2-2"]
