# SPDX-License-Identifier: GPL-2.0-only
"""A compiled kernel program, and those that were compiled before, kept until the next boot.

Compiling is most of what starting takes. What was compiled is valid for the same sources and the
same definitions, and these hold the addresses of a kernel that runs: hence /run. A file that cannot
be read, or is not root's alone, costs the time to compile and nothing else. This module knows
bytes, not bcc.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("/run/skbtrace/programs")
MOST = 16
"""So many are kept, 150 kB each: those that were made last."""

# struct bpf_insn of linux/bpf.h: a 64-bit constant that is a map's descriptor.
_INSTRUCTION = 8
_LD_IMM64 = 0x18
_PSEUDO_MAP_FD = 1


class Code(NamedTuple):
    """A function's instructions. In place of the descriptors of maps, which ones they are."""

    instructions: bytes
    maps: tuple[tuple[int, str], ...]
    """(byte offset of the instruction, the map's name)"""

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """Return the instructions with these maps. Raises KeyError if one is not there."""
        linked = bytearray(self.instructions)
        for at, name in self.maps:
            linked[at + 4 : at + 8] = descriptors[name].to_bytes(4, "little")
        return bytes(linked)


class MapKind(NamedTuple):
    """What the kernel is told of a map: the arguments of bpf(BPF_MAP_CREATE)."""

    type: int
    """enum bpf_map_type."""
    key_bytes: int
    value_bytes: int
    """Of a map that belongs to CPUs: each one's."""
    entries: int
    flags: int


class Compiled(NamedTuple):
    """A program that can be loaded."""

    maps: dict[str, MapKind]
    functions: dict[str, Code]


def unlinked(instructions: bytes, names: Mapping[int, str]) -> Code:
    """Return a function's code; ``names``: descriptor → map."""
    free, maps = bytearray(instructions), []
    at = 0
    while at < len(free):
        wide = free[at] == _LD_IMM64
        if wide and free[at + 1] >> 4 == _PSEUDO_MAP_FD:
            maps.append((at, names[int.from_bytes(free[at + 4 : at + 8], "little")]))
            free[at + 4 : at + 8] = bytes(4)
        at += _INSTRUCTION * (1 + wide)
    return Code(bytes(free), tuple(maps))


def key_of(files: Iterable[Path], words: Iterable[str]) -> str:
    """Return what tells this program from others: the texts of files, and what they are told."""
    digest = hashlib.sha256()
    for part in (*(file.read_bytes() for file in files), *(word.encode() for word in words)):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def to_json(program: Compiled) -> str:
    """Return a program as text."""
    functions = {n: (c.instructions.hex(), c.maps) for n, c in program.functions.items()}
    return json.dumps({"maps": program.maps, "functions": functions})


def from_json(text: str | bytes) -> Compiled:
    """Return the program a text is. Raises one of many errors if it is none."""
    kept = json.loads(text)
    return Compiled(
        {name: MapKind(*map(int, kind)) for name, kind in kept["maps"].items()},
        {
            name: Code(bytes.fromhex(code), tuple((int(at), str(map_)) for at, map_ in maps))
            for name, (code, maps) in kept["functions"].items()
        },
    )


def read(key: str) -> Compiled | None:
    """Return a program, or None if it is not there. Raises nothing."""
    try:
        descriptor = os.open(FOLDER / f"{key}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not all(map(_is_ours, (os.fstat(descriptor), FOLDER.stat()))):
                return None
            return from_json(stream.read())
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def write(key: str, program: Compiled) -> None:
    """Keep a program, whole or not at all. Raises nothing: the next start compiles again."""
    with suppress(OSError):
        FOLDER.parent.mkdir(mode=0o755, exist_ok=True)
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(FOLDER.stat()):
            return
        new = FOLDER / f"{key}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, flags, 0o600), "w") as stream:
            stream.write(to_json(program))
        new.replace(FOLDER / f"{key}.json")
        kept = sorted(FOLDER.iterdir(), key=lambda file: -file.stat().st_mtime_ns)
        for old in kept[MOST:]:
            old.unlink(missing_ok=True)


def _is_ours(status: os.stat_result) -> bool:
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == 0 and not writable
