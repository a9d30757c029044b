# SPDX-License-Identifier: GPL-2.0-only
"""Options that more than one command has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TextIO

import click

from tracer.errors import UsageError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.model import Layer

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


NAMES = "device, bridge, netfilter, ip, transport, socket, qdisc, driver, napi, tap"
DEFAULT = "device, bridge, netfilter, transport, socket, driver, tap"
"""As in ``probes``, whose import would make --help slow; a test compares."""


class _Layers(click.ParamType["frozenset[Layer]"]):
    name = "layers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[Layer]:
        from tracer.model import Layer
        from tracer.probes import DEFAULT_LAYERS, LAYERS

        sets = {"default": DEFAULT_LAYERS, "all": frozenset(LAYERS), "none": frozenset[Layer]()}
        found: set[Layer] = set()
        for word in filter(None, value.split(",")):
            if word in sets:
                found |= sets[word]
            elif word in LAYERS:
                found.add(Layer(word))
            else:
                raise UsageError(
                    f"there is no layer {printable(word)} (there are: {NAMES}, {', '.join(sets)})",
                    hint="skbtrace probes",
                )
        return frozenset(found)


layers = click.option(
    "--layers",
    type=_Layers(),
    default="default",
    metavar="LIST",
    help=f"Which functions to probe besides the seven: {NAMES}; or default, all, none. What is "
    f"left out costs nothing. Default: {DEFAULT}.",
)


def is_colored(mode: str, stream: TextIO) -> bool:
    """Say whether what goes to ``stream`` is to be coloured, by --color's mode."""
    from tracer.view.theme import use_color

    return use_color(mode, isatty=stream.isatty(), environ=os.environ)
