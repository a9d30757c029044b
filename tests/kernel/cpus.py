# SPDX-License-Identifier: GPL-2.0-only
"""Datagrams from every CPU at once, and which CPUs the kernel says have received them.

``python -m tests.kernel.cpus FILE`` while the lab docker0 stands; FILE tells what was counted.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
from functools import partial
from pathlib import Path

from tests.kernel.branches import inside
from tests.kernel.conftest import C1, C2, C2_IP

COUNT = 120
"""Datagrams from each CPU."""
SIZE = 64
"""Bytes of data in each."""
PORTS = range(6000, 6008)
SOFTNET = Path("/proc/net/softnet_stat")


def processed() -> list[int]:
    """Packets that each CPU has received (struct softnet_data, processed)."""
    return [int(line.split()[0], 16) for line in SOFTNET.read_text().splitlines()]


def receiver(port: int) -> socket.socket:
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.bind(("", port))
    made.setblocking(False)
    return made


def send(cpu: int) -> None:
    """A child on that CPU, with a socket in c1."""
    os.sched_setaffinity(0, {cpu})
    with inside(C1, lambda: socket.socket(type=socket.SOCK_DGRAM)) as sender:
        for number in range(COUNT):
            sender.sendto(bytes(SIZE), (C2_IP, PORTS[number % len(PORTS)]))


def receive(sockets: list[socket.socket], wanted: int) -> int:
    """Read until there are so many, or none comes any more."""
    got = 0
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ, each)
        while got < wanted and (ready := selector.select(timeout=5)):
            for key, _ in ready:
                got += len(key.data.recv(2048)) == SIZE
    return got


def main() -> None:
    sockets = [inside(C2, partial(receiver, port)) for port in PORTS]
    before = processed()
    cpus = range(os.cpu_count() or 1)
    children = []
    for cpu in cpus:
        pid = os.fork()
        if not pid:
            send(cpu)
            os._exit(0)
        children.append(pid)
    got = receive(sockets, COUNT * len(cpus))
    assert not any(os.waitpid(pid, 0)[1] for pid in children)
    received = [now - then for now, then in zip(processed(), before, strict=True)]
    Path(sys.argv[1]).write_text(json.dumps({"got": got, "received": received}))


if __name__ == "__main__":
    main()
