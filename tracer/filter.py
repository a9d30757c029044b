# SPDX-License-Identifier: GPL-2.0-only
"""Expressions of pcap-filter(7): compiled by libpcap to classic BPF, from there to C, or run here.

What a filter looks at is an Ethernet frame as tcpdump shows it: a VLAN tag that the kernel keeps
beside the packet stands in its place (``frame``, and in the kernel bpf/filter.h). Classic BPF is
that of net/core/filter.c and of libpcap's own interpreter: a load from beyond the packet, and a
division by zero, reject the packet. This module knows neither bcc nor traces.
"""

from __future__ import annotations

import ctypes
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from tracer.errors import PrerequisiteError, UsageError
from tracer.text import printable

MOST_INSTRUCTIONS = 2048
"""Of classic BPF. What is longer may be too much for the verifier."""
_LIBRARY = "libpcap.so.0.8"
_ETHERNET = 1  # DLT_EN10MB
_SNAPLEN = 0x40000
_NETMASK_UNKNOWN = 0xFFFFFFFF
_ADDRESSES = 12  # bytes at the front of an Ethernet frame
_ANCILLARY = 0xFFFFF000  # SKF_AD_OFF of linux/filter.h: no byte of the packet
_CELLS = 16
_WORD = 0xFFFFFFFF

# linux/bpf_common.h: class, size and mode of a load, operation and source of the others
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = range(0x00, 0xC0, 0x20)
_X = 0x08
_OPERATORS = {
    0x00: "+", 0x10: "-", 0x20: "*", 0x30: "/", 0x40: "|", 0x50: "&", 0x60: "<<", 0x70: ">>",
    0x90: "%", 0xA0: "^",
}  # fmt: skip
_NEG = 0x80
_JUMPS = {0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&"}
_TXA = 0x80
_RET_A = 0x10

_SYNTAX = "syntax error"
_NEVER = "expression rejects all packets"
_WORDS = re.compile(rb"[\w.:/\\-]*[\w/\\]|&&|\|\||<<|>>|[<>=!]=|[\x80-\xff]+|\S")
_ENDINGS = (
    "",
    "1",
    "1.2.3.4",
    "tcp",
    "dst host 1.2.3.4",
    "= 1",
    "1 = 1",
    "] = 1",
    "1] = 1",
    ")",
    "1)",
    "1) = 1",
    "0:0:0:0:0:0",
)
"""What makes a whole expression of the beginning of one, beside the brackets that are missing."""


class Instruction(NamedTuple):
    """struct sock_filter of linux/filter.h. Jumps lead forward only."""

    code: int
    jt: int
    jf: int
    k: int


class Filter(NamedTuple):
    """An expression and what it compiles to for Ethernet frames."""

    text: str
    program: tuple[Instruction, ...]

    @property
    def needs_addresses(self) -> bool:
        """Whether it may look at a byte of the Ethernet addresses, which a packet has late."""
        return any(
            i.code & 7 == _LD and i.code & 0xE0 in (_ABS, _IND) and i.k < _ADDRESSES
            for i in self.program
        )

    def in_c(self) -> str:
        """Return statements for the macro SKBTRACE_FILTER of bpf/filter.h."""
        targets = {
            target for at, i in enumerate(self.program) for target in _targets(at, i) if target
        }
        return " ".join(
            (f"L{at}: " if at in targets else "") + _statement(at, instruction)
            for at, instruction in enumerate(self.program)
        )

    def accepts(self, packet: bytes, length: int) -> bool | None:
        """Say whether it accepts a frame of ``length`` bytes that begins with ``packet``.

        None if that depends on bytes that are in the frame and not in ``packet``.
        """
        try:
            return bool(_run(self.program, packet, length))
        except _UnknownError:
            return None


def filter_of(words: Sequence[str]) -> Filter:
    """Compile an expression, given as its words or as any pieces of it.

    Names of hosts are asked of the resolver, as tcpdump does. Raises UsageError that points at the
    word, PrerequisiteError if libpcap is not installed.
    """
    try:
        text = b" ".join(word.encode("utf-8", "surrogateescape") for word in words)
    except UnicodeEncodeError as error:
        raise UsageError(
            "the filter has half a character in it", hint="man 7 pcap-filter"
        ) from error
    shown = printable(text.decode(errors="backslashreplace"))
    if not text.strip():
        raise UsageError("the filter is empty", hint="man 7 pcap-filter")
    if b"\0" in text:
        raise UsageError("the filter has a zero byte in it", hint="man 7 pcap-filter")
    program = _compiled(text)
    if isinstance(program, str):
        raise UsageError(_complaint(text, shown, program), hint="man 7 pcap-filter")
    if any(i.code & 7 == _LD and i.code & 0xE0 == _ABS and i.k >= _ANCILLARY for i in program):
        raise UsageError(
            f"the filter asks for what no byte of a packet says: {shown}",
            hint="man 7 pcap-filter   # not: inbound, outbound, ifindex",
        )
    if any(i.code == _JMP and i.k >= len(program) for i in program):
        raise UsageError(
            f"the filter asks for a loop, which the kernel does not let it have: {shown}",
            hint="man 7 pcap-filter   # not: protochain",
        )
    if len(program) > MOST_INSTRUCTIONS:
        raise UsageError(
            f"the filter is too long: {len(program)} instructions of classic BPF, "
            f"{MOST_INSTRUCTIONS} are the most",
            hint="sudo skbtrace --topology auto net 10.0.0.0/8   # a network for many hosts",
        )
    return Filter(shown, program)


class _Program(ctypes.Structure):  # struct bpf_program of pcap/bpf.h
    class _Instruction(ctypes.Structure):
        _fields_ = (
            ("code", ctypes.c_ushort),
            ("jt", ctypes.c_ubyte),
            ("jf", ctypes.c_ubyte),
            ("k", ctypes.c_uint32),
        )

    _fields_ = (("count", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction)))


