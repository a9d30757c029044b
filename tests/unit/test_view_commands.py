# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import io
import os
import re
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.golden import assert_golden
from tests.unit.journeys import ALL, C1, CAPTURE, SUMMARY, explained
from tests.unit.traces import gzipped, trace_of, write
from tracer.cli.probes import probes
from tracer.cli.show import show
from tracer.errors import TopologyError, TraceFileError
from tracer.export.trace_writer import TraceWriter
from tracer.probes import MISSION, PROBES


@pytest.fixture(autouse=True)
def _explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.view.journey.explain", explained)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    stream = io.BytesIO()
    writer = TraceWriter(stream, "trace")
    writer.begin(CAPTURE)
    writer.journeys(list(ALL.values()))
    writer.end(SUMMARY)
    path = tmp_path / "t.json"
    path.write_bytes(stream.getvalue())
    return path


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(show, arguments, input=stdin)


GOLDEN = (Path(__file__).parent / "golden" / "journeys-80-ascii.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("look", ["ascii", "unicode"])
def test_show_prints_branches_below_their_packet(trace: Path, look: str) -> None:
    result = run(*(["--ascii"] if look == "ascii" else []), str(trace))
    assert result.exit_code == 0
    assert_golden(f"show-80-{look}.txt", result.stdout)


def test_show_prints_what_has_no_branches_as_the_live_view_does(trace: Path) -> None:
    blocks = GOLDEN.split("\n\n")
    alone = [b for b in blocks if " branch of #" not in b and not b.startswith(("#12 ", "#50 "))]
    shown = run("--ascii", str(trace)).stdout
    assert all(block.rstrip("\n") in shown for block in alone)


def heads(result: Result) -> list[str]:
    """The ids of the journeys that are shown, in order."""
    return re.findall(r"^(?:\| )*#(\d+) ", result.stdout, re.MULTILINE)


def test_show_only_what_begins_and_ends_somewhere(trace: Path) -> None:
    result = run("--ascii", "--from", "c1", "--to", "c2", str(trace))
    assert result.exit_code == 0
    assert heads(result) == ["11", "20", "40", "60", "70", "83"]
    closing = "6 journeys: 3 delivered, 1 consumed, 1 unfinished, 1 damaged; 9 not selected"
    assert closing in result.stderr.splitlines()


def test_show_a_branch_whose_parent_was_not_asked_for(trace: Path) -> None:
    result = run("--ascii", "--from", str(C1.inum), "--to", f"ns:{C1.inum}", str(trace))
    assert heads(result) == ["13"]
    assert result.stdout.startswith("#13 ")
    assert "branch of #12" in result.stdout


def test_show_selects_the_same_from_a_pipe(trace: Path) -> None:
    file = run("--container", "c2", "--ascii", str(trace))
    pipe = run("--container", "c2", "--ascii", "-", stdin=trace.read_bytes())
    assert sorted(heads(pipe)) == sorted(heads(file)) != []
    assert pipe.stderr == file.stderr


@pytest.mark.parametrize("option", ["--netns", "--container", "--from", "--to"])
def test_show_says_which_namespaces_a_trace_has(trace: Path, option: str) -> None:
    for arguments in ([option, "nope\x1b", str(trace)], [option, "c1", option, "nope\x1b", "-"]):
        result = run(*arguments, stdin=trace.read_bytes())
        assert isinstance(result.exception, TopologyError)
        assert result.exception.message == (
            r"no namespace of this trace is called nope\x1b (there are: c1, c2, host)"
        )
        assert result.exception.hint == f"skbtrace show --netns c1 {arguments[-1]}"


def test_show_counts_what_the_tracer_did_not_select_too(trace: Path) -> None:
    trace.write_bytes(trace.read_bytes().replace(b'"unselected":0', b'"unselected":30'))
    assert "; 30 not selected" in run(str(trace)).stderr
    assert "; 39 not selected" in run("--from", "c1", "--to", "c2", str(trace)).stderr


def test_show_reads_a_pipe_with_a_name_once(trace: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(trace.read_bytes(),))
    writer.start()
    result = run("--ascii", str(pipe))
    writer.join()
    assert result.stdout == GOLDEN + "\n"


def test_show_prints_the_tree_of_what_is_whole_too(trace: Path) -> None:
    content = trace.read_bytes()
    trace.write_bytes(content[: content.rindex(b'{"type":"footer"') - 30])
    result = run("--ascii", str(trace))
    assert "\n| #13 " in result.stdout
    assert isinstance(result.exception, TraceFileError)
    assert "is cut off" in result.exception.message


def test_show_says_the_rest_on_standard_error(trace: Path) -> None:
    said = run(str(trace)).stderr.splitlines()
    assert said[0].startswith("docker0, built as a lab, on Linux 6.1.0-26-amd64")
    assert "! end_missed 1: " in "\n".join(said)


def test_show_reads_standard_input(trace: Path) -> None:
    assert run("--ascii", "-", stdin=trace.read_bytes()).stdout == GOLDEN + "\n"


def test_show_prints_what_is_whole_before_it_says_what_is_wrong(trace: Path) -> None:
    content = trace.read_bytes()
    cut = content[: content.rindex(b'{"type":"footer"') - 30]
    result = run("--ascii", "-", stdin=cut)
    assert result.stdout == GOLDEN[: GOLDEN.index("#84 ")]
    assert isinstance(result.exception, TraceFileError)
    assert result.exception.exit_code == 1
    assert result.exception.message.startswith("standard input: line 16 is cut off")


def test_show_colors_when_asked(trace: Path) -> None:
    assert "\x1b[" in run("--color", "always", str(trace)).stdout
    assert "\x1b[" not in run(str(trace)).stdout


@pytest.mark.parametrize(
    ("name", "why"), [("nowhere.json", "No such file or directory"), (".", "Is a directory")]
)
def test_show_says_why_a_file_cannot_be_opened(tmp_path: Path, name: str, why: str) -> None:
    error = run(str(tmp_path / name)).exception
    assert isinstance(error, TraceFileError)
    assert error.message == f"cannot open {tmp_path / name}: {why}"


def test_probes_are_listed_in_80_columns() -> None:
    lines = CliRunner(env={"COLUMNS": "80"}).invoke(probes).output.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert not any(line.endswith(" ") for line in lines)
    starts = [line for line in lines[1:] if line[3:4].strip()]
    assert [line.split()[line[0] in "*-"] for line in starts] == [p.function for p in PROBES]
    assert {line[0] for line in starts} == {"*", "-", " "}
    marked = [line.split()[1] for line in lines if line.startswith("*")]
    assert tuple(marked) == MISSION
    assert len({line[53:54] for line in lines} & {" "}) == 0  # the meanings line up


def test_help_shows_examples_on_lines_of_their_own() -> None:
    lines = CliRunner().invoke(show, ["--help"]).output.splitlines()
    assert "  skbtrace show trace.json" in [line.removeprefix("  ") for line in lines]


@pytest.mark.parametrize("name", ["t.json", "t.json.gz", "-"])
def test_show_reads_what_is_compressed_whatever_it_is_called(
    trace: Path, tmp_path: Path, name: str
) -> None:
    plain = run("--ascii", "-" if name == "-" else str(trace), stdin=trace.read_bytes()).stdout
    content = gzipped(trace.read_bytes())
    path = name if name == "-" else write(tmp_path / name, content)
    assert run("--ascii", path, stdin=content).stdout == plain != ""


def test_show_says_that_there_are_two_traces_and_shows_both(tmp_path: Path) -> None:
    content = trace_of(list(ALL.values()))
    path = write(tmp_path / "t.json", content + content)
    one = run("--ascii", write(tmp_path / "one.json", content)).stdout
    result = run("--ascii", path)
    assert result.exit_code == 0
    assert result.stdout.startswith(one)
    assert "\n#2-11 " in result.stdout
    assert "\n| #2-13 " in result.stdout
    assert "skbtrace: " + path + " holds 2 traces: ids of the later ones begin with 2-; " in (
        result.stderr
    )
    assert f"{2 * len(ALL)} journeys: " in result.stderr
