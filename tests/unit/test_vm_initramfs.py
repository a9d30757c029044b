# SPDX-License-Identifier: GPL-2.0-only
"""The first root of a guest: the archive's format, and which modules are in it."""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.vm import initramfs
from tests.vm.kernels import KernelError

MODULES_DEP = """\
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/fscache/fscache.ko
kernel/net/9p/9pnet.ko:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko
kernel/fs/fscache/fscache.ko:
kernel/drivers/virtio/virtio-pci.ko:
"""


def unpacker() -> list[str]:
    """A cpio that is not ours."""
    for tool in (["cpio"], ["busybox", "cpio"]):
        if shutil.which(tool[0]):
            return tool
    pytest.skip("needs cpio or busybox")


def test_another_cpio_reads_the_archive(tmp_path: Path) -> None:
    archive = initramfs.Archive()
    archive.folder("dev")
    archive.file("a/b/odd", b"123", 0o600)
    archive.file("a/b/empty", b"")
    archive.file("a/run", b"#!/bin/sh\n" * 1000, 0o755)
    archive.link("a/b/link", "../run")
    content = archive.finish()

    listing = subprocess.run([*unpacker(), "-t"], input=content, capture_output=True, check=True)
    names = ["dev", "a", "a/b", "a/b/odd", "a/b/empty", "a/run", "a/b/link"]
    assert listing.stdout.decode().split() == names

    subprocess.run(
        [*unpacker(), "-i"], input=content, cwd=tmp_path, check=True, capture_output=True
    )
    assert (tmp_path / "a/b/odd").read_bytes() == b"123"
    assert (tmp_path / "a/b/odd").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a/b/empty").read_bytes() == b""
    assert (tmp_path / "a/b/link").read_text() == "#!/bin/sh\n" * 1000
    assert (tmp_path / "a/run").stat().st_mode & 0o777 == 0o755


def test_headers_and_contents_are_aligned_as_the_kernel_wants_them() -> None:
    for length in range(9):
        archive = initramfs.Archive()
        archive.file("n" * (length + 1), b"c" * length)
        content = archive.finish()
        assert len(content) % 4 == 0
        assert content.index(b"070701", 1) % 4 == 0
        assert content.endswith(b"TRAILER!!!\0\0\0\0")


def test_modules_come_after_those_they_need_and_only_once() -> None:
    order = initramfs.load_order(MODULES_DEP, "", ["9pnet_virtio", "9p", "virtio_pci"])
    assert [initramfs.module_name(path) for path in order] == [
        "9pnet",
        "9pnet_virtio",
        "fscache",
        "9p",
        "virtio_pci",
    ]


def test_what_is_built_in_need_not_be_a_module() -> None:
    builtin = "kernel/drivers/char/virtio_console.ko\n"
    assert initramfs.load_order(MODULES_DEP, builtin, ["virtio_console"]) == []


def test_a_kernel_that_lacks_a_module_is_refused() -> None:
    # As the cloud flavours lack 9p.
    with pytest.raises(KernelError, match="no overlay"):
        initramfs.load_order(MODULES_DEP, "", ["overlay"])


@pytest.mark.parametrize("name", ["plain.ko", "packed.ko.xz"])
def test_modules_are_unpacked(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(lzma.compress(b"module") if name.endswith(".xz") else b"module")
    assert initramfs.module_bytes(file) == b"module"


def test_a_module_packed_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "module.ko.zst"
    file.touch()
    with pytest.raises(KernelError, match="packed"):
        initramfs.module_bytes(file)


@pytest.mark.parametrize(("kind", "dynamic"), [(1, False), (3, True)])
def test_a_program_that_asks_for_an_interpreter_is_told_from_one_that_does_not(
    kind: int, *, dynamic: bool
) -> None:
    header = bytearray(64 + 2 * 56)
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, 2)
    struct.pack_into("<I", header, 64, 1)
    struct.pack_into("<I", header, 64 + 56, kind)
    assert initramfs.is_dynamic(bytes(header)) is dynamic


def test_the_script_of_the_guest_names_the_applets_it_needs() -> None:
    named = list(initramfs.applets(initramfs.INIT.read_text()))
    assert {"sh", "mount", "insmod", "switch_root"} <= set(named)
    assert named == sorted(set(named))


def test_the_script_of_the_guest_is_a_script() -> None:
    subprocess.run(["sh", "-n", str(initramfs.INIT)], check=True)
