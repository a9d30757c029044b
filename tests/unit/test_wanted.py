# SPDX-License-Identifier: GPL-2.0-only
"""What is typed for a mark and a process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.wanted import ANYTHING, COMM_BYTES, Mark, Wanted, mark_of, process_of


@pytest.mark.parametrize(
    ("typed", "mark"),
    [
        ("7", Mark(7)),
        ("0x10", Mark(16)),
        ("0X10/0xf0", Mark(16, 240)),
        ("010", Mark(10)),
        ("0/1", Mark(0, 1)),
        ("0xffffffff", Mark(0xFFFFFFFF)),
    ],
)
def test_a_mark_is_a_number_and_maybe_a_mask(typed: str, mark: Mark) -> None:
    assert mark_of(typed) == mark


@pytest.mark.parametrize("typed", ["", "x", "-1", "1/", "/1", "1/2/3", "4294967296", "0x", "1 "])
def test_what_is_no_mark_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="is neither a number nor NUMBER/MASK"):
        mark_of(typed)


def test_a_mark_that_can_never_be_is_refused() -> None:
    with pytest.raises(UsageError, match="has bits that its mask has not") as told:
        mark_of("0x11/0xf0")
    assert told.value.hint == "sudo skbtrace --topology docker0 --mark 0x10/0xf0"


@given(st.text(max_size=20))
def test_any_text_is_a_mark_or_one_sentence(typed: str) -> None:
    try:
        mark = mark_of(typed)
    except UsageError:
        return
    assert mark.value & mark.mask == mark.value


def test_a_process_is_a_number_or_a_name_as_the_kernel_has_it() -> None:
    assert process_of("4711") == (4711, None)
    assert process_of("nginx") == (None, b"nginx")
    assert process_of("systemd-resolved") == (None, b"systemd-resolve")
    assert len(process_of("ü" * 20)[1] or b"") == COMM_BYTES


def test_nothing_asked_for_is_false() -> None:
    assert not ANYTHING
    assert Wanted(Mark(0))
    assert Wanted(direction="in")
