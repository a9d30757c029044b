# SPDX-License-Identifier: GPL-2.0-only
"""What a container engine that runs says when it is asked. ``engines`` asks, where there is one.

A module of its own because of what HTTP takes along: importing that takes time.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path


class _Connection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def containers(path: Path, timeout_s: float) -> dict[str, str]:
    """Return id → name of the running containers of the engine that listens there.

    Raises OSError (no answer in time, too), and ValueError if that is no engine.
    """
    connection = _Connection(path, timeout_s)
    try:
        connection.request("GET", "/containers/json")
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"{path} answers {answer.status}")
        told = json.loads(answer.read())
    except HTTPException as error:
        raise ValueError(f"{path} does not speak HTTP") from error
    finally:
        connection.close()
    try:
        return {each["Id"]: each["Names"][0].removeprefix("/") for each in told}
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} does not list containers") from error
