# SPDX-License-Identifier: GPL-2.0-only
"""Compiled programs are kept for the same program, and found again only where that is safe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.kernel import compiled
from tracer.kernel.compiled import Code, Compiled, MapKind, key_of, unlinked

# r1 = map 7; r2 = 0x18 (a constant that looks like it); exit
WITH_MAP = bytes.fromhex("1811000007000000 0000000000000000 b702000018110000 9500000000000000")
PROGRAM = Compiled(
    {"live": MapKind(1, 8, 64, 100, 0)},
    {"f": unlinked(WITH_MAP, {7: "live"}), "g": Code(b"\x95" + bytes(7), ())},
)

ODD = [b'{"maps": {}}', b'{"maps": {"a": [1]}, "functions": {"f": ["x", []]}}', b"[" * 99999]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    there = tmp_path / "run" / "programs"
    monkeypatch.setattr(compiled, "FOLDER", there)
    return there


def test_a_map_is_another_descriptor_each_time() -> None:
    code = unlinked(WITH_MAP, {7: "live"})
    assert code.maps == ((0, "live"),)
    assert code.linked({"live": 7}) == WITH_MAP
    assert code.linked({"live": 0x0102}) == WITH_MAP[:4] + b"\2\1\0\0" + WITH_MAP[8:]
    with pytest.raises(KeyError):
        code.linked({"other": 7})


def test_what_is_kept_is_read() -> None:
    assert compiled.read("one") is None
    compiled.write("one", PROGRAM)
    assert compiled.read("one") == PROGRAM
    assert compiled.read("two") is None


def test_a_key_is_the_texts_and_the_words(tmp_path: Path) -> None:
    file = tmp_path / "a.c"
    file.write_text("int a;")
    keys = [key_of([file], ["-DA", "-DB"]), key_of([file], ["-DA-DB"]), key_of([], ["-DA", "-DB"])]
    file.write_text("int b;")
    keys.append(key_of([file], ["-DA", "-DB"]))
    assert len(set(keys)) == 4
    assert keys[3] == key_of([file], ["-DA", "-DB"])


def test_only_the_last_ones_are_kept(folder: Path) -> None:
    for number in range(compiled.MOST + 3):
        compiled.write(f"{number}", PROGRAM)
        os.utime(folder / f"{number}.json", ns=(number, number))
    compiled.write("last", PROGRAM)
    assert len(list(folder.iterdir())) == compiled.MOST
    assert compiled.read("last") == PROGRAM
    assert compiled.read("0") is None


@pytest.mark.parametrize("spoil", ["file", "folder", "owner", "link"])
def test_what_others_may_have_written_is_not_believed(folder: Path, spoil: str) -> None:
    compiled.write("one", PROGRAM)
    file = folder / "one.json"
    if spoil == "file":
        file.chmod(0o622)
    elif spoil == "folder":
        folder.chmod(0o777)
    elif spoil == "owner":
        os.chown(file, 1, 1)
    else:
        file.rename(folder / "real")
        file.symlink_to(folder / "real")
    assert compiled.read("one") is None


def test_a_folder_of_somebody_else_is_not_written_to(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chown(folder, 1, 1)
    compiled.write("one", PROGRAM)
    assert not list(folder.iterdir())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=64) | st.sampled_from(ODD))
def test_any_bytes_are_a_program_or_none(folder: Path, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "one.json").write_bytes(data)
    compiled.read("one")
