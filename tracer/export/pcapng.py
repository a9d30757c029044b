# SPDX-License-Identifier: GPL-2.0-only
"""pcapng, for Wireshark and tcpdump: each journey's packet once, as it was first seen.

A packet's bytes are those a trace keeps: its headers (rebuilt and marked so where it keeps none),
and what follows them if ``-s`` asked for that; its length is the whole packet's. Its interface is
the device where it was first seen, called ``netns/ifname``; a comment tells the path, the end and
what was changed on the way. Namespaces' addresses have their names (Name Resolution Block). Blocks
are those of draft-ietf-opsawg-pcapng; none is of a kind of our own.
"""

from __future__ import annotations

import heapq
import ipaddress
import struct
from collections.abc import Iterator

from tracer.duration import words
from tracer.export.formats import Exported
from tracer.export.rebuilt import rebuilt
from tracer.frame import with_addresses
from tracer.model import Capture, Device, Journey, Outcome, Topology
from tracer.probes import PROBES, Handler
from tracer.words import change_words, ending

_SECTION, _INTERFACE, _NAMES, _PACKET = 0x0A0D0D0A, 1, 4, 6
_MAGIC, _MAJOR, _MINOR, _UNKNOWN_LENGTH = 0x1A2B3C4D, 1, 0, -1
_ETHERNET = 1  # LINKTYPE_ETHERNET
_COMMENT = 1
_HARDWARE, _OS, _APPLICATION = 2, 3, 4
_IF_NAME, _IF_TSRESOL = 2, 9
_NANOSECONDS = b"\x09"
_FLAGS, _PACKET_ID = 2, 5
_NEITHER, _INBOUND, _OUTBOUND = 0, 1, 2
_RECORD_IPV4, _RECORD_IPV6 = 1, 2
_ID_BITS = 48
_ORDERED = 16384
"""Packets held back, so that they stand in the order of their first sight: a trace has them in the
order of their ends."""
_BATCH = 512
_LONGEST_TEXT = 4000
"""Bytes of a comment; what is longer is cut."""
_RECEIVES = frozenset(p.function for p in PROBES if p.handler in {Handler.GRO, Handler.RECEIVE})
"""Where it is first seen if a device has received it; elsewhere it was made on this host."""


def pcapng(trace: Exported) -> Iterator[bytes]:
    """Give the pieces of the file."""
    capture = trace.capture
    yield _section(capture)
    yield _names(capture.topology)
    packets = _Packets(capture)
    waiting: list[tuple[int, int, bytes]] = []
    out: list[bytes] = []
    for number, journey in enumerate(trace):
        block = packets.block(journey, out)
        if block is not None:
            heapq.heappush(waiting, (journey.start_ns, number, block))
        if len(waiting) > _ORDERED:
            out.append(heapq.heappop(waiting)[2])
        if len(out) >= _BATCH:
            yield b"".join(out)
            out.clear()
    out += [block for _, _, block in sorted(waiting)]
    yield b"".join(out)


class _Packets:
    """Makes a block of each journey, and one of each interface when it is met."""

    def __init__(self, capture: Capture) -> None:
        self._to_realtime = capture.realtime_ns - capture.monotonic_ns
        self._interfaces: dict[Device | None, int] = {}

    def block(self, journey: Journey, out: list[bytes]) -> bytes | None:
        """Return a journey's block; None if too little is known of the packet.

        An interface that is new comes to ``out``: it must stand before its packets.
        """
        comment = _comment(journey)
        if journey.frame is None:
            comment += (
                "\nits headers were not kept; these are rebuilt from what is known of its flow"
            )
        frame = journey.frame or rebuilt(journey)
        if frame is None:
            return None
        frame = with_addresses(frame, [c for hop in journey.hops for c in hop.changes])
        device = journey.first_device
        interface = self._interfaces.get(device)
        if interface is None:
            interface = self._interfaces[device] = len(self._interfaces)
            out.append(_interface(device))
        at = max(journey.start_ns + self._to_realtime, 0) & 0xFFFFFFFFFFFFFFFF
        data = frame.kept
        size = min(max(frame.len, len(data)), 0x7FFFFFFF)  # what Wireshark takes
        head = struct.pack("<IIIII", interface, at >> 32, at & 0xFFFFFFFF, len(data), size)
        options = _option(_COMMENT, comment)
        options += _option(_FLAGS, struct.pack("<I", _direction(journey)))
        number = _number(journey.id)
        if number is not None:
            options += _option(_PACKET_ID, struct.pack("<Q", number))
        return _block(_PACKET, head + _padded(data) + options + _END)


