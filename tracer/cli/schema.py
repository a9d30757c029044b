# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace schema``: print the JSON Schema of the trace file. It must start fast."""

from __future__ import annotations

import click

from tracer.export.trace import SCHEMA

_EXAMPLES = """\b
Example:
  skbtrace schema > trace-v1.schema.json
"""


@click.command(epilog=_EXAMPLES)
def schema() -> None:
    """Print the JSON Schema (2020-12) of one line of a trace.

    It is where every member of the trace file is explained.
    """
    click.echo(SCHEMA.read_text(encoding="utf-8"), nl=False)
