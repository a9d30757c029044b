# SPDX-License-Identifier: GPL-2.0-only
"""What is written down about a lab is read back, and nothing else is believed."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.process import Process, this_process
from tracer.topology import record
from tracer.topology.record import Record


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "FOLDER", tmp_path / "skbtrace")
    (tmp_path / "skbtrace").mkdir()
    return tmp_path / "skbtrace"


@pytest.mark.parametrize("owner", [None, Process(12, 3456)])
def test_what_is_written_is_read(owner: Process | None) -> None:
    before = {"all/accept_redirects": "1", "e\udcff0/forwarding": "0"}
    written = Record(owner, ("skbtrace-c1", "skbtrace-c2"), before)
    record.write("lab", written)
    assert record.read("lab") == written
    record.erase("lab")
    assert record.read("lab") is None
    record.erase("lab")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "[1]",
        '{"owner": null}',
        '{"owner": 5, "namespaces": []}',
        '{"owner": [1], "namespaces": []}',
        '{"owner": null, "namespaces": [1]}',
        '{"owner": null, "namespaces": []}',
        '{"owner": null, "namespaces": [], "forwarding": []}',
        '{"owner": null, "namespaces": [], "forwarding": {"all/forwarding": "on"}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_record_is_none(text: str, folder: Path) -> None:
    (folder / "lab.json").write_text(text)
    assert record.read("lab") is None


def test_what_one_that_was_killed_had_half_written_is_removed(folder: Path) -> None:
    (folder / "lab.json.new").write_text('{"own')
    with record.locked():
        assert [file.name for file in folder.iterdir()] == ["lock"]


@pytest.mark.parametrize("name", ["c1", "", "skbtrace-../../etc", "/run/netns/skbtrace-c1"])
def test_a_name_that_is_not_a_labs_is_not_believed(name: str) -> None:
    record.write("lab", Record(None, ("skbtrace-c1", name)))
    assert record.read("lab") == Record(None, ("skbtrace-c1",))


@given(st.binary())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_record_or_none(folder: Path, data: bytes) -> None:
    (folder / "lab.json").write_bytes(data)
    record.read("lab")


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    this = this_process()
    assert this.alive
    assert not Process(this.pid, this.start + 1).alive
    assert not Process(2**22 + 1, 1).alive  # more than any kernel's pid_max
    assert not Record(this, ()).left_behind
    assert Record(Process(this.pid, this.start + 1), ()).left_behind
    assert not Record(None, ()).left_behind


def test_the_lock_is_held_for_the_block_only(folder: Path) -> None:
    with record.locked(), (folder / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (folder / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
