# SPDX-License-Identifier: GPL-2.0-only
"""Every way of losing a packet from sight is provoked, and must be counted."""

from __future__ import annotations

import os
import shlex
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import C1, C1_IP, C2, C2_IP, sh
from tests.kernel.packets import inside
from tracer import probes
from tracer.asked import Asked
from tracer.correlate import Correlator, Names
from tracer.kernel import compiled, compiler, definitions, source
from tracer.kernel.source import KernelSource
from tracer.model import Device, Journey, Layer, Netns, Outcome
from tracer.probes import PROBES, Attach, Probe
from tracer.wire import decode

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

HERE = Device(Netns(1, "host"), 1, "x")
LAYERS = (Layer.TRANSPORT, Layer.SOCKET)
REQUESTS = 53
PORT = 5099
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python has no name for it


class Capture:
    """A source that was started, and what came out of it."""

    def __init__(self, source: KernelSource) -> None:
        self.source = source
        self.correlator = Correlator(
            Names(
                lambda *_: HERE, lambda *_: HERE.netns, source.symbol, source.reason, source.table
            )
        )
        self.journeys: list[Journey] = []

    def ping(self, count: int = REQUESTS, *, read: bool = True) -> None:
        """Echo requests from c1 to c2."""
        sh(f"ip netns exec {C1} ping -q -c {count} -i 0.002 {C2_IP}")
        if read:
            self.read()

    def read(self) -> None:
        """Everything that waits."""
        while batch := self.source.read():
            taken = [self.correlator.take(decode(data)) for data in batch]
            self.journeys += [j for j in taken if j is not None]

    def detach(self, function: str, *, at_return: bool = False) -> None:
        """Take one probe away."""
        attach = Attach.KRETPROBE if at_return else Attach.KPROBE
        rows = [i for i, p in enumerate(PROBES) if (p.function, p.attach) == (function, attach)]
        self.source._running.detach(*(f"skbtrace_{row}" for row in rows))

    def stop(self) -> None:
        """Detach; what is left."""
        alive = self.source.stop()
        self.read()
        self.journeys += self.correlator.finish(map(decode, alive))

    @property
    def lost(self) -> dict[str, int]:
        """All counters that are not 0."""
        counters = self.source.lost() | self.correlator.lost
        return {name: count for name, count in counters.items() if count}

    def requests(self) -> list[Journey]:
        """The journeys of echo requests."""
        return [j for j in self.journeys if j.flow.src == C1_IP and j.flow.icmp_type == 8]


@pytest.fixture
def start() -> Iterator[Callable[..., Capture]]:
    sources: list[KernelSource] = []

    def begin(*, typed: bool = True) -> Capture:
        sources.append(KernelSource(asked=Asked(layers=LAYERS), typed=typed))
        sources[-1].start()
        return Capture(sources[-1])

    yield begin
    for one in sources:
        one.close()


