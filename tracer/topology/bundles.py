# SPDX-License-Identifier: GPL-2.0-only
"""What a container's runtime has written down about it, in files that root may read.

containerd and CRI-O keep each running container's OCI configuration; what Kubernetes or nerdctl
call it stands in its annotations. CRI-O and Podman keep a list of their containers with names.
So no runtime has to be asked. A file that is not there or holds nonsense costs the name only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

TASKS = (
    Path("/run/containerd/io.containerd.runtime.v2.task"),
    Path("/run/k3s/containerd/io.containerd.runtime.v2.task"),
)
"""containerd: a folder for each of its own namespaces (k8s.io, default ...), in it one per id."""
STORAGES = (
    Path("/run/containers/storage/overlay-containers"),
    Path("/var/lib/containers/storage/overlay-containers"),
)
"""CRI-O and Podman: a folder for each id, and the lists."""
_LISTS = ("containers.json", "volatile-containers.json")

# containerd's pkg/cri/annotations, CRI-O's pkg/annotations, nerdctl's pkg/labels.
_PODS = ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")
_NAMES = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name")
_TYPES = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")


class Told(NamedTuple):
    """What a container is called, not yet safe to print."""

    name: str
    pod: str | None = None
    """The Kubernetes pod it is part of. The one that only holds the pod's namespaces has its
    name."""


def read(
    container: str, tasks: tuple[Path, ...] = TASKS, storages: tuple[Path, ...] = STORAGES
) -> Told | None:
    """Return what is written about the container of that id, or None. Raises nothing."""
    for config in _configs(container, tasks, storages):
        told = _told(config)
        if told is not None:
            return told
    for storage in storages:
        for file in _LISTS:
            name = _listed(container, _json(storage / file))
            if name is not None:
                return Told(name)
    return None


def _configs(container: str, tasks: tuple[Path, ...], storages: tuple[Path, ...]) -> Iterator[Path]:
    for task in tasks:
        try:
            folders = sorted(task.iterdir())
        except OSError:
            continue
        yield from (folder / container / "config.json" for folder in folders)
    yield from (storage / container / "userdata" / "config.json" for storage in storages)


def _told(config: Path) -> Told | None:
    members = _json(config)
    annotations = members.get("annotations") if isinstance(members, dict) else None
    if not isinstance(annotations, dict):
        return None
    pod = _first(annotations, _PODS)
    holds_the_pod = _first(annotations, _TYPES) == "sandbox"
    name = pod if holds_the_pod else _first(annotations, _NAMES)
    return None if name is None else Told(name, pod)


def _first(annotations: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    for key in keys:
        value = annotations.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def _listed(container: str, entries: object) -> str | None:
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("id") == container:
            names = entry.get("names")
            if isinstance(names, list) and names and isinstance(names[0], str) and names[0]:
                return names[0]
    return None


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
