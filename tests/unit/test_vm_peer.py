# SPDX-License-Identifier: GPL-2.0-only
"""Peers are put together from several packages, and what they lack is said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.vm import mirror
from tests.vm.peer import BPFTRACE, PWRU, Peer, PeerError

INDEX = """\
Package: tool-dbg
Version: 1
Filename: pool/tool-dbg.deb
SHA256: 01

Package: tool
Version: 1
Filename: pool/tool.deb
SHA256: 02

Package: libtool1
Version: 2
Filename: pool/libtool1.deb
SHA256: 03
"""
LDD = """\
	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0000000000)
	libtool.so.1 => not found
"""


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the mirror; each package holds a program of its name."""
    asked: list[str] = []

    def package(_uri: str, package: mirror.Package, folder: Path) -> Path:
        asked.append(package.filename)
        return folder / package.name

    def run(command: list[object], **_options: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "dpkg-deb":
            file, tree = command[2:]
            program = Path(str(tree), "usr/bin", Path(str(file)).name)
            program.parent.mkdir(parents=True, exist_ok=True)
            program.touch()
        return subprocess.CompletedProcess([], 0, LDD if "usr/bin/broken" in str(command) else "")

    monkeypatch.setenv("SKBTRACE_CACHE", str(tmp_path))
    monkeypatch.setattr(mirror, "configured_mirror", lambda: "http://first.example/debian")
    monkeypatch.setattr(mirror, "fetch_index", lambda _uri, _suite: INDEX)
    monkeypatch.setattr(mirror, "fetch_package", package)
    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_it_is_fetched_once_with_what_it_needs(fetched: list[str], tmp_path: Path) -> None:
    tool = Peer("tool", "bookworm", ("tool", "libtool1"), ("usr/bin/tool",))
    assert not tool.is_there
    assert tool.obtain() == tmp_path / "peers" / "tool"
    assert tool.obtain() == tool.tree
    assert fetched == ["pool/tool.deb", "pool/libtool1.deb"]


def test_a_library_that_is_nowhere_is_named(fetched: list[str]) -> None:
    broken = Peer("broken", "bookworm", ("tool",), ("usr/bin/broken",))
    with pytest.raises(PeerError, match=r"broken needs libtool\.so\.1"):
        broken.obtain()
    assert fetched == ["pool/tool.deb"]


def test_a_package_that_the_index_does_not_have(fetched: list[str]) -> None:
    with pytest.raises(PeerError, match="none cannot be fetched"):
        Peer("none", "bookworm", ("none",), ("usr/bin/none",)).obtain()
    assert not fetched


def test_programs_find_the_libraries_fetched_with_them() -> None:
    assert "libclang1-14" in BPFTRACE.packages
    assert f"{BPFTRACE.tree}/usr/lib/x86_64-linux-gnu" in BPFTRACE.libraries.split(":")
    assert PWRU.tree != BPFTRACE.tree
