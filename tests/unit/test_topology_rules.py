# SPDX-License-Identifier: GPL-2.0-only
"""Firewall rules: what is told to nft, and what is said when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer.errors import PrerequisiteError
from tracer.topology import rewrites, rules


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(rules, "_SBIN", str(tmp_path / "sbin"))
    return tmp_path


def nft(folder: Path, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "nft").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nft").chmod(0o755)


def test_the_rules_are_what_nft_reads(programs: Path) -> None:
    nft(programs, f'echo "$@" >{programs}/said; cat >>{programs}/said')
    rules.load("table ip t {}\n")
    assert (programs / "said").read_text() == "-f -\ntable ip t {}\n"


def test_nft_is_found_where_root_has_it(programs: Path) -> None:
    nft(programs / "sbin", "cat >/dev/null")
    assert rules.nft() == str(programs / "sbin" / "nft")


def test_without_nft_it_is_said_what_to_install(programs: Path) -> None:
    (programs / "nft").touch()  # no program
    with pytest.raises(PrerequisiteError, match="nft, which is not installed") as caught:
        rules.load("")
    assert caught.value.hint == "sudo apt-get install nftables"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("printf 'Error: Operation not \\033supported\\nmore' >&2; exit 1", "Operation not "),
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "exit status -9"),
    ],
)
def test_what_nft_says_is_told_with_what_may_help(programs: Path, script: str, why: str) -> None:
    nft(programs, f"cat >/dev/null; {script}")
    with pytest.raises(PrerequisiteError) as caught:
        rules.load("table ip t {}")
    assert why in caught.value.message
    assert "\x1b" not in caught.value.message
    assert "\n" not in caught.value.message
    assert (caught.value.hint or "").startswith("sudo modprobe -a nf_tables ")


def test_an_nft_that_hangs_is_given_up(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nft(programs, "exec sleep 60")
    monkeypatch.setattr(rules, "TIMEOUT_S", 0.05)
    with pytest.raises(TimeoutError, match="nft did not end"):
        rules.load("")


def test_a_table_that_is_not_there_takes_no_nft(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrites, "nat_tables", lambda: {("ip", "theirs"), ("ip6", "t")})
    rules.unload("t")
    with pytest.raises(PrerequisiteError, match="nft, which is not installed"):
        rules.unload("theirs")
