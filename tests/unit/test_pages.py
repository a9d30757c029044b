# SPDX-License-Identifier: GPL-2.0-only
"""README.md and the demo's pages, as far as they can be held to it without a kernel.

Their console blocks are run in tests/kernel/test_readme.py.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tracer.promise_file import promises_of

HOUSE = Path(__file__).parents[2]

PAGES = (
    "README.md",
    *(
        f"demo/{page}.md"
        for page in ("docker0", "veth", "bridge", "nat", "crowd", "loopback", "nic")
    ),
)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_is_marked_otherwise(page: str) -> None:
    marks = re.findall(r"^```(\w+)$", (HOUSE / page).read_text(), re.MULTILINE)
    assert set(marks) <= {"console", "sh", "text", "toml"}


def test_the_promises_shown_can_be_read() -> None:
    text = (HOUSE / "README.md").read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (promise,) = promises_of(tomllib.loads(block))
    assert (promise.name, promise.at_least) == ("web asks db", 3)
