# SPDX-License-Identifier: GPL-2.0-only
"""fentry, fexit and tp_btf against kprobes, the reference: the same packets, the same journeys."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from tests.kernel.conftest import C1, C2, C2_IP, KERNEL, sh
from tests.kernel.host import complaints
from tracer.asked import Asked
from tracer.kernel.source import KernelSource
from tracer.kernel.typed import Target, Typed, TypedError
from tracer.model import Layer
from tracer.probes import MISSION, PROBES
from tracer.topology.discover import discover, scope
from tracer.topology.names import Names
from tracer.wire import HopSlot, Record, decode

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("lab")]

REQUESTS = 101
HOST_IP = "172.17.0.1"
WORK = f"""
ip netns exec {C1} ping -q -c {REQUESTS} -i 0.01 {C2_IP}
ip netns exec {C1} ping -q -c {REQUESTS} -i 0.01 {HOST_IP}
ping -q -c {REQUESTS} -i 0.01 {C2_IP}
ip netns exec {C2} ping -q -c 7 -i 0.01 -b -W 1 172.17.255.255 || true
"""
SEVEN = Asked((), changes=False)
BY_TYPE = {
    *MISSION,
    "skb_clone",
    "skb_release_head_state",
    "__consume_stateless_skb",
    "skb_attempt_defer_free",
    "napi_skb_free_stolen_head",
}


class Traced(NamedTuple):
    """What came of the work."""

    shapes: Counter[tuple[object, ...]]
    hits: dict[str, int]
    lost: dict[str, int]
    by_type: set[str]


def shape(record: Record) -> tuple[object, ...]:
    """What is the same of the journeys of packets that are alike."""
    slots = (
        (PROBES[s.probe].function, s.ifindex, s.netns, s.len, s.flags)
        if isinstance(s, HopSlot)
        else s.kind
        for s in record.slots
    )
    return (record.protocol, record.parent != 0, record.chunk, record.flags, *slots)


def traced(asked: Asked, *, typed: bool) -> Traced:
    """Trace the work."""
    source = KernelSource(scope(discover("docker0", Names())), asked, typed=typed)
    try:
        source.start()
        sh(WORK)
        source.stop()
        records = [decode(record) for record in source.read()]
        by_type = {PROBES[number].function for number in source._targets}
        hits, lost = source.hits(), source.lost()
    finally:
        source.close()
    about_ip = (record for record in records if record.protocol == b"\x08\x00")
    return Traced(Counter(map(shape, about_ip)), hits, lost, by_type)


@pytest.mark.parametrize("asked", [SEVEN, Asked()], ids=["the seven", "default"])
def test_the_journeys_are_those_of_kprobes(asked: Asked) -> None:
    before = complaints()
    sh(WORK)  # who the neighbours are is known from then on
    reference, cheaper = traced(asked, typed=False), traced(asked, typed=True)
    assert not any(reference.lost.values()), reference.lost
    assert not any(cheaper.lost.values()), cheaper.lost
    assert not reference.by_type
    hooks = {"nf_hook_slow"} if Layer.NETFILTER in asked.layers else set()
    assert cheaper.by_type == (BY_TYPE | hooks if KERNEL >= (5, 17) else set())
    assert sum(reference.shapes.values()) >= 3 * 3 * REQUESTS
    assert reference.shapes == cheaper.shapes
    assert complaints() == before


@pytest.mark.skipif(KERNEL < (5, 17), reason="it is not used there")
def test_where_the_kernel_refuses_it_kprobes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = []

    def refuse(_: Typed, name: str, code: bytes, target: Target) -> int:
        refused.append(name)
        raise TypedError("not on this kernel")

    monkeypatch.setattr(Typed, "load", refuse)
    found = traced(SEVEN, typed=True)
    assert refused
    assert not found.by_type
    assert found.hits["veth_xmit"] > 2 * 3 * REQUESTS
    assert not any(found.lost.values()), found.lost
