# SPDX-License-Identifier: GPL-2.0-only
"""The runner of all tests: what it makes of a job's end, with jobs that only pretend."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.vm import suite
from tests.vm.suite import Job, Result, Suite, ended, table

LOG = """\
collecting ... collected 5 items
tests/kernel/test_a.py::test_one PASSED                                  [ 20%]
tests/kernel/test_a.py::test_two[v\\x1b[31mx] FAILED                      [ 40%]
tests/kernel/test_b.py::test_three SKIPPED (no such thing)               [ 60%]
tests/kernel/test_b.py::test_four ERROR                                  [ 80%]
tests/kernel/test_b.py::test_five \
"""

REPORT = """\
<testsuites><testsuite>
<testcase classname="tests.a" name="one"/>
<testcase classname="tests.a" name="two"><failure message="no"/></testcase>
<testcase classname="tests.b" name="three"><skipped/></testcase>
<testcase classname="tests.b" name="four"><error/></testcase>
</testsuite></testsuites>"""


def pretend(name: str, script: str, *, guest: bool = False) -> Job:
    """A job that is a shell script; $1 is the folder of its results."""
    return Job(name, ["sh", "-c", script, "sh", "{out}"], guest=guest)


def run(folder: Path, *jobs: Job) -> list[Result]:
    return Suite(jobs, folder).run()


def test_a_log_tells_how_each_test_ended_even_if_it_breaks_off() -> None:
    assert ended(LOG) == ["PASSED", "FAILED", "SKIPPED", "ERROR"]
    assert ended("ok    ruff check\nFAIL  mypy\nok, then\n") == ["ok", "FAIL"]


def test_a_report_is_counted(tmp_path: Path) -> None:
    (tmp_path / "report").write_text(REPORT)
    (result,) = run(tmp_path, pretend("unit", f"cp {tmp_path}/report $1/junit.xml; exit 1"))
    assert (result.passed, result.failed, result.skipped) == (1, 2, 1)
    assert result.names == ("tests.a::two", "tests.b::four")
    assert not result.good


def test_what_ends_badly_without_a_report_is_a_failure(tmp_path: Path) -> None:
    (result,) = run(tmp_path, pretend("unit", "echo usage; exit 4"))
    assert (result.passed, result.failed, result.lost) == (0, 1, None)
    assert result.names == ("(ended with status 4)",)


def test_a_lost_guest_gets_one_more_try(tmp_path: Path) -> None:
    script = f"echo 'tests.vm: it fell'; echo >>{tmp_path}/tries; exit 70"
    (result,) = run(tmp_path, pretend("kernel 6.1", script, guest=True))
    assert (tmp_path / "tries").read_text() == "\n\n"
    assert (result.failed, result.lost, result.good) == (0, "it fell", False)
    assert "lost guests: 6.1" in table([result])


def test_a_guest_that_was_lost_only_once_is_good_and_said_so(tmp_path: Path) -> None:
    script = f"rm {tmp_path}/first 2>/dev/null && exit 70; echo 'ok  fine'"
    (tmp_path / "first").touch()
    (result,) = run(tmp_path, pretend("kernel 6.1", script, guest=True))
    assert (result.passed, result.lost, result.good) == (1, None, True)
    assert " once " in table([result])


def test_a_guest_whose_time_is_up_is_lost_at_once(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LOG)
    script = f"echo >>{tmp_path}/tries; cat {tmp_path}/log; echo; echo late; exit 71"
    (result,) = run(tmp_path, pretend("kernel 6.1", script, guest=True))
    assert (tmp_path / "tries").read_text() == "\n"
    assert (result.passed, result.failed, result.lost) == (1, 2, "late")


def failing(folder: Path, *names: str, then: str) -> Job:
    """A job in a guest in which these tests fail, and which does `then` when it is tried again."""
    cases = "".join(f'<testcase classname="{n}" name="x"><failure/></testcase>' for n in names)
    (folder / "report").write_text(f'<s>{cases}<testcase classname="a" name="y"/></s>')
    script = (
        f"[ $# -gt 1 ] && echo $2 >>{folder}/tries\n"
        f"[ -e {folder}/tried ] && {{ {then}; exit; }}\n"
        f"touch {folder}/tried; cp {folder}/report $1/junit.xml; exit 1"
    )
    return Job("kernel 6.1", ["sh", "-c", script, "sh", "{out}"], ["tests/kernel"], guest=True)


HERE = "tests.unit.test_vm_suite"


def test_the_file_of_a_test_that_failed_in_a_guest_is_tried_again(tmp_path: Path) -> None:
    (result,) = run(tmp_path, failing(tmp_path, HERE, then="echo 'ok  fine'"))
    assert (tmp_path / "tries").read_text() == "tests/kernel\ntests/unit/test_vm_suite.py\n"
    assert (result.passed, result.failed, result.names, result.good) == (2, 0, (), True)
    assert f"failed once of two times: {HERE}::x" in table([result])
    assert f"failed once of two times: {HERE}::x" in suite.complaint(result)


def test_what_fails_twice_has_failed(tmp_path: Path) -> None:
    (result,) = run(tmp_path, failing(tmp_path, HERE, then="echo 'FAIL  x'; exit 1"))
    assert (result.passed, result.failed, result.good) == (1, 1, False)
    assert result.names == (f"{HERE}::x",)


def test_another_one_that_fails_the_second_time_has_failed_once(tmp_path: Path) -> None:
    report = f'<s><testcase classname="{HERE}" name="z"><failure/></testcase></s>'
    (tmp_path / "second").write_text(report)
    then = f"cp {tmp_path}/second $1/junit.xml; exit 1"
    (result,) = run(tmp_path, failing(tmp_path, HERE, then=then))
    assert (result.passed, result.failed, result.good) == (2, 0, True)
    assert result.chance == (f"{HERE}::x", f"{HERE}::z")


def test_many_failures_are_no_chance_and_neither_is_one_without_a_file(tmp_path: Path) -> None:
    for names in ([HERE] * 4, ["tests.unit.no_such_test"]):
        (tmp_path / "tried").unlink(missing_ok=True)
        (tmp_path / "tries").unlink(missing_ok=True)
        folder = tmp_path / str(len(names))
        folder.mkdir()
        (result,) = run(folder, failing(tmp_path, *names, then="echo 'ok  fine'"))
        assert result.failed == len(names)
        assert (tmp_path / "tries").read_text() == "tests/kernel\n"


def test_what_there_is_no_time_for_is_left_out_and_said(tmp_path: Path) -> None:
    report = '<s><testcase classname="a" name="x"/><testcase classname="a" name="y">'
    report += f'<skipped message="{suite.NO_TIME}"/></testcase></s>'
    (tmp_path / "report").write_text(report)
    script = f'cp {tmp_path}/report $1/junit.xml; echo "$SKBTRACE_LEFT_S" >{tmp_path}/left; sleep 3'
    jobs = [pretend(name, script, guest=True) for name in ("kernel 6.1", "engines", "pages")]
    first, second, third = Suite(jobs, tmp_path, suite.LEAST_LEFT_S + 2).run()
    assert (first.passed, first.skipped, first.left_out, first.good) == (1, 1, 1, True)
    assert second.left_out == 1
    assert (third.begun, third.passed, third.good) == (False, 0, True)
    assert suite.LEAST_LEFT_S <= int((tmp_path / "left").read_text()) <= suite.LEAST_LEFT_S + 2
    said = "left out, for no time is left: 1 of kernel 6.1, 1 of engines, all of pages"
    assert said in table([first, second, third])


def test_only_guests_are_told_how_much_time_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKBTRACE_LEFT_S", raising=False)
    script = f'echo "${{SKBTRACE_LEFT_S-none}}" >{tmp_path}/left; echo "ok  fine"'
    Suite([pretend("unit", script)], tmp_path, 2 * suite.LEAST_LEFT_S).run()
    assert (tmp_path / "left").read_text() == "none\n"


def test_where_there_is_time_nothing_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKBTRACE_LEFT_S", raising=False)
    script = f'echo "${{SKBTRACE_LEFT_S-none}}" >{tmp_path}/left; echo "ok  fine"'
    results = run(tmp_path, pretend("kernel 6.1", script, guest=True))
    assert (tmp_path / "left").read_text() == "none\n"
    assert "left out" not in table(results)


def test_only_guests_can_be_lost(tmp_path: Path) -> None:
    (result,) = run(tmp_path, pretend("unit", "exit 70"))
    assert (result.failed, result.lost) == (1, None)


def test_the_table_ends_with_the_sum(tmp_path: Path) -> None:
    results = run(tmp_path, pretend("lint", "echo 'ok  a'; echo 'ok  b'"), pretend("b", "exit 2"))
    assert table(results).splitlines()[-1] == "2 passed, 1 failed"


def test_silence_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "NEWS_S", 0.2)
    log = tmp_path / "log"
    log.write_text(LOG)
    told, say = tmp_path / "told", Suite._say

    def tell(self: Suite, news: str) -> None:
        say(self, news)
        if "4 of 5" in news:
            told.touch()

    monkeypatch.setattr(Suite, "_say", tell)
    run(tmp_path, pretend("kernel 6.1", f"cat {log}; until [ -e {told} ]; do sleep 0.05; done"))
    assert "kernel 6.1: 4 of 5 done" in capsys.readouterr().out


def test_no_job_outlives_an_interrupted_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    runner = Suite([Job("long", [sys.executable, "-c", "import time; time.sleep(60)"])], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert [r.process.returncode for r in runner._running] == [-15]
