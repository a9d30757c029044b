# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from tracer.view.screen.field import Field


def typed(text: str, *keys: str) -> Field:
    field = Field()
    field.begin(text)
    for key in keys:
        if len(key) == 1:
            field.insert(key)
        else:
            assert field.key(key)
    return field


@pytest.mark.parametrize(
    ("keys", "text", "at"),
    [
        (["x"], "tcp portx", 9),
        (["left", "left", "x"], "tcp poxrt", 7),
        (["home", "x", "end", "y"], "xtcp porty", 10),
        (["ctrl+a", "delete"], "cp port", 0),
        (["backspace", "backspace"], "tcp po", 6),
        (["ctrl+w"], "tcp ", 4),
        (["ctrl+w", "ctrl+w", "ctrl+w"], "", 0),
        (["left", "ctrl+u"], "t", 0),
        (["home", "right", "ctrl+k"], "t", 1),
        (["home", "left", "backspace"], "tcp port", 0),
        (["right", "delete", "ctrl+e"], "tcp port", 8),
    ],
)
def test_keys_edit_the_line(keys: list[str], text: str, at: int) -> None:
    field = typed("tcp port", *keys)
    assert (field.text, field.at) == (text, at)


def test_what_was_typed_before_can_be_had_again() -> None:
    field = Field()
    for text in ("tcp", " udp ", "udp", ""):
        field.begin(text)
        assert field.keep() == text.strip()
    field.begin("new")
    seen = []
    for key in ("up", "up", "up", "down", "down"):
        field.key(key)
        seen.append(field.text)
    assert seen == ["udp", "tcp", "tcp", "udp", ""]


def test_only_what_can_be_shown_is_taken() -> None:
    field = typed("")
    field.insert("a\n\x1b[31mb\tc")
    assert field.text == "a[31mbc"
    assert not field.key("f5")
