# SPDX-License-Identifier: GPL-2.0-only
"""The lab's own traffic: what its clients and their servers say to each other, over and over.

A talk is: both forget the other's Ethernet address (so that ARP comes by itself), three echo
requests and their replies, a UDP question and its answer, a TCP connection with 8 kB each way. In
one round every pair talks, or where there are many the next few, so that it stays short; then comes
a connection to the port the lab publishes, if it does.

It runs in a child process (``python -m tracer.topology.traffic``), which leaves the tracer's own
time alone. One process plays both sides: a socket stays in the namespace it was made in. The
child's standard input is a pipe from the tracer, and the child never waits for anything without
also waiting for the end of that pipe, so it ends at once when the tracer does, however it does.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType

import tracer
from tracer.errors import TopologyError
from tracer.text import printable
from tracer.topology import netns
from tracer.topology.spec import LABS, Interface, Lab, Published

UDP_PORT = 5353
TCP_PORT = 8080
TCP_BYTES = 8192
"""Sent each way over the TCP connection."""
ECHOES = 3
ANSWER_S = 1.0
"""How long an answer may take before the round goes on without it."""
TURNS = 5
"""How many pairs talk in one round at most."""
STOP_S = 2.0
"""How long the child may take to end by itself."""

_SIOCDARP = 0x8953
_ATF_COM = 0x02
_ICMP_ECHO = 8
_ICMP_ECHO_REPLY = 0


class Traffic:
    """The lab's traffic, from ``start`` until ``stop`` or the end of its rounds.

    ``rounds``: how many, or None for until ``stop``. ``pause_s``: between two rounds, seconds.
    """

    def __init__(self, lab: Lab, *, rounds: int | None = None, pause_s: float = 1.0) -> None:
        self.lab = lab
        self.rounds = rounds
        self.pause_s = pause_s
        self.failure: str | None = None
        """Why it ended by itself, one sentence; known once it has ended."""
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the child; its first round follows. Raises OSError."""
        command = [sys.executable, "-P", "-m", __name__, self.lab.name, f"--pause={self.pause_s}"]
        if self.rounds is not None:
            command.append(f"--rounds={self.rounds}")
        house = str(Path(tracer.__file__).parent.parent)
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": house},
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the tracer, which then calls stop
        )

    @property
    def running(self) -> bool:
        """Whether the child runs. When it has ended, ``failure`` says why."""
        if self._child is not None and self._child.poll() is not None:
            self._ended(self._child)
        return self._child is not None

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the end of the rounds.

        Raises TopologyError if it failed or something was not answered, and
        subprocess.TimeoutExpired.
        """
        if self._child is not None:
            self._child.wait(timeout_s)
            self._ended(self._child)
        if self.failure is not None:
            raise TopologyError(self.failure)

    def stop(self) -> None:
        """End the child, if it runs, and wait until it has ended. Raises nothing."""
        child = self._child
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._ended(child)

    def __enter__(self) -> Traffic:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _ended(self, child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None
        assert child.stderr is not None
        self._child = None
        said = child.stderr.read().strip()
        child.stdin.close()
        child.stderr.close()
        if child.returncode != 0:
            last = said.splitlines()[-1] if said else f"exit status {child.returncode}"
            self.failure = f"the lab's traffic ended: {printable(last)}"


class _Unanswered(Exception):  # noqa: N818 -- not an error: it may well be what is to be seen
    """No answer came in time."""


class _TracerEnded(Exception):  # noqa: N818
    """The pipe from the tracer was closed."""


class Exchange:
    """What is said in the lab. Runs in the child, which has one thread."""

    def __init__(self, lab: Lab) -> None:
        self.rounds = 0
        self._lab = lab
        self._turns = cycle(lab.talks)
        self._echo: dict[Interface, socket.socket] = {}
        self._udp: dict[Interface, socket.socket] = {}
        self._tcp: dict[Interface, socket.socket] = {}
        for client in {client for client, _ in lab.talks}:
            self._echo[client] = self._socket(client, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        for server in {server for _, server in lab.talks}:
            self._udp[server] = self._socket(server, socket.SOCK_DGRAM)
            self._udp[server].bind((server.ip, UDP_PORT))
            self._tcp[server] = self._listener(server, TCP_PORT)
        if lab.published is not None:
            self._inner = self._listener(lab.published.server, lab.published.server_port)

    def round(self) -> list[str]:
        """Let those talk whose turn it is; return what was not answered. Raises OSError."""
        self.rounds += 1
        unanswered = []
        for client, server in islice(self._turns, min(TURNS, len(self._lab.talks))):
            self._forget(client, server.ip)
            self._forget(server, self._seen_as(client))
            for step in (self.echo, self.udp, self.tcp):
                if not _is_answered(partial(step, client, server)):
                    unanswered.append(step.__name__)
        published = self._lab.published
        if published is not None and not _is_answered(partial(self.published, published)):
            unanswered.append("published")
        return unanswered

    def echo(self, client: Interface, server: Interface) -> None:
        """Send echo requests as ping does, each after the reply to the one before."""
        endpoint = self._echo[client]
        identifier = os.getpid() & 0xFFFF
        for number in range(ECHOES):
            sequence = (self.rounds * ECHOES + number) & 0xFFFF
            endpoint.sendto(_echo_request(identifier, sequence), (server.ip, 0))
            deadline = time.monotonic() + ANSWER_S
            while not _is_reply(_received(endpoint, deadline), identifier, sequence):
                pass

    def udp(self, client: Interface, server: Interface) -> None:
        """Send one datagram and answer it."""
        endpoint = self._udp[server]
        with self._socket(client, socket.SOCK_DGRAM) as asking:
            deadline = time.monotonic() + ANSWER_S
            asking.connect((server.ip, UDP_PORT))
            asking.send(b"what is the way?")
            sender = None
            expected = (self._seen_as(client), asking.getsockname()[1])
            while sender != expected:  # else a late one, of an earlier round
                _until(endpoint, deadline)
                _, sender = endpoint.recvfrom(512)
            endpoint.sendto(b"one hop at a time.", sender)
            _received(asking, deadline)

    def tcp(self, client: Interface, server: Interface) -> None:
        """Connect, send some kilobytes each way, close in order."""
        to = (server.ip, TCP_PORT)
        self._connection(client, to, self._tcp[server], seen_as=self._seen_as(client))

    def published(self, published: Published) -> None:
        """Do the same, to the port the lab publishes."""
        caller, to = published.caller, (published.ip, published.port)
        self._connection(caller, to, self._inner, seen_as=caller.ip)

    def _seen_as(self, client: Interface) -> str:
        return self._lab.client_seen_as or client.ip

    def _connection(
        self, caller: Interface, to: tuple[str, int], listener: socket.socket, *, seen_as: str
    ) -> None:
        deadline = time.monotonic() + ANSWER_S
        with self._socket(caller, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            client.connect_ex(to)
            seen = (seen_as, client.getsockname()[1])
            with _accepted(listener, seen, deadline) as server:
                client.send(bytes(TCP_BYTES))
                _receive_all(server, TCP_BYTES, deadline)
                server.send(bytes(TCP_BYTES))
                _receive_all(client, TCP_BYTES, deadline)
                client.shutdown(socket.SHUT_WR)
                _received(server, deadline)
            _received(client, deadline)

    def _listener(self, at: Interface, port: int) -> socket.socket:
        listener = self._socket(at, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((at.ip, port))
        listener.listen()
        return listener

    def _socket(self, at: Interface, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        netns.enter(str(netns.RUN_NETNS / at.netns))
        return socket.socket(socket.AF_INET, kind, protocol)

    def _forget(self, at: Interface, ip: str) -> None:
        # What `arp -d` does.
        if at in self._lab.loopbacks:  # nobody is asked
            return
        address = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(at.next_hop(ip)))
        request = struct.pack("=16s16si16s16s", address, b"", _ATF_COM, b"", at.ifname.encode())
        with self._socket(at, socket.SOCK_DGRAM) as any_socket:
            try:
                fcntl.ioctl(any_socket, _SIOCDARP, request)
            except OSError as error:
                if error.errno not in {errno.ENXIO, errno.ENOENT}:  # was not known
                    raise


def _is_answered(step: Callable[[], None]) -> bool:
    try:
        step()
    except (_Unanswered, ConnectionError, TimeoutError):
        return False
    except OSError as error:
        if error.errno not in {errno.EHOSTUNREACH, errno.EPERM}:  # no ARP; a firewall
            raise
        return False
    return True


def _accepted(listener: socket.socket, seen: tuple[str, int], deadline: float) -> socket.socket:
    while True:
        _until(listener, deadline)
        server, address = listener.accept()
        if address == seen:
            return server
        server.close()  # a late one, of an earlier round


def _until(readable: socket.socket, deadline: float) -> None:
    left = max(0.0, deadline - time.monotonic())
    ready, _, _ = select.select([readable, sys.stdin], [], [], left)
    if sys.stdin in ready:
        raise _TracerEnded
    if not ready:
        raise _Unanswered


def _received(endpoint: socket.socket, deadline: float) -> bytes:
    _until(endpoint, deadline)
    return endpoint.recv(65_536)


def _receive_all(endpoint: socket.socket, length: int, deadline: float) -> None:
    while length > 0:
        received = _received(endpoint, deadline)
        if not received:
            raise _Unanswered
        length -= len(received)


def _echo_request(identifier: int, sequence: int) -> bytes:
    payload = bytes(range(56))
    unsigned = struct.pack("!BBHHH", _ICMP_ECHO, 0, 0, identifier, sequence) + payload
    sign = checksum(unsigned)
    return struct.pack("!BBHHH", _ICMP_ECHO, 0, sign, identifier, sequence) + payload


def _is_reply(packet: bytes, identifier: int, sequence: int) -> bool:
    header = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < header + 8:
        return False
    kind, _, _, its_identifier, its_sequence = struct.unpack_from("!BBHHH", packet, header)
    return (kind, its_identifier, its_sequence) == (_ICMP_ECHO_REPLY, identifier, sequence)


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of ``data``."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main(arguments: list[str] | None = None) -> str | None:
    """Run in the child. Returns what went wrong, for the parent to say, or None."""
    parser = argparse.ArgumentParser(prog="tracer.topology.traffic")
    parser.add_argument("lab", choices=LABS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--pause", type=float, default=1.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    lab = LABS[options.lab]
    unanswered: list[str] = []
    try:
        exchange = Exchange(lab)
        while options.rounds is None or exchange.rounds < options.rounds:
            if exchange.rounds and select.select([sys.stdin], [], [], options.pause)[0]:
                break
            unanswered += exchange.round()
    except _TracerEnded:
        return None
    except OSError as error:
        return netns.reason(error)
    if options.rounds is not None and unanswered:
        return f"not answered: {', '.join(dict.fromkeys(unanswered))}"
    return None


if __name__ == "__main__":
    sys.exit(main())
