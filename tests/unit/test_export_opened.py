# SPDX-License-Identifier: GPL-2.0-only
"""Traces that are compressed, cut off, damaged: read as far as they go, then one sentence."""

from __future__ import annotations

import gzip
import importlib
import io
import random
import resource
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.journeys import ALL, CAPTURE
from tests.unit.traces import gzipped, members, read, trace_of, write
from tracer.errors import TraceFileError, UsageError
from tracer.export import marks, packed
from tracer.export.opened import Opened, opened
from tracer.export.packed import PIECE, packing_of
from tracer.export.trace_index import TraceIndex
from tracer.export.trace_reader import TraceReader
from tracer.model import Journey

JOURNEYS = list(ALL.values())
PLAIN = trace_of(JOURNEYS)
GZ = gzipped(PLAIN)
MANY = [j._replace(id=f"{n}x{j.id}", parent=None) for n in range(40) for j in JOURNEYS]


@pytest.fixture
def zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own, or what is exactly like it."""
    if sys.version_info < (3, 14):
        module = importlib.import_module("backports.zstd")
        monkeypatch.setitem(sys.modules, "compression", importlib.import_module("backports"))
        monkeypatch.setitem(sys.modules, "compression.zstd", module)


@pytest.mark.parametrize("pack", [gzipped, gzip.compress, members])
def test_what_is_compressed_is_known_by_its_content(pack: Callable[[bytes], bytes]) -> None:
    assert read(pack(PLAIN)) == (JOURNEYS, "")
    assert read(pack(PLAIN) + bytes(512)) == (JOURNEYS, "")  # as tar leaves it


@pytest.mark.usefixtures("zstd")
def test_zstd_is_written_and_read_where_there_is_one(tmp_path: Path) -> None:
    packing = packing_of("t.json.zst")
    assert packing is not None
    first = packing.pack(PLAIN[:5000])
    whole = first + packing.pack(PLAIN[5000:]) + packing.finish()
    assert read(whole) == (JOURNEYS, "")
    assert read(whole + whole)[0][: len(JOURNEYS)] == JOURNEYS
    journeys, wrong = read(first)
    assert journeys == JOURNEYS[: PLAIN[:5000].count(b"\n") - 1]
    assert "is cut off" in wrong
    assert "damaged" in read(whole[:-2] + b"xx")[1]
    with opened(write(tmp_path / "t", whole)) as stream:
        assert not stream.anywhere


def test_zstd_that_there_is_not_is_said_with_what_to_type() -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("there is one")
    with pytest.raises(UsageError) as usage:
        packing_of("t.json.zst")
    assert usage.value.hint == "-w t.json.gz, or --json | zstd >t.json.zst"
    with pytest.raises(TraceFileError) as caught:
        TraceReader(Opened(io.BytesIO(packed.ZSTD + bytes(20)), "t.zst"), "t.zst")
    assert caught.value.hint == "zstd -dc t.zst | skbtrace show -"


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 4000))
@example(0, 3000)
def test_any_cut_gives_whole_journeys_and_one_sentence(size: int, at_once: int) -> None:
    """Plain, and as a killed tracer leaves it, and then cut once more."""
    whole = gzipped(PLAIN, at_once)
    for content in (PLAIN[:size], whole[: size * len(whole) // len(PLAIN)]):
        journeys, wrong = read(content)
        assert journeys == JOURNEYS[: len(journeys)]
        assert "\n" not in wrong
        assert wrong or len(content) >= len(PLAIN) - 1


def test_all_that_a_killed_tracer_has_flushed_is_read() -> None:
    packing = packing_of("t.gz")
    assert packing is not None
    lines = PLAIN.splitlines(keepends=True)
    content = b"".join(packing.pack(line) for line in lines[:-2])
    journeys, wrong = read(content, "t.gz")
    assert journeys == JOURNEYS[:-1]
    assert wrong == (
        "t.gz is cut off: what is compressed in it ends too early; "
        f"the journeys before that ({len(JOURNEYS) - 1}) are whole"
    )
    journeys, wrong = read(content + packing.pack(lines[-2][:100]), "t.gz")
    assert journeys == JOURNEYS[:-1]
    assert f"line {len(lines) - 1} is cut off" in wrong
    journeys, wrong = read(GZ[:-3], "t.gz")  # only of the check something is missing
    assert journeys == JOURNEYS
    assert "is cut off" in wrong


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(GZ) - 1), st.integers(1, 255))
def test_one_wrong_byte_anywhere_is_noticed(at: int, by: int) -> None:
    content = GZ[:at] + bytes([GZ[at] ^ by]) + GZ[at + 1 :]
    journeys, wrong = read(content)
    if journeys != JOURNEYS:
        assert wrong
        assert "\n" not in wrong


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_behind_a_magic_number_are_journeys_or_one_sentence(content: bytes) -> None:
    for magic in (packed.GZIP, packed.ZSTD, GZ[:200], GZ):
        _, wrong = read(magic + content)
        assert "\n" not in wrong


def test_what_stands_behind_what_is_compressed_is_not_passed_over() -> None:
    journeys, wrong = read(GZ + b"more", "t.gz")
    assert journeys == JOURNEYS
    assert wrong == (
        "cannot read t.gz: behind what is compressed stands something else; "
        f"{len(JOURNEYS)} journeys were read before that"
    )


def test_a_bomb_is_read_in_pieces() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    bomb = b"".join(packer.compress(zeros) for _ in range(400)) + packer.flush()
    assert len(bomb) < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, wrong = read(gzip.compress(PLAIN[: PLAIN.index(b"\n") + 1]) + bomb)
    assert wrong == "t.json: line 2 is longer than 16 MiB"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10
    one = Opened(io.BytesIO(bomb), "bomb")
    assert PIECE <= len(one.readline(1000)) < 3 * PIECE


@pytest.mark.parametrize("pack", [gzipped, members, bytes])
def test_any_place_of_a_file_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(marks, "MOST", 8)
    monkeypatch.setattr(marks, "_PIECES", 3)
    monkeypatch.setattr("tracer.export.marks.BLOCK", 500)
    monkeypatch.setattr("tracer.export.opened.BLOCK", 500)
    content = trace_of(MANY)
    with opened(write(tmp_path / "t", pack(content))) as stream:
        index = TraceIndex(stream, "t")
        index.scan()
        assert index.seen == len(MANY)
        numbers = list(range(len(MANY)))
        random.Random(7).shuffle(numbers)
        for number in (*numbers, *range(len(MANY)), *reversed(range(len(MANY)))):
            assert index.journey(number) == MANY[number]
        assert stream.at(len(content) - 10, 100) == content[-10:]


def test_a_file_that_changes_under_the_view_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.gz"
    with opened(write(path, gzipped(trace_of(MANY)))) as stream:
        index = TraceIndex(stream, "t.gz")
        index.scan()
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(TraceFileError, match=r"t.gz: line \d+ (cannot be read|is not JSON)"):
            index.journey(len(MANY) - 1)


def test_it_is_read_twice_from_its_beginning(tmp_path: Path) -> None:
    for content in (PLAIN, GZ):
        with opened(write(tmp_path / "t", content)) as stream:
            for _ in range(2):
                assert list(TraceReader(stream, "t")) == JOURNEYS
                stream.rewind()


# --- one after the other --------------------------------------------------------------------------

HOUR_NS = 3600 * 10**9
LATER = replace(CAPTURE, realtime_ns=CAPTURE.realtime_ns + HOUR_NS, kernel="6.12.0")
"""Another boot: an hour later by the wall, and the other clock begins anew."""


def joined(journeys: list[Journey], ids: str, shift_ns: int) -> list[Journey]:
    """What journeys of a later trace are called, and when they were."""
    return [
        j._replace(
            id=ids + j.id,
            parent=None if j.parent is None else ids + j.parent,
            start_ns=j.start_ns + shift_ns,
            branches=tuple(b._replace(id=ids + b.id) for b in j.branches),
            references=tuple(r._replace(id=ids + r.id) for r in j.references),
            absorbed_into=None if j.absorbed_into is None else ids + j.absorbed_into,
        )
        for j in journeys
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_one_trace_after_the_other_is_one(pack: Callable[[bytes], bytes]) -> None:
    content = pack(trace_of(JOURNEYS, ring_full=2)) + pack(trace_of(JOURNEYS, LATER, ring_full=3))
    reader = TraceReader(Opened(io.BytesIO(content), "t"), "t")
    assert list(reader) == JOURNEYS + joined(JOURNEYS, "2-", HOUR_NS)
    assert reader.capture == CAPTURE
    assert reader.summary is not None
    assert reader.summary.journeys == 2 * len(JOURNEYS)
    assert reader.summary.lost == {"ring_full": 5}
    assert reader.notes == [
        "t holds 2 traces: ids of the later ones begin with 2-; their times are told on the first "
        "one's clock; the header of the first one stands for all, though they are of Linux "
        "6.1.0-26-amd64 and 6.12.0"
    ]
    assert [change.anew for change in reader.changes] == [True]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 10**15), st.booleans()), min_size=1, max_size=5
    )
)
def test_any_concatenation_is_read(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int, bool]]
) -> None:
    content, expected = b"", []
    for number, (count, later_ns, _) in enumerate(parts, start=1):
        capture = replace(CAPTURE, realtime_ns=CAPTURE.realtime_ns + (later_ns if content else 0))
        content += trace_of(JOURNEYS[:count], capture)
        shift_ns = later_ns if number > 1 else 0
        ids = f"{number}-" if number > 1 else ""
        expected += joined(JOURNEYS[:count], ids, shift_ns)
    assert read(content) == (expected, "")
    assert len({j.id for j in expected}) == len(expected)
    packed = gzipped(content) if parts[0][2] else members(content)
    with opened(write(tmp_path_factory.mktemp("t") / "t", packed)) as stream:
        index = TraceIndex(stream, "t")
        index.scan()
        assert [index.journey(number) for number in range(index.seen)] == expected
        assert [index.number_of(j.id) for j in expected] == list(range(len(expected)))
        index.count()


def test_the_ids_of_a_later_trace_are_not_those_of_a_saved_one() -> None:
    saved = [JOURNEYS[0], JOURNEYS[0]._replace(id="2-7"), JOURNEYS[0]._replace(id="9-7")]
    journeys, _ = read(trace_of(saved) + trace_of(saved, LATER))
    assert [j.id for j in journeys][3:] == ["10-11", "10-2-7", "10-9-7"]


def test_the_older_one_comes_first() -> None:
    before = replace(CAPTURE, realtime_ns=CAPTURE.realtime_ns - CAPTURE.monotonic_ns - HOUR_NS)
    journeys, wrong = read(trace_of(JOURNEYS) + trace_of(JOURNEYS, before))
    assert journeys == JOURNEYS
    assert "put the older trace first" in wrong


def test_a_trace_without_a_footer_before_another_is_told_at_the_end() -> None:
    cut = PLAIN[: PLAIN.rindex(b'{"type":"footer"')]
    journeys, wrong = read(cut + trace_of(JOURNEYS, LATER))
    assert len(journeys) == 2 * len(JOURNEYS)
    assert wrong == (
        "t.json holds 2 traces, of which some have no footer (1): the tracer was stopped before it "
        f"could finish; the journeys ({2 * len(JOURNEYS)}) are whole"
    )


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=50).filter(lambda b: b != b"\n"))
def test_what_is_no_trace_behind_the_footer_is_refused_with_its_line(more: bytes) -> None:
    journeys, wrong = read(PLAIN + more)
    assert journeys == JOURNEYS
    line = PLAIN.count(b"\n") + 1
    assert wrong.startswith(f"t.json: line {line} ")


def test_names_of_one_trace_are_not_put_into_another() -> None:
    """Inode numbers of namespaces mean something else after the next boot."""
    reader = TraceReader(Opened(io.BytesIO(PLAIN + trace_of(JOURNEYS, LATER)), "t"), "t")
    list(reader)
    again = Opened(io.BytesIO(PLAIN + trace_of(JOURNEYS, LATER)), "t")
    assert len(list(TraceReader(again, "t", reader.changes))) == 2 * len(JOURNEYS)


@pytest.mark.parametrize("cut", [0, 1, 300])
def test_what_follows_a_trace_whose_tracer_was_killed_is_read(cut: int, tmp_path: Path) -> None:
    lines = PLAIN.splitlines(keepends=True)
    half = b"".join(lines[:5])[: -cut or None]
    packing = packing_of("t.gz")
    assert packing is not None
    expected = JOURNEYS[: 4 - bool(cut)] + joined(JOURNEYS, "2-", HOUR_NS)
    later = trace_of(JOURNEYS, LATER)
    for content in (half + later, packing.pack(half) + gzipped(later)):
        journeys, wrong = read(content)
        assert journeys == expected
        assert "holds 2 traces, of which some have no footer (1)" in wrong
        with opened(write(tmp_path / "t", content)) as stream:
            index = TraceIndex(stream, "t")
            with pytest.raises(TraceFileError, match="no footer"):
                index.scan()
            assert [index.journey(number) for number in range(index.seen)] == expected


def test_what_lies_before_a_damage_is_read() -> None:
    content = gzipped(trace_of(MANY))
    at = len(content) // 2
    journeys, wrong = read(content[:at] + b"\xff" * 40 + content[at + 40 :])
    assert len(journeys) > len(MANY) // 3
    assert journeys == MANY[: len(journeys)]
    assert wrong.startswith("cannot read t.json: what is compressed in it is damaged; ")


def test_files_of_two_rotated_traces_may_alternate() -> None:
    content = b"".join(
        trace_of(JOURNEYS[2 * part - 2 : 2 * part], replace(capture, part=part))
        for part in (1, 2)
        for capture in (CAPTURE, LATER)
    )
    reader = TraceReader(Opened(io.BytesIO(content), "t"), "t")
    one, two = joined(JOURNEYS[:2], "2-", HOUR_NS), joined(JOURNEYS[2:4], "2-", HOUR_NS)
    assert list(reader) == JOURNEYS[:2] + one + JOURNEYS[2:4] + two
    assert len(reader.changes) == 3  # each time names begin to mean something else
    assert "holds 2 traces" in reader.notes[0]
