# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.text import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("eth0", "eth0"),
        ("my net", "my net"),
        (r"a\x1b", r"a\x1b"),
        ("Straße-日本", "Straße-日本"),
        ("v\x1b[31mx", r"v\x1b[31mx"),
        ("a\nb\tc\x7f", r"a\x0ab\x09c\x7f"),
        ("c1\x9b31m", r"c1\x9b31m"),
        ("rtl\u202eevil\u2066", r"rtl\u202eevil\u2066"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("two\u2028lines", r"two\u2028lines"),
        ("filler\u3164heart\ufe0f", r"filler\u3164heart\ufe0f"),
        ("half\udc80", r"half\udc80"),
        ("tag\U000e0041", r"tag\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_escaped_and_the_rest_stays(name: str, shown: str) -> None:
    assert printable(name) == shown


@settings(deadline=None)
@given(st.text(st.characters()))
def test_any_text_comes_out_printable_and_stays_so(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)
    assert shown == text or not text.isprintable() or not text.isascii()
