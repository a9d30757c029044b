# SPDX-License-Identifier: GPL-2.0-only
"""What SIGINT, SIGTERM and SIGHUP do while skbtrace traces."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """They end the capture in order; before it, they end the program."""

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None

    def arrive(self, number: int, frame: object) -> None:
        """Be the handler. Raises KeyboardInterrupt where there is no capture to end."""
        if self._stop is None:
            raise KeyboardInterrupt
        self._stop()

    @contextmanager
    def call(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call ``stop`` for a signal that comes meanwhile."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None


@contextmanager
def ending_signals() -> Iterator[Signals]:
    """Handle them while in the block; one that was ignored (nohup) stays ignored."""
    signals = Signals()
    kept = {}
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            kept[number] = signal.signal(number, signals.arrive)
    try:
        yield signals
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