@cache
def _pcap() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise PrerequisiteError(
            f"libpcap, which compiles filters, cannot be loaded: {error}",
            hint="sudo apt-get install libpcap0.8",
        ) from error
    library.pcap_open_dead.restype = ctypes.c_void_p
    library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
    library.pcap_compile.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Program),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint32,
    ]
    library.pcap_geterr.restype = ctypes.c_char_p
    library.pcap_geterr.argtypes = [ctypes.c_void_p]
    library.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
    library.pcap_close.argtypes = [ctypes.c_void_p]
    return library


def _compiled(text: bytes) -> tuple[Instruction, ...] | str:
    """Return the program, or what libpcap says is wrong."""
    pcap = _pcap()
    handle = pcap.pcap_open_dead(_ETHERNET, _SNAPLEN)
    program = _Program()
    try:
        if pcap.pcap_compile(handle, ctypes.byref(program), text, 1, _NETMASK_UNKNOWN):
            said: bytes = pcap.pcap_geterr(handle)
            return said.decode(errors="replace")
        found = tuple(
            Instruction(i.code, i.jt, i.jf, i.k) for i in program.instructions[: program.count]
        )
        pcap.pcap_freecode(ctypes.byref(program))
        return found
    finally:
        pcap.pcap_close(handle)


def _complaint(text: bytes, shown: str, said: str) -> str:
    """Return libpcap's words, and below the expression a mark under the word they are about.

    libpcap tells no place. For a syntax error it is the first word behind which no ending makes an
    expression, for another error the first one with which libpcap says the same.
    """
    words = list(_WORDS.finditer(text))
    # Most often it quotes the word: then nobody has to be asked again what a name means.
    quoted = re.search(r"""['"]([^'"]+)['"]""", said)
    named = None if quoted is None else quoted[1].encode()
    at = next((word for word in words if word[0] == named), None)
    if at is None:
        at = next((word for word in words if _is_wrong(text[: word.end()], said)), None)
    if _SYNTAX in said:
        what = "the filter ends too soon" if at is None else "the filter cannot be understood"
    else:
        what = printable(said)
    begin, end = (len(text), len(text) + 1) if at is None else at.span()
    before, word = (
        printable(t.decode(errors="backslashreplace")) for t in (text[:begin], text[begin:end])
    )
    return f"{what}\n  {shown}\n  {' ' * len(before)}{'^' * max(len(word), 1)}"


def _is_wrong(beginning: bytes, said: str) -> bool:
    if said == _NEVER:
        return _compiled(beginning) == said
    if _SYNTAX in said:
        return all(_SYNTAX in answer for answer in _answers(beginning))
    return said in _answers(beginning)


def _answers(beginning: bytes) -> Iterator[str]:
    """Give what libpcap says of the beginning with each ending; empty where it is content."""
    missing = b")" * max(beginning.count(b"(") - beginning.count(b")"), 0)
    for ending in _ENDINGS:
        answer = _compiled(b"%s %s%s" % (beginning, ending.encode(), missing))
        yield answer if isinstance(answer, str) else ""


def _targets(at: int, i: Instruction) -> tuple[int, ...]:
    """Return the instructions that this one may jump to, other than to the next one."""
    if i.code & 7 != _JMP:
        return ()
    if i.code & 0xF0 == 0:
        return (at + 1 + i.k,)
    return tuple(at + 1 + jump for jump in (i.jt, i.jf) if jump)


