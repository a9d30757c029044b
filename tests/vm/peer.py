# SPDX-License-Identifier: GPL-2.0-only
"""Programs to try skbtrace with, or against: Debian's packages, taken apart into the cache.

They are fetched from the mirror apt is configured with, and never installed.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.vm import mirror
from tests.vm.kernels import cache_folder


class PeerError(Exception):
    """The peer cannot be had here."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What is fetched, and where its programs then are."""

    name: str
    suite: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    """Paths in the packages."""

    @property
    def tree(self) -> Path:
        """The folder in the cache with what the packages hold."""
        return cache_folder() / "peers" / self.name

    @property
    def libraries(self) -> str:
        """LD_LIBRARY_PATH for its programs: what they need may not be installed here."""
        return ":".join(str(self.tree / at / "x86_64-linux-gnu") for at in ("usr/lib", "lib"))

    @property
    def is_there(self) -> bool:
        """Whether it is in the cache."""
        return all((self.tree / program).exists() for program in self.programs)

    def obtain(self) -> Path:
        """Return ``tree``; what is missing in it is fetched. Raises PeerError."""
        if not self.is_there:
            self.tree.mkdir(parents=True, exist_ok=True)
            try:
                self._fetch()
            except (mirror.MirrorError, StopIteration) as error:
                raise PeerError(f"{self.name} cannot be fetched: {error}") from error
        for program in self.programs:
            told = subprocess.run(
                ["ldd", self.tree / program],
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | {"LD_LIBRARY_PATH": self.libraries},
            ).stdout
            missing = [line.split()[0] for line in told.splitlines() if "not found" in line]
            if missing:
                raise PeerError(f"{self.name} needs {', '.join(missing)}")
        return self.tree

    def _fetch(self) -> None:
        uri = mirror.configured_mirror()
        blocks = mirror.fetch_index(uri, self.suite).split("\n\n")
        for name in self.packages:
            block = next(b for b in blocks if b.startswith(f"Package: {name}\n"))
            (fields,) = mirror.stanzas(block)
            package = mirror.Package(
                name, fields["version"], "", fields["filename"], fields["sha256"], 0
            )
            with tempfile.TemporaryDirectory() as folder:
                file = mirror.fetch_package(uri, package, Path(folder))
                subprocess.run(["dpkg-deb", "-x", file, self.tree], check=True)


PWRU = Peer("pwru", "trixie", ("pwru",), ("usr/bin/pwru",))
DOCKER = Peer(
    "docker",
    "bookworm",
    ("runc", "containerd", "docker.io"),
    ("usr/sbin/runc", "usr/bin/containerd", "usr/bin/docker", "usr/sbin/dockerd"),
)
_PODMAN = ("usr/bin/podman", "usr/bin/conmon", "usr/bin/crun", "usr/lib/podman/netavark")
_PODMAN_NEEDS = ("libgpgme11", "libassuan0", "libdevmapper1.02.1", "libsubid4", "libyajl2")
PODMAN = Peer(
    "podman", "bookworm", ("podman", "conmon", "crun", "netavark", *_PODMAN_NEEDS), _PODMAN
)
BPFTRACE = Peer(
    "bpftrace", "bookworm", ("bpftrace", "libclang1-14", "libdw1"), ("usr/bin/bpftrace",)
)
PEERS = (PWRU, DOCKER, PODMAN, BPFTRACE)
