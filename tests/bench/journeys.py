# SPDX-License-Identifier: GPL-2.0-only
"""What a journey takes in user space: ``python -m tests.bench --journeys``. No guest.

From a record's bytes to a line of the trace, with packets that take the same few ways and with
packets of which each takes one of its own, which is the worst case.

Where packets come one by one, a tracer sleeps in between. What an emulator makes of that is told in
a guest: ``python -m tests.vm run -- python -m tests.bench --journeys``.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence

from tests.unit.test_correlate import names
from tests.unit.test_recurring import PING, REPLY, REWRITTEN
from tracer import wire
from tracer.alike import Batch, Item
from tracer.correlate import Correlator
from tracer.exchanges import Exchanges
from tracer.export.trace_writer import TraceWriter
from tracer.recurring import Recurring

MOST, TRIES = 3000, 7
EVERY_NS, CHANGED_NS = 1000, 50_000
"""From packet to packet, and from change to change of the topology where there are any."""
SOME, NAP_S = 50, 0.02
"""Half a second of a hundred a second, and a nap in which the caches are lost."""
Take = Callable[[Sequence[bytes]], Sequence[Item]]


def records(*, alike: bool) -> list[bytes]:
    """Pings there and back, and some that are rewritten on their way."""
    found = []
    for number in range(MOST):
        record = (PING, REPLY, REWRITTEN)[number % 3]
        slots = list(record.slots)
        if not alike:
            first = slots[0]
            assert isinstance(first, wire.HopSlot)
            slots[0] = first._replace(cpu=number)
        slots = [
            s._replace(len=s.len + number % 7) if isinstance(s, wire.HopSlot) else s for s in slots
        ]
        changed = record._replace(id=number, base_ns=EVERY_NS * number, slots=tuple(slots))
        found.append(wire.encode(changed))
    return found


def took_us(
    take: Callable[[], Take], packets: Sequence[bytes], some: int = MOST, nap_s: float = 0.0
) -> float:
    """The least of several times, for one packet; ``some`` at a time, after a nap each."""
    best = float("inf")
    for _ in range(TRIES):
        each, refer = take(), Exchanges().refer
        writer = TraceWriter(io.BytesIO(), "trace")
        took = 0.0
        for first in range(0, len(packets), some):
            time.sleep(nap_s)
            began = time.process_time()
            writer.journeys(Batch([refer(item) for item in each(packets[first : first + some])]))
            took += time.process_time() - began
        best = min(best, took)
    return 1e6 * best / len(packets)


def measure() -> dict[str, float]:
    """us for a journey, by what makes it of what."""
    known = names()._replace(renames=lambda: 0)

    def by_itself() -> Take:
        take = Correlator(known).take
        return lambda packets: [j for p in packets if (j := take(wire.decode(p))) is not None]

    def by_pattern() -> Take:
        return Recurring(known).take

    def after_changes() -> Take:
        recurring = Recurring(known)
        for at_ns in range(0, MOST * EVERY_NS, CHANGED_NS):
            recurring.renamed(at_ns)
        return recurring.take

    found = {}
    for alike, which in ((True, "alike"), (False, "all different")):
        packets = records(alike=alike)
        found[f"{which}, each by itself"] = took_us(by_itself, packets)
        found[f"{which}, by patterns"] = took_us(by_pattern, packets)
    packets = records(alike=True)
    found["alike, by patterns, read after many changes"] = took_us(after_changes, packets)
    found[f"alike, by patterns, {SOME} at a time"] = took_us(by_pattern, packets, SOME)
    found[f"alike, by patterns, {SOME} after each nap"] = took_us(by_pattern, packets, SOME, NAP_S)
    return found


def rows(figures: dict[str, float]) -> Iterator[tuple[bool, str, str, str]]:
    """Give what was reached."""
    for name, us in figures.items():
        yield (True, f"a journey, {name}", f"{us:.1f} us", "")
    saved = figures["alike, each by itself"] / figures["alike, by patterns"]
    yield (True, "what patterns save", f"{saved:.1f} times", "")
    lost = figures["all different, by patterns"] / figures["all different, each by itself"]
    yield (True, "what they cost where nothing is alike", f"{lost:.2f} times", "")
