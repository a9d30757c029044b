# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import errno
import gzip
import io
import json
import os
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.unit.journeys import CAPTURE, REQUEST
from tests.unit.traces import read
from tracer.capabilities import give_up
from tracer.errors import TraceFileError
from tracer.export.output import PackedFile, open_output, open_trace, remove_output
from tracer.export.packed import packing_of
from tracer.export.trace_writer import TraceWriter

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
SOMEBODY = {"SUDO_UID": "12345", "SUDO_GID": "12346"}


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def refusal(path: Path, *, force: bool = False) -> TraceFileError:
    with pytest.raises(TraceFileError) as caught:
        open_output(str(path), force=force, environ={})
    return caught.value


def test_a_new_file_takes_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with open_output(str(path), environ={}) as stream:
        stream.write(b"one\n")
        assert path.read_bytes() == b"one\n"  # nothing is kept back
        stream.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_an_existing_file_is_refused_with_the_way_to_overwrite_it(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("precious")
    error = refusal(path)
    assert error.message == f"{path} exists already"
    assert error.hint == "add -f to overwrite it"
    assert path.read_text() == "precious"


def test_force_overwrites_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("precious and long")
    with open_output(str(path), force=True, environ={}) as stream:
        stream.write(b"new")
    assert path.read_text() == "new"


def test_force_keeps_the_old_content_until_there_is_new(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("precious")
    with open_output(str(path), force=True, environ={}):
        pass  # tracing could not begin
    assert path.read_text() == "precious"


def test_a_new_file_that_got_nothing_is_taken_away(tmp_path: Path) -> None:
    with open_output(str(tmp_path / "t.json"), environ={}):
        assert names_in(tmp_path) == ["t.json"]
    assert names_in(tmp_path) == []


def test_an_old_empty_file_that_got_nothing_stays(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.touch()
    with open_output(str(path), force=True, environ={}):
        pass
    assert path.exists()


def test_only_the_file_that_was_made_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with open_output(str(path), environ={}):
        path.rename(tmp_path / "moved")
        path.write_text("another's")
    assert path.read_text() == "another's"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("target", ["precious", "nowhere"])
def test_a_symbolic_link_is_never_followed(tmp_path: Path, force: bool, target: str) -> None:
    (tmp_path / "precious").write_text("precious")
    path = tmp_path / "t.json"
    path.symlink_to(tmp_path / target)
    assert "symbolic link" in refusal(path, force=force).message
    assert names_in(tmp_path) == ["precious", "t.json"]
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "exists already" in refusal(tmp_path).message
    assert refusal(tmp_path, force=True).message == f"cannot create {tmp_path}: Is a directory"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "t.json"
    assert refusal(path).message == f"cannot create {path}: its directory does not exist"


def test_a_name_that_would_control_a_terminal_is_escaped(tmp_path: Path) -> None:
    assert r"\x1b[31m" in refusal(tmp_path / "no" / "\x1b[31m").message


def test_a_device_can_be_written_to_with_force() -> None:
    with open_output("/dev/null", force=True, environ={}) as stream:
        assert stream.write(b"gone") == 4
    assert Path("/dev/null").exists()


def test_minus_is_standard_output_and_leaves_it_open() -> None:
    code = (
        "from tracer.export.output import open_output\n"
        "with open_output('-') as stream: stream.write(b'trace\\n')\n"
        "print('still open')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert ran.stdout == "trace\nstill open\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of somebody who is not root, reachable for them."""
    for parent in [tmp_path, *tmp_path.parents][:3]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp"):
            parent.chmod(0o755)
    path = tmp_path / "home"
    path.mkdir()
    os.chown(path, 12345, 12346)
    path.chmod(0o700)
    return path


@needs_root
def test_the_file_belongs_to_the_user_behind_sudo(home: Path) -> None:
    path = home / "t.json"
    with open_output(str(path), environ=SOMEBODY) as stream:
        stream.write(b"trace\n")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)
    assert path.read_bytes() == b"trace\n"
    assert os.geteuid() == 0


@needs_root
def test_sudo_gives_no_right_to_write_where_the_user_may_not(tmp_path: Path, home: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(TraceFileError, match=r"as the user behind sudo \(uid 12345\): Permission"):
        open_output(str(tmp_path / "t.json"), environ=SOMEBODY)
    assert names_in(tmp_path) == [home.name]


@needs_root
def test_root_s_own_files_are_safe_from_force_behind_sudo(home: Path) -> None:
    path = home / "t.json"
    path.write_text("root's")
    path.chmod(0o644)
    with pytest.raises(TraceFileError, match="Permission denied"):
        open_output(str(path), force=True, environ=SOMEBODY)
    assert path.read_text() == "root's"


@needs_root
@pytest.mark.parametrize("user", [SOMEBODY, {"SUDO_UID": "65534", "SUDO_GID": "65534"}])
def test_root_s_groups_are_not_the_user_s(home: Path, tmp_path: Path, user: dict[str, str]) -> None:
    """The second one, nobody, stands in the password file."""
    shared = tmp_path / "roots"
    shared.mkdir()
    shared.chmod(0o770)  # root's group may write here
    with pytest.raises(TraceFileError, match="Permission denied"):
        open_output(str(shared / "t.json"), environ=user)


@needs_root
@pytest.mark.parametrize("environ", [{}, SOMEBODY])
def test_a_thread_that_gave_up_capabilities_opens_and_removes(
    home: Path, environ: dict[str, str]
) -> None:
    """As the next file of a trace that is rotated; the folder is not root's."""
    path = home / "t.json"

    def work() -> bool:
        give_up(lambda: True)
        with open_output(str(path), environ=environ) as stream:
            stream.write(b"x")
        there = path.exists()
        remove_output(str(path), path.stat(), environ=environ)
        return there

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result()
    assert names_in(home) == []


@needs_root
@pytest.mark.parametrize("environ", [{}, {"SUDO_UID": "0", "SUDO_GID": "0"}, {"SUDO_UID": "x"}])
def test_root_without_a_user_behind_it_writes_as_root(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    path = tmp_path / "t.json"
    with open_output(str(path), environ=environ) as stream:
        stream.write(b"x")
    assert path.stat().st_uid == 0


def test_a_name_that_says_so_is_compressed_and_can_be_read_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "t.json.gz"
    stream = open_trace(str(path), environ={})
    for number in range(3):
        assert stream.write(b"a line\n") == 7
        unpacked = zlib.decompressobj(31).decompress(path.read_bytes())
        assert unpacked == b"a line\n" * (number + 1)
    stream.close()
    assert gzip.decompress(path.read_bytes()) == b"a line\n" * 3


def test_a_compressed_file_that_got_nothing_is_taken_away(tmp_path: Path) -> None:
    open_trace(str(tmp_path / "t.json.gz"), environ={}).close()
    assert names_in(tmp_path) == []


class Disk(io.BytesIO):
    """A disk with room for so many bytes, which takes a few at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any, /) -> int:
        size = min(len(data), self.room - self.tell(), 100)
        if size <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data[:size])


def test_a_full_disk_leaves_what_can_be_read_and_counts_that() -> None:
    packing = packing_of("t.gz")
    assert packing is not None
    disk = Disk(room=5000)
    disk.close = lambda: None  # type: ignore[method-assign]
    file = PackedFile(disk, packing, "t.gz")
    writer = TraceWriter(file, "t.gz")
    writer.begin(CAPTURE)
    batches = [[REQUEST._replace(id=str(number))] * 3 for number in range(1000)]
    with pytest.raises(TraceFileError, match="No space left") as caught:
        list(map(writer.journeys, batches))
    file.close()
    assert disk.tell() <= 5000
    journeys, wrong = read(disk.getvalue(), "t.gz")
    assert len(journeys) == writer.written > 3
    assert f"({writer.written}) can be read" in caught.value.message
    assert "is cut off" in wrong


def test_no_room_for_the_end_is_told() -> None:
    packing = packing_of("t.gz")
    assert packing is not None
    disk = Disk(room=5000)
    file = PackedFile(disk, packing, "t.gz")
    file.write(b"a line\n")
    disk.room = disk.tell()
    with pytest.raises(TraceFileError, match=r"cannot write the end of t\.gz: No space left"):
        file.close()
    assert disk.closed


def test_a_file_is_opened_while_other_threads_are_busy(tmp_path: Path) -> None:
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            json.loads(json.dumps({"a": list(range(100))}))
            sys.getrefcount(__import__("decimal"))

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    environ = SOMEBODY if os.geteuid() == 0 else {}
    try:
        for _ in range(50):
            with pytest.raises(TraceFileError):
                open_output("/nowhere/t.json", environ=environ)
    finally:
        over.set()
        for thread in threads:
            thread.join()
