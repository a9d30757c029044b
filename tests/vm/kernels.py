# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that guests boot: Debian's, found through the package index, kept in a cache."""

from __future__ import annotations

import fcntl
import lzma
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import mirror

METAPACKAGE = f"linux-image-{mirror.ARCHITECTURE}"

KERNELS = {
    "5.10": "bullseye",
    "6.1": "bookworm",
    "6.12": "trixie",
    "newest": "sid",
}
"""What a kernel is called here, and the suite it comes from."""


class KernelError(Exception):
    """A kernel cannot be had."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: the image to boot and the modules that belong to it."""

    alias: str
    release: str
    tree: Path

    @property
    def image(self) -> Path:
        """What QEMU boots: the kernel unpacked, if it could be."""
        unpacked = self.tree / "boot" / "vmlinux"
        return unpacked if unpacked.exists() else self.packed_image

    @property
    def packed_image(self) -> Path:
        """The kernel as the distribution ships it."""
        return self.tree / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        """Its modules, as modprobe wants them."""
        return self.tree / "lib" / "modules" / self.release


def cache_folder() -> Path:
    """Where unpacked kernels and verdicts are kept between runs."""
    own = os.environ.get("SKBTRACE_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(base) / "skbtrace").resolve()


def cached(alias: str) -> Kernel | None:
    """The kernel kept under an alias, if there is one."""
    suite_of(alias)
    link = cache_folder() / "kernels" / alias
    try:
        kernel = _kept(alias, link.resolve(strict=True))
    except FileNotFoundError:
        return None
    return kernel if kernel.packed_image.is_file() and kernel.modules.is_dir() else None


def obtain(alias: str, *, update: bool = False) -> Kernel:
    """The kernel of an alias; fetched if it is not in the cache, or if an update is asked for."""
    kernel = cached(alias)
    if kernel and not update:
        return kernel
    with _only_one(cache_folder() / "kernels" / f".{alias}.lock"):
        # Whoever held the lock before may have fetched the very same kernel.
        kernel = cached(alias)
        if kernel and not update:
            return kernel
        try:
            return _fetch(alias)
        except mirror.MirrorError as error:
            raise KernelError(f"kernel {alias}: {error}") from error


def suite_of(alias: str) -> str:
    """The suite an alias comes from."""
    try:
        return KERNELS[alias]
    except KeyError:
        raise KernelError(f"no kernel {alias!r}; there are {', '.join(KERNELS)}") from None


def _kept(alias: str, tree: Path) -> Kernel:
    # A release may be rebuilt under its name; a version of its package never is.
    return Kernel(alias, tree.name.partition("_")[0], tree)


def _fetch(alias: str) -> Kernel:
    uri = mirror.configured_mirror()
    index = mirror.fetch_index(uri, suite_of(alias))
    packages = mirror.resolve(mirror.kernel_packages(index), METAPACKAGE)
    image = next(p for p in packages if p.name.startswith("linux-image-"))
    release = image.name.removeprefix("linux-image-")
    tree = cache_folder() / "kernels" / f"{release}_{image.version}"
    unfinished = f".fetch-{alias}-"
    for folder in tree.parent.glob(f"{unfinished}*"):
        # From a fetch that was killed: the lock of this alias is held, so it is nobody's.
        shutil.rmtree(folder)
    with tempfile.TemporaryDirectory(prefix=unfinished, dir=tree.parent) as temporary:
        if not tree.exists():
            _unpack(uri, packages, release, Path(temporary)).rename(tree)
        link = Path(temporary) / "alias"
        link.symlink_to(tree.name)
        link.replace(tree.with_name(alias))
    return _kept(alias, tree)


def _unpack(uri: str, packages: Iterable[mirror.Package], release: str, temporary: Path) -> Path:
    """Fetch and unpack packages into one tree: boot/vmlinuz-R, lib/modules/R and little else."""
    tree = temporary / "tree"
    modules = tree / "lib" / "modules"
    modules.mkdir(parents=True)
    for package in packages:
        file = mirror.fetch_package(uri, package, temporary)
        _call("dpkg-deb", "-x", str(file), str(tree))
        file.unlink()
    # Since 6.12 the modules lie under usr/lib; depmod and the guest want them in the old place.
    merged = tree / "usr" / "lib" / "modules" / release
    if merged.is_dir():
        merged.rename(modules / release)
    shutil.rmtree(tree / "usr", ignore_errors=True)
    # In 7.x the image lies among the modules.
    image = tree / "boot" / f"vmlinuz-{release}"
    inside = modules / release / "vmlinuz"
    if inside.exists():
        image.parent.mkdir(exist_ok=True)
        inside.rename(image)
    for part in (image, modules / release):
        if not part.exists():
            raise KernelError(f"the packages of {release} hold no {part.relative_to(tree)}")
    _call("depmod", "-b", str(tree), release)
    unpack_image(image, tree / "boot" / "vmlinux")
    return tree


def unpack_image(packed: Path, target: Path) -> None:
    """Take the ELF kernel out of a bzImage, so that it need not unpack itself in emulation.

    That saves 2 s of every boot of a kernel packed with xz. QEMU enters an ELF kernel through its
    PVH note. Where an image is packed in another way, it is booted as it is.
    """
    data = packed.read_bytes()
    # Fields of the boot protocol: setup_sects, payload_offset, payload_length (since 2.08).
    setup = (data[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", data, 0x248)
    # The build appends the unpacked size to what its packer made.
    payload = data[setup * 512 + offset :][: length - 4]
    if payload.startswith(b"\xfd7zXZ\0"):
        kernel = lzma.decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd") and shutil.which("zstd"):
        command = ["zstd", "-dcq"]
        unpacked = subprocess.run(command, input=payload, capture_output=True, check=False)
        kernel = unpacked.stdout if unpacked.returncode == 0 else b""
    else:
        return
    if kernel.startswith(b"\x7fELF"):
        target.write_bytes(kernel)


def _call(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise KernelError(f"{command[0]} is needed and is not installed") from error
    except subprocess.CalledProcessError as error:
        raise KernelError(f"{' '.join(command)}: {error.stderr.strip()}") from error


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
