# SPDX-License-Identifier: GPL-2.0-only
"""The fuzzer's target without the fuzzer: it takes what it begins with, cut and changed."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fuzz import reader


def test_the_seeds_and_what_is_like_them_are_survived(tmp_path: Path) -> None:
    reader.sow(tmp_path)
    chance = random.Random(1)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        reader.one(content)
        for _ in range(3):
            at = chance.randrange(1, len(content))
            reader.one(content[:at])
            reader.one(content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :])
    reader.one(b"")
