# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of branches trace: a process that makes the kernel copy, cut and merge packets.

``python -m tests.kernel.branches FILE`` in the docker0 lab with a third container; what its own
sockets saw goes to FILE, as JSON.
"""

from __future__ import annotations

import json
import shlex
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.kernel.conftest import C1, C2, C2_IP, sh
from tracer.topology import netns

C3, C3_IP = "branches-c3", "172.17.0.4"
PINGS = 3
UNWANTED = 77
"""Id of an echo request that no tap wants."""
FRAMES = 5
ETHERTYPE = 0x88B5  # for local experiments: nobody on earth handles it
NOBODY = "02:00:00:00:00:99"
GSO_PORT, GRO_PORT, COPY_PORT = 8001, 8002, 8003
DATA = 200_000
TOTAL_RETRANS = struct.Struct("100xI")
"""tcpi_total_retrans of struct tcp_info (include/uapi/linux/tcp.h), in segments."""

T = TypeVar("T")


def inside(where: str, make: Callable[[], T]) -> T:
    """What ``make`` returns in that namespace."""
    return netns.inside(f"/run/netns/{where}", make)


def frames(sender: socket.socket, to: str) -> None:
    """Ethernet frames that no protocol takes."""
    for number in range(FRAMES):
        head = mac(to) + sender.getsockname()[4] + ETHERTYPE.to_bytes(2, "big")
        sender.send(head + bytes([number]) * 46)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def packet_socket(device: str, protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    made.bind((device, protocol))
    return made


def raw_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def ping(to: str) -> None:
    sh(f"ip netns exec {C1} ping -q -c {PINGS} -i 0.01 {to}")


def flood() -> None:
    """To everybody, to an address that nobody has, and from the bridge itself."""
    with inside(C1, lambda: packet_socket("eth0", 0)) as sender:
        frames(sender, "ff:ff:ff:ff:ff:ff")
        frames(sender, NOBODY)
    with packet_socket("docker0", 0) as sender:
        frames(sender, "ff:ff:ff:ff:ff:ff")


def raw() -> None:
    """Echo replies for ping and two raw sockets more, one of which nobody reads."""
    with inside(C1, raw_socket) as one, inside(C1, raw_socket):
        ping(C2_IP)
        for _ in range(PINGS):
            one.recv(2048)


def tap() -> int:
    """Echo requests and replies under the eyes of a packet socket; how many packets it saw."""
    with inside(C1, lambda: packet_socket("eth0", 0x0003)) as one:
        ping(C3_IP)
        one.setblocking(False)
        seen = 0
        while True:
            try:
                frame = one.recv(2048)
            except BlockingIOError:
                return seen
            seen += frame[12:14] == b"\x08\0" and frame[23] == 1


def tcpdump() -> int:
    """The same for tcpdump, which has a ring."""
    with subprocess.Popen(
        shlex.split(f"ip netns exec {C1} tcpdump -i eth0 -n -c {2 * PINGS} -Z root icmp"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "listening" in line:
                break
        ping(C2_IP)
        return len(process.communicate(timeout=60)[0].splitlines())


def refused() -> None:
    """A ping that tcpdump's filter does not want."""
    with subprocess.Popen(
        shlex.split(f"ip netns exec {C1} tcpdump -i eth0 -n -Z root udp"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "listening" in line)
        sh(f"ip netns exec {C1} ping -q -c {PINGS} -i 0.01 -e {UNWANTED} {C2_IP}")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@contextmanager
def setting(up: str, down: str) -> Iterator[None]:
    sh(up)
    try:
        yield
    finally:
        sh(down)


def dup() -> None:
    """nftables in c1 sends a copy of each echo request elsewhere."""
    rule = f'ip daddr {C3_IP} icmp type echo-request dup to {C2_IP} device "eth0"'
    with setting(
        f"ip netns exec {C1} nft 'table ip t {{ chain c {{ type filter hook output priority 0;"
        f" {rule}; }}; }}'",
        f"ip netns exec {C1} nft delete table ip t",
    ):
        ping(C3_IP)


def mirror() -> None:
    """What c1 sends is mirrored to c3's port."""
    with setting(
        "tc qdisc add dev vethc1 clsact;"
        "tc filter add dev vethc1 ingress matchall action mirred egress mirror dev vethc3",
        "tc qdisc del dev vethc1 clsact",
    ):
        ping(C2_IP)


def copy() -> None:
    """netem damages a segment that TCP has a clone of, so it makes itself a copy of the bytes."""
    with inside(C2, listening(COPY_PORT)) as server, inside(C1, tcp) as client:
        client.connect((C2_IP, COPY_PORT))
        peer, _ = server.accept()
        with peer:
            with setting(
                f"ip netns exec {C1} tc qdisc add dev eth0 root netem corrupt 100%",
                f"ip netns exec {C1} tc qdisc del dev eth0 root",
            ):
                client.send(b"x" * 100)
            # TCP sends it again, and that is not damaged.
            assert peer.recv(100) == b"x" * 100


def tcp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def listening(port: int) -> Callable[[], socket.socket]:
    def make() -> socket.socket:
        made = tcp()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("", port))
        made.listen()
        return made

    return make


def transfer(port: int) -> int:
    """DATA bytes over TCP from c1 to c2; how many segments TCP has sent again."""
    with inside(C2, listening(port)) as server, inside(C1, tcp) as client:
        client.setblocking(True)
        client.connect((C2_IP, port))
        peer, _ = server.accept()
        with peer:
            left, got = memoryview(bytes(range(250)) * (DATA // 250)), 0
            while left or got < DATA:
                left = left[client.send(left[:65536]) :] if left else left
                got += len(peer.recv(65536))
        read = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TOTAL_RETRANS.size)
        again: int = TOTAL_RETRANS.unpack(read)[0]
        return again


def gso() -> int:
    """c2's port does not segment in hardware: what TCP has sent whole is cut there."""
    with setting("ethtool -K vethc2 tso off gso off", "ethtool -K vethc2 tso on gso on"):
        return transfer(GSO_PORT)


def gro() -> int:
    """And c2's end merges again what it receives."""
    with setting(
        f"ethtool -K vethc2 tso off gso off; ip netns exec {C2} ethtool -K eth0 gro on",
        f"ethtool -K vethc2 tso on gso on; ip netns exec {C2} ethtool -K eth0 gro off",
    ):
        return transfer(GRO_PORT)


def main() -> None:
    told: dict[str, int] = {}
    flood()
    raw()
    told["tap"] = tap()
    told["tcpdump"] = tcpdump()
    dup()
    mirror()
    copy()
    told[str(GSO_PORT)] = gso()
    told[str(GRO_PORT)] = gro()
    refused()
    Path(sys.argv[1]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
