# SPDX-License-Identifier: GPL-2.0-only
"""UDP at a rate: ``paced.py PORT`` takes it in, ``paced.py PORT RATE COUNT`` sends it to there.

``paced.py PORT RATE COUNT EACH`` sends so many in each flow, then goes on from another port.

Run as a file: it imports next to nothing, for in a guest that takes long.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

SERVER_IP, PAYLOAD = "172.17.0.3", bytes(64)
BUFFER = 8 << 20
"""What the receiver may be behind by, in bytes of the kernel's."""
_SO_RCVBUFFORCE = 33


def receive(port: int) -> None:
    """Take in what comes, until killed. Says when it is there to do so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
        taker.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        taker.bind(("", port))
        print("ready", flush=True)
        into = bytearray(len(PAYLOAD))
        while True:
            taker.recv_into(into)


def send(port: int, rate: int, count: int, each: int | None = None) -> tuple[float, float]:
    """Send ``count`` packets, so many a second or as many as can be. When it began and ended.

    First of all that the machine does, or a tracer that is slow would make the sender slow, too.
    """
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    began = time.monotonic()
    for first in range(0, count, each or count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect((SERVER_IP, port))
            for number in range(first, min(first + (each or count), count)):
                ahead = began + number / rate - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)
                sender.send(PAYLOAD)
    return began, time.monotonic()


def main() -> None:
    port, *paced = map(int, sys.argv[1:])
    if paced:
        print(json.dumps(send(port, *paced)))
    else:
        receive(port)


if __name__ == "__main__":
    main()
