# SPDX-License-Identifier: GPL-2.0-only
"""How kernels get into the cache; with packages of a few bytes, from a mirror in a folder."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import struct
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vm import kernels, mirror

tools = pytest.mark.skipif(
    not (shutil.which("dpkg-deb") and shutil.which("depmod")), reason="needs dpkg-deb and depmod"
)


def bz_image(payload: bytes) -> bytes:
    """An image as the boot protocol has it: two sectors of setup, then code, then the payload."""
    header = bytearray(3 * 512)
    header[0x1F1] = 2
    packed = lzma.compress(payload) + struct.pack("<I", len(payload))
    struct.pack_into("<II", header, 0x248, 100, len(packed))
    return bytes(header) + b"\0" * 100 + packed + b"what follows"


class Mirror:
    """A mirror in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = ""

    def add(self, name: str, version: str, depends: str, files: Mapping[str, bytes]) -> None:
        """Build a package and put it into the index."""
        tree = self.folder / "build"
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
        control += "Maintainer: nobody <nobody@example.org>\nDescription: test\n"
        (tree / "DEBIAN" / "control").write_text(control)
        for path, content in files.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        package = self.folder / f"{name}_{version}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(package)]
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(tree)
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        self.index += f"Package: {name}\nVersion: {version}\nFilename: {package.name}\n"
        self.index += f"SHA256: {digest}\nSize: 1\nDepends: {depends}\n\n"

    def publish(self, suite: str) -> None:
        """Write the index of a suite, and begin the next."""
        folder = self.folder / "dists" / suite / "main" / "binary-amd64"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Packages.xz").write_bytes(lzma.compress(self.index.encode()))
        self.index = ""

    def publish_kernel(self, suite: str, release: str, version: str = "1") -> None:
        """A kernel in one package, as they were until 6.1."""
        files = {
            f"boot/vmlinuz-{release}": bz_image(b"\x7fELF a kernel"),
            f"lib/modules/{release}/kernel/empty": b"",
            "usr/share/doc/much": b"text",
        }
        concrete = f"linux-image-{release}"
        self.add(concrete, version, "", files)
        self.add("linux-image-amd64", version, f"{concrete} (= {version})", {})
        self.publish(suite)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("SKBTRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(mirror.MIRROR_VARIABLE, folder.as_uri())
    return Mirror(folder)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKBTRACE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert kernels.cache_folder() == Path("/xdg/skbtrace")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert kernels.cache_folder() == Path("/home/someone/.cache/skbtrace")
    monkeypatch.setenv("SKBTRACE_CACHE", "/own")
    assert kernels.cache_folder() == Path("/own")


def test_an_unknown_kernel_is_told_the_known_ones() -> None:
    with pytest.raises(kernels.KernelError, match=r"5\.10, 6\.1, 6\.12, newest"):
        kernels.cached("2.4")


@tools
def test_a_kernel_is_fetched_once_and_kept(archive: Mirror) -> None:
    archive.publish_kernel("bookworm", "6.1.0-50-amd64")
    assert kernels.cached("6.1") is None
    (kernels.cache_folder() / "kernels" / ".fetch-6.1-killed" / "tree").mkdir(parents=True)
    kernel = kernels.obtain("6.1")
    assert kernel.release == "6.1.0-50-amd64"
    assert kernel.image.read_bytes() == b"\x7fELF a kernel"
    assert (kernel.modules / "modules.dep").exists()
    assert not (kernel.tree / "usr").exists()
    shutil.rmtree(archive.folder)
    assert kernels.obtain("6.1") == kernels.cached("6.1") == kernel
    # Nothing of the fetching is left.
    assert {p.name for p in kernel.tree.parent.iterdir()} == {
        ".6.1.lock",
        "6.1",
        "6.1.0-50-amd64_1",
    }


@tools
def test_an_update_asks_again_and_leaves_the_old_kernel_to_those_who_run_it(
    archive: Mirror,
) -> None:
    archive.publish_kernel("bookworm", "6.1.0-47-amd64")
    old = kernels.obtain("6.1")
    archive.publish_kernel("bookworm", "6.1.0-50-amd64")
    assert kernels.obtain("6.1") == old
    assert kernels.obtain("6.1", update=True).release == "6.1.0-50-amd64"
    assert kernels.obtain("6.1").release == "6.1.0-50-amd64"
    assert old.packed_image.exists()


@tools
def test_a_kernel_rebuilt_under_its_name_is_another_kernel(archive: Mirror) -> None:
    archive.publish_kernel("bookworm", "6.1.0-50-amd64", version="6.1.176-1")
    old = kernels.obtain("6.1")
    archive.publish_kernel("bookworm", "6.1.0-50-amd64", version="6.1.176-2")
    new = kernels.obtain("6.1", update=True)
    assert new.release == old.release
    assert new.tree != old.tree


@tools
def test_packages_without_an_image_are_refused_and_not_kept(archive: Mirror) -> None:
    archive.add("linux-image-6.1.0-50-amd64", "1", "", {"lib/modules/6.1.0-50-amd64/x": b""})
    archive.add("linux-image-amd64", "1", "linux-image-6.1.0-50-amd64 (= 1)", {})
    archive.publish("bookworm")
    with pytest.raises(kernels.KernelError, match="hold no boot/vmlinuz"):
        kernels.obtain("6.1")
    assert kernels.cached("6.1") is None


@tools
def test_a_kernel_in_parts_gets_the_shape_of_the_others(archive: Mirror) -> None:
    release = "7.2.13+deb14-amd64"
    modules = f"usr/lib/modules/{release}"
    builtin = {f"{modules}/modules.builtin": b""}
    image = {f"{modules}/vmlinuz": bz_image(b"no ELF")}
    archive.add(f"linux-base-{release}", "1", "", builtin)
    archive.add(f"linux-binary-{release}", "1", "", image)
    archive.add(f"linux-modules-{release}", "1", "", {f"{modules}/kernel/net/empty": b""})
    parts = ", ".join(f"linux-{part}-{release} (= 1)" for part in ("base", "binary", "modules"))
    archive.add(f"linux-image-{release}", "1", parts, {})
    archive.add("linux-image-amd64", "1", f"linux-image-{release} (= 1)", {})
    archive.publish("sid")
    kernel = kernels.obtain("newest")
    assert kernel.modules == kernel.tree / "lib" / "modules" / release
    assert (kernel.modules / "kernel" / "net" / "empty").exists()
    # What is in the image is no ELF file, so the image itself is booted.
    assert kernel.image == kernel.tree / "boot" / f"vmlinuz-{release}"


@tools
def test_two_that_want_the_same_kernel_fetch_it_once(
    archive: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.publish_kernel("trixie", "6.12.107+deb13-amd64")
    asked: list[str] = []
    fetch_index = mirror.fetch_index

    def ask(uri: str, suite: str) -> str:
        asked.append(suite)
        return fetch_index(uri, suite)

    monkeypatch.setattr(mirror, "fetch_index", ask)
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(kernels.obtain, ["6.12", "6.12"])
    assert first == second
    assert asked == ["trixie"]


@tools
def test_a_mirror_that_no_longer_has_the_kernel_is_one_clear_error(archive: Mirror) -> None:
    archive.publish("bullseye")
    with pytest.raises(kernels.KernelError, match=r"^kernel 5\.10: the package index has no linux"):
        kernels.obtain("5.10")
    assert kernels.cached("5.10") is None


def test_an_image_packed_in_an_unknown_way_is_left_as_it_is(tmp_path: Path) -> None:
    packed, target = tmp_path / "vmlinuz", tmp_path / "vmlinux"
    packed.write_bytes(bz_image(b"").replace(b"\xfd7zXZ", b"LZIP!"))
    kernels.unpack_image(packed, target)
    assert not target.exists()