def _statement(at: int, i: Instruction) -> str:
    kind, source = i.code & 7, "X" if i.code & _X else f"{i.k}u"
    if kind in (_LD, _LDX):
        return _load("A" if kind == _LD else "X", i)
    if kind in (_ST, _STX):
        return f"M{i.k} = {'A' if kind == _ST else 'X'};"
    if kind == _ALU:
        return _arithmetic(i.code & 0xF0, source, i.k)
    if kind == _JMP:
        return _jump(at, i, source)
    if kind == _RET:
        return f"return {'A' if i.code & 0x18 == _RET_A else source} != 0;"
    return "A = X;" if i.code & 0xF8 == _TXA else "X = A;"


def _load(register: str, i: Instruction) -> str:
    mode = i.code & 0xE0
    if mode == _MSH:
        return f"FILTER_HEADER({i.k}u)"
    if mode in (_ABS, _IND):
        where = "FIXED" if mode == _ABS else "AT_X"
        return f"FILTER_{where}({_SIZES[i.code & 0x18]}, {i.k}u)"
    value = {_IMM: f"{i.k}u", _MEM: f"M{i.k}", _LEN: "frame->len"}[mode]
    return f"{register} = {value};"


def _arithmetic(operation: int, source: str, k: int) -> str:
    if operation == _NEG:
        return "A = -A;"
    sign = _OPERATORS[operation]
    if sign in "/%":
        check = "if (!X) return 0; " if source == "X" else ""
        return f"{check}A {sign}= {source};" if check or k else "return 0;"
    if sign in ("<<", ">>"):
        if source == "X":
            return f"A = X < 32 ? A {sign} X : 0;"
        return f"A {sign}= {source};" if k < 32 else "A = 0;"
    return f"A {sign}= {source};"


def _jump(at: int, i: Instruction, source: str) -> str:
    if i.code & 0xF0 == 0:
        return f"goto L{at + 1 + i.k};"
    yes = f"if (A {_JUMPS[i.code & 0xF0]} {source}) goto L{at + 1 + i.jt};" if i.jt else ""
    if i.jt and i.jf:
        return f"{yes} else goto L{at + 1 + i.jf};"
    if i.jf:
        return f"if (!(A {_JUMPS[i.code & 0xF0]} {source})) goto L{at + 1 + i.jf};"
    return yes or ";"


class _UnknownError(Exception):
    """A byte that is not known decides."""


class _BeyondError(Exception):
    """The frame has no such byte, or something is divided by zero."""


def _run(program: Sequence[Instruction], packet: bytes, length: int) -> int:
    """Return what the program returns; 0 for what rejects the packet otherwise."""
    a = x = at = 0
    cells = [0] * _CELLS
    try:
        while True:
            code, jt, jf, k = program[at]
            at += 1
            kind, value = code & 7, x if code & _X else k
            if kind == _LD:
                a = _loaded(code, k, x, cells, packet, length)
            elif kind == _LDX:
                x = _loaded(code, k, x, cells, packet, length)
            elif kind in (_ST, _STX):
                cells[k] = a if kind == _ST else x
            elif kind == _ALU:
                a = _calculated(code & 0xF0, a, value)
            elif kind == _JMP:
                at += _jumped(code & 0xF0, a, value, (k, jt, jf))
            elif kind == _RET:
                return a if code & 0x18 == _RET_A else k
            elif code & 0xF8 == _TXA:
                a = x
            else:
                x = a
    except _BeyondError:
        return 0


def _loaded(code: int, k: int, x: int, cells: list[int], packet: bytes, length: int) -> int:  # noqa: PLR0917
    mode, size = code & 0xE0, _SIZES[code & 0x18]
    if mode == _IMM:
        return k
    if mode == _MEM:
        return cells[k]
    if mode == _LEN:
        return length
    begin = k + x if mode == _IND else k
    end = begin + (1 if mode == _MSH else size)
    if end > length:
        raise _BeyondError
    if end > len(packet):
        raise _UnknownError
    value = int.from_bytes(packet[begin:end], "big")
    return (value & 0x0F) << 2 if mode == _MSH else value


def _jumped(comparison: int, a: int, b: int, jumps: tuple[int, int, int]) -> int:
    always, yes, no = jumps
    if comparison == 0:
        return always
    return yes if _COMPARED[comparison](a, b) else no


_Number = Callable[[int, int], int]
_COMPARED: dict[int, _Number] = {
    0x10: operator.eq,
    0x20: operator.gt,
    0x30: operator.ge,
    0x40: operator.and_,
}
_CALCULATED: dict[str, _Number] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
    "%": operator.mod,
    "|": operator.or_,
    "&": operator.and_,
    "^": operator.xor,
    "<<": lambda a, b: a << b if b < 32 else 0,
    ">>": lambda a, b: a >> b if b < 32 else 0,
}


def _calculated(operation: int, a: int, b: int) -> int:
    if operation == _NEG:
        return -a & _WORD
    if not b and _OPERATORS[operation] in "/%":
        raise _BeyondError
    return _CALCULATED[_OPERATORS[operation]](a, b) & _WORD
