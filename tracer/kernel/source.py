# SPDX-License-Identifier: GPL-2.0-only
"""The kernel as a source of records: compile, attach, read, stop.

It gives record bytes and numbers; what they mean is for others to say.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress

from tracer.asked import Asked
from tracer.capabilities import taken_up
from tracer.errors import PrerequisiteError, SkbtraceError
from tracer.kernel.bcc import load_bcc
from tracer.kernel.btf import Btf
from tracer.kernel.compiler import compile_program
from tracer.kernel.definitions import MODULES, SYMBOLS, definitions, helper, needed
from tracer.kernel.misses import TABLE, Misses
from tracer.kernel.program import Map, Program
from tracer.kernel.ring import Ring
from tracer.kernel.symbols import Symbols, plain
from tracer.kernel.typed import Target, TypedError, target_of
from tracer.model import Layer, ProbePlace, Scope
from tracer.probes import FREES, PROBES, Attach, Handler, Probe, chosen
from tracer.text import printable
from tracer.wire import (
    END,
    END_COUNT,
    END_OTHER,
    LOSSES,
    PASSED,
    RECORD_MAX,
    STEP,
    STEP_OTHER,
    EndCount,
    StepCount,
    as_sent,
    decode_end,
    decode_step,
)

BATCH = 4096
"""Records read in one go; the reader comes up for air after that."""

# struct live in bpf/live.h: what stands before the record, of that `kept`; struct seen, struct nft.
_LIVE_PREFIX = struct.Struct("=76xI16x")
_SEEN_BYTES = 88
# struct row, its words, what they say in the bits that an address has not, and enum how.
_ROW = struct.Struct("=8Q32x")
_WAYS, _HOW, _FOLLOWED = 8, 7, 1
_NFT_BYTES = 56
# struct cpu_state in bpf/skbtrace.bpf.c: what ended beside the topology, the hits missed, what was
# passed over, the loss counters, and what makes skbs just now.
_MAKERS = sum(probe.handler is Handler.CLONE for probe in PROBES)
_PROBES_MAX = 128  # PROBES_MAX there
_CPU_STATE = struct.Struct(f"=16x2Q{8 * _PROBES_MAX}x8x{len(PASSED)}Q{len(LOSSES)}Q{2 * _MAKERS}Q")
_HITS = struct.Struct(f"=32x{_PROBES_MAX}Q")
_PASSED_AT = 2
_LOSSES_AT = _PASSED_AT + len(PASSED)
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_FIRST = _U32.pack(0)
_CONTEXTS = 4  # enum context there
# enum program there, in its order.
_PROGRAMS = ("begin", "pass", "branch", "pass_branch")
# Those that what is attached with types calls.
_TYPED_PROGRAMS = ("skbtrace_begin_typed",)
# struct table_key and struct table there.
_TABLE_KEY = struct.Struct("=QQ")
_TABLE = struct.Struct("=32s32sII")
_NO_HOOK = 0xFF
# The map scope there.
_WITHIN, _BESIDE = 1, 2
SCOPE_MAX = 16384
TABLES_MAX = 4096
"""Names of netfilter's tables remembered."""
_REASONS = ("qdisc_drop_reason", "skb_drop_reason")
"""Enums of drop reasons: each has numbers of its own, but 0 is in all."""


