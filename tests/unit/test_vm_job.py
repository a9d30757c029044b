# SPDX-License-Identifier: GPL-2.0-only
"""What a guest is told to do; the shell of the host reads it as the guest's would."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.vm.job import job
from tests.vm.kernels import Kernel

KERNEL = Kernel("6.1", "6.1.0-50-amd64", Path("/cache/it's here"))
AWKWARD = ["*", "two words", "it's", '"', "$HOME", "`x`", "a\nb", "", "ä"]


def shell(script: str, then: str = "") -> str:
    done = subprocess.run(["sh", "-c", script + then], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_words_of_a_command_arrive_as_they_are(tmp_path: Path) -> None:
    command = ["printf", "[%s]", *AWKWARD]
    files = job(KERNEL, command, folder=tmp_path, out=tmp_path, env={}, size=None)
    assert shell(files["command"]) == "".join(f"[{word}]" for word in AWKWARD)


def test_the_command_starts_where_its_caller_is(tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    folder.mkdir()
    files = job(KERNEL, ["pwd"], folder=folder, out=tmp_path, env={}, size=None)
    assert shell(files["command"]) == f"{folder}\n"


def test_only_what_is_meant_for_it_gets_into_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PATH": "/usr/bin:/bin",
        "HOME": "/home/someone",
        "TERM": "xterm",
        "LANG": "de_DE",
        "CI": "true",
        "NO_COLOR": "1",
        "SKBTRACE_REQUIRE": "vm",
        "SKBTRACE_OUT": "/another",
        "SECRET": "stays",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SKBTRACE_LEFT_S", raising=False)
    out = Path("/results")
    files = job(KERNEL, ["env"], folder=tmp_path, out=out, env={"HOME": "/h", "X": "1"}, size=None)
    assert sorted(shell(files["command"]).splitlines()) == sorted(
        [
            "PATH=/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME=/h",
            "TERM=dumb",
            "LANG=C.UTF-8",
            "CI=true",
            "SKBTRACE_COMPILER=/run/skbtrace/bin/busybox sh /run/skbtrace/init compile",
            "SKBTRACE_REQUIRE=vm",
            "SKBTRACE_OUT=/results",
            "X=1",
            *([f"PWD={tmp_path}"] if "PWD" in shell(files["command"]) else []),
        ]
    )


def test_with_a_terminal_it_knows_which_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    files = job(KERNEL, ["env"], folder=tmp_path, out=tmp_path, env={}, size=(50, 132))
    assert {"TERM=xterm-256color", "COLORTERM=truecolor"} <= set(
        shell(files["command"]).splitlines()
    )
    assert shell(files["settings"], 'echo "$TTY $ROWS $COLUMNS"') == "1 50 132\n"


def test_the_settings_survive_awkward_paths(tmp_path: Path) -> None:
    out = Path("/a b/c'd")
    files = job(KERNEL, ["true"], folder=tmp_path, out=out, env={}, size=None)
    then = 'echo "$OUT|$MODULES|$RELEASE|$FOLDER|$TTY|$NAME"'
    modules = "/cache/it's here/lib/modules/6.1.0-50-amd64"
    expected = f"/a b/c'd|{modules}|6.1.0-50-amd64|{tmp_path}|0|guest-6.1\n"
    assert shell(files["settings"], then) == expected


def test_no_command_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="command"):
        job(KERNEL, [], folder=tmp_path, out=tmp_path, env={}, size=None)
