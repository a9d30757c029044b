# SPDX-License-Identifier: GPL-2.0-only
"""The full-screen view on this terminal, over a thread that fills it.

The view has the main thread, what it looks at is filled by another one. When the view is left, for
whatever reason, that one is told to end, and is waited for. It must not know what fills it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tracer.cli import options
from tracer.errors import SkbtraceError

if TYPE_CHECKING:
    from tracer.cli.feeding import Feeding
    from tracer.cli.signals import Signals
    from tracer.view.screen.browser import Accepts
    from tracer.view.screen.panes import Watched

_SWITCH_S = 0.001
"""So long a thread may compute while another one waits for its turn: keys shall not wait."""
_SAID_MOST = 65536
"""Bytes of what was said on standard error that are shown when the view is left."""


def has_a_screen(*, keyboard: bool = True) -> bool:
    """Say whether a full-screen view can be shown: all streams are a terminal that can do it.

    ``keyboard``: standard input is it; otherwise the process's own terminal will do.
    """
    if os.environ.get("TERM", "dumb") in {"dumb", ""}:
        return False
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    if keyboard:
        return sys.stdin.isatty()
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def look_at(
    name: str,
    watched: Watched,
    feeding: Feeding,
    *,
    live: bool,
    color: str,
    ascii_only: bool,
    always: Accepts | None = None,
    signals: Signals,
) -> None:
    """Show the view until it is left; the feeding is over then. Raises what ended the feeding."""
    from tracer.topology.names import path_of
    from tracer.view.line_view import speaks_unicode
    from tracer.view.look import Look
    from tracer.view.screen.app import Timeline

    look = Look(ascii_only or not speaks_unicode(sys.stderr), path_of=path_of)
    colored = options.is_colored(color, sys.stderr)
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        with _screen_of_its_own():
            view = Timeline(name, watched, feeding, look, live=live, color=colored, always=always)
            feeding.start()
            with signals.call(view.end_soon):
                view.run()
    finally:
        sys.setswitchinterval(before)
        if feeding.running:
            feeding.stop()
    feeding.wait()
    if view.return_code:
        raise SkbtraceError("the view ended by a fault of its own, see above")


@contextmanager
def _screen_of_its_own() -> Iterator[None]:
    """Let only the view write to the terminal; what else is said on standard error comes later.

    The view writes to ``sys.__stderr__``, as Textual does. C libraries write to descriptor 2.
    """
    terminal, real = os.dup(2), sys.__stderr__
    kept = os.memfd_create("stderr")
    sys.stderr.flush()
    os.dup2(kept, 2)
    with open(terminal, "w", encoding=sys.stderr.encoding, closefd=False) as stream:
        sys.__stderr__ = stream  # type: ignore[misc]
        try:
            yield
        finally:
            sys.__stderr__ = real  # type: ignore[misc]
            os.dup2(terminal, 2)
            said = os.pread(kept, _SAID_MOST, 0)
            os.write(2, said)
            os.close(kept)
            os.close(terminal)


@contextmanager
def keyboard() -> Iterator[None]:
    """Have keys come from the terminal where standard input is the trace."""
    if os.isatty(0):
        yield
        return
    kept = os.dup(0)
    tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    os.dup2(tty, 0)
    os.close(tty)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
