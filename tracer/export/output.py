# SPDX-License-Identifier: GPL-2.0-only
"""Opens the file a person names for output, with that person's rights and no more.

Behind ``sudo`` the tracer is root, the person is not. The file is opened by a short-lived child
process that has become the user behind sudo for good, groups included, and hands the open file
back: so it belongs to that user, and lies where that user may write. (Switching user inside
this process would not do: ``seteuid`` switches every thread, ``setfsuid`` keeps root's groups.)
Nothing is ever written through a symbolic link, nor over an existing file unasked. A file that
is closed before anything was written to it is as if it had never been opened: a new one is
taken away again, an old one keeps what it held.

It forks, and may be called while other threads run (a trace that is rotated, the live view): the
child is a single thread that calls set*id, open or unlink, sendmsg and _exit. It waits for no lock
that one of the others may have held: Python makes its own anew in a child, the C library those of
malloc, and what would have to be imported there is imported here.

A name that ends in .gz or .zst is compressed where ``open_trace`` opens it. This module knows
nothing of what is in a trace.
"""

from __future__ import annotations

import array  # noqa: F401 (socket.send_fds imports it: not in a child of several threads)
import contextlib
import errno
import io
import os
import socket
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from tracer.capabilities import taken_up
from tracer.errors import TraceFileError
from tracer.export.packed import Packing, packing_of
from tracer.sudo import User, user_behind_sudo
from tracer.text import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_MODE = 0o666
"""As every program; the umask takes away from it."""
_DONE, _NEW, _OLD = b"+", b"new", b"old"


class Writable(Protocol):
    """What a trace is written to."""

    def write(self, data: Buffer, /) -> int:
        """Write some of it; return how many bytes. Raises OSError."""

    def tell(self) -> int:
        """Return how many bytes there are."""

    def truncate(self, size: int, /) -> int:
        """Cut it off."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """End it."""


class OutputFile(io.FileIO):
    """A file open for writing, without a buffer. What it held goes at the first write."""

    def __init__(self, fd: int, path: str, *, created: bool) -> None:
        super().__init__(fd, "w")
        self._path = Path(path).absolute()
        self._untouched = True
        self.created = created
        """It is a new file."""

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
        if not self.closed and self.created:
            with contextlib.suppress(OSError):
                if os.path.samestat(self._path.lstat(), os.fstat(self.fileno())):
                    self._path.unlink()
        super().close()


class PackedFile:
    """A file that is compressed while it is written: all of what is written to it, or nothing.

    What was written can be unpacked whatever comes after it.
    """

    def __init__(self, stream: BinaryIO, packing: Packing, name: str) -> None:
        self._stream = stream
        self._packing = packing
        self._name = printable(name)
        self._goes_on = False
        """Something was written, and nothing went wrong."""

    def write(self, data: Buffer, /) -> int:
        """Write it all. Raises OSError; then nothing of it is in the file, if that can be cut."""
        try:
            self._put(self._packing.pack(bytes(data)))
        except OSError:
            self._goes_on = False
            raise
        self._goes_on = True
        return len(memoryview(data))

    def tell(self) -> int:
        """Return how many bytes there are, compressed."""
        return self._stream.tell()

    def truncate(self, _: int, /) -> int:
        """Do nothing: a write that failed has left nothing behind."""
        return self.tell()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._stream.fileno()

    def close(self) -> None:
        """Write what stands at the end of something compressed, and close the file.

        Raises TraceFileError if there is no room for that: what was written can be read.
        """
        try:
            if self._goes_on:
                self._goes_on = False
                self._put(self._packing.finish())
        except OSError as error:
            raise TraceFileError(
                f"cannot write the end of {self._name}: {error.strerror or error}; "
                "what was written before that can be read"
            ) from error
        finally:
            self._stream.close()

    def _put(self, packed: bytes) -> None:
        left = memoryview(packed)
        try:
            while left:
                left = left[self._stream.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._stream.truncate(self._stream.tell() - (len(packed) - len(left)))
            raise


def open_trace(
    path: str, *, force: bool = False, environ: Mapping[str, str] = os.environ
) -> Writable:
    """Open as ``open_output``, compressed if the name ends so.

    Raises UsageError besides, if that cannot be done.
    """
    packing = packing_of(path)
    stream = open_output(path, force=force, environ=environ)
    return stream if packing is None else PackedFile(stream, packing, path)


def remove_output(
    path: str, was: os.stat_result, *, environ: Mapping[str, str] = os.environ
) -> None:
    """Remove a file that was opened here, with that person's rights; one that is another stays."""

    def remove() -> tuple[bytes, list[int]]:
        if os.path.samestat(os.lstat(path), was):
            os.unlink(path)  # noqa: PTH108 (the path is text)
        return b"", []

    user = user_behind_sudo(environ)
    with contextlib.suppress(OSError), taken_up():  # it may be gone already
        remove() if user is None else _as(user, remove)


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
        with taken_up():
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
        left_over = ""
        if isinstance(stream, OutputFile):
            left_over = "; nothing is left of it" if stream.created else ""
            stream.discard()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            why = error.strerror or str(error)
            raise TraceFileError(f"cannot write {printable(path)}: {why}{left_over}") from error
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

    def opened() -> tuple[bytes, list[int]]:
        fd, created = _open(path, force)
        return _NEW if created else _OLD, [fd]

    answer, fds = _as(user, opened)
    return fds[0], answer == _NEW


def _as(user: User, do: Callable[[], tuple[bytes, list[int]]]) -> tuple[bytes, list[int]]:
    """Do it as another user; return its answer and open files. Raises OSError."""
    here, there = socket.socketpair()
    with here, there:
        child = os.fork()
        if child == 0:
            _do_and_send(there, user, do)
        there.close()
        answer, fds, _, _ = socket.recv_fds(here, 8, 1, socket.MSG_CMSG_CLOEXEC)
        os.waitpid(child, 0)
    if answer.startswith(_DONE):
        return answer.removeprefix(_DONE), fds
    number = int(answer or errno.EIO)
    raise OSError(number, os.strerror(number))


def _do_and_send(
    there: socket.socket, user: User, do: Callable[[], tuple[bytes, list[int]]]
) -> None:
    """In the child: become the user, do it, hand over, and leave."""
    try:
        os.setgroups(user.groups)
        os.setgid(user.gid)
        os.setuid(user.uid)
        answer, fds = do()
        socket.send_fds(there, [_DONE + answer], fds)
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
