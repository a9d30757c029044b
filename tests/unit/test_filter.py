# SPDX-License-Identifier: GPL-2.0-only
"""Filters: the C and the interpreter against tcpdump and libpcap, on the same packets."""

from __future__ import annotations

import ctypes
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.unit.filters import EXPRESSIONS, PACKETS, Compiled, drawn, numbers, pcap
from tracer.errors import UsageError
from tracer.filter import Filter, Instruction, filter_of

ROUTED = (4, 9)
"""Verdicts on a packet that has no Ethernet header."""


def by_tcpdump(expression: str, file: Path) -> set[int] | None:
    """The packets that tcpdump keeps; None if it does not understand the expression."""
    done = subprocess.run(
        ["tcpdump", "-r", file, "-w", "-", expression], capture_output=True, check=False
    )
    return numbers(done.stdout) if done.returncode == 0 else None


def test_generated_expressions_keep_what_tcpdump_keeps(tmp_path: Path) -> None:
    file = tmp_path / "packets.pcap"
    file.write_bytes(pcap(PACKETS))
    expressions: list[str] = drawn(EXPRESSIONS, 500)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        kept = list(pool.map(lambda e: by_tcpdump(e, file), expressions))
    filters: list[Filter] = []
    wanted: list[set[int]] = []
    for expression, packets in zip(expressions, kept, strict=True):
        if packets is None:
            with pytest.raises(UsageError):
                filter_of([expression])
        else:
            filters.append(filter_of([expression]))
            wanted.append(packets)
    assert len(filters) > 200
    assert sum(0 < len(packets) < len(PACKETS) for packets in wanted) > 100
    compiled = Compiled([each.in_c() for each in filters], tmp_path)
    for n, (each, packets) in enumerate(zip(filters, wanted, strict=True)):
        assert {i for i, p in enumerate(PACKETS) if each.accepts(*p)} == packets, each.text
        for i, packet in enumerate(PACKETS):
            said = compiled.verdicts(n, *packet)
            if each.needs_addresses:
                said = [verdict for at, verdict in enumerate(said) if at not in ROUTED]
            assert set(said) == {i in packets}, (each.text, i, said)


