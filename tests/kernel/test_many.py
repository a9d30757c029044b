# SPDX-License-Identifier: GPL-2.0-only
"""A bridge of three hundred containers: found in time, and with nothing left behind."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import pytest

from tests.kernel.host import open_files, run
from tests.kernel.many import MANY, NAMES, address, batch, bridge_of_many
from tracer.topology import links
from tracer.topology.discover import discover
from tracer.topology.names import Names

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.once,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]


@pytest.fixture
def bridge() -> Iterator[str]:
    with bridge_of_many() as name:
        yield name


@pytest.fixture
def masquerading() -> Iterator[None]:
    """Rules for which a program must be asked."""
    chain = "{ type nat hook postrouting priority 100; ip saddr 10.99.0.0/16 masquerade; }"
    run("nft", f"table ip many {{ chain out {chain}; }}")
    yield
    run("nft", "delete", "table", "ip", "many")


def test_three_hundred_containers_are_found_in_time(bridge: str, masquerading: None) -> None:
    discover(bridge, Names())  # what is imported and loaded once
    files = open_files()
    took = []
    for _ in range(3):
        began = time.monotonic()
        topology = discover(bridge, Names())
        took.append(time.monotonic() - began)
    assert open_files() == files
    assert threading.active_count() == 1
    print(f"{MANY} containers: {', '.join(f'{each:.2f}' for each in took)} s")

    assert len(topology.ports) == len(topology.states) == MANY
    found = {end.netns.name: end for end in topology.ends}
    assert list(found) == NAMES
    assert {port.ifname: end.netns.name for port, end in topology.pairs} == {
        name: name for name in NAMES
    }
    there = {(device.netns.name, each) for device, each in topology.addresses}
    assert there >= {(name, address(number)) for number, name in enumerate(NAMES)}
    gateways = {r.netns.name: r.gateway for r in topology.routes if r.dst == "0.0.0.0/0"}
    assert gateways == dict.fromkeys(NAMES, "10.99.0.1")
    assert [rewrite.kind for rewrite in topology.rewrites] == ["masquerade"]
    # On the machine whose figures the README has it is one second. Others are slower, for ip too.
    began = time.monotonic()
    for name in NAMES:
        run("ip", "-n", name, "-br", "addr")
    assert statistics.median(took) < (time.monotonic() - began) / 2


def test_a_namespace_that_vanishes_meanwhile_costs_itself_only(
    bridge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = links.nsids

    def vanish(paths: Mapping[int, str], wanted: Iterable[int]) -> dict[int, int]:
        found = ask(paths, wanted)
        batch("netns del many7")
        return found

    monkeypatch.setattr(links, "nsids", vanish)
    try:
        ends = discover(bridge, Names()).ends
    finally:
        batch("netns add many7")
    assert [end.netns.name for end in ends] == [name for name in NAMES if name != "many7"]
