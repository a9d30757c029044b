# SPDX-License-Identifier: GPL-2.0-only
"""The kernel as a source of records: compile, attach, read, stop.

The only module that calls bcc. bcc prints to standard error and raises bare Exceptions; both
end here. It gives record bytes and numbers; what they mean is for others to say.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from typing import Any

from tracer.errors import PrerequisiteError
from tracer.kernel.btf import Btf
from tracer.kernel.program import compile_program, definitions, load_bcc, stderr_kept
from tracer.kernel.symbols import KALLSYMS, SUFFIXES, Symbols, variants
from tracer.model import ProbePlace
from tracer.probes import PROBES, Attach, Probe
from tracer.wire import LOSSES, RECORD_MAX

BATCH = 4096
"""Records read in one go; the reader comes up for air after that."""

# struct live in bpf/skbtrace.bpf.c: what stands before the record.
_LIVE_PREFIX = struct.Struct("=QQIIIIII")
# struct cpu_state: of what stands before the loss counters, clone_parent.
_CPU_STATE = struct.Struct(f"=16xQ40x{len(LOSSES)}Q")
_RAW_TRACEPOINT = 17  # enum bpf_prog_type, bcc 0.26 has no name for it


class KernelSource:
    """Probes on this kernel. Start once, read often, stop once.

    ``scope``: (namespace inode, ifindex) of the devices on which a journey may begin, or None
    for all. Reading and stopping are for one thread.
    """

    def __init__(self, scope: Iterable[tuple[int, int]] | None = None) -> None:
        self._scope = None if scope is None else set(scope)
        self._bpf: Any = None
        self._stopped = False
        self._batch: list[bytes] = []
        self._symbols = Symbols()
        self._reasons: dict[int, str] = {}

    def start(self) -> tuple[ProbePlace, ...]:
        """Compile, attach every probe, and only then let journeys begin.

        Returns what became of each function in PROBES. PrerequisiteError if this kernel cannot
        trace, SkbtraceError if the program does not compile.
        """
        bcc = load_bcc()
        btf = Btf()
        try:
            cpus = len(bcc.table.get_possible_cpus())
            defined = definitions(btf, cpus=cpus, scoped=self._scope is not None)
            self._reasons = {
                number: name.removeprefix("SKB_DROP_REASON_")
                for number, name in btf.enum("skb_drop_reason").items()
            }
        finally:
            btf.close()
        self._bpf = compile_program(defined)
        begins = self._bpf[b"begins"]
        begins[begins.Key(0)] = begins.Leaf(self._load(b"skbtrace_begin").fd)
        places = self._attach_all()
        if not any(place.symbol for place in places):
            raise PrerequisiteError(
                f"this kernel lets no probe be attached ({places[0].why_missing})",
                hint="make demo   # runs the same job in a guest whose kernel can",
            )
        self._bpf[b"records"].open_ring_buffer(self._keep)
        self.widen(self._scope or ())
        self._begin(True)
        return places

    def widen(self, scope: Iterable[tuple[int, int]]) -> None:
        """Let journeys begin on these devices too. Nothing to do for a source without scope."""
        if self._scope is None:
            return
        table = self._bpf[b"scope"]
        for netns, ifindex in scope:
            table[table.Key(netns << 32 | ifindex)] = table.Leaf(1)

    def read(self) -> list[bytes]:
        """The records that wait in the ring buffer, at most BATCH of them; never blocks."""
        self._bpf.ring_buffer_consume()
        batch, self._batch = self._batch, []
        return batch

    def pause(self) -> None:
        """No journey begins from now on; those under way go on."""
        self._begin(False)

    def stop(self) -> list[bytes]:
        """Remove every probe and return the records of packets that had not ended.

        Read the ring empty after this: it may still hold journeys that ended.
        """
        self._begin(False)
        with stderr_kept():
            for event in list(self._bpf.kprobe_fds):
                self._bpf.detach_kprobe_event(event)
            for tracepoint in list(self._bpf.raw_tracepoint_fds):
                self._bpf.detach_raw_tracepoint(tracepoint)
        self._stopped = True
        return self._alive()

    def close(self) -> None:
        """Give everything back to the kernel. Harmless before start and when called twice."""
        if self._bpf is not None:
            with stderr_kept():
                self._bpf.cleanup()
            self._bpf = None

    def lost(self) -> dict[str, int]:
        """Loss counter → how many so far, all CPUs together."""
        totals = dict.fromkeys(LOSSES, 0)
        for state in self._cpu_states():
            clone_parent, *counts = _CPU_STATE.unpack_from(state)
            for name, count in zip(LOSSES, counts, strict=True):
                totals[name] += count
            # The probes are gone, so the return of this skb_clone will never be seen.
            totals["clone_missed"] += self._stopped and clone_parent != 0
        return totals

    def reason(self, number: int) -> str:
        """The running kernel's name for a drop reason."""
        return self._reasons.get(number, f"reason {number}")

    def symbol(self, address: int) -> tuple[str, int] | None:
        """The function an address is in, and how far."""
        return self._symbols.at(address)

    def _attach_all(self) -> tuple[ProbePlace, ...]:
        """One place per function; one with two rows is missing if either is."""
        places: dict[str, ProbePlace] = {}
        for number, probe in enumerate(PROBES):
            place = self._attach(number, probe)
            if place.symbol is None or probe.function not in places:
                places[probe.function] = place
        return tuple(places.values())

    def _attach(self, number: int, probe: Probe) -> ProbePlace:
        name = f"skbtrace_{number}".encode()
        if probe.attach is Attach.RAW_TRACEPOINT:
            self._bpf.load_func(name, _RAW_TRACEPOINT)
            return self._try(
                probe,
                [probe.function],
                lambda symbol: self._bpf.attach_raw_tracepoint(tp=symbol, fn_name=name),
            )
        self._load(name)
        attach = (
            self._bpf.attach_kprobe if probe.attach is Attach.KPROBE else self._bpf.attach_kretprobe
        )

        def one(symbol: bytes) -> None:
            attach(event=symbol, fn_name=name)

        functions = (probe.function, *probe.alternatives)
        place = self._try(probe, [f + s for f in functions for s in SUFFIXES], one)
        if place.symbol is None:
            kallsyms = KALLSYMS.read_bytes()
            rest = [v for f in functions for v in variants(f, kallsyms)]
            if rest:
                return self._try(probe, rest, one)
            return ProbePlace(probe.function, None, "this kernel has no such function")
        return place

    def _load(self, name: bytes) -> Any:
        return self._bpf.load_func(name, load_bcc().BPF.KPROBE)

    def _try(self, probe: Probe, symbols: list[str], attach: Any) -> ProbePlace:
        why = ""
        for symbol in symbols:
            with stderr_kept() as said:
                try:
                    attach(symbol.encode())
                    return ProbePlace(probe.function, symbol)
                except Exception as error:  # bcc raises bare Exceptions
                    why = (said().strip().splitlines() or [str(error)])[-1]
        return ProbePlace(probe.function, None, why)

    def _begin(self, on: bool) -> None:
        table = self._bpf[b"tracing"]
        table[table.Key(0)] = table.Leaf(on)

    def _keep(self, _context: Any, data: Any, size: int) -> int:
        self._batch.append(ctypes.string_at(data, size))
        return -1 if len(self._batch) >= BATCH else 0

    def _alive(self) -> list[bytes]:
        """Records in the table whose packets live."""
        size = _LIVE_PREFIX.size + RECORD_MAX
        table = self._bpf[b"live"]
        alive = []
        for key in table.keys():  # noqa: SIM118 (bcc's table is no dict)
            try:
                leaf = bytes(table[key])[:size]
            except KeyError:
                continue
            if _LIVE_PREFIX.unpack_from(leaf)[-1]:  # the others have ended
                alive.append(leaf[_LIVE_PREFIX.size :])
        return alive

    def _cpu_states(self) -> list[bytes]:
        return [bytes(state) for state in self._bpf[b"cpus"][self._bpf[b"cpus"].Key(0)]]
