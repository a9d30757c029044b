# SPDX-License-Identifier: GPL-2.0-only
"""A guest's host compiles for it, or says that it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm.compiling import Compiling
from tracer.errors import SkbtraceError
from tracer.kernel import compiler
from tracer.kernel.compiled import Code, Compiled, MapKind, to_json

PROGRAM = to_json(Compiled({"live": MapKind(1, 8, 64, 100, 0)}, {"f": Code(bytes(8), ())}))
REQUEST = b'42 [["/a"], ["-DA=1"]]'


def said(status: int, output: str) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], status, output, "")


def test_what_is_compiled_goes_to_who_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def child(flags: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        asked.append(flags)
        assert Path(environment["LD_PRELOAD"]).parent == tmp_path
        return said(0, PROGRAM)

    monkeypatch.setattr(compiler, "child", child)
    assert Compiling(tmp_path).answer(REQUEST) == b"42 " + PROGRAM.encode()
    assert asked == [["-DA=1"]]


def test_what_cannot_be_compiled_is_left_to_who_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "child", lambda *_, **__: said(1, ""))
    assert Compiling(tmp_path).answer(REQUEST) == b"42 "
    assert Compiling(tmp_path).answer(b"42 ") == b"42 "
    assert Compiling(tmp_path / "nowhere")._environment == {}


@pytest.mark.parametrize("does", ["exit 1", "echo", "echo {}", "cat", "kill $$", "no-such-thing"])
def test_if_nobody_else_compiles_it_is_done_here(
    does: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_CHILD", f"print({PROGRAM!r})")
    monkeypatch.setenv(compiler.ELSEWHERE, f"sh -c '{does}'" if " " in does else does)
    assert to_json(compiler._compiled(["-DA"])) == PROGRAM


def test_what_does_not_compile_is_told_in_the_words_of_this_hosts_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiler, "_CHILD", "raise SystemExit('no such thing')")
    monkeypatch.setenv(compiler.ELSEWHERE, "sh -c 'echo it fell >&2; exit 1'")
    with pytest.raises(SkbtraceError, match="does not compile: no such thing"):
        compiler._compiled(["-DA"])


def test_another_gets_what_the_child_gets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "it's here"
    script.write_text(
        f"import json, sys; json.load(sys.stdin)[1] == ['-DA'] and print({PROGRAM!r})"
    )
    monkeypatch.setattr(compiler, "_CHILD", "raise SystemExit(1)")
    monkeypatch.setenv(compiler.ELSEWHERE, f'{sys.executable} "{script}"')
    assert to_json(compiler._compiled(["-DA"])) == PROGRAM
    assert json.loads(PROGRAM)["functions"]