def test_a_ring_buffer_that_nobody_reads_loses_journeys_and_counts_them(
    start: Callable[[], Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definitions, "RING_PAGES", 4)
    capture = start()
    assert capture.source.ring_fill() == 0
    capture.ping(read=False)
    assert 0.9 < capture.source.ring_fill() <= 1
    capture.stop()
    assert capture.source.ring_fill() == 0
    # a request, a reply, and the reply's clone, each; ARP may come by
    others = [j for j in capture.journeys if j.flow.proto != "icmp"]
    whole = len(capture.journeys) - len(others)
    assert set(capture.lost) == {"ring_full"}
    assert 0 < whole < 3 * REQUESTS
    assert whole + capture.lost["ring_full"] >= 3 * REQUESTS
    assert whole + capture.lost["ring_full"] <= 3 * REQUESTS + 6


@pytest.mark.once
def test_a_program_that_was_compiled_before_does_the_same(
    start: Callable[[], Capture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "FOLDER", tmp_path / "programs")
    compiled.FOLDER.mkdir(mode=0o700)
    paths = []
    for _ in range(2):
        before = {file: file.stat().st_mtime_ns for file in compiled.FOLDER.iterdir()}
        capture = start()
        capture.ping()
        capture.stop()
        assert not capture.lost
        requests = capture.requests()
        assert len(requests) == REQUESTS
        paths.append({tuple(hop.function for hop in journey.hops) for journey in requests})
    (kept,) = compiled.FOLDER.iterdir()
    assert before == {kept: kept.stat().st_mtime_ns}
    assert paths[0] == paths[1]


@pytest.mark.once
@pytest.mark.skipif(compiler.ELSEWHERE not in os.environ, reason="nobody compiles for this host")
def test_what_the_host_of_a_guest_compiles_is_what_the_guest_compiles(
    start: Callable[[], Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which the other tests need not be afraid then: in a guest it takes a minute each time."""
    asked: list[list[str]] = []
    made = compiler._compiled

    def compile_for(flags: list[str]) -> compiled.Compiled:
        asked.append(flags)
        return made(flags)

    monkeypatch.setattr(compiler, "_compiled", compile_for)
    monkeypatch.setattr(definitions, "RING_PAGES", 8)  # nothing like it is kept
    start()
    (flags,) = asked
    by_the_host = compiler.child(flags, shlex.split(os.environ[compiler.ELSEWHERE]))
    assert compiled.from_json(by_the_host.stdout) == compiler.compiled_here(flags)


def test_a_full_table_follows_no_more_packets_and_counts_them(
    start: Callable[[], Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    room, sent = 64, 200
    monkeypatch.setattr(definitions, "LIVE_MAX", room)
    capture = start()
    with (
        inside(C2, lambda: socket.socket(type=socket.SOCK_DGRAM)) as reader,
        inside(C1, lambda: socket.socket(type=socket.SOCK_DGRAM)) as sender,
    ):
        reader.bind(("", PORT))
        for _ in range(sent):  # nobody reads them
            sender.sendto(b"stay", (C2_IP, PORT))
        capture.stop()
    unread = [j for j in capture.journeys if j.outcome is Outcome.UNFINISHED]
    unread = [j for j in unread if (j.flow.proto, j.flow.dport) == ("udp", PORT)]
    assert set(capture.lost) == {"table_full"}
    # Two rows of eight for each address: the table is all but full before a packet finds no room.
    assert room * 3 / 4 <= len(unread) <= room
    # Each of the others began nowhere, though every function on its way would have begun it.
    assert capture.lost["table_full"] >= sent - len(unread)


def test_packets_are_told_apart_where_many_are_under_way(start: Callable[[], Capture]) -> None:
    """Thousands at once: none is lost, none has the hops of another."""
    sent = 3000
    capture = start()
    with (
        inside(C2, lambda: socket.socket(type=socket.SOCK_DGRAM)) as reader,
        inside(C1, lambda: socket.socket(type=socket.SOCK_DGRAM)) as sender,
    ):
        reader.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        reader.bind(("", PORT))
        for number in range(sent):
            sender.sendto(bytes(number % 1000), (C2_IP, PORT))
            if number % 500 == 0:
                capture.read()
        capture.stop()
    unread = [j for j in capture.journeys if (j.flow.proto, j.flow.dport) == ("udp", PORT)]
    assert not capture.lost
    assert [j.outcome for j in unread] == [Outcome.UNFINISHED] * sent
    lengths = Counter(journey.hops[0].len for journey in unread)
    assert set(lengths.values()) == {sent // 1000}
    assert len({tuple(hop.function for hop in journey.hops) for journey in unread}) <= 2


def test_a_free_that_is_not_seen_ends_a_journey_as_damaged(start: Callable[[], Capture]) -> None:
    capture = start()
    capture.detach("skb_release_head_state")
    capture.ping()
    capture.stop()
    damaged = [j for j in capture.journeys if j.outcome is Outcome.DAMAGED]
    assert capture.lost["end_missed"] == len(damaged) > 0
    assert {j.outcome for j in capture.journeys} <= {Outcome.DAMAGED, Outcome.UNFINISHED}
    for journey in capture.requests():  # no journey is two packets
        functions = [hop.function for hop in journey.hops]
        assert functions.count("icmp_rcv") <= 1
        assert functions.count("veth_xmit") <= 2


@pytest.mark.once
def test_a_clone_whose_return_is_not_seen_is_counted(start: Callable[..., Capture]) -> None:
    capture = start(typed=False)  # fexit sees entry and return at once
    capture.detach("skb_clone", at_return=True)
    capture.ping()
    capture.stop()
    assert capture.lost == {"clone_missed": REQUESTS}
    assert not [j for j in capture.journeys if j.parent]


@pytest.mark.once
def test_hits_that_are_not_seen_are_counted(start: Callable[[], Capture]) -> None:
    capture = start()
    capture.detach("__dev_forward_skb")
    capture.ping()
    capture.stop()
    # two veth_xmit of each request and each reply
    assert capture.lost["hop_missing"] >= 4 * REQUESTS
    assert set(capture.lost) == {"hop_missing"}


@pytest.mark.once
def test_a_function_this_kernel_does_not_have_is_named_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = Probe("br_teleport", PROBES[0].skb, PROBES[7].handler, PROBES[0].layer, "no such one")
    table = (*PROBES, missing)
    for module in (probes, definitions, source):
        monkeypatch.setattr(module, "PROBES", table)
    traced = KernelSource()
    try:
        places = {place.function: place for place in traced.start()}
    finally:
        traced.close()
    assert places["br_teleport"].symbol is None
    assert places["br_teleport"].why_missing == "this kernel has no such function"
    assert places["veth_xmit"].symbol == "veth_xmit"


@pytest.mark.once
def test_a_program_that_does_not_compile_is_one_error_with_the_compilers_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tracer.errors import SkbtraceError

    monkeypatch.setattr(definitions, "LIVE_MAX", "nonsense")
    with pytest.raises(SkbtraceError, match="does not compile"):
        KernelSource().start()
