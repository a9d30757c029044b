# SPDX-License-Identifier: GPL-2.0-only
"""A real containerd: namespaces are called by the pods and containers that it keeps.

What a kubelet or nerdctl would ask for, ``ctr`` does: the same cgroups and annotations. containerd
writes them down as it does for those. The network is a bridge made with ip.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import FOR_ENGINES, TIMEOUT_S, Trace, path_of, skbtrace
from tests.kernel.host import run
from tests.kernel.image import busybox
from tests.vm.peer import DOCKER

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not FOR_ENGINES, reason="an engine wants a guest of its own"),
]

BRIDGE = "br-pods"
SOCKET = Path("/run/containerd/containerd.sock")
KUBERNETES = "k8s.io"
POD, API, DB, CACHE = (digit * 64 for digit in "abcd")
"""Ids: a pod's first container, another one of that pod, another pod's, and one of nerdctl."""
ADDRESS = {POD: "10.98.0.2", DB: "10.98.0.3", CACHE: "10.98.0.4"}
CONFIG = """
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
root = "{folder}/root"
"""


def of_a_pod(pod: str, kind: str, name: str | None = None) -> dict[str, str]:
    """What containerd's plugin for Kubernetes gives a container."""
    given = {
        "io.kubernetes.cri.container-type": kind,
        "io.kubernetes.cri.sandbox-name": pod,
        "io.kubernetes.cri.sandbox-namespace": "shop",
    }
    return given if name is None else {**given, "io.kubernetes.cri.container-name": name}


class Containerd:
    """One that runs for these tests."""

    def __init__(self, folder: Path) -> None:
        tree = DOCKER.tree
        self.environment = {
            **os.environ,
            "PATH": f"{tree}/usr/sbin:{tree}/usr/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        self.rootfs = folder / "rootfs"
        busybox(self.rootfs, "sh", "sleep", "ping")
        (folder / "config.toml").write_text(CONFIG.format(folder=folder))
        self.log = folder / "log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                ["containerd", "--config", str(folder / "config.toml")],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until and self._process.poll() is None:
            if SOCKET.exists() and self.ctr("version", check=False).returncode == 0:
                return
            time.sleep(0.5)
        raise AssertionError(self.log.read_text()[-3000:])

    def ctr(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a ctr command."""
        done = subprocess.run(
            ["ctr", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def start(
        self, namespace: str, name: str, cgroup: str, given: dict[str, str], *more: str
    ) -> None:
        """Start a container that sleeps."""
        options = [word for pair in given.items() for word in ("--annotation", "=".join(pair))]
        self.ctr(
            *("-n", namespace, "run", "-d", "--cgroup", cgroup, *options, *more),
            *("--rootfs", str(self.rootfs), name, "/bin/sleep", "3600"),
        )

    def pid(self, namespace: str, name: str) -> int:
        """Its first process."""
        for line in self.ctr("-n", namespace, "task", "ls").stdout.splitlines():
            if line.split()[0] == name:
                return int(line.split()[1])
        raise AssertionError(f"there is no task {name}")

    def stop(self) -> None:
        """Take everything down."""
        for namespace in (KUBERNETES, "default"):
            for name in self.ctr("-n", namespace, "task", "ls", "-q", check=False).stdout.split():
                self.ctr("-n", namespace, "task", "rm", "-f", name, check=False)
        self._process.terminate()
        self._process.wait(TIMEOUT_S)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)


def joined(number: int, pid: int, address: str) -> None:
    """A veth pair from the bridge into the process's namespace, as a network plugin makes it."""
    port, there = f"pod{number}", ("nsenter", "-t", str(pid), "-n", "ip")
    run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    run("ip", "link", "set", port, "up", "master", BRIDGE)
    run(*there, "addr", "add", f"{address}/16", "dev", "eth0")
    run(*there, "link", "set", "eth0", "up")


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """Two pods, one of them of two containers, and a container of nerdctl's."""
    assert DOCKER.is_there, "containerd is not there: python3 -m tests.vm fetch"
    one = Containerd(tmp_path_factory.mktemp("containerd"))
    try:
        one.wait()
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")
        pod = "/kubepods/besteffort/pod11111111-2222-3333-4444-555555555555"
        other = "/kubepods/burstable/pod66666666-7777-8888-9999-000000000000"
        one.start(KUBERNETES, POD, f"{pod}/{POD}", of_a_pod("front-7d9", "sandbox"))
        inside = f"network:/proc/{one.pid(KUBERNETES, POD)}/ns/net"
        api = of_a_pod("front-7d9", "container", "api")
        one.start(KUBERNETES, API, f"{pod}/{API}", api, "--with-ns", inside)
        one.start(KUBERNETES, DB, f"{other}/{DB}", of_a_pod("db-0", "sandbox"))
        one.start("default", CACHE, f"/default/{CACHE}", {"nerdctl/name": "cache"})
        for number, (name, address) in enumerate(ADDRESS.items()):
            namespace = "default" if name == CACHE else KUBERNETES
            joined(number, one.pid(namespace, name), address)
        yield one
    finally:
        one.stop()


def test_a_hop_is_named_by_the_pod_and_the_container(
    containerd: Containerd, tmp_path: Path
) -> None:
    path = tmp_path / "t.json"
    pings = "; ".join(
        f"ctr -n {KUBERNETES} task exec --exec-id {number} {API} /bin/ping -c 2 {ADDRESS[to]}"
        for number, to in enumerate((DB, CACHE))
    )
    skbtrace(
        *("--topology", BRIDGE, "--layers", "transport", "-q", "-w", str(path)),
        *("--", "sh", "-ec", pings),
        env=containerd.environment,
    )
    trace = Trace(path)
    requests = sorted(trace.of("icmp", ADDRESS[POD], icmp_type=8), key=lambda j: j.start_ns)
    netnses = [
        list(dict.fromkeys(n.split()[1].split("/")[0] for n in path_of(j) if "/" in n))
        for j in requests
    ]
    assert netnses == [["front-7d9", "host", "db-0"]] * 2 + [["front-7d9", "host", "cache"]] * 2


@pytest.mark.parametrize("name", ["api", "front-7d9", API[:12]])
def test_a_container_is_chosen_by_any_of_its_names(
    containerd: Containerd, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "t.json"
    to_db = f"ping -c 1 {ADDRESS[DB]}"
    skbtrace(
        *("--topology", BRIDGE, "--layers", "transport", "--container", name),
        *("-q", "-w", str(path), "--", "sh", "-ec"),
        f"ctr -n {KUBERNETES} task exec --exec-id {name} {API} /bin/{to_db};"
        f" nsenter -t {containerd.pid('default', CACHE)} -n {to_db}",
        env=containerd.environment,
    )
    sources = {j.flow.src for j in Trace(path).of("icmp", icmp_type=8)}
    assert sources == {ADDRESS[POD]}
