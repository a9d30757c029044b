# SPDX-License-Identifier: GPL-2.0-only
"""Opens the file a person names for output, with that person's rights and no more.

Behind ``sudo`` the tracer is root, the person is not. The file is opened by a short-lived child
process that has become the user behind sudo for good, groups included, and hands the open file
back: so it belongs to that user, and lies where that user may write. (Switching user inside
this process would not do: ``seteuid`` switches every thread, ``setfsuid`` keeps root's groups.)
Nothing is ever written through a symbolic link, nor over an existing file unasked. A file that
is closed before anything was written to it is as if it had never been opened: a new one is
taken away again, an old one keeps what it held.

Call it before threads are started: it forks. This module knows nothing of traces.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tracer.errors import TraceFileError
from tracer.sudo import User, user_behind_sudo
from tracer.text import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_MODE = 0o666
"""As every program; the umask takes away from it."""
_NEW, _OLD = b"new", b"old"


class OutputFile(io.FileIO):
    """A file open for writing, without a buffer. What it held goes at the first write."""

    def __init__(self, fd: int, path: str, *, created: bool) -> None:
        super().__init__(fd, "w")
        self._path = Path(path).absolute()
        self._untouched = True
        self._created = created

    def write(self, data: Buffer, /) -> int:
        """Write as ``io.FileIO`` does: perhaps not everything. Raises OSError."""
        if self._untouched:
            self._untouched = False
            if stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                self.truncate(0)
        return super().write(data)

    def close(self) -> None:
        """Close; take an empty new file away."""
        if self._untouched:
            self.discard()
        super().close()

    def discard(self) -> None:
        """Close; take a new file away, whatever is in it."""
        if not self.closed and self._created:
            with contextlib.suppress(OSError):
                if os.path.samestat(self._path.lstat(), os.fstat(self.fileno())):
                    self._path.unlink()
        super().close()


def open_output(
    path: str, *, force: bool = False, environ: Mapping[str, str] = os.environ
) -> BinaryIO:
    """Open ``path`` for writing, without a buffer; ``-`` is standard output.

    Raises TraceFileError if the file exists and ``force`` is not set, is a symbolic link, or
    cannot be created; nothing is left behind then.
    """
    if path == "-":
        return io.FileIO(1, "w", closefd=False)
    user = user_behind_sudo(environ)
    try:
        fd, created = _open(path, force) if user is None else _open_as(user, path, force)
    except (OSError, ValueError) as error:
        raise _refusal(path, error, user) from error
    return OutputFile(fd, path, created=created)


def write_output(path: str, pieces: Iterable[bytes], *, force: bool = False) -> None:
    """Write all of a file. Raises TraceFileError; if anything goes wrong, no new file is left."""
    stream = open_output(path, force=force)
    try:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[stream.write(left) :]
    except BaseException as error:
        if isinstance(stream, OutputFile):
            stream.discard()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            why = error.strerror or str(error)
            raise TraceFileError(f"cannot write {printable(path)}: {why}") from error
        raise
    stream.close()


def _open(path: str, force: bool) -> tuple[int, bool]:
    """Open with this process's rights; say whether the file is a new one. Raises OSError."""
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, _MODE), True
    except FileExistsError:
        if not force:
            raise
    return os.open(path, flags), False


def _open_as(user: User, path: str, force: bool) -> tuple[int, bool]:
    """``_open`` as another user. Raises OSError."""
    here, there = socket.socketpair()
    with here, there:
        child = os.fork()
        if child == 0:
            _open_and_send(there, user, path, force)
        there.close()
        answer, fds, _, _ = socket.recv_fds(here, 8, 1, socket.MSG_CMSG_CLOEXEC)
        os.waitpid(child, 0)
    if fds:
        return fds[0], answer == _NEW
    number = int(answer or errno.EIO)
    raise OSError(number, os.strerror(number), path)


def _open_and_send(there: socket.socket, user: User, path: str, force: bool) -> None:
    """In the child: become the user, open, hand over, and leave."""
    try:
        os.setgroups(user.groups)
        os.setgid(user.gid)
        os.setuid(user.uid)
        fd, created = _open(path, force)
        socket.send_fds(there, [_NEW if created else _OLD], [fd])
    except OSError as error:
        there.send(str(error.errno).encode())
    finally:
        os._exit(0)


def _refusal(path: str, error: OSError | ValueError, user: User | None) -> TraceFileError:
    name = printable(path)
    number = error.errno if isinstance(error, OSError) else None
    if number in {errno.EEXIST, errno.ELOOP} and Path(path).is_symlink():
        return TraceFileError(
            f"{name} is a symbolic link; skbtrace never writes through one",
            hint="name the file itself, or - for standard output",
        )
    if number == errno.EEXIST:
        return TraceFileError(f"{name} exists already", hint="add -f to overwrite it")
    if number == errno.ENOENT:
        return TraceFileError(f"cannot create {name}: its directory does not exist")
    why = os.strerror(number) if number is not None else str(error)
    as_whom = "" if user is None else f" as the user behind sudo (uid {user.uid})"
    return TraceFileError(f"cannot create {name}{as_whom}: {why}")
