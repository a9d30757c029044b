# SPDX-License-Identifier: GPL-2.0-only
"""README.md and the demo's pages, as far as they can be held to it without a kernel.

Their console blocks are run in tests/kernel/test_readme.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.exported import REAL
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
    assert set(marks) <= {"console", "python", "sh", "text", "toml"}


def _recipes() -> list[str]:
    text = (HOUSE / "README.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("recipe", [r for r in _recipes() if "import" in r and "def " not in r])
def test_a_recipe_runs(recipe: str, tmp_path: Path) -> None:
    library = re.findall(r"^(?:import|from) (duckdb|pandas|polars)", recipe)
    if library == ["polars"]:
        pytest.importorskip("polars")  # its wheel is too large to be asked for
    (tmp_path / "trace.json").write_bytes(REAL.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", recipe], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search("nf_hook_slow|veth_xmit|br_forward", done.stdout), done.stdout


def test_the_promises_shown_can_be_read() -> None:
    text = (HOUSE / "README.md").read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (promise,) = promises_of(tomllib.loads(block))
    assert (promise.name, promise.at_least) == ("web asks db", 3)
