# SPDX-License-Identifier: GPL-2.0-only
"""Send bytes over TCP from c1 to the world outside, and as many back: ``send_out PORT BYTES``."""

from __future__ import annotations

import socket
import sys

from tests.kernel.branches import inside, listening, tcp
from tests.kernel.conftest import C1


def hand_over(sender: socket.socket, receiver: socket.socket, count: int) -> None:
    """Send so many bytes while the other end reads them."""
    left, got = count, 0
    while got < count:
        if left:
            left -= sender.send(b"x" * min(left, 60_000))
        got += len(receiver.recv(65536))


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    with inside("outside", listening(port)) as server, inside(C1, tcp) as client:
        client.connect(("198.51.100.2", port))
        peer, _ = server.accept()
        with peer:
            hand_over(client, peer, count)
            hand_over(peer, client, count)


if __name__ == "__main__":
    main()