def _section(capture: Capture) -> bytes:
    body = struct.pack("<IHHq", _MAGIC, _MAJOR, _MINOR, _UNKNOWN_LENGTH)
    body += _option(_HARDWARE, capture.machine) + _option(_OS, f"Linux {capture.kernel}")
    body += _option(_APPLICATION, capture.tool)
    said = "Each packet stands here once, as it was when it was first seen. "
    snaplen = capture.asked.get("snaplen")
    if snaplen is None:
        said += "Its bytes are its headers; what they carry was not kept."
    else:
        said += (
            f"Its bytes are its first {snaplen}, its headers in any case; fewer where the kernel "
        )
        said += "had the rest in pages."
    return _block(_SECTION, body + _option(_COMMENT, said) + _END)


def _interface(device: Device | None) -> bytes:
    body = struct.pack("<HHI", _ETHERNET, 0, 0)
    body += _option(_IF_NAME, "no device" if device is None else device.place)
    return _block(_INTERFACE, body + _option(_IF_TSRESOL, _NANOSECONDS) + _END)


def _names(topology: Topology | None) -> bytes:
    """Return what the namespaces' addresses are called; nothing if none is known."""
    records: dict[bytes, None] = {}
    for device, address in () if topology is None else topology.addresses:
        try:
            ip = ipaddress.ip_interface(address).ip
        except ValueError:
            continue
        kind = _RECORD_IPV4 if ip.version == 4 else _RECORD_IPV6
        value = ip.packed + _utf8(device.netns.name) + b"\0"
        records[struct.pack("<HH", kind, len(value)) + _padded(value)] = None
    return _block(_NAMES, b"".join([*records, _END])) if records else b""


def _comment(journey: Journey) -> str:
    said = [f"journey {journey.id}"]
    if journey.parent is not None:
        said[0] += f", made of {journey.parent}"
    said.append(" > ".join(device.place for device, _ in journey.arrivals()) or "no device")
    end = ending(journey)
    last = journey.last_device
    if journey.outcome is Outcome.DROPPED and last is not None:
        end += f" at {last.place}"
        if journey.drop is not None and journey.drop.function is not None:
            end += f" in {journey.drop.function}"
    said.append(f"{end} after {words(journey.duration_ns)}")
    said += [
        f"{hop.function}: {' '.join(change_words(change, '->'))}"
        for hop in journey.hops
        for change in hop.changes
        if change.field in {"src", "dst", "sport", "dport", "icmp_id", "ttl"}
    ]
    said += [f"{r.kind} {r.id}" for r in journey.references]
    return "\n".join(said)


def _direction(journey: Journey) -> int:
    if journey.parent is not None or not journey.hops:
        return _NEITHER
    return _INBOUND if journey.hops[0].function in _RECEIVES else _OUTBOUND


def _number(journey_id: str) -> int | None:
    """Return an id as 64 bits: of ``2-17`` the part before the dash stands in the uppermost."""
    part, _, number = journey_id.rpartition("-")
    if not (number.isdecimal() and number.isascii() and len(number) < 15):
        return None
    if not part:
        return int(number)
    known = part.isdecimal() and part.isascii() and len(part) < 5
    return (int(part) << _ID_BITS) + int(number) if known else None


def _option(code: int, value: str | bytes) -> bytes:
    data = _utf8(value) if isinstance(value, str) else value
    return struct.pack("<HH", code, len(data)) + _padded(data)


def _utf8(text: str) -> bytes:
    """Cut where it is too long, and not within a character."""
    return text.encode()[:_LONGEST_TEXT].decode(errors="ignore").encode()


_END = struct.pack("<HH", 0, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size
