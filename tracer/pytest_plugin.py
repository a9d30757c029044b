# SPDX-License-Identifier: GPL-2.0-only
"""For the tests of other projects: a pytest fixture that traces what a test does.

Installed with skbtrace, pytest finds it by itself::

    def test_web_asks_db(skbtrace):
        with skbtrace("docker0", "tcp") as trace:
            requests.get("http://localhost:8080/")
        trace.expect({"from": "web", "to": "db", "filter": "tcp dst port 5432"})
        assert not [j for j in trace if j.outcome == "dropped"]

Tracing needs root and a kernel that can; where it cannot start, the test fails with the reason.
This module must not import what takes long: pytest loads it whenever it runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import TracebackType

    from tracer.library import Trace
    from tracer.model import Capture, Journey, Summary

READY_S = 300.0
"""So long skbtrace may take until every probe is attached: compiling takes seconds, on slow hosts
minutes."""
_LOOK_S = 0.05
_END_S = 60.0


class Tracing:
    """Traces while its block runs; the trace then."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.path = folder / "trace.json"
        """The trace file; pytest keeps that of the last runs."""
        self._words = folder / "stderr"
        self._command = [
            *(sys.executable, "-m", "tracer", *arguments),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._trace: Trace | None = None

    def __enter__(self) -> Tracing:
        with self._words.open("wb") as words:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + READY_S
        while not self._is_ready():
            if self._process.poll() is not None:
                pytest.fail(f"skbtrace could not trace:\n{self._said()}", pytrace=False)
            if time.monotonic() > end:
                self._process.kill()
                pytest.fail(f"skbtrace was not ready after {READY_S:.0f} s:\n{self._said()}")
            time.sleep(_LOOK_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = -signal.SIGKILL
        if kind is None and status:
            pytest.fail(f"skbtrace ended with {status}:\n{self._said()}", pytrace=False)

    def _is_ready(self) -> bool:
        """The header is written when every probe is attached."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def _said(self) -> str:
        return self._words.read_text(errors="replace")

    @property
    def trace(self) -> Trace:
        """The trace, when the block has been left."""
        from tracer.library import open_trace

        if self._trace is None:
            if self._process is None or self._process.poll() is None:
                raise RuntimeError("it is still being traced: leave the block first")
            self._trace = open_trace(self.path)
        return self._trace

    @property
    def capture(self) -> Capture:
        """See ``Trace``."""
        return self.trace.capture

    @property
    def summary(self) -> Summary | None:
        """See ``Trace``."""
        return self.trace.summary

    def __iter__(self) -> Iterator[Journey]:
        """Give all journeys."""
        return iter(self.trace)

    def journeys(self, filter: str | None = None, **names: str) -> Iterator[Journey]:
        """Give those that are asked for: see ``Trace.journeys``."""
        return self.trace.journeys(filter, **names)

    def expect(self, promises: str | os.PathLike[str] | Mapping[str, Any]) -> None:
        """Fail the test if a promise is broken: of a TOML file, or one as ``{"from": "web", ...}``.

        A trace that has lost something cannot prove that a promise is kept: that fails, too.
        """
        from tracer.view.promise import in_words

        __tracebackhide__ = True
        verdicts = self.trace.verdicts(promises)
        broken = [
            f"{verdict.promise.name}: broken\n{in_words(breach)}"
            for verdict in verdicts
            for breach in verdict.breaches
        ]
        if broken:
            pytest.fail("\n".join(broken), pytrace=False)
        lost = self.summary.lost_total if self.summary is not None else 0
        if lost:
            pytest.fail(f"the trace has lost {lost}: it proves nothing", pytrace=False)


@pytest.fixture
def skbtrace(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tracing]:
    """Trace while a block runs: what is called takes a topology and words of the command line.

    ``with skbtrace("docker0", "tcp port 80") as trace:``, ``skbtrace("auto", "--layers", "all")``.
    """

    def tracing(topology: str, *words: str) -> Tracing:
        folder = tmp_path_factory.mktemp("skbtrace")
        path = folder / "trace.json"
        return Tracing(["--topology", topology, "--no-ui", "-q", "-w", str(path), *words], folder)

    return tracing