class KernelSource:
    """Probes on this kernel. Start once, read often, stop once.

    ``scope``: where journeys may begin (see ``model.Scope``), or None for everywhere. ``typed``:
    whether ``Probe.typed`` may be used where this kernel has it; kprobes, which work everywhere,
    are what it is held against. Reading and stopping are for one thread.
    """

    def __init__(
        self, scope: Scope | None = None, asked: Asked | None = None, *, typed: bool = True
    ) -> None:
        self._scope = scope
        self._asked = asked = asked or Asked()
        self._scoped: dict[tuple[int, int], bool] = {}
        self._positions = chosen(asked.layers)
        self._hits_before = [0] * len(PROBES)
        self._program: Program | None = None
        self._stopped = False
        self._misses: Misses | None = None
        self._missed: int | None = None
        self._probed: frozenset[str] = frozenset()
        self._may_typed = typed
        self._targets: dict[int, Target] = {}  # position in PROBES → of what is typed
        self._ring: Ring | None = None
        self._loaded: dict[str, tuple[str, int]] = {}  # function → its module, which load of it
        self._known: dict[int, tuple[str, int] | None] = {}
        self._reasons: dict[int, str] = {}
        self._tables: dict[tuple[int, int], tuple[int, str, str, int | None] | None] = {}

    def start(self) -> tuple[ProbePlace, ...]:
        """Compile, attach every probe, and only then let journeys begin.

        Returns what became of each function that was chosen and that this kernel can have (see
        ``Probe.module`` and ``since``). PrerequisiteError if it cannot trace, SkbtraceError if
        the program does not compile.
        """
        btf = Btf()
        try:
            symbols = Symbols()
            addresses = symbols.addresses((*SYMBOLS, TABLE))
            try:
                self._targets = self._targets_of(btf, symbols) if self._may_typed else {}
                places = self._load(btf, symbols, addresses)
            except TypedError:
                self.close()
                self._targets = {}
                places = self._load(btf, symbols, addresses)
            self._reasons = {
                number: name.removeprefix("SKB_DROP_REASON_")
                for enum in _REASONS
                for number, name in btf.enum(enum).items()
            }
            with suppress(SkbtraceError):
                self._misses = Misses(btf, addresses.get(TABLE))
        finally:
            btf.close()
        self._shows = bool(addresses)
        there = {place.function for place in places if place.symbol}
        self._loaded = {
            probe.function: (probe.module, load)
            for probe in PROBES
            if probe.function in there and probe.module is not None
            if (load := _load_of(probe.module)) is not None
        }
        self._probed = frozenset(
            p.function if p.by else p.symbol
            for p in places
            # Nobody sees that the free of a packet was missed that is not followed.
            if p.symbol and (p.function not in FREES or self._asked.passes_over)
        )
        if not any(place.symbol for place in places):
            raise PrerequisiteError(
                f"this kernel lets no probe be attached ({places[0].why_missing})",
                hint="make demo   # runs the same job in a guest whose kernel can",
            )
        self._ring = self._running.open_ring("records")
        self.rescope(self._scope or {})
        self.sample(self._asked.limits.one_in)
        rest = END.pack(0, 0, 0, 0, END_OTHER, 0, 0)
        self._maps["ends"].set(rest, bytes(END_COUNT.size))
        # Attaching takes its time, and what is attached counts already.
        self._hits_before = self._count_hits()
        self._begin(True)
        return places

    def _targets_of(self, btf: Btf, symbols: Symbols) -> dict[int, Target]:
        found: dict[int, Target | None] = {}
        # Before 5.12 (commit ca06f55b9002) such a program may come in the middle of itself, which
        # would make its counters wrong. What is looked for came later, with 5.17 (f92c1e183604). A
        # tp_btf may until 6.1 (05b24ff9b2cf); but nobody receives in the middle of receiving.
        if helper(btf, "get_func_arg") is None:
            return {}
        for number in self._positions:
            probe = PROBES[number]
            # What has another symbol is not what the types tell of.
            if probe.tracepoint or probe.function in symbols.variants(probe.function):
                found[number] = target_of(btf, probe)
        return {number: target for number, target in found.items() if target is not None}

    def _load(
        self, btf: Btf, symbols: Symbols, addresses: Mapping[str, int]
    ) -> tuple[ProbePlace, ...]:
        cpus = len(load_bcc().table.get_possible_cpus())
        defined = definitions(
            btf,
            addresses,
            self._asked,
            cpus=cpus,
            scoped=self._scope is not None,
            typed=self._targets,
        )
        self._program = Program(compile_program(defined), cpus)
        self._load_shared()
        return self._attach_all(symbols)

    def rescope(self, scope: Scope) -> None:
        """Let journeys begin at these devices and at no others from now on.

        Does nothing for a source without scope. Raises SkbtraceError if there are too many.
        """
        if self._scope is None:
            return
        if len(scope) > SCOPE_MAX:
            raise SkbtraceError(
                f"the topology has {len(scope)} devices, skbtrace looks at {SCOPE_MAX} at most",
                hint="sudo skbtrace --topology auto   # every device of this host",
            )
        table = self._maps["scope"]
        for netns, ifindex in self._scoped.keys() - scope.keys():
            table.delete(_U64.pack(netns << 32 | ifindex))
        for (netns, ifindex), within in scope.items():
            if self._scoped.get((netns, ifindex)) != within:
                place = _WITHIN if within else _BESIDE
                table.set(_U64.pack(netns << 32 | ifindex), bytes([place]))
        self._scoped = dict(scope)

    def sample(self, one_in: int) -> None:
        """Follow one packet in so many from now on, if ``limits`` say that it may be sampled."""
        if self._asked.limits.samples:
            self._maps["chance"].set(_FIRST, _U64.pack((1 << 32) // one_in))

    def passed(self) -> dict[str, int]:
        """What was asked for → packets and journeys so far that were left out for it (wire.PASSED).

        A packet counts from its first sight on; one that a device beside the topology received,
        when it comes to the topology.
        """
        states = [
            _CPU_STATE.unpack_from(state)[_PASSED_AT:_LOSSES_AT] for state in self._cpu_states()
        ]
        return {name: sum(counts) for name, *counts in zip(PASSED, *states, strict=True)}

    def is_readable(self) -> bool:
        """Whether this thread's capabilities let it read maps."""
        return self._maps["tracing"].get(_FIRST) is not None

    def ring_fill(self) -> float:
        """What part of the ring buffer waits to be read, from 0 to 1."""
        return 0.0 if self._ring is None else self._ring.fill()

    def hits(self) -> dict[str, int]:
        """Function → how often it was called since journeys may begin, with any packet."""
        totals = dict.fromkeys((probe.function for probe in PROBES), 0)
        for position, count in enumerate(self._count_hits()):
            function = PROBES[position].function  # entry and return are one call
            totals[function] = max(totals[function], count - self._hits_before[position])
        return totals

    def _count_hits(self) -> list[int]:
        """Hits of each row of PROBES."""
        rows = [_HITS.unpack_from(state) for state in self._cpu_states()]
        return [sum(counts) for counts in zip(*rows, strict=True)][: len(PROBES)]

    def ends(self) -> list[EndCount]:
        """How the packets ended that were followed, also those whose records were lost."""
        return [decode_end(key, count) for key, count in self._maps["ends"].items()]

    def steps(self) -> list[StepCount]:
        """How long packets took from one probe to the next; whether or not records were lost."""
        found = []
        others = [row for context in range(_CONTEXTS) for row in self._step_rows(context)]
        if any(map(any, others)):
            found.append(decode_step(*STEP_OTHER, others))
        for row, pair in self._maps["step_pairs"].items() if "step_pairs" in self._maps else ():
            before, probe = divmod(_U32.unpack(pair)[0], _PROBES_MAX)
            found.append(decode_step(before, probe, self._step_rows(_U32.unpack(row)[0])))
        return found

    def _step_rows(self, row: int) -> list[bytes]:
        """Of each CPU."""
        table = self._maps.get("steps")
        rows = None if table is None else table.get(_U32.pack(row))
        return (
            []
            if rows is None
            else [rows[at : at + STEP.size] for at in range(0, len(rows), STEP.size)]
        )

    def unloaded(self) -> tuple[str, ...]:
        """Probed functions whose module was unloaded since: the kernel has removed the probes.

        It does so without a word (kprobes_module_callback, kernel/kprobes.c), and does not put them
        back when the module is loaded again.
        """
        return tuple(f for f, module in self._loaded.items() if _load_of(module[0]) != module[1])

    def beside(self) -> int:
        """Packets so far that a device beside the topology received and that never came to it."""
        return sum(_CPU_STATE.unpack_from(state)[0] for state in self._cpu_states())

    def read(self) -> list[bytes]:
        """The records that wait in the ring buffer, at most BATCH of them; never blocks."""
        return [] if self._ring is None else self._ring.records(BATCH)

    def pause(self) -> None:
        """No journey begins from now on; those under way go on."""
        self._begin(False)

    def stop(self) -> list[bytes]:
        """Remove every probe and return the records of packets that had not ended.

        Read the ring empty after this: it may still hold journeys that ended.
        """
        self._begin(False)
        self._missed = self._count_missed()
        self._running.detach()
        self._stopped = True
        return self._alive()

    def close(self) -> None:
        """Give everything back to the kernel. Harmless before start and when called twice."""
        if self._program is not None:
            self._ring = None
            self._program.close()
            self._program = None
        if self._misses is not None:
            self._misses.close()
            self._misses = None

    def lost(self) -> dict[str, int]:
        """Loss counter → how many so far, all CPUs together.

        ``probe_missed`` is left out if this kernel does not tell. It is without the frees: one of
        those that was missed is an end that was not seen, and counted as such; but if packets are
        passed over, there is nothing that notices it.
        """
        totals = dict.fromkeys(LOSSES, 0)
        for state in self._cpu_states():
            found = _CPU_STATE.unpack_from(state)[_LOSSES_AT:]
            for name, count in zip(LOSSES, found, strict=False):
                totals[name] += count
            # The probes are gone, so the return of these functions will never be seen.
            if self._stopped:
                totals["clone_missed"] += sum(map(bool, found[len(LOSSES) :: 2]))
        missed = self._missed if self._stopped else self._count_missed()
        return totals if missed is None else totals | {"probe_missed": missed}

    def _count_missed(self) -> int | None:
        by_kprobe = None if self._misses is None else self._misses.of(self._probed)
        if by_kprobe is None:
            return None
        names = [
            f"skbtrace_{number}"
            for number in self._targets
            if PROBES[number].function in self._probed
        ]
        begun = sum(_CPU_STATE.unpack_from(state)[1] for state in self._cpu_states())
        by_type: int = begun + self._running.missed(names)
        return by_kprobe + by_type

    def reason(self, number: int) -> str:
        """The running kernel's name for a drop reason."""
        return self._reasons.get(number, f"reason {number}")

    def table(self, address: int, made: int) -> tuple[int, str, str, int | None] | None:
        """(family, table, chain, hook) of the chain or table that was met at this address."""
        key = (address, made)
        if key not in self._tables:
            if len(self._tables) >= TABLES_MAX:
                self._tables.clear()
            self._tables[key] = self._read_table(address, made)
        return self._tables[key]

    def _read_table(self, address: int, made: int) -> tuple[int, str, str, int | None] | None:
        read = self._maps["tables"].get(_TABLE_KEY.pack(address, made))
        if read is None:
            return None
        found = _TABLE.unpack(read)
        table, chain = (name.split(b"\0")[0].decode(errors="replace") for name in found[:2])
        family, hook = found[2:]
        return family, printable(table), printable(chain), None if hook == _NO_HOOK else hook

    def symbol(self, address: int) -> tuple[str, int] | None:
        """(function without suffix, bytes into it) of an address, None if nobody says."""
        if address not in self._known:
            with taken_up():  # or /proc/kallsyms, which is read at the first call, tells nothing
                name, _, offset = load_bcc().BPF.ksym(address, show_offset=True).partition(b"+")
            known = self._shows and offset
            self._known[address] = (plain(name.decode()), int(offset, 16)) if known else None
        return self._known[address]

    @property
    def _running(self) -> Program:
        assert self._program is not None, "not started, or closed"
        return self._program

    @property
    def _maps(self) -> dict[str, Map]:
        return self._running.maps

    def _attach_all(self, symbols: Symbols) -> tuple[ProbePlace, ...]:
        """One place per function; one with two rows is missing if either is."""
        places: dict[str, ProbePlace] = {}
        for number in needed(self._asked.layers, self._targets):
            probe = PROBES[number]
            place = self._attach(number, probe, symbols)
            if place is None:
                continue
            if place.symbol is None or probe.function not in places:
                places[probe.function] = place
        return tuple(places.values())

    def _attach(self, number: int, probe: Probe, symbols: Symbols) -> ProbePlace | None:
        """What became of a probe; None if its function cannot be expected here."""
        name = f"skbtrace_{number}"
        why = "this kernel has no such function"
        if probe.attach is Attach.RAW_TRACEPOINT:
            there = [probe.function]
        else:
            functions = (probe.function, *probe.alternatives)
            there = [symbol for function in functions for symbol in symbols.variants(function)]
            unloaded = probe.module is not None and not (MODULES / probe.module).exists()
            if not there and (unloaded or probe.since is not None):
                return None
        if number in self._targets:
            target = self._targets[number]
            self._running.attach_typed(name, target, "programs", _TYPED_PROGRAMS)
            symbol = probe.tracepoint or probe.function
            return ProbePlace(probe.function, symbol, by=target.attach)
        for symbol in there:
            try:
                if probe.attach is Attach.RAW_TRACEPOINT:
                    self._running.attach_tracepoint(name, symbol)
                else:
                    at_return = probe.attach is Attach.KRETPROBE
                    self._running.attach(name, symbol, at_return=at_return)
            except SkbtraceError as error:
                why = str(error)
            else:
                return ProbePlace(probe.function, symbol)
        return ProbePlace(probe.function, None, why)

    def _load_shared(self) -> None:
        """Load the programs that the attach points hand on to."""
        for number, name in enumerate(_PROGRAMS[: None if self._asked.passes_over else -1]):
            loaded = self._running.load(f"skbtrace_{name}")
            self._maps["programs"].set(_U32.pack(number), _U32.pack(loaded))
        if Layer.DRIVER in self._asked.layers:
            loaded = self._running.load("skbtrace_raw_begin", raw=True)
            self._maps["raw_programs"].set(_FIRST, _U32.pack(loaded))

    def _begin(self, on: bool) -> None:
        self._maps["tracing"].set(_FIRST, _U32.pack(on))

    def _alive(self) -> list[bytes]:
        """Records of the packets that live."""
        slots = (
            number * _WAYS + way
            for number in range(self._maps["rows"].kind.entries)
            for way, word in enumerate(_ROW.unpack(self._entry("rows", number)))
            if word & _HOW == _FOLLOWED
        )
        return [living(self._entry("live", slot), self._asked) for slot in slots]

    def _entry(self, array: str, number: int) -> bytes:
        """Of a map that is an array."""
        found = self._maps[array].get(_U32.pack(number))
        assert found is not None, "an array has all its entries"
        return found

    def _cpu_states(self) -> list[bytes]:
        """Of each CPU and context."""
        table = self._maps["cpus"]
        size = (table.kind.value_bytes + 7) // 8 * 8
        rows = [table.get(_U32.pack(context)) or b"" for context in range(_CONTEXTS)]
        return [row[at : at + size] for row in rows for at in range(0, len(row), size)]


def living(leaf: bytes, asked: Asked) -> bytes:
    """Return an entry of the map ``live`` as it would be sent."""
    (kept,) = _LIVE_PREFIX.unpack_from(leaf)
    start = _LIVE_PREFIX.size + asked.changes * _SEEN_BYTES
    start += (Layer.NETFILTER in asked.layers) * _NFT_BYTES
    end = start + RECORD_MAX
    return as_sent(leaf[start:end], leaf[end : end + kept] if asked.snaplen is not None else b"")


def _load_of(module: str) -> int | None:
    """A number for this load of a module, None if it is not loaded or built in."""
    try:
        return (MODULES / module / "initstate").stat().st_ino  # what is built in has none
    except OSError:
        return None
