# SPDX-License-Identifier: GPL-2.0-only
"""A bridge of three hundred containers, with nothing in them. Made with ip, not with skbtrace."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tracer.topology import netns

MANY = 300
BRIDGE = "br-many"
NAMES = [f"many{n}" for n in range(MANY)]


def batch(*lines: str) -> None:
    """Let ip do all this."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


@contextmanager
def bridge_of_many() -> Iterator[str]:
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
            netns.inside(f"/run/netns/{name}", partial(_furnish, number))
        yield BRIDGE
    finally:
        batch(f"link del {BRIDGE}", *(f"netns del {name}" for name in NAMES))


def address(number: int) -> str:
    """What the container of that number has."""
    return f"10.99.{1 + number // 200}.{1 + number % 200}/16"


def _furnish(number: int) -> None:
    batch(
        "link set lo up",
        f"addr add {address(number)} dev eth0",
        "link set eth0 up",
        "route add default via 10.99.0.1",
    )
