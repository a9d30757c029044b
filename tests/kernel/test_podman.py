# SPDX-License-Identifier: GPL-2.0-only
"""A real Podman: its containers are called what Podman calls them.

It runs where Docker's tests do. The image is a busybox, made here: no registry.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import FOR_ENGINES, TIMEOUT_S, Trace, path_of, skbtrace
from tests.kernel.image import busybox
from tests.vm.peer import PODMAN

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not FOR_ENGINES, reason="an engine wants a guest of its own"),
]

MODULES = "overlay xt_MASQUERADE xt_conntrack xt_addrtype xt_comment xt_mark veth bridge"
SOCKET = Path("/run/podman/podman.sock")
SETTINGS = """
[containers]
seccomp_profile = "unconfined"
[engine]
cgroup_manager = "cgroupfs"
helper_binaries_dir = ["{programs}"]
conmon_path = ["{programs}/conmon"]
runtime = "crun"
events_logger = "file"
[engine.runtimes]
crun = ["{programs}/crun"]
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""


class Podman:
    """A Podman of these tests' own, and its socket."""

    def __init__(self, folder: Path) -> None:
        programs = folder / "bin"
        programs.mkdir()
        for program in map(Path, PODMAN.programs):
            # What one of them starts does not get its environment.
            file = programs / program.name
            where = shlex.quote(f"{PODMAN.tree / program}")
            file.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={PODMAN.libraries} exec {where} "$@"\n')
            file.chmod(0o755)
        home = folder / "home" / ".config" / "containers"
        home.mkdir(parents=True)
        (home / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        settings = folder / "containers.conf"
        settings.write_text(SETTINGS.format(programs=programs, folder=folder))
        (folder / "data").mkdir()
        subprocess.run(["modprobe", "-a", *MODULES.split()], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "data"], check=True)
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(folder / "home"),
            "CONTAINERS_CONF": str(settings),
        }
        where = f"--root {folder}/data --runroot {folder}/run --storage-driver overlay"
        self.command = f"podman {where}"
        SOCKET.parent.mkdir(parents=True, exist_ok=True)
        self._service = subprocess.Popen(
            [*self.command.split(), "system", "service", "--time=0", f"unix://{SOCKET}"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(self, *words: str) -> str:
        """Run a podman command, which must succeed; its output."""
        done = subprocess.run(
            [*self.command.split(), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def address(self, container: str) -> str:
        """Its IPv4 address."""
        (told,) = json.loads(self.run("inspect", container))
        return str(told["NetworkSettings"]["IPAddress"])

    def image(self, folder: Path) -> None:
        """A busybox with the few names that are called."""
        busybox(folder, "sh", "sleep", "ping")
        archive = folder.with_suffix(".tar")
        subprocess.run(["tar", "-C", folder, "-cf", archive, "."], check=True)
        self.run("import", str(archive), "localhost/busybox")

    def stop(self) -> None:
        """Take everything down."""
        subprocess.run(
            [*self.command.split(), "rm", "-f", "-a", "-t", "0"], env=self.environment, check=False
        )
        self._service.terminate()
        self._service.wait(TIMEOUT_S)
        subprocess.run(["ip", "link", "del", "podman0"], check=False, capture_output=True)
        subprocess.run(["nft", "flush", "ruleset"], check=True)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Two containers on Podman's default network."""
    assert PODMAN.is_there, "Podman is not there: python3 -m tests.vm fetch"
    folder = tmp_path_factory.mktemp("podman")
    one = Podman(folder)
    try:
        one.image(folder / "image")
        for name in ("web", "db"):
            one.run(
                "run",
                "-d",
                "--cap-add",
                "NET_RAW",
                "--name",
                name,
                "localhost/busybox",
                "/bin/sleep",
                "3600",
            )
        until = time.monotonic() + TIMEOUT_S
        while not SOCKET.exists() and time.monotonic() < until:
            time.sleep(0.2)
        yield one
    finally:
        one.stop()


def test_containers_are_called_as_podman_calls_them_also_when_renamed(
    podman: Podman, tmp_path: Path
) -> None:
    web, db = podman.address("web"), podman.address("db")
    ping = f"{podman.command} exec web ping -c 3 {db}"
    work = f"{ping}; {podman.command} rename db data; sleep 6; {ping}"
    path = tmp_path / "t.json"
    skbtrace(
        *("--topology", "podman0", "--layers", "transport", "-q", "-w", str(path)),
        *("--", "sh", "-ec", work),
        env=podman.environment,
    )
    trace = Trace(path)
    requests = sorted(trace.of("icmp", web, icmp_type=8), key=lambda j: j.start_ns)
    netnses = [
        list(dict.fromkeys(n.split()[1].split("/")[0] for n in path_of(j) if "/" in n))
        for j in requests
    ]
    assert netnses == [["web", "host", "db"]] * 3 + [["web", "host", "data"]] * 3
    topology = trace.capture.topology
    assert topology is not None
    given = {(device.netns.name, address) for device, address in topology.addresses}
    assert {("web", f"{web}/16"), ("db", f"{db}/16")} <= given
    assert {("masquerade", "10.88.0.0/16")} <= {(r.kind, r.src) for r in topology.rewrites}
