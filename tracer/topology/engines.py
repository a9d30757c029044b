# SPDX-License-Identifier: GPL-2.0-only
"""Container engines of this host: whose container a process is in, and what that one is called.

A process's control group tells the container's id, without asking anybody. The engine is asked for
its name; Docker and Podman speak the same API over a Unix socket. What other runtimes have written
down is read (``bundles``). An engine that is not there, is slow or answers nonsense costs names,
never the trace. This module knows nothing of namespaces.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlencode

from tracer.topology import bundles
from tracer.topology.bundles import Told

SOCKETS = (Path("/run/docker.sock"), Path("/run/podman/podman.sock"))
ANSWER_S = 1.0
"""An engine that takes longer is not asked again for a while."""
AGAIN_S = 30.0

_EVENTS = urlencode(
    {"filters": json.dumps({"type": ["container"], "event": ["start", "die", "rename"]})}
)
_SHORT = 12  # characters of an id, as engines show it
# A folder named by the id (cgroupfs), or docker-ID.scope and its like (systemd). Podman's monitor,
# libpod-conmon-ID.scope, is not in the container.
_CONTAINER = re.compile(
    r"/(?:(?:docker|libpod|cri-containerd|crio|nerdctl)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?(?:/|$)"
)
_UNIT = re.compile(r"^/system\.slice/(?:[^/]+/)*?(?P<unit>[^/]+)\.service(?:/|$)")


def container_of(cgroup: str) -> str | None:
    """Return the id (64 hexadecimal digits) of the container, from the text of /proc/PID/cgroup."""
    found = [m["id"] for m in map(_CONTAINER.search, _paths(cgroup)) if m is not None]
    return found[0] if found else None


def unit_of(cgroup: str) -> str | None:
    """Return the host's systemd service, as ``web``, from the text of /proc/PID/cgroup.

    Not a user's: what he starts by hand is all in one.
    """
    found = [m["unit"] for m in map(_UNIT.search, _paths(cgroup)) if m is not None]
    return found[0] if found else None


def _paths(cgroup: str) -> list[str]:
    # hierarchy:controllers:path; a path may hold colons
    return [line.split(":", 2)[2] for line in cgroup.splitlines() if line.count(":") >= 2]


class Engines:
    """What containers are called, by id.

    ``clock`` counts seconds; ``written`` reads what is written down about one.
    """

    def __init__(
        self,
        sockets: Iterable[Path] = SOCKETS,
        clock: Callable[[], float] = time.monotonic,
        written: Callable[[str], Told | None] = bundles.read,
    ) -> None:
        self._clock = clock
        self._written = written
        self._asked_at = dict.fromkeys(sockets, float("-inf"))
        self._known: dict[str, Told] = {}

    def name(self, container: str) -> str:
        """Return its name, or the first 12 digits of its id if nobody tells. Raises nothing."""
        told = self._told(container)
        return container[:_SHORT] if told is None else told.name

    def pod(self, container: str) -> str | None:
        """Return the name of the Kubernetes pod it is part of, or None. Raises nothing."""
        told = self._told(container)
        return None if told is None else told.pod

    def forget(self) -> None:
        """Ask again when a name is next wanted: containers can be renamed."""
        self._known.clear()
        self._asked_at = dict.fromkeys(self._asked_at, float("-inf"))

    def _told(self, container: str) -> Told | None:
        if container not in self._known:
            self._ask()
        if container not in self._known:
            told = self._written(container)
            if told is not None:
                self._known[container] = told
        return self._known.get(container)

    def _ask(self) -> None:
        for path, asked_at in self._asked_at.items():
            now = self._clock()
            if now - asked_at < AGAIN_S or not path.exists():
                continue
            from tracer.topology.engine import containers

            self._asked_at[path] = now
            try:
                found = containers(path, ANSWER_S)
            except (OSError, ValueError):
                continue
            self._known |= {container: Told(name) for container, name in found.items()}
            self._asked_at[path] = now - AGAIN_S + ANSWER_S


def listen(sockets: Iterable[Path] = SOCKETS) -> list[socket.socket]:
    """Return connections on which the engines tell when a container starts, ends or is renamed.

    They are for ``select``: whoever listens asks for the names again. Engines that are not there
    are left out. Raises nothing.
    """
    connections = []
    for path in sockets:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(ANSWER_S)
            connection.connect(str(path))
            connection.sendall(f"GET /events?{_EVENTS} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
        except OSError:
            connection.close()
            continue
        connection.setblocking(False)
        connections.append(connection)
    return connections
