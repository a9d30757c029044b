# SPDX-License-Identifier: GPL-2.0-only
"""Options that more than one command has."""

from __future__ import annotations

import os
from typing import TextIO

import click

color = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colour the output; auto: on a terminal, unless NO_COLOR is set.",
)
ascii_only = click.option(
    "--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only."
)


def is_colored(mode: str, stream: TextIO) -> bool:
    """Say whether what goes to ``stream`` is to be coloured, by --color's mode."""
    from tracer.view.theme import use_color

    return use_color(mode, isatty=stream.isatty(), environ=os.environ)
