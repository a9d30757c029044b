# SPDX-License-Identifier: GPL-2.0-only
"""A compiled program in the kernel: its maps, its functions, what they are attached to.

By libbcc's calls. Nothing is pinned: whatever becomes of this process, the kernel takes all of it
back. This module knows nothing of packets.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import get_errno
from pathlib import Path
from typing import Any

from tracer.errors import SkbtraceError
from tracer.kernel.bcc import load_bcc, stderr_kept
from tracer.kernel.compiled import Compiled, MapKind
from tracer.kernel.ring import Ring
from tracer.kernel.typed import Target, Typed

_LICENSE = b"GPL"
"""The calls that read the kernel's memory are for GPL programs only."""
_NO_VERSION = 0  # nobody looks at it since 5.0 (commit 6c4fc209fcf9)
# enum bpf_prog_type
_KPROBE = 2
_RAW_TRACEPOINT = 17  # bcc 0.26 has no name for it
_PER_CPU = {5, 6, 10}
"""enum bpf_map_type: PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH."""
_DETACH_AT_ONCE = 16
_RECURSION = re.compile(r"^recursion_misses:\t(\d+)$", re.MULTILINE)
"""Since 5.12 (commit 9ed9e9ba2337)."""


class Map:
    """A map; keys and values are bytes. Of a map that belongs to CPUs, the values of all in a row.

    Raises OSError, where the kernel has no better answer.
    """

    def __init__(self, lib: Any, name: str, kind: MapKind, cpus: int) -> None:
        self._lib = lib
        self.kind = kind
        of_cpus = kind.type in _PER_CPU
        self._value_bytes = (kind.value_bytes + 7) // 8 * 8 * cpus if of_cpus else kind.value_bytes
        self.descriptor: int = lib.bcc_create_map(
            kind.type, name.encode(), kind.key_bytes, kind.value_bytes, kind.entries, kind.flags
        )
        if self.descriptor < 0:
            raise SkbtraceError(f"the kernel makes no map {name}: {os.strerror(get_errno())}")

    def get(self, key: bytes) -> bytes | None:
        """What is there, or None."""
        value = ctypes.create_string_buffer(self._value_bytes)
        return None if self._lib.bpf_lookup_elem(self.descriptor, key, value) < 0 else value.raw

    def set(self, key: bytes, value: bytes) -> None:
        """Make it so."""
        if self._lib.bpf_update_elem(self.descriptor, key, value, 0) < 0:
            raise OSError(get_errno(), os.strerror(get_errno()))

    def delete(self, key: bytes) -> None:
        """Remove it, if it is there."""
        self._lib.bpf_delete_elem(self.descriptor, key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """What there is; of a map that changes meanwhile, some twice or not at all."""
        key = ctypes.create_string_buffer(self.kind.key_bytes)
        following = ctypes.create_string_buffer(self.kind.key_bytes)
        found = self._lib.bpf_get_first_key(self.descriptor, key, self.kind.key_bytes)
        while found >= 0:
            value = self.get(key.raw)
            if value is not None:
                yield key.raw, value
            found = self._lib.bpf_get_next_key(self.descriptor, key, following)
            key, following = following, key

    def close(self) -> None:
        """Give it back."""
        os.close(self.descriptor)


class Program:
    """Maps and functions in the kernel. Raises SkbtraceError if the kernel does not take them."""

    def __init__(self, compiled: Compiled, cpus: int) -> None:
        self._lib = load_bcc().lib
        self._functions = compiled.functions
        self._loaded: dict[str, int] = {}
        self._attached: dict[str, list[int]] = {}  # function → events
        self._typed: Typed | None = None
        self._handing_on: list[Map] = []
        self._cpus = cpus
        self._ring: Ring | None = None
        self.maps: dict[str, Map] = {}
        try:
            with stderr_kept():
                for name, kind in compiled.maps.items():
                    self.maps[name] = Map(self._lib, name, kind, cpus)
        except SkbtraceError:
            self.close()
            raise

    def load(self, function: str, *, raw: bool = False) -> int:
        """Have the kernel verify a function; its descriptor. ``raw``: for a raw tracepoint."""
        if function not in self._loaded:
            descriptors = {name: found.descriptor for name, found in self.maps.items()}
            code = self._functions[function].linked(descriptors)
            kind = _RAW_TRACEPOINT if raw else _KPROBE
            named = (kind, function.encode(), code, len(code), _LICENSE, _NO_VERSION)
            with stderr_kept():
                loaded = self._lib.bcc_prog_load(*named, 0, None, 0)
            if loaded < 0:
                raise SkbtraceError(f"the kernel refuses {function}: {os.strerror(get_errno())}")
            self._loaded[function] = loaded
        return self._loaded[function]

    def attach(self, function: str, symbol: str, *, at_return: bool = False) -> None:
        """Have it called whenever the kernel comes to a symbol. Raises SkbtraceError."""
        program, name = self.load(function), function.encode()
        self._attach(
            function,
            lambda: self._lib.bpf_attach_kprobe(program, at_return, name, symbol.encode(), 0, 0),
        )

    def attach_tracepoint(self, function: str, tracepoint: str) -> None:
        """Have it called by a raw tracepoint. Raises SkbtraceError."""
        program = self.load(function, raw=True)
        self._attach(
            function, lambda: self._lib.bpf_attach_raw_tracepoint(program, tracepoint.encode())
        )

    def attach_typed(
        self, function: str, target: Target, calls: str, called: Sequence[str]
    ) -> None:
        """Have it called by fentry, fexit or tp_btf. Raises SkbtraceError.

        It calls on to ``called`` by the map ``calls``. Only programs that were loaded for the same
        target can be called on to (commit 28ead3eaabc1): it has that map to itself.
        """
        self._typed = self._typed or Typed()
        descriptors = {name: found.descriptor for name, found in self.maps.items()}
        if any(name == calls for _, name in self._functions[function].maps):
            own = Map(self._lib, calls, self.maps[calls].kind, self._cpus)
            self._handing_on.append(own)
            descriptors[calls] = own.descriptor
            for number, name in enumerate(called):
                loaded = self._load_typed(name, f"{name} {function}", target, descriptors)
                own.set(number.to_bytes(4, sys.byteorder), loaded.to_bytes(4, sys.byteorder))
        program = self._load_typed(function, function, target, descriptors)
        self._attached.setdefault(function, []).append(self._typed.attach(program))

    def _load_typed(
        self, function: str, name: str, target: Target, descriptors: Mapping[str, int]
    ) -> int:
        assert self._typed is not None
        code = self._functions[function].linked(descriptors)
        self._loaded[name] = self._typed.load(function, code, target)
        return self._loaded[name]

    def missed(self, functions: Iterable[str]) -> int:
        """How often these were not called, for they were hit in the middle of themselves on a CPU.

        That is so of typed ones: of what is attached by a kprobe ``misses`` tells.
        """
        told = (Path(f"/proc/self/fdinfo/{self._loaded[name]}").read_text() for name in functions)
        return sum(int(count[1]) for text in told if (count := _RECURSION.search(text)))

    def _attach(self, function: str, attach: Callable[[], int]) -> None:
        with stderr_kept() as said:
            event = attach()
            if event < 0:
                why = (said().strip().splitlines() or [os.strerror(get_errno())])[-1]
                raise SkbtraceError(why)
        self._attached.setdefault(function, []).append(event)

    def detach(self, *functions: str) -> None:
        """Detach some, or all there are."""
        gone = {f: self._attached.pop(f) for f in functions or tuple(self._attached)}
        if not gone:
            return
        # Each close waits until no CPU can be in the probe any more; so they wait together.
        with ThreadPoolExecutor(_DETACH_AT_ONCE) as pool:
            list(pool.map(os.close, [event for events in gone.values() for event in events]))
        with stderr_kept():
            for function in gone:  # libbcc may have had to make an event of that name
                self._lib.bpf_detach_kprobe(function.encode())

    def open_ring(self, name: str) -> Ring:
        """Return the ring buffer of that map. Raises SkbtraceError."""
        found = self.maps[name]
        try:
            self._ring = Ring(found.descriptor, found.kind.entries)
        except OSError as error:
            raise SkbtraceError(f"the ring buffer cannot be read: {error.strerror}") from error
        return self._ring

    def close(self) -> None:
        """Give everything back. Harmless when called twice."""
        self.detach()
        if self._ring:
            self._ring.close()
            self._ring = None
        while self._loaded:
            os.close(self._loaded.popitem()[1])
        for each in (*self._handing_on, *self.maps.values()):
            each.close()
        self._handing_on.clear()
        self.maps.clear()
        if self._typed:
            self._typed.close()
            self._typed = None
