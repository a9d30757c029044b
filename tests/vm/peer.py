# SPDX-License-Identifier: GPL-2.0-only
"""pwru, to compare with: Debian's package, from the mirror apt is configured with."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.vm import mirror
from tests.vm.kernels import cache_folder

PWRU_SUITE = "trixie"


class PeerError(Exception):
    """The peer cannot be had here."""


def cached() -> Path:
    """Where pwru's program is once it has been fetched."""
    return cache_folder() / "peers" / "pwru" / "usr" / "bin" / "pwru"


def pwru() -> Path:
    """The path of pwru's program, fetched if it is not in the cache. Raises PeerError."""
    program = cached()
    if not program.exists():
        tree = program.parents[2]
        tree.mkdir(parents=True, exist_ok=True)
        try:
            uri = mirror.configured_mirror()
            index = mirror.fetch_index(uri, PWRU_SUITE)
            block = next(b for b in index.split("\n\n") if b.startswith("Package: pwru\n"))
            (fields,) = mirror.stanzas(block)
            package = mirror.Package(
                "pwru", fields["version"], "", fields["filename"], fields["sha256"], 0
            )
            with tempfile.TemporaryDirectory() as folder:
                file = mirror.fetch_package(uri, package, Path(folder))
                subprocess.run(["dpkg-deb", "-x", file, tree], check=True)
        except (mirror.MirrorError, StopIteration) as error:
            raise PeerError(f"pwru cannot be fetched: {error}") from error
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    missing = [line.split()[0] for line in libraries.splitlines() if "not found" in line]
    if missing:
        raise PeerError(f"pwru needs {', '.join(missing)}: apt-get install libpcap0.8")
    return program
