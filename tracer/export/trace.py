# SPDX-License-Identifier: GPL-2.0-only
"""The trace file: what its writer and its reader agree on.

JSON Lines: a header, one line per journey, a footer. What every member means is written once,
in ``trace-v1.schema.json`` beside this file. This module knows neither files nor streams.
"""

from __future__ import annotations

from pathlib import Path

FORMAT = "skbtrace"
VERSION = 1
"""The one version written and the highest one read."""

SCHEMA = Path(__file__).with_name(f"trace-v{VERSION}.schema.json")
"""JSON Schema (2020-12) of one line of the trace."""