_WORDS = st.integers(0, 0xFFFFFFFF) | st.integers(0, 80)
_JUMP = 5
_LOADS = (0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xB1)
_OTHERS = (0x00, 0x01, 0x80, 0x81, 0x07, 0x87, 0x84)
_CELLS = (0x60, 0x61, 0x02, 0x03)
_SIGNS = (0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x94, 0xA4)
_INSTRUCTIONS = st.one_of(
    st.tuples(st.sampled_from(_LOADS), st.integers(0, 70)),
    st.tuples(st.sampled_from(_OTHERS), _WORDS),
    st.tuples(st.sampled_from(_CELLS), st.integers(0, 15)),
    st.tuples(st.sampled_from(_SIGNS), _WORDS.filter(bool)),
    st.tuples(st.sampled_from([code | 8 for code in (*_SIGNS, 0x64, 0x74)]), st.just(0)),
    st.tuples(st.sampled_from((0x64, 0x74)), st.integers(0, 31)),
    st.tuples(st.sampled_from((0x05, 0x15, 0x25, 0x35, 0x45, 0x1D, 0x2D, 0x3D, 0x4D)), _WORDS),
)
_PROGRAMS = st.lists(
    st.tuples(_INSTRUCTIONS, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=24
).map(tuple)


def program_of(drawn: tuple[tuple[tuple[int, int], int, int], ...]) -> tuple[Instruction, ...]:
    """A program that returns A. Jumps stay within it. libpcap leaves its cells as they are."""
    out = [Instruction(0x02, 0, 0, cell) for cell in range(16)]
    for at, ((code, k), jt, jf) in enumerate(drawn):
        left = len(drawn) - at - 1
        if code & 7 != _JUMP:
            out.append(Instruction(code, 0, 0, k))
        elif code == _JUMP:
            out.append(Instruction(code, 0, 0, min(jt, left)))
        else:
            out.append(Instruction(code, min(jt, left), min(jf, left), k))
    return (*out, Instruction(0x16, 0, 0, 0))


class _Struct(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


def by_libpcap(program: tuple[Instruction, ...], kept: bytes, length: int) -> int:
    library = ctypes.CDLL("libpcap.so.0.8")
    library.bpf_filter.restype = ctypes.c_uint
    array = (_Struct * len(program))(*(_Struct(*i) for i in program))
    assert library.bpf_validate(array, len(program)) == 1
    return int(library.bpf_filter(array, kept, length, len(kept)))


def test_every_instruction_does_what_libpcap_says(tmp_path: Path) -> None:
    programs = [program_of(each) for each in drawn(_PROGRAMS, 600)]
    packets = PACKETS[::5]
    answers = [[by_libpcap(program, *packet) for packet in packets] for program in programs]
    # Whether A is what libpcap says, of the first packet with which it is something.
    asking = [
        (*p[:-1], Instruction(0x15, 0, 1, max(a)), Instruction(6, 0, 0, 1), Instruction(6, 0, 0, 0))
        for p, a in zip(programs, answers, strict=True)
    ]
    filters = [Filter("", program) for program in (*programs, *asking)]
    compiled = Compiled([each.in_c() for each in filters], tmp_path)
    met = {i.code for program in programs for i in program}
    assert met >= {*_LOADS, *_OTHERS, *_CELLS, *_SIGNS, *(code | 8 for code in _SIGNS)}
    assert sum(any(answer) for answer in answers) > 100
    for n, each in enumerate(filters):
        for packet in packets:
            wanted = bool(by_libpcap(each.program, *packet))
            assert bool(each.accepts(*packet)) is wanted, each.program
            said = compiled.verdicts(n, *packet)[:4]  # with its Ethernet addresses
            assert set(said) == {wanted}, (each.program, said)


def test_division_by_zero_rejects() -> None:
    for sign in (0x34, 0x94):
        constant = Filter("", (Instruction(sign, 0, 0, 0), Instruction(6, 0, 0, 1)))
        assert "return 0;" in constant.in_c()
        assert constant.accepts(b"", 0) is False


def test_bytes_that_are_not_known_decide_nothing() -> None:
    found = filter_of(["tcp port 80"])
    frame, length = PACKETS[2]
    assert found.accepts(frame, length) is True
    assert found.accepts(frame[:20], length) is None
    assert found.accepts(frame[:20], 20) is False
    assert filter_of(["arp"]).accepts(frame[:20], length) is False


@pytest.mark.parametrize(
    ("expression", "needs"),
    [
        ("tcp port 80", False),
        ("len > 100", False),
        ("arp or vlan 5", False),
        ("ether host 02:42:ac:11:00:02", True),
        ("ether[0] & 1 = 1", True),
        ("ether[ip[0]] = 1", True),
        ("ether multicast", True),
    ],
)
def test_what_needs_ethernet_addresses(expression: str, needs: bool) -> None:
    assert filter_of([expression]).needs_addresses is needs


@pytest.mark.parametrize(
    ("words", "complaint", "marked"),
    [
        (["tcp", "prot", "80"], "cannot be understood", "prot"),
        (["tcp port 80 extra"], "cannot be understood", "extra"),
        (["tcp )"], "cannot be understood", ")"),
        (["tcp and (udp or port 80) and or icmp"], "cannot be understood", "or"),
        (["host", "1.2.3.4", "porn", "80"], "cannot be understood", "porn"),
        (["(tcp"], "ends too soon", ""),
        (["tcp and"], "ends too soon", ""),
        (["tcp[100"], "ends too soon", ""),
        (["port", "99999"], "illegal port number 99999", "99999"),
        (["port 80 or port foo or tcp"], "unknown port 'foo'", "foo"),
        (["net 1.2.3.4/33 and tcp"], "mask length", "1.2.3.4/33"),
        (["ip and arp"], "rejects all packets", "arp"),
        (["vlan 5000"], "VLAN tag 5000", "5000"),
        (["tcp é\udcff"], "cannot be understood", r"é\xff"),
        (["tcp\x1b[31m"], "cannot be understood", r"\x1b"),
    ],
)
def test_an_error_points_at_the_word(words: list[str], complaint: str, marked: str) -> None:
    with pytest.raises(UsageError) as raised:
        filter_of(words)
    said, expression, mark = raised.value.message.split("\n")
    assert complaint in said
    shown = " ".join(words).replace("\x1b", r"\x1b").replace("\udcff", r"\xff")
    assert expression.strip() == shown
    begin = mark.index("^")
    assert expression[begin : len(mark)] == marked
    assert raised.value.hint == "man 7 pcap-filter"


@pytest.mark.parametrize("words", [[""], [" ", "  "], ["tcp\0"]])
def test_what_is_no_expression_at_all(words: list[str]) -> None:
    with pytest.raises(UsageError):
        filter_of(words)


@pytest.mark.parametrize(
    ("expression", "why"), [("inbound", "no byte of a packet"), ("ip6 protochain 17", "a loop")]
)
def test_what_cannot_be_had_is_refused(expression: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        filter_of([expression])


def test_what_is_too_long_is_refused() -> None:
    # libpcap takes the square of the time: 400 are some 2159 instructions, 1000 took a minute.
    many = " or ".join(f"host 10.1.{n // 200}.{n % 200}" for n in range(400))
    with pytest.raises(UsageError, match="too long"):
        filter_of([many])
