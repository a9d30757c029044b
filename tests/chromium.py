# SPDX-License-Identifier: GPL-2.0-only
"""A page in a headless Chromium: what it draws, says and asks the network for.

It is driven over the pipe of the DevTools protocol: a JSON object and a zero byte each way, on the
descriptors 3 and 4 of the browser. So neither a port nor another package is needed.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE_S = 60.0
_EXEC = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_KEYS = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "/": 191}


def chromium() -> str | None:
    """Return where it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    """A browser with one page, of a given size; its profile is in ``folder``."""

    def __init__(
        self, folder: Path, *, width: int = 1440, height: int = 1000, dark: bool = False
    ) -> None:
        self.problems: list[str] = []
        """What the console, the content policy and uncaught exceptions have said."""
        self.requests: list[str] = []
        """The addresses that were asked for."""
        self.dialogs: list[str] = []
        self._size = (width, height)
        self._last = 0
        self._session = ""
        self._left = b""
        self._events: list[str] = []
        self._process, self._to, self._from = _started(folder)
        try:
            created = self._call("Target.createTarget", url="about:blank")
            attached = self._call(
                "Target.attachToTarget", targetId=created["targetId"], flatten=True
            )
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self._call(f"{domain}.enable")
            self.resize(width, height)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            self._call("Emulation.setEmulatedMedia", features=[scheme])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: object, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and all of its processes."""
        os.close(self._to)
        os.close(self._from)
        # It is the leader of a group of its own.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file from disk; return when it is loaded."""
        self._events.clear()
        # From another page: to go to another fragment of the same one loads nothing.
        self._call("Page.navigate", url="about:blank")
        self._until("Page.loadEventFired")
        self.requests.clear()
        self._events.clear()
        self._call("Page.navigate", url=f"{path.as_uri()}{fragment}")
        self._until("Page.loadEventFired")

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self._size = (width, height)
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript is, as JSON has it."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression of JavaScript is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"

    def text(self, selector: str) -> str:
        """Return what can be read in the first element of that kind."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """Return the text of each element of that kind that is shown, also if scrolled away."""
        script = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter((e) => e.checkVisibility()).map((e) => e.textContent)"
        )
        return list(self.value(script))

    def _middle(self, selector: str) -> tuple[float, float]:
        script = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        x, y = self.value(script)
        return x, y

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of an element."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def point(self, selector: str) -> None:
        """Move the mouse to the middle of an element."""
        x, y = self._middle(selector)
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, *keys: str) -> None:
        """Press keys: characters, or names such as ``Enter``."""
        for key in keys:
            code = _KEYS.get(key, ord(key[0].upper()))
            of_a_key = {"key": key, "windowsVirtualKeyCode": code}
            text = "\r" if key == "Enter" else key if len(key) == 1 else ""
            self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **of_a_key)
            self._call("Input.dispatchKeyEvent", type="keyUp", **of_a_key)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            answer = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))

    def printed(self) -> bytes:
        """Return the page as PDF."""
        return base64.b64decode(self._call("Page.printToPDF", printBackground=True)["data"])

    def _call(self, method: str, /, **params: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _until(self, event: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while event not in self._events:
            self._next(deadline)

    def _next(self, deadline: float) -> dict[str, Any]:
        """Read one message; take note of it if it is an event."""
        while b"\0" not in self._left:
            left_s = deadline - time.monotonic()
            readable, _, _ = select.select([self._from], [], [], max(left_s, 0))
            if not readable:
                raise TimeoutError("the browser does not answer")
            piece = os.read(self._from, 1 << 16)
            if not piece:
                raise ConnectionError(f"the browser has ended: {self._process.wait()}")
            self._left += piece
        line, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, params: Mapping[str, Any]) -> None:
        self._events.append(method)
        if method == "Runtime.consoleAPICalled":
            self.problems.append(f"console: {params['args']}")
        elif method == "Runtime.exceptionThrown":
            self.problems.append(f"exception: {params['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.problems.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])
            # Unanswered it would hold everything up.
            message = {
                "id": 0,
                "method": "Page.handleJavaScriptDialog",
                "params": {"accept": False},
                "sessionId": self._session,
            }
            os.write(self._to, json.dumps(message).encode() + b"\0")


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start a browser; return it and the ends of its pipe to write to and to read from."""
    found = chromium()
    assert found is not None
    its_in, to = os.pipe()
    from_, its_out = os.pipe()
    command = [
        found,
        "--headless=new",
        "--remote-debugging-pipe",
        "--no-sandbox",  # which it demands of root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-extensions",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        f"--user-data-dir={folder}",
    ]
    # Numbers that the two it wants are not among, so that none is closed by giving it them.
    ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (its_in, its_out)]
    process = subprocess.Popen(
        [sys.executable, "-c", _EXEC, *map(str, ends), *command],
        pass_fds=ends,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
    )
    for fd in (its_in, its_out, *ends):
        os.close(fd)
    return process, to, from_
