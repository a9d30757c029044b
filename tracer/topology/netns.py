# SPDX-License-Identifier: GPL-2.0-only
"""Network namespaces as files: enter one for a moment, make one, remove one, list them.

The way in is a one-shot thread: ``setns`` changes only the calling thread, the thread ends, and
nothing has to be restored or closed. The netlink library also wants this: its synchronous calls
fail in a thread that runs an event loop. This module knows nothing of names or labs.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

RUN_NETNS = Path("/run/netns")
"""Where ``ip netns`` keeps its namespaces."""
RUN_DOCKER_NETNS = Path("/run/docker/netns")
OWN = "/proc/self/ns/net"
"""The namespace this process runs in."""

_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MS_REC = 16384
_MS_SHARED = 1 << 20
_MNT_DETACH = 2


def inum(path: str) -> int:
    """Return the inode number of the namespace at ``path``. Raises OSError."""
    return os.stat(path).st_ino  # noqa: PTH116 -- called for every process; Path would cost more


def inside(path: str, work: Callable[[], T]) -> T:
    """Run ``work`` in the namespace at ``path``, in a thread of its own, and return its result.

    Raises what ``work`` raises, and OSError if the namespace cannot be entered. A signal
    handler that raises is obeyed only after ``work`` is done.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            if path != OWN:
                enter(path)
            results.append(work())
        except BaseException as failure:  # raised again below
            failures.append(failure)

    thread = threading.Thread(target=body, name="skbtrace-netns", daemon=True)
    thread.start()
    try:
        thread.join()
    finally:
        thread.join()
    if failures:
        raise failures[0]
    return results[0]


def inside_each(paths: Mapping[int, str], work: Callable[[], T]) -> dict[int, T]:
    """Run ``work`` in each of the namespaces (inode number → path) and return the results.

    One thread enters them one after the other. A namespace that is gone, or whose path leads to
    another one by now, is left out. Raises PermissionError, and what ``work`` raises but OSError.
    """

    def body() -> dict[int, T]:
        results = {}
        for inum, path in paths.items():
            try:
                enter(path, inum)
                results[inum] = work()
            except PermissionError:
                raise
            except OSError:  # it vanished meanwhile
                continue
        return results

    return inside(OWN, body)


def enter(path: str, inum: int | None = None) -> None:
    """Move the calling thread into the namespace at ``path``.

    Raises OSError, and FileNotFoundError if it is not the one with that inode number.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if inum is not None and os.fstat(fd).st_ino != inum:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        _libc("setns", fd, _CLONE_NEWNET)
    finally:
        os.close(fd)


def create(name: str) -> None:
    """Make the namespace ``name`` as ``ip netns add`` does. Raises OSError; half-made is undone."""
    _prepare_folder()
    file = RUN_NETNS / name
    file.touch(mode=0o444, exist_ok=False)

    def unshare() -> None:
        _libc("unshare", _CLONE_NEWNET)
        _mount("/proc/thread-self/ns/net", str(file), _MS_BIND)

    try:
        inside(OWN, unshare)
    except BaseException:
        remove(name)
        raise


def remove(name: str) -> None:
    """Remove the name of a namespace; the kernel removes the rest when nobody is in it.

    Also removes what an interrupted ``create`` left. Raises OSError.
    """
    file = RUN_NETNS / name
    try:
        _libc("umount2", os.fsencode(file), _MNT_DETACH)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:  # not a mount, not there
            raise
    file.unlink(missing_ok=True)


def exists(name: str) -> bool:
    """Whether ``/run/netns`` has a live namespace of that name."""
    try:
        return (RUN_NETNS / name).stat().st_dev == Path(OWN).stat().st_dev
    except OSError:
        return False


def reason(error: Exception) -> str:
    """Return what the kernel said, in words: an OSError's or the netlink library's error."""
    number = getattr(error, "code", None)
    if isinstance(number, int):
        return os.strerror(number)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _prepare_folder() -> None:
    # As iproute2 does it, so that either may come first: the folder is a mount of its own with
    # shared propagation, or namespaces made later would stay invisible in other mount namespaces.
    RUN_NETNS.mkdir(mode=0o755, exist_ok=True)
    folder = os.open(RUN_NETNS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            _mount("", str(RUN_NETNS), _MS_SHARED | _MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: not a mount yet
                raise
            _mount(str(RUN_NETNS), str(RUN_NETNS), _MS_BIND | _MS_REC)
            _mount("", str(RUN_NETNS), _MS_SHARED | _MS_REC)
    finally:
        os.close(folder)


def _mount(source: str, target: str, flags: int) -> None:
    _libc("mount", os.fsencode(source), os.fsencode(target), b"none", flags, None)


def _libc(function: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library[function](*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
