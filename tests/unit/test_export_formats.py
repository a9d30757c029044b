# SPDX-License-Identifier: GPL-2.0-only
"""What holds of every format, and of the command."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit import any_journey
from tests.unit.exported import REAL, Given, exported, exported_real, real
from tests.unit.journeys import REQUEST
from tracer.cli import run
from tracer.export import chrome, pcapng
from tracer.export.formats import FORMATS
from tracer.export.trace_reader import TraceReader
from tracer.model import Journey

STREAMED = [name for name in FORMATS if name != "html"]  # that one keeps some, and says how many


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_journeys_can_be_exported(name: str, data: st.DataObject) -> None:
    capture = data.draw(any_journey.captures())
    journeys = data.draw(st.lists(any_journey.journeys(), max_size=4))
    summary = data.draw(st.none() | any_journey.summaries(len(journeys)))
    exported(name, Given(journeys, capture, summary)).decode(
        "latin-1" if name == "pcapng" else "utf-8"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_but_a_header_makes_a_file(name: str) -> None:
    exported(name, Given(()))
    exported(name, Given((), summary=None))


@pytest.mark.parametrize("name", STREAMED)
def test_memory_does_not_grow_with_the_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("_BATCH", "_PIECES", "_WAITING"):
        monkeypatch.setattr(chrome, bound, 100)
    monkeypatch.setattr(pcapng, "_ORDERED", 500)

    class Long(Given):
        def __init__(self, count: int) -> None:
            super().__init__()
            self._count = count

        def __iter__(self) -> Iterator[Journey]:
            for number in range(self._count):
                yield REQUEST._replace(id=str(number), start_ns=REQUEST.start_ns + number * 10_000)

    def most(count: int) -> int:
        tracemalloc.start()
        for _ in FORMATS[name].load()(Long(count)):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert most(3_200) < 1.2 * most(800) + 300_000


@pytest.mark.parametrize("name", FORMATS)
def test_the_command_writes_the_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    only = ["--journey", real()[3].id] if FORMATS[name].single else []
    assert run(["export", str(REAL), "--to", name, "-o", str(out), *only]) == 0
    count = 1 if only else 45
    many = "journey" if only else "journeys"
    assert f"out written: {count} {many}, {FORMATS[name].text}" in capsys.readouterr().err
    if not only:
        assert out.read_bytes() == exported_real(name)
    assert run(["export", str(REAL), "--to", name, "-o", str(out), *only]) == 1
    assert "exists already" in capsys.readouterr().err
    assert run(["export", str(REAL), "--to", name, "-f", "-o", str(out), *only]) == 0


@pytest.mark.parametrize("name", [name for name in FORMATS if not FORMATS[name].single])
def test_of_a_trace_that_is_cut_off_what_can_be_read_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.json"
    cut.write_bytes(REAL.read_bytes()[:-20_000])
    out = tmp_path / "out"
    assert run(["export", str(cut), "--to", name, "-o", str(out)]) == 1
    said = capsys.readouterr().err
    assert "is cut off" in said
    assert "out written: 4" in said  # of 45
    assert out.stat().st_size


def test_journeys_are_chosen_by_id_time_and_filter(capfd: pytest.CaptureFixture[str]) -> None:
    every = real()
    with REAL.open("rb") as stream:
        capture = TraceReader(stream, "x").capture

    def ids(*arguments: str) -> list[str]:
        assert run(["export", str(REAL), "--to", "json", *arguments]) == 0
        lines = map(json.loads, capfd.readouterr().out.splitlines())
        return [line["id"] for line in lines if line["type"] == "journey"]

    assert ids() == [j.id for j in every]
    assert ids("--journey", every[7].id, "--journey", f"#{every[2].id}") == [
        every[2].id,
        every[7].id,
    ]
    starts = sorted(j.start_ns - capture.monotonic_ns for j in every)
    half_us = (starts[20] + starts[21]) // 2000
    late = [j.id for j in every if j.start_ns - capture.monotonic_ns >= half_us * 1000]
    assert len(late) == len(every) - 21
    half = f"{half_us / 1e6:.6f}s"
    assert ids("--after", half) == late
    assert ids("--before", f"{half_us}us") == [j.id for j in every if j.id not in late]
    assert ids("udp") == [j.id for j in every if j.flow.proto == "udp"]
    assert ids("--after", half, "--from", "net1", "udp") == [
        j.id
        for j in every
        if j.id in late and j.flow.proto == "udp" and j.flow.src == "192.168.0.2"
    ]
    # By the clock of the day, to the microsecond.
    began_us = (capture.realtime_ns + half_us * 1000) // 1000
    when = subprocess.run(
        ["date", "-u", "-d", f"@{began_us // 10**6}.{began_us % 10**6:06}", "-Ins"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    assert ids("--after", when.replace(",", ".")) == late


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "mermaid"], "mermaid shows one journey"),
        (["--to", "csv", "--after", "soon"], "soon is no time"),
        (["--to", "csv", "tcp", "porto", "1"], "porto"),
        (["--to", "gif"], "'gif' is not one of"),
        (["--to", "csv", "--journey", "nobody"], "no journey of this trace has the id nobody"),
        (["--to", "csv", "--netns", "nowhere"], "no namespace of this trace is called nowhere"),
    ],
)
def test_what_cannot_be_meant(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(REAL), *arguments]) in {1, 2}
    assert words in capsys.readouterr().err


def test_a_full_disk_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(REAL), "--to", "csv", "-f", "-o", "/dev/full"]) == 1
    assert "cannot write /dev/full: No space left on device" in capsys.readouterr().err


def test_a_trace_of_what_was_chosen_is_a_trace(tmp_path: Path) -> None:
    out = tmp_path / "some.json"
    assert run(["export", str(REAL), "--to", "json", "-o", str(out), "udp"]) == 0
    with out.open("rb") as stream:
        reader = TraceReader(stream, "some.json")
        some = list(reader)
    assert some == [j for j in real() if j.flow.proto == "udp"]
    summary = reader.summary
    assert summary is not None
    assert summary.journeys == len(some)
    assert summary.unselected == 337 - len(some)  # of the whole capture
    again = exported("json", Given(some, reader.capture, summary))
    assert again == out.read_bytes()
    assert replace(summary, journeys=0) != summary


def test_a_format_is_imported_when_it_is_asked_for() -> None:
    ask = "import sys; from tracer.export.formats import FORMATS; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    assert not {format.exporter.partition(":")[0] for format in FORMATS.values()} & set(loaded)


def test_each_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, format in FORMATS.items():
        assert f"{name} {format.text}" in said


@pytest.mark.parametrize("name", [name for name in FORMATS if not FORMATS[name].readable])
def test_what_nobody_can_read_is_not_written_to_a_terminal(name: str) -> None:
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "tracer", "export", str(REAL), "--to", name]
    try:
        done = subprocess.run(
            command, stdout=terminal, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(terminal)
        os.close(ours)
    assert done.returncode == 2
    said = f"{name} is not for a terminal\n  try: skbtrace export ... --to {name} -o FILE\n"
    assert said in done.stderr.decode()
