# SPDX-License-Identifier: GPL-2.0-only
"""Packets that ping cannot make: ``python -m tests.kernel.send WHAT LAB``.

Who sends is the lab's client, who answers its server; one process plays both. Whatever is waited
for is a fact, and if it never comes, the process ends with an error.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tracer.topology import netns
from tracer.topology.spec import LABS, Interface, Lab

PIECES, PIECES_PORT = 6, 9
UDP_PORT, TCP_PORT, LOSSY_PORT = 5005, 8000, 8001
MARK, PRIORITY, TC_INDEX, CLASSID = 0x7, 3, 5, 0x10007
CGROUP = Path("/tmp/net_cls/sender")
LIMIT_S = 60.0


def at(interface: Interface, kind: socket.SocketKind) -> socket.socket:
    """A socket there; this process goes back to where it was."""
    made = netns.inside(
        str(netns.RUN_NETNS / interface.netns), lambda: socket.socket(socket.AF_INET, kind)
    )
    made.settimeout(LIMIT_S)
    return made


def datagram(lab: Lab) -> None:
    """A datagram that is read. The process stays in the namespace it was started in."""
    with at(lab.client, socket.SOCK_DGRAM) as client, at(lab.server, socket.SOCK_DGRAM) as server:
        server.bind((lab.server.ip, UDP_PORT))
        client.sendto(b"whose am I?", (lab.server.ip, UDP_PORT))
        assert server.recv(100) == b"whose am I?"


def marked(lab: Lab) -> None:
    """The same, with everything on it by which traffic is told apart."""
    if CGROUP.exists():
        (CGROUP / "cgroup.procs").write_text(str(os.getpid()))
    with at(lab.client, socket.SOCK_DGRAM) as client, at(lab.server, socket.SOCK_DGRAM) as server:
        server.bind((lab.server.ip, UDP_PORT))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, PRIORITY)
        client.sendto(b"first class", (lab.server.ip, UDP_PORT))
        assert server.recv(100) == b"first class"


def connected(lab: Lab, port: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    with at(lab.server, socket.SOCK_STREAM) as listener:
        listener.bind((lab.server.ip, port))
        listener.listen()
        client = at(lab.client, socket.SOCK_STREAM)
        client.connect((lab.server.ip, port))
        server, _ = listener.accept()
        server.settimeout(LIMIT_S)
        return client, server


def pieces(lab: Lab) -> None:
    """PIECES datagrams in one call: the driver is given all of them at once."""
    udp_segment = 103  # include/uapi/linux/udp.h
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.IPPROTO_UDP, udp_segment, 100)
        client.sendto(bytes(100 * PIECES), (lab.server.ip, PIECES_PORT))


def connection(lab: Lab) -> None:
    """A TCP connection: some bytes each way, closed in order."""
    client, server = connected(lab, TCP_PORT)
    client.send(b"q" * 100)
    assert len(server.recv(200)) == 100
    server.send(b"a" * 200)
    assert len(client.recv(400)) == 200
    client.close()
    assert server.recv(1) == b""
    server.close()
    closed(lab, TCP_PORT)


def published(lab: Lab) -> None:
    """The same, to the port that the lab publishes."""
    there = lab.published
    assert there is not None
    with at(there.server, socket.SOCK_STREAM) as listener:
        listener.bind((there.server.ip, there.server_port))
        listener.listen()
        client = at(there.caller, socket.SOCK_STREAM)
        client.connect((there.ip, there.port))
        server, _ = listener.accept()
        client.close()
        server.settimeout(LIMIT_S)
        assert server.recv(1) == b""
        server.close()


def lost(lab: Lab) -> None:
    """A TCP connection of which a segment is lost until it has been sent again."""
    client, server = connected(lab, LOSSY_PORT)
    drop = f"tcp dport {LOSSY_PORT} tcp flags & (psh|syn) == psh counter drop"
    inside = ["ip", "netns", "exec", lab.server.netns, "nft"]
    rules = f"table ip lossy {{ chain in {{ type filter hook input priority 0; {drop}; }}; }}"
    subprocess.run([*inside, rules], check=True)
    client.send(b"q" * 100)
    until(lambda: retransmitted(lab) > 0)
    subprocess.run([*inside, "delete table ip lossy"], check=True)
    assert len(server.recv(200)) == 100
    client.close()
    assert server.recv(1) == b""
    server.close()
    closed(lab, LOSSY_PORT)
    print("retransmitted", retransmitted(lab))


def retransmitted(lab: Lab) -> int:
    """How many segments the client's namespace says that it has sent again."""
    said = subprocess.check_output(
        ["ip", "netns", "exec", lab.client.netns, "nstat", "-asz", "TcpRetransSegs"], text=True
    )
    return int(said.split("TcpRetransSegs")[1].split()[0])


def closed(lab: Lab, port: int) -> None:
    """Wait until the last ACK has arrived: no end waits for one."""
    look = ["ss", "-Htn", "state", "last-ack", "state", "closing", f"( sport = {port} )"]
    until(
        lambda: (
            not subprocess.check_output(["ip", "netns", "exec", lab.server.netns, *look]).strip()
        )
    )


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


if __name__ == "__main__":
    {each.__name__: each for each in (datagram, marked, pieces, connection, published, lost)}[
        sys.argv[1]
    ](LABS[sys.argv[2]])
