# SPDX-License-Identifier: GPL-2.0-only
"""Every console block of README.md and of the demo's page is run, and says what stands there.

A block is typed into a shell. ``$`` is the prompt, ``>`` stands before the further lines of a
command. A command must succeed, or the next one is ``echo $?``. A line ``...`` stands for any
lines. Numbers, bars and whatever else differs from run to run are masked, in MASKS, nowhere else.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.conftest import HOUSE, IN_A_GUEST, TIMEOUT_S
from tests.unit.test_pages import PAGES

pytestmark = [pytest.mark.kernel, pytest.mark.once]

# Applied in this order, to what stands on the page and to what the command says.
MASKS = (
    (re.compile(r"│.*"), "│"),  # bars, and the axis above them
    # Cut where a column is narrow, which depends on how long something took.
    (re.compile(r"(already )?running|(behind )?others"), "waiting"),
    (re.compile(r"softirq wait"), "softirq"),
    # A table's first column is left out where others are wide: that, too. nat's is as wide as that.
    (
        re.compile(
            r"^ (netns|net1|router|outside) +(?=(device|br0|uplink|eth0|veth1(_p)?) )", re.M
        ),
        " ",
    ),
    (re.compile(r"^ - +- ", re.M), " - "),
    (re.compile(r",\n +"), ", "),
    (re.compile(r"on Linux \S+"), "on Linux N"),
    (re.compile(r"DROP .*? at "), "DROP at "),  # no reason before 5.17, and code moves
    (re.compile(r"(?<!\.)\n  (?=[a-z0-9])"), " "),  # a sentence that was too long for its line
    (re.compile(r"\b\d+(\.\d+)?(ms|s)?\b"), "N"),
    (re.compile(r"\bN (us|ms|s)\b"), "N us"),
    (re.compile(r"\bN>N\b"), "N"),  # whether it went on on another CPU
    (re.compile(r"(#N, )+#N\b"), "#N"),  # how many segments there were
    (re.compile(r" +"), " "),
)

BETWEEN = "\x1e"
"""ASCII's record separator: what the shell says between two commands."""


@dataclass(frozen=True)
class Step:
    """A command and what it says."""

    command: str
    output: str


@dataclass(frozen=True)
class Block:
    """The steps of a console block, and where it stands."""

    where: str
    steps: tuple[Step, ...]


def blocks(page: str) -> Iterator[Block]:
    """The console blocks of a page."""
    text = (HOUSE / page).read_text()
    for match in re.finditer(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        before, *texts = re.split(r"^\$ ", match[1], flags=re.MULTILINE)
        assert before == "", f"{page}:{line} does not begin with a command"
        yield Block(f"{page}:{line}", tuple(map(step, texts)))


def step(text: str) -> Step:
    """Take a command and its output apart."""
    first, *rest = text.splitlines(keepends=True)
    more = 0
    while more < len(rest) and rest[more].startswith("> "):
        first += rest[more].removeprefix("> ")
        more += 1
    return Step(first, "".join(rest[more:]))


def masked(text: str) -> str:
    """What is left when everything is gone that differs from run to run."""
    for pattern, word in MASKS:
        text = pattern.sub(word, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def says(shown: str, said: str) -> bool:
    """Whether a command said what is shown."""
    lines = (
        r"(.*\n)*?" if line == "..." else re.escape(line) + r"\n"
        for line in masked(shown).splitlines()
    )
    return re.fullmatch("".join(lines), masked(said) + "\n" if said else "") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks of a page are typed: a checkout, as far as they use it, and sudo."""
    folder = tmp_path_factory.mktemp("page")
    (folder / ".venv").symlink_to(HOUSE / ".venv")
    (folder / "demo").symlink_to(HOUSE / "demo")
    (folder / "bin").mkdir()
    sudo = folder / "bin" / "sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    return folder


def shell(block: Block, folder: Path) -> list[tuple[int, str]]:
    """Type a block into a shell; the status of each command and what it said."""
    # $? must be the command's own when the next one asks for it.
    ask = f"s=$?; printf '{BETWEEN}%s{BETWEEN}' $s; (exit $s)\n"
    done = subprocess.run(
        ["bash", "-c", "".join(s.command + ask for s in block.steps)],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{folder}/bin:{folder}/.venv/bin:{os.environ['PATH']}",
            "COLUMNS": "80",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    *parts, rest = done.stdout.split(BETWEEN)
    assert not rest.strip(), rest
    return [(int(parts[i + 1]), parts[i]) for i in range(0, len(parts), 2)]


@pytest.mark.parametrize(
    "block", [b for page in PAGES for b in blocks(page)], ids=lambda block: block.where
)
def test_a_console_block_does_what_it_shows(block: Block, folder: Path) -> None:
    if block.where.startswith("demo/nic") and not IN_A_GUEST:
        pytest.skip("no two network cards on one wire here: a guest has them")
    ends = shell(block, folder)
    assert len(ends) == len(block.steps)
    asked = [s.command.strip() == "echo $?" for s in block.steps[1:]] + [False]
    for (status, said), shown, status_shown in zip(ends, block.steps, asked, strict=True):
        assert status == 0 or status_shown, f"{shown.command}ended with {status}:\n{said}"
        assert says(shown.output, said), (
            f"{shown.command}{said}\n--- is not, masked:\n{masked(shown.output)}"
            f"\n--- but:\n{masked(said)}"
        )


def test_shapes() -> None:
    assert says("took 1.5 us │██\n", "took  17.0 us │█\n")
    assert says("after 9 us,\n  freed at 12 ms\n", "after 900 us, freed at 1 us\n")
    assert says("...\nb\n", "a\na\nb\n")
    assert says("", "")
    assert not says("b\n", "a\nb\n")
    assert not says("", "a\n")
