# SPDX-License-Identifier: GPL-2.0-only
"""The initramfs of a guest: busybox, the modules that reach the host's files, and what to run."""

from __future__ import annotations

import lzma
import shutil
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.vm.kernels import Kernel, KernelError

# What a guest needs before it can read any file of the host. The rest is loaded from there.
MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")

_PT_INTERP = 3

INIT = Path(__file__).with_name("init")


# --- the archive format ---------------------------------------------------------------------------


class Archive:
    """A cpio archive of the `newc` format, the one the kernel unpacks into its first root."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._folders: set[str] = set()
        self._count = 0

    def folder(self, name: str, mode: int = 0o755) -> None:
        """Add a folder, and the folders above it. Adding it again does nothing."""
        parts = name.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            if path not in self._folders:
                self._folders.add(path)
                self._add(path, stat.S_IFDIR | mode, b"")

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(self._below(name), stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(self._below(name), stat.S_IFLNK | 0o777, target.encode())

    def finish(self) -> bytes:
        """The whole archive, with its trailer."""
        return b"".join([*self._parts, _entry("TRAILER!!!", 0, 0, b"")])

    def _below(self, name: str) -> str:
        name = name.strip("/")
        above, slash, _ = name.rpartition("/")
        if slash:
            self.folder(above)
        return name

    def _add(self, name: str, mode: int, content: bytes) -> None:
        self._count += 1
        self._parts.append(_entry(name, self._count, mode, content))


def _entry(name: str, inode: int, mode: int, content: bytes) -> bytes:
    raw = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # inode, mode, uid, gid, links, mtime, size, four device numbers, size of the name, checksum
    numbers = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(raw), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + raw) + _padded(content)


def _padded(block: bytes) -> bytes:
    return block + b"\0" * (-len(block) % 4)


# --- the modules ----------------------------------------------------------------------------------


def load_order(dep: str, builtin: str, wanted: Iterable[str]) -> list[str]:
    """The module files to insert, each after those it depends on.

    `dep` is the text of modules.dep, `builtin` that of modules.builtin: which of the wanted ones
    are modules at all differs from kernel to kernel.
    """
    depends: dict[str, list[str]] = {}
    for line in dep.splitlines():
        path, _, rest = line.partition(":")
        depends[path] = rest.split()
    path_of = {module_name(path): path for path in depends}
    inside = {module_name(path) for path in builtin.split()}
    order: list[str] = []

    def visit(path: str) -> None:
        if path not in order:
            for other in depends[path]:
                visit(other)
            order.append(path)

    for name in wanted:
        key = name.replace("-", "_")
        if key in path_of:
            visit(path_of[key])
        elif key not in inside:
            raise KernelError(f"this kernel has no {name}, neither as a module nor built in")
    return order


def module_name(path: str) -> str:
    """What a module file is called in the kernel: no folder, no suffixes, underscores."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def module_bytes(file: Path) -> bytes:
    """A module as the kernel takes it: busybox's insmod does not unpack it."""
    data = file.read_bytes()
    if file.suffix == ".xz":
        return lzma.decompress(data)
    if file.suffix == ".ko":
        return data
    raise KernelError(f"{file} is packed in a way that is not known here")


# --- the whole ------------------------------------------------------------------------------------


def build(kernel: Kernel, job: Mapping[str, str]) -> bytes:
    """The initramfs for a boot; `job` holds the files that /init finds in /job."""
    archive = _base()
    order = load_order(
        (kernel.modules / "modules.dep").read_text(),
        (kernel.modules / "modules.builtin").read_text(),
        MODULES,
    )
    names = []
    for path in order:
        name = f"modules/{module_name(path)}.ko"
        archive.file(name, module_bytes(kernel.modules / path))
        names.append(f"/{name}\n")
    archive.file("job/modules", "".join(names).encode())
    for name, content in job.items():
        archive.file(f"job/{name}", content.encode("utf-8", "surrogateescape"))
    return archive.finish()


def build_trial() -> bytes:
    """The smallest initramfs that can say that it ran."""
    archive = _base()
    archive.file("job/trial", b"")
    return archive.finish()


def _base() -> Archive:
    archive = Archive()
    for folder in ("dev", "proc", "sys", "lower", "space", "new"):
        archive.folder(folder)
    busybox = shutil.which("busybox", path="/bin:/usr/bin:/sbin:/usr/sbin")
    if busybox is None:
        raise KernelError("busybox is needed and is not installed (Debian: busybox-static)")
    binary = Path(busybox).read_bytes()
    if is_dynamic(binary):
        raise KernelError(f"{busybox} is not static (Debian: busybox-static)")
    archive.file("bin/busybox", binary, 0o755)
    for applet in applets(INIT.read_text()):
        archive.link(f"bin/{applet}", "busybox")
    archive.file("init", INIT.read_bytes(), 0o755)
    return archive


def is_dynamic(binary: bytes) -> bool:
    """Whether an ELF program asks for an interpreter, which an initramfs does not have."""
    (offset,) = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    kinds = (struct.unpack_from("<I", binary, offset + i * size)[0] for i in range(count))
    return _PT_INTERP in kinds


def applets(script: str) -> Iterator[str]:
    """The applets that /init names in its own head, where its reader looks for them."""
    for line in script.splitlines():
        if line.startswith("# applets:"):
            yield from line.partition(":")[2].split()
