# SPDX-License-Identifier: GPL-2.0-only
"""What the tests that boot guests need: QEMU and busybox."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.vm import qemu


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, unless SKBTRACE_REQUIRE names `vm`: then it fails by itself."""
    if item.get_closest_marker("vm") and "vm" not in os.environ.get("SKBTRACE_REQUIRE", ""):
        missing = [tool for tool in (qemu.PROGRAM, "busybox") if shutil.which(tool) is None]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")
