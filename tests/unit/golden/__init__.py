# SPDX-License-Identifier: GPL-2.0-only
"""What the views print, as it was looked at and accepted.

``SKBTRACE_GOLDEN=write`` writes the files anew; look at the difference before you keep it.
"""

from __future__ import annotations

import os
from pathlib import Path


def assert_golden(name: str, text: str) -> None:
    """Compare text with the accepted one of this name."""
    path = Path(__file__).with_name(name)
    if os.environ.get("SKBTRACE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
