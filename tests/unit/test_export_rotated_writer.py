# SPDX-License-Identifier: GPL-2.0-only
"""A trace in several files: each is whole, and all together are the trace."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.journeys import ALL, CAPTURE
from tests.unit.topologies import DOCKER
from tests.unit.traces import read, summary_of
from tracer.errors import TraceFileError, UsageError
from tracer.export.opened import opened
from tracer.export.rotated_writer import RotatedWriter
from tracer.export.rotation import Rotation, numbered, rotation_of, those_there
from tracer.export.trace_reader import TraceReader
from tracer.model import Counted, Device, Ended, Journey, Netns, Sampling, Summary, TopologyChange
from tracer.totals import since, total

JOURNEYS = list(ALL.values())


@pytest.mark.parametrize(
    ("typed", "rotation"),
    [
        ("100M", Rotation(100 << 20)),
        ("64K", Rotation(64 << 10)),
        ("1h", Rotation(age_s=3600)),
        ("90s,2G", Rotation(2 << 30, 90)),
        ("100M, 30min, keep=10", Rotation(100 << 20, 1800, 10)),
    ],
)
def test_what_can_be_typed(typed: str, rotation: Rotation) -> None:
    assert rotation_of(typed) == rotation


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "is neither a size"),
        ("100", "is neither a size"),
        ("100m", "is neither a size"),
        ("0M", "is neither a size"),
        ("-1M", "is neither a size"),
        ("1.5G", "is neither a size"),
        ("keep=3", "does not say when"),
        ("1M,2G", "says twice"),
        ("1h,keep=0", "keep=0 is neither"),
        ("x\x1b", r"x\x1b is neither"),
    ],
)
def test_what_cannot_be_meant(typed: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        rotation_of(typed)
    assert said in caught.value.message


def test_what_the_files_are_called() -> None:
    assert numbered("trace.json", 1) == "trace.000001.json"
    assert numbered("/a.b/trace.x.json.gz", 12) == "/a.b/trace.x.000012.json.gz"
    assert numbered("trace", 1234567) == "trace.1234567"
    names = ["t.000002.json", "t.json", "t.000001.json", "t.1.json", "tx000001.json", "t.000003.j"]
    assert those_there("/x/t.json", names) == ["t.000001.json", "t.000002.json"]


class Run:
    """A capture that hands its journeys to a rotated trace."""

    def __init__(self, path: Path, rotation: Rotation, *, force: bool = False) -> None:
        self.now = 0.0
        self.handed_over: list[Journey] = []
        self.lost = 0
        self.writer = RotatedWriter(
            str(path), rotation, self.so_far, force=force, clock=lambda: self.now
        )

    def so_far(self) -> Summary:
        counted = Counted(
            {"veth_xmit": 2 * len(self.handed_over)},
            (Ended("veth_xmit", None, False, None, 3 * len(self.handed_over), 5),),
        )
        return replace(summary_of(self.handed_over, ring_full=self.lost), counted=counted)

    def hand_over(self, batch: list[Journey]) -> None:
        self.handed_over += batch
        self.writer.journeys(batch)

    def end(self) -> None:
        self.writer.end(self.so_far())
        self.writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(folder: Path, rotation: Rotation, name: str = "t.json", batches: int = 6) -> Run:
    run = Run(folder / name, rotation)
    run.writer.begin(CAPTURE)
    for number in range(batches):
        run.lost += number
        run.now += 10
        run.hand_over([j._replace(id=f"{number}x{j.id}") for j in JOURNEYS])
    run.lost += 7
    run.end()
    return run


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
@pytest.mark.parametrize("rotation", [Rotation(size=1), Rotation(age_s=20), Rotation()])
def test_each_file_is_a_trace_and_all_are_one(folder: Path, name: str, rotation: Rotation) -> None:
    whole = run(folder, rotation, name)
    files = names(folder)
    assert len(files) == {1: 6, None: 4 if rotation.age_s else 1}[rotation.size]
    found: list[Journey] = []
    summaries = []
    for number, file in enumerate(files, start=1):
        with opened(str(folder / file)) as stream:
            reader = TraceReader(stream, file)
            found += list(reader)
            assert reader.capture == replace(CAPTURE, part=number)
            assert reader.notes == []
            assert reader.summary is not None
            summaries.append(reader.summary)
    assert found == whole.handed_over
    assert total(summaries) == whole.so_far()
    together = b"".join((folder / file).read_bytes() for file in files)
    assert read(together) == (found, "")
    (folder / "all").write_bytes(together)
    with opened(str(folder / "all")) as stream:
        reader = TraceReader(stream, "all")
        list(reader)
        assert reader.summary == whole.so_far()
        assert reader.notes == []


def test_what_was_lost_stands_in_the_file_it_was_lost_in(folder: Path) -> None:
    run(folder, Rotation(size=1), batches=3)
    lost = []
    for file in names(folder):
        with opened(str(folder / file)) as stream:
            reader = TraceReader(stream, file)
            list(reader)
            assert reader.summary is not None
            lost.append(reader.summary.lost["ring_full"])
    assert lost == [1, 2, 7]  # what is lost before a batch is told when that begins another file


def test_only_the_last_ones_are_kept_and_nothing_else_is_removed(folder: Path) -> None:
    (folder / "t.json").write_text("mine")
    (folder / "t.x.json").write_text("mine")
    run(folder, Rotation(size=1, keep=2))
    assert names(folder) == ["t.000005.json", "t.000006.json", "t.json", "t.x.json"]
    together = b"".join((folder / f"t.00000{n}.json").read_bytes() for n in (5, 6))
    assert read(together)[1] == ""


def test_a_file_that_somebody_put_in_place_of_one_is_not_removed(folder: Path) -> None:
    one = Run(folder / "t.json", Rotation(size=1, keep=1))
    one.writer.begin(CAPTURE)
    one.hand_over(JOURNEYS)
    (folder / "t.000001.json").rename(folder / "kept")
    (folder / "t.000001.json").write_text("another")
    one.hand_over(JOURNEYS)
    one.end()
    assert names(folder) == ["kept", "t.000001.json", "t.000002.json"]


def test_files_that_are_there_are_neither_overwritten_nor_mixed_up(folder: Path) -> None:
    (folder / "t.000001.json").write_text("precious")
    with pytest.raises(TraceFileError, match=r"000001\.json exists already"):
        Run(folder / "t.json", Rotation(size=1))
    (folder / "t.000001.json").rename(folder / "t.000004.json")
    with pytest.raises(TraceFileError, match=r"000004\.json exists already: files of another"):
        Run(folder / "t.json", Rotation(size=1))
    assert names(folder) == ["t.000004.json"]
    forced = Run(folder / "t.json", Rotation(size=1), force=True)
    forced.writer.close()
    assert names(folder) == ["t.000004.json"]
    assert (folder / "t.000004.json").read_text() == "precious"


def test_a_header_says_what_is_so_when_its_file_is_begun(folder: Path) -> None:
    one = Run(folder / "t.json", Rotation(size=1))
    one.writer.begin(replace(CAPTURE, topology=None))
    one.writer.sampling(Sampling(5, 10))
    one.hand_over(JOURNEYS[:1])
    one.writer.topology(TopologyChange(6, DOCKER))
    one.hand_over(JOURNEYS[1:2])
    one.end()
    with opened(str(folder / "t.000002.json")) as stream:
        reader = TraceReader(stream, "t")
        list(reader)
    assert reader.capture.topology == DOCKER
    assert reader.samplings == [Sampling(5, 10)]
    assert reader.changes == []


def test_files_that_are_not_there_are_missed(folder: Path) -> None:
    run(folder, Rotation(size=1))
    files = [(folder / f"t.00000{n}.json").read_bytes() for n in (2, 5, 3)]
    (folder / "all").write_bytes(b"".join(files))
    with opened(str(folder / "all")) as stream:
        reader = TraceReader(stream, "all")
        assert len(list(reader)) == 3 * len(JOURNEYS)
        assert reader.notes == ["all is a rotated trace of which 1 files between are not here"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")


@needs_root
def test_behind_sudo_each_file_is_the_user_s(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for parent in [folder, *folder.parents][:4]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp"):
            parent.chmod(0o755)
    os.chown(folder, 12345, 12346)
    monkeypatch.setenv("SUDO_UID", "12345")
    monkeypatch.setenv("SUDO_GID", "12346")
    run(folder, Rotation(size=1, keep=3), "t.json.gz")
    assert names(folder) == [f"t.00000{n}.json.gz" for n in (4, 5, 6)]
    for path in folder.iterdir():
        assert path.stat().st_uid == 12345
        assert stat.S_ISREG(path.stat().st_mode)


@settings(deadline=None)
@given(st.data())
def test_what_was_added_up_is_taken_apart(data: st.DataObject) -> None:
    def of() -> Summary:
        return replace(data.draw(any_journey.summaries(3)), silent=(), unloaded=())

    one, other = of(), of()
    both = total([one, other])
    assert both.journeys == 6
    less = since(both, one)
    assert less.journeys == 3
    for name, count in other.lost.items():
        assert less.lost[name] == count
    assert less.untriggered == other.untriggered
    if one.counted is not None and other.counted is not None:
        assert both.counted is not None
        assert both.counted.packets == one.counted.packets + other.counted.packets


def test_what_was_not_counted_somewhere_is_not_known_of_all() -> None:
    device = Device(Netns(1, "a"), 2, "eth0")
    counted = Counted({"x": 1}, (Ended("x", device, False, None, 1, 2),))
    assert total([Summary(counted=counted), Summary()]).counted is None
    assert since(Summary(counted=counted), Summary()).counted == counted
