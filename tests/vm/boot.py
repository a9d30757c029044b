# SPDX-License-Identifier: GPL-2.0-only
"""One boot: a running QEMU, the byte streams that lead into it, and what is known of its end."""

from __future__ import annotations

import contextlib
import re
import selectors
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from tests.vm import qemu
from tests.vm.lost import GuestLost, GuestTimedOut
from tests.vm.terminal import Terminal

# An oops and the panic that follows it fill about fifty.
_TAIL_LINES = 60

Reader = Callable[[bytes], None]


class Boot:
    """Connect what is wanted, then `follow` once. Close it (it is a context) to end QEMU."""

    def __init__(self, kernel: str, console: Path) -> None:
        self._kernel = kernel
        self._console = console
        self._closing = contextlib.ExitStack()
        self._selector = self._closing.enter_context(selectors.DefaultSelector())
        self._ports: list[str] = qemu.port_bus()
        self._inherit: list[socket.socket] = []
        self._readers: dict[socket.socket, Reader] = {}
        self._terminal: Terminal | None = None
        self._keys: socket.socket | None = None
        self._reported = bytearray()
        self._report = self._connect("skbtrace.report", self._read_report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def connect_output(self, name: str, sink: BinaryIO) -> None:
        """Copy what the guest writes to a port."""

        def write(data: bytes) -> None:
            sink.write(data)
            sink.flush()

        self._connect(name, write)

    def connect_answers(self, name: str, answer: Callable[[bytes], bytes]) -> None:
        """Answer each line that the guest writes to a port, without keeping others waiting."""
        asked = bytearray()

        def reply(line: bytes) -> None:
            with contextlib.suppress(OSError):  # the guest has ended meanwhile
                ours.sendall(answer(line) + b"\n")

        def read(data: bytes) -> None:
            asked.extend(data)
            *lines, rest = asked.split(b"\n")
            asked[:] = rest
            for line in lines:
                threading.Thread(target=reply, args=(bytes(line),), daemon=True).start()

        ours = self._connect(name, read)

    def connect_terminal(self, terminal: Terminal) -> None:
        """Make a terminal the other end of a console of the guest."""
        self._terminal = terminal
        self._keys = self._connect("skbtrace.tty", terminal.write, device="virtconsole")

    def _connect(
        self, name: str, reader: Reader, *, device: str = "virtserialport"
    ) -> socket.socket:
        # A connected pair: there is no path to agree on, and QEMU's end is the end of the stream.
        ours, theirs = socket.socketpair()
        self._closing.callback(ours.close)
        self._closing.callback(theirs.close)
        self._inherit.append(theirs)
        self._ports += qemu.port(name, theirs.fileno(), device)
        self._readers[ours] = reader
        self._selector.register(ours, selectors.EVENT_READ)
        return ours

    def follow(self, arguments: Sequence[str], timeout_s: float) -> int:
        """Start QEMU, copy until it ends, and give back the command's exit status."""
        with tempfile.TemporaryFile() as messages:
            code = self._run(arguments, messages, timeout_s)
            status = exit_status(code, bytes(self._reported))
            if status is not None:
                return status
            messages.seek(0)
            console = self._console_text()
            why = why_lost(code, console, messages.read().decode(errors="replace").strip())
        raise GuestLost(self._kernel, f"{why} ({self._when()})", tail(console))

    def _run(self, arguments: Sequence[str], messages: BinaryIO, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        inherit = [theirs.fileno() for theirs in self._inherit]
        process = qemu.start([*arguments, *self._ports], messages, inherit)
        self._closing.callback(process.wait)
        self._closing.callback(process.kill)
        for theirs in self._inherit:
            theirs.close()
        # QEMU keeps its ends of all ports open until it ends.
        while self._readers:
            left = deadline - time.monotonic()
            if left <= 0:
                why = f"not done after {timeout_s:g} s ({self._when()})"
                raise GuestTimedOut(self._kernel, why, tail(self._console_text()))
            for key, _ in self._selector.select(left):
                if isinstance(key.fileobj, socket.socket):
                    self._read(key.fileobj)
                else:
                    self._forward_keys()
        return process.wait()

    def _read(self, port: socket.socket) -> None:
        try:
            data = port.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if data:
            self._readers[port](data)
        else:
            self._selector.unregister(port)
            del self._readers[port]

    def _read_report(self, data: bytes) -> None:
        self._reported += data
        # Not before, so that Ctrl-C ends a guest that does not come up.
        if self._terminal and self._started() and not self._listening():
            self._terminal.take_over(self._resize)
            # A file cannot be polled, and nobody types in it.
            with contextlib.suppress(PermissionError):
                self._selector.register(self._terminal.input, selectors.EVENT_READ)

    def _forward_keys(self) -> None:
        assert self._terminal is not None
        assert self._keys is not None
        data = self._terminal.read()
        if data:
            with contextlib.suppress(ConnectionError):
                self._keys.sendall(data)
        else:
            self._selector.unregister(self._terminal.input)

    def _listening(self) -> bool:
        return self._terminal is not None and self._terminal.input in self._selector.get_map()

    def _resize(self, rows: int, columns: int) -> None:
        with contextlib.suppress(ConnectionError):
            self._report.sendall(f"{rows} {columns}\n".encode())

    def _started(self) -> bool:
        return b"start\n" in self._reported

    def _when(self) -> str:
        return "while the command ran" if self._started() else "before the command ran"

    def _console_text(self) -> str:
        try:
            return self._console.read_bytes().decode(errors="replace")
        except OSError:
            return ""


def exit_status(code: int, report: bytes) -> int | None:
    """The command's exit status; none, if QEMU's says that the guest did not end in order."""
    # isa-debug-exit can carry seven bits, odd codes only. The status itself comes over a port.
    match = re.search(rb"^exit (\d+)$", report, re.MULTILINE)
    return int(match[1]) if match and code == qemu.ENDED else None


def why_lost(code: int, console: str, messages: str) -> str:
    """What a lost guest died of, as far as its remains tell."""
    panic = re.search(r"Kernel panic - not syncing: (.*)", console)
    if panic:
        return f"kernel panic: {panic[1].strip()}"
    if code == qemu.NOT_SET_UP:
        failed = re.findall(r"^init: (.*?)\r*$", console, re.MULTILINE)
        return f"not set up: {failed[-1] if failed else 'see its console'}"
    if code < 0:
        return f"QEMU was ended by {signal.Signals(-code).name}"
    if code in {0, qemu.ENDED}:
        return "switched itself off"
    return f"QEMU ended with status {code}: {messages or 'no message'}"


def tail(console: str) -> str:
    """The last lines of a console."""
    return "\n".join(line.rstrip() for line in console.splitlines()[-_TAIL_LINES:])
