# SPDX-License-Identifier: GPL-2.0-only
"""What runtimes have written down about a container, in files as they write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.topology import bundles
from tracer.topology.bundles import Told
from tracer.topology.engines import Engines

WEB, PAUSE, OTHER = "ab" * 32, "cd" * 32, "ef" * 32

CONTAINERD = {
    WEB: {
        "io.kubernetes.cri.container-name": "nginx",
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.image-name": "docker.io/library/nginx:1",
        "io.kubernetes.cri.sandbox-id": PAUSE,
        "io.kubernetes.cri.sandbox-name": "web-0",
        "io.kubernetes.cri.sandbox-namespace": "shop",
    },
    PAUSE: {
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.sandbox-id": PAUSE,
        "io.kubernetes.cri.sandbox-log-directory": "/var/log/pods/shop_web-0",
        "io.kubernetes.cri.sandbox-name": "web-0",
        "io.kubernetes.cri.sandbox-namespace": "shop",
    },
}
CRIO = {
    WEB: {
        "io.kubernetes.container.name": "nginx",
        "io.kubernetes.cri-o.ContainerName": "k8s_nginx_web-0_shop_1_0",
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.pod.name": "web-0",
        "io.kubernetes.pod.namespace": "shop",
    },
    PAUSE: {
        "io.kubernetes.container.name": "POD",
        "io.kubernetes.cri-o.ContainerName": "k8s_POD_web-0_shop_1_0",
        "io.kubernetes.cri-o.ContainerType": "sandbox",
        "io.kubernetes.pod.name": "web-0",
    },
}
NERDCTL = {WEB: {"nerdctl/name": "web", "nerdctl/namespace": "default"}}


class Disk:
    """The folders of the runtimes."""

    def __init__(self, root: Path) -> None:
        self.task, self.storage = root / "task", root / "storage"

    def containerd(self, namespace: str, container: str, config: str) -> None:
        self._write(self.task / namespace / container / "config.json", config)

    def crio(self, container: str, config: str) -> None:
        self._write(self.storage / container / "userdata" / "config.json", config)

    def list(self, name: str, listed: object) -> None:
        self._write(self.storage / name, json.dumps(listed))

    def read(self, container: str) -> Told | None:
        return bundles.read(container, (self.task,), (self.storage,))

    def _write(self, file: Path, content: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def config(annotations: object) -> str:
    return json.dumps({"ociVersion": "1.1.0", "hostname": "web-0", "annotations": annotations})


def test_a_pod_of_containerd(disk: Disk) -> None:
    for container, told in CONTAINERD.items():
        disk.containerd("k8s.io", container, config(told))
    assert disk.read(WEB) == Told("nginx", "web-0")
    assert disk.read(PAUSE) == Told("web-0", "web-0")
    assert disk.read(OTHER) is None


def test_a_pod_of_cri_o(disk: Disk) -> None:
    for container, told in CRIO.items():
        disk.crio(container, config(told))
    disk.list("containers.json", [{"id": WEB, "names": ["k8s_nginx_web-0_shop_1_0"]}])
    assert disk.read(WEB) == Told("nginx", "web-0")
    assert disk.read(PAUSE) == Told("web-0", "web-0")


def test_a_container_of_nerdctl_in_any_of_containerds_namespaces(disk: Disk) -> None:
    disk.containerd("build", WEB, config(NERDCTL[WEB]))
    disk.containerd("moby", OTHER, config({}))
    assert disk.read(WEB) == Told("web")
    assert disk.read(OTHER) is None


@pytest.mark.parametrize("file", ["containers.json", "volatile-containers.json"])
def test_a_container_of_podman(disk: Disk, file: str) -> None:
    disk.crio(WEB, config({"org.opencontainers.image.stopSignal": "15"}))
    disk.list(file, [{"id": OTHER, "names": ["db"]}, {"id": WEB, "names": ["web", "alias"]}])
    assert disk.read(WEB) == Told("web")
    assert disk.read(OTHER) == Told("db")
    assert disk.read(PAUSE) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        config(None),
        config([1]),
        config({"nerdctl/name": 7}),
        config({"nerdctl/name": ""}),
        config({"io.kubernetes.cri.sandbox-name": "a pod without a container's name"}),
    ],
)
def test_a_file_that_holds_nonsense_costs_the_name_only(disk: Disk, content: str) -> None:
    disk.containerd("k8s.io", WEB, content)
    disk.crio(WEB, content)
    assert disk.read(WEB) is None


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "names", "annotations"]), inner, max_size=3)
        ),
    )
)
def test_any_list_costs_the_name_only(listed: object) -> None:
    name = bundles._listed(WEB, listed)
    assert name is None or isinstance(name, str)


def test_a_file_that_cannot_be_read(disk: Disk) -> None:
    (disk.task / "k8s.io" / WEB / "config.json").mkdir(parents=True)
    (disk.storage).mkdir()
    (disk.storage / "containers.json").write_bytes(b"\xff\xfe")
    assert disk.read(WEB) is None
    assert bundles.read(WEB, (disk.task / "missing",), (disk.task / "missing",)) is None


def test_engines_read_it_where_nobody_answers_and_keep_it_until_they_forget(disk: Disk) -> None:
    known = Engines([], written=disk.read)
    assert (known.name(WEB), known.pod(WEB)) == (WEB[:12], None)
    disk.containerd("k8s.io", WEB, config(CONTAINERD[WEB]))
    assert (known.name(WEB), known.pod(WEB)) == ("nginx", "web-0")
    disk.containerd("k8s.io", WEB, config(NERDCTL[WEB]))
    assert known.name(WEB) == "nginx"
    known.forget()
    assert (known.name(WEB), known.pod(WEB)) == ("web", None)
