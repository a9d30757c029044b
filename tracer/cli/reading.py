# SPDX-License-Identifier: GPL-2.0-only
"""A trace that a command reads: opened, and what is said while it is read."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from tracer.cli import saying

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from tracer.export.opened import Opened
    from tracer.export.trace_reader import TraceReader
    from tracer.model import Journey

_PATIENCE_S, _NEWS_S = 1.0, 0.5
"""When it is said first how much was read, and how often after that."""


def opened(file: str) -> Opened:
    """Open a trace; - is standard input. Raises TraceFileError."""
    from tracer.export import opened as files

    return files.opened(file)


def name_of(file: str) -> str:
    """Return what a trace is called in what is said of it."""
    return "standard input" if file == "-" else file


def reader_of(file: str, stream: Opened) -> TraceReader:
    """Begin to read a trace. Raises TraceFileError if it is none."""
    from tracer.export.trace_reader import TraceReader

    return TraceReader(stream, name_of(file))


def told(
    reader: TraceReader, stream: Opened, ids: Container[str] | None = None
) -> Iterator[Journey]:
    """Give the journeys (of these ids only), and say what has to be said of the trace.

    Say meanwhile how much of the file was read, if somebody may see it.
    """
    said, at = False, time.monotonic() + _PATIENCE_S
    quiet = stream.read_percent is None or not sys.stderr.isatty()
    with saying(lambda: reader.notes):
        try:
            for number, journey in enumerate(reader.journeys(ids)):
                if not quiet and not number % 256 and time.monotonic() > at:
                    said, at = True, time.monotonic() + _NEWS_S
                    sys.stderr.write(f"\rread {stream.read_percent} % ")
                    sys.stderr.flush()
                yield journey
        finally:
            if said:
                sys.stderr.write("\r" + " " * 16 + "\r")
