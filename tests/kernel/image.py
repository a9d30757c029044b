# SPDX-License-Identifier: GPL-2.0-only
"""What containers are made of in these tests: no registry is asked."""

from __future__ import annotations

import shutil
from pathlib import Path


def busybox(folder: Path, *names: str) -> None:
    """A root file system: a busybox with the few names that are called."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin")
    for name in names:
        (folder / "bin" / name).symlink_to("busybox")
