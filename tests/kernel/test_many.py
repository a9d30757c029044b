# SPDX-License-Identifier: GPL-2.0-only
"""A bridge of three hundred containers: found in time, and with nothing left behind."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import pytest

from tests.kernel.host import open_files, run
from tracer.topology import links, netns
from tracer.topology.discover import discover
from tracer.topology.names import Names

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
]

MANY = 300
BRIDGE = "br-many"
NAMES = [f"many{n}" for n in range(MANY)]
LIMIT_S = 2.0
"""What it may take in an emulated guest, which is twenty to forty times slower than real."""


def batch(*lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


@pytest.fixture
def bridge() -> Iterator[str]:
    """A bridge, a namespace for each of its ports, an address and a default route in each."""
    modules = ("modprobe", "-a", "bridge", "veth", "nf_tables", "nft_chain_nat", "nft_masq")
    subprocess.run(modules, stderr=subprocess.DEVNULL, check=False)
    try:
        batch(
            f"link add {BRIDGE} type bridge mcast_snooping 0",
            f"addr add 10.99.0.1/16 dev {BRIDGE}",
            f"link set {BRIDGE} up",
            *(f"netns add {name}" for name in NAMES),
            *(
                f"link add {name} up master {BRIDGE} type veth peer name eth0 netns {name}"
                for name in NAMES
            ),
        )
        for number, name in enumerate(NAMES):
            netns.inside(f"/run/netns/{name}", partial(furnish, number))
        yield BRIDGE
    finally:
        batch(f"link del {BRIDGE}", *(f"netns del {name}" for name in NAMES))


def address(number: int) -> str:
    return f"10.99.{1 + number // 200}.{1 + number % 200}/16"


def furnish(number: int) -> None:
    batch(
        "link set lo up",
        f"addr add {address(number)} dev eth0",
        "link set eth0 up",
        "route add default via 10.99.0.1",
    )


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
    assert statistics.median(took) < LIMIT_S


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
