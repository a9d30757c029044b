# SPDX-License-Identifier: GPL-2.0-only
"""What a thread may do after it gave root's capabilities up, as the kernel tells it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.threads import THIS, Sets, sets_of
from tracer.capabilities import BPF, DAC_READ_SEARCH, give_up, taken_up

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="there is nothing to give up")

T = TypeVar("T")


def of_this_thread() -> Sets:
    return sets_of(THIS)


def in_a_thread(do: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(do).result()


def test_one_thread_gives_them_up_and_no_other() -> None:
    before = of_this_thread()
    assert before.effective & ~(DAC_READ_SEARCH | BPF)

    def work() -> Sets:
        give_up(lambda: True)
        return of_this_thread()

    assert in_a_thread(work) == (before.permitted, before.permitted & DAC_READ_SEARCH)
    assert of_this_thread() == before


def test_as_many_as_are_needed_are_kept() -> None:
    permitted = of_this_thread().permitted

    def kept(needed: int) -> int:
        give_up(lambda: of_this_thread().effective & needed == needed)
        return of_this_thread().effective

    if permitted & BPF:
        assert in_a_thread(lambda: kept(BPF)) == permitted & (DAC_READ_SEARCH | BPF)
    assert in_a_thread(lambda: kept(permitted)) == permitted


def test_what_was_given_up_is_taken_up_for_a_while(tmp_path: Path) -> None:
    os.chown(tmp_path, 1, 1)
    tmp_path.chmod(0o500)

    def work() -> list[bool]:
        give_up(lambda: True)
        before = may_write(tmp_path)
        with taken_up():
            meanwhile = may_write(tmp_path)
            with taken_up():
                nested = may_write(tmp_path)
            still = may_write(tmp_path)
        return [before, meanwhile, nested, still, may_write(tmp_path)]

    assert in_a_thread(work) == [False, True, True, True, False]


def test_what_is_given_up_meanwhile_is_there_again_afterwards() -> None:
    def work() -> tuple[Sets, Sets]:
        with taken_up():
            give_up(lambda: True)
            meanwhile = of_this_thread()
        return meanwhile, of_this_thread()

    before = of_this_thread()
    meanwhile, after = in_a_thread(work)
    assert meanwhile.effective == before.permitted & DAC_READ_SEARCH
    assert after == before


def may_write(folder: Path) -> bool:
    try:
        (folder / "new").touch()
    except PermissionError:
        return False
    (folder / "new").unlink()
    return True
