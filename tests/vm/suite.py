# SPDX-License-Identifier: GPL-2.0-only
"""Every check and every test, on every kernel: `python3 -m tests.vm.suite`.

A job is a process of its own: the checks of the sources, the unit tests, the harness's tests, and
the kernel tests once in a guest of each kernel. Two run at a time. A lost guest gets one more try,
and so do the files in which a few tests failed in a guest: those are slow, and what is timed in
them can go wrong by chance. What failed only once is said, by name; it does not count as failed.
What a job says is kept in a log, which is shown only if something was not as it should be.

Where there is only so much time, what does not begin in it is left out, and the table says what:
the tests that are tried on one kernel only first.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from tests.vm import KERNELS, KernelError, kernels, peer
from tests.vm.__main__ import EXIT_LOST, EXIT_TIMED_OUT

AT_ONCE = 2
"""A guest wants a processor for itself, and two is what there is to count on."""
GUEST_LIMIT_S = 3600
GUEST_LIMIT_ALL_S = 3 * GUEST_LIMIT_S
PAGES = ("readme", "printed", "expected")
TYPED = ("command", "select", "filter", "limits", "hostile")
"""Files of tests, most of which are marked `once`."""
ONCE_KERNEL = "6.1"
"""Where tests are tried that are marked so: the kernel of most who read the pages."""
CHANCE_MOST = 3
"""So many tests fail by chance at most; more are a fault, which a second try would only hide."""
NEWS_S = 30.0
"""So long nothing is said at most."""
TAIL_LINES = 40
LEAST_LEFT_S = 120.0
"""No guest is started for less."""
NO_TIME = "no time is left"
"""Why a test was left out: said by tests/kernel/conftest.py."""

EXIT_PREREQUISITE = 3

# A line of pytest -v that tells how a test ended, and one of tests/lint.
_TOLD = re.compile(r"^(?:tests/.* (\w+)(?: \(.*\))? +\[ *\d+%\]|(ok|FAIL)  +\w.*)$", re.MULTILINE)
_COLLECTED = re.compile(r"^(?:collecting \.\.\. )?collected (\d+) items", re.MULTILINE)
_PASSED = frozenset({"PASSED", "XFAIL", "ok"})
_FAILED = frozenset({"FAILED", "ERROR", "XPASS", "FAIL"})


@dataclass(frozen=True, slots=True)
class Job:
    """A process whose end says how some tests ended."""

    name: str
    command: Sequence[str]
    """`{out}` in it is the folder of its results."""
    tests: Sequence[str] = ()
    """The files or folders of tests: the end of the command."""
    require: str = ""
    """What SKBTRACE_REQUIRE is: with it missing, tests fail that would be skipped elsewhere."""
    guest: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How a job ended."""

    job: Job
    folder: Path
    passed: int
    failed: int
    skipped: int
    seconds: float
    names: tuple[str, ...] = ()
    """Of the tests that failed."""
    chance: tuple[str, ...] = ()
    """Of the tests that failed, and passed when they were tried again."""
    lost: str | None = None
    """Why there is no verdict of the guest; its counts are then those of the tests that ended."""
    timed_out: bool = False
    again: bool = False
    """Its guest had been lost before."""
    left_out: int = 0
    """So many of the skipped ones for want of time."""
    begun: bool = True
    """Else there was no time for any of it."""

    @property
    def good(self) -> bool:
        """Everything ran, and nothing failed."""
        return not self.failed and self.lost is None

    @property
    def by_chance(self) -> bool:
        """So few tests failed in its guest that they are worth a second try."""
        return self.job.guest and self.lost is None and 0 < len(self.files) <= CHANCE_MOST

    @property
    def files(self) -> tuple[str, ...]:
        """Where the tests are that failed; none if one of them is in no file."""
        found = [name.split("::")[0].replace(".", "/") + ".py" for name in self.names]
        if len(found) > CHANCE_MOST or not all(Path(file).is_file() for file in found):
            return ()
        return tuple(dict.fromkeys(found))

    def __str__(self) -> str:
        if not self.begun:
            return "left out, no time is left"
        counts = f"{self.passed} passed, {self.failed} failed"
        return f"guest lost after {counts}: {self.lost}" if self.lost else counts


def main(arguments: list[str] | None = None) -> int:
    """Run everything, print the table."""
    parser = argparse.ArgumentParser(prog="tests.vm.suite", description=__doc__)
    parser.add_argument("--host", action="store_true", help="the kernel tests here, no guests")
    parser.add_argument("--all", action="store_true", help="every test on every kernel")
    parser.add_argument("--minutes", type=float, help="leave out what does not begin by then")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    if options.host and os.geteuid() != 0:
        print("suite: the kernel tests need root: sudo make test HOST=1", file=sys.stderr)
        return EXIT_PREREQUISITE
    if not options.host:
        try:
            fetch()
        except (KernelError, peer.PeerError) as error:
            print(f"suite: {error}", file=sys.stderr)
            return EXIT_PREREQUISITE
        precompile()
    folder = Path(tempfile.mkdtemp(prefix="skbtrace-test-"))
    kept = False
    try:
        jobs = (host_jobs if options.host else guest_jobs)(everything=options.all)
        limit_s = None if options.minutes is None else 60 * options.minutes
        results = Suite(jobs, folder, limit_s).run()
        for result in results:
            if not result.good or result.chance:
                kept = True
                print(complaint(result))
        print(table(results))
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    return int(not all(result.good for result in results))


def fetch() -> None:
    """Have every kernel and peer in the cache before any guest waits for them."""
    for alias in KERNELS:
        if kernels.cached(alias) is None:
            print(f"fetching kernel {alias}", flush=True)
            kernels.obtain(alias)
    for each in peer.PEERS:
        if not each.is_there:
            print(f"fetching {each.name}", flush=True)
            each.obtain()


def precompile() -> None:
    """Leave no bytecode to be made in a guest, which is slow and forgets it.

    pytest has its own, of tests: it is made when they are collected.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for words in (
        ["compileall", "-q", "tracer", "tests"],
        ["pytest", "--collect-only", "-q", "tests/kernel"],
    ):
        # What is wrong with a source, its job says.
        command = [sys.executable, "-m", *words]
        subprocess.run(command, env=environment, capture_output=True, check=False)


# --- what there is to do --------------------------------------------------------------------------


def source_jobs() -> list[Job]:
    """What needs no kernel to trace."""
    unit = Job("unit", pytest(), ["tests/unit"], require="browser")
    return [Job("lint", ["tests/lint"]), unit]


def guest_jobs(*, everything: bool = False) -> list[Job]:
    """The slowest kernels first, so that no processor is idle for long at the end."""
    return [
        *source_jobs(),
        *(guest_job(kernel, everything=everything) for kernel in reversed(KERNELS)),
        *once_jobs(),
        threads_job(),
        engines_job("6.1"),
        Job("harness", pytest(), ["tests/vm/test_harness.py"], require="vm"),
    ]


def host_jobs(*, everything: bool = False) -> list[Job]:
    """The kernel tests on this host."""
    chosen = () if everything else ("-m", "not slow")
    kernel = Job("kernel", pytest(*chosen), ["tests/kernel"], require="kernel")
    return [*source_jobs(), kernel]


def guest_job(kernel: str, *, everything: bool = False) -> Job:
    """The kernel tests in a guest."""
    chosen = () if everything else ("-m", "not once and not slow")
    launch = ["--kernel", kernel, "--nics"]
    limit_s = GUEST_LIMIT_ALL_S if everything else GUEST_LIMIT_S
    return in_a_guest(f"kernel {kernel}", launch, ["tests/kernel"], *chosen, limit_s=limit_s)


def once_jobs() -> list[Job]:
    """What need not be tried on every kernel: what the pages show, what can be typed, the rest."""
    launch = ["--kernel", ONCE_KERNEL, "--nics"]
    pages, typed = [[f"tests/kernel/test_{name}.py" for name in names] for names in (PAGES, TYPED)]
    chosen = ("-m", "once and not slow")
    rest = [f"--ignore={file}" for file in (*pages, *typed)]
    return [
        in_a_guest(f"pages {ONCE_KERNEL}", launch, pages, *chosen),
        in_a_guest(f"typed {ONCE_KERNEL}", launch, typed, *chosen),
        in_a_guest(f"once {ONCE_KERNEL}", launch, ["tests/kernel"], *chosen, *rest),
    ]


def threads_job() -> Job:
    """More CPUs than usual, each with a thread for its input queue, which 6.10 brought."""
    launch = ["--kernel", "6.12", "--qemu", "-smp 4", "--append", "thread_backlog_napi"]
    return in_a_guest("threads 6.12", launch, ["tests/kernel/test_cpus.py"])


def engines_job(kernel: str) -> Job:
    """Docker, Podman and containerd, which leave their bridges and rules in the way of the labs."""
    launch = ["--kernel", kernel, "--append", "engines"]
    engines = [f"tests/kernel/test_{name}.py" for name in ("docker", "podman", "containerd")]
    return in_a_guest(f"engines {kernel}", launch, engines)


def in_a_guest(
    name: str, launch: list[str], tests: list[str], *chosen: str, limit_s: int = GUEST_LIMIT_S
) -> Job:
    """Tests in a guest of their own."""
    run = [sys.executable, "-m", "tests.vm", "run", *launch, "--timeout", str(limit_s)]
    command = [*run, "--out", "{out}", "--", *pytest(*chosen)]
    return Job(name, command, tests, require="kernel", guest=True)


def pytest(*chosen: str) -> list[str]:
    """Verbose: the log then says which test it was that a guest was lost in."""
    return [sys.executable, "-m", "pytest", "-v", "--junitxml={out}/junit.xml", *chosen]


# --- doing it -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Running:
    """A job that has been started."""

    job: Job
    folder: Path
    process: subprocess.Popen[bytes]
    began: float

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def so_far(self) -> str:
        """How far it has come."""
        log = self.log()
        of = _COLLECTED.search(log)
        return f"{self.job.name}: {len(ended(log))}{f' of {of[1]}' if of else ''} done"


class Suite:
    """Some jobs, each of which runs once, or twice if its guest was lost or little failed in it."""

    def __init__(self, jobs: Sequence[Job], folder: Path, limit_s: float | None = None) -> None:
        """Take the jobs. What does not begin within ``limit_s`` seconds is left out."""
        self._order = [job.name for job in jobs]
        self._waiting = list(jobs)
        self._folder = folder
        self._running: list[Running] = []
        self._results: dict[str, Result] = {}
        self._began = time.monotonic()
        self._until = None if limit_s is None else self._began + limit_s
        self._last_news = self._began

    def run(self) -> list[Result]:
        """Run all of them; the results in the order of the jobs."""
        with self._ending():
            while self._waiting or self._running:
                while self._waiting and len(self._running) < AT_ONCE:
                    self._next(self._waiting.pop(0))
                time.sleep(0.1)
                for running in [r for r in self._running if r.process.poll() is not None]:
                    self._running.remove(running)
                    self._done(running)
                if time.monotonic() - self._last_news > NEWS_S:
                    self._say("; ".join(running.so_far() for running in self._running))
        return [self._results[name] for name in self._order]

    def _next(self, job: Job) -> None:
        # A second try is short, and without it there is no verdict.
        if self._left_s() >= LEAST_LEFT_S or job.name in self._results:
            self._start(job)
        else:
            self._results[job.name] = Result(job, self._folder, 0, 0, 0, 0.0, begun=False)
            self._say(f"{job.name}: {self._results[job.name]}")

    def _left_s(self) -> float:
        return math.inf if self._until is None else self._until - time.monotonic()

    def _start(self, job: Job) -> None:
        again = "-again" if job.name in self._results else ""
        folder = self._folder / (job.name.replace(" ", "-") + again)
        folder.mkdir()
        environment = {**os.environ, "SKBTRACE_REQUIRE": job.require}
        if self._until is not None and job.guest and not again:
            environment["SKBTRACE_LEFT_S"] = f"{self._left_s():.0f}"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [word.replace("{out}", str(folder)) for word in (*job.command, *job.tests)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        self._running.append(Running(job, folder, process, time.monotonic()))
        self._say(f"{job.name}: started{' again' if again else ''}")

    def _done(self, running: Running) -> None:
        job = running.job
        again = job.name in self._results
        result = judge(running, time.monotonic() - running.began, again=again)
        self._say(f"{job.name}: {result}")
        before = self._results.get(job.name)
        if before is not None and before.by_chance:
            result = both(before, result)
        # A hung guest would most likely only cost the same time again.
        elif result.lost and not result.timed_out and not again:
            self._waiting.insert(0, job)
        elif result.by_chance and not again:
            self._waiting.insert(0, replace(job, tests=result.files))
        self._results[job.name] = result

    def _say(self, news: str) -> None:
        self._last_news = time.monotonic()
        minutes, seconds = divmod(int(self._last_news - self._began), 60)
        print(f"{minutes:3}:{seconds:02}  {news}", flush=True)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """No job outlives this."""
        try:
            yield
        finally:
            for running in self._running:
                running.process.terminate()
            for running in self._running:
                running.process.wait()


def ended(log: str) -> list[str]:
    """How each test ended that a log tells of."""
    return [match[1] or match[2] for match in _TOLD.finditer(log)]


def judge(running: Running, seconds: float, *, again: bool) -> Result:
    """What came of a job whose process has ended."""
    status, folder, log = running.process.returncode, running.folder, running.log()
    told = ended(log)
    passed, failed = sum(word in _PASSED for word in told), sum(word in _FAILED for word in told)
    skipped = told.count("SKIPPED")
    names: tuple[str, ...] = ()
    lost = None
    report = folder / "junit.xml"
    if running.job.guest and status in (EXIT_LOST, EXIT_TIMED_OUT):
        lost = (log.splitlines() or ["it said nothing"])[-1].removeprefix("tests.vm: ")
    elif report.exists():
        passed, failed, skipped, names = read(report)
    if status != 0 and not failed and lost is None:
        # It did not get as far as its tests, or something went wrong after the last of them.
        failed, names = 1, (f"(ended with status {status})",)
    return Result(
        running.job,
        folder,
        passed,
        failed,
        skipped,
        seconds,
        names,
        lost=lost,
        timed_out=status == EXIT_TIMED_OUT,
        again=again,
        left_out=left_out(report) if report.exists() else 0,
    )


def both(first: Result, second: Result) -> Result:
    """What came of a job whose few failures were tried again: what failed twice has failed."""
    seconds = first.seconds + second.seconds
    if second.lost is not None or (second.failed and not second.by_chance):
        return replace(first, seconds=seconds)
    twice = tuple(name for name in first.names if name in second.names)
    return replace(
        first,
        passed=first.passed + first.failed - len(twice),
        failed=len(twice),
        names=twice,
        chance=tuple(name for name in (*first.names, *second.names) if name not in twice),
        seconds=seconds,
    )


def read(report: Path) -> tuple[int, int, int, tuple[str, ...]]:
    """Passed, failed, skipped, and the names of the failed, of a JUnit report (pytest's own)."""
    passed, skipped, names = 0, 0, []
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            names.append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
    return passed, len(names), skipped, tuple(names)


def left_out(report: Path) -> int:
    """How many tests of a JUnit report were skipped for want of time."""
    return sum(each.get("message") == NO_TIME for each in ET.parse(report).iter("skipped"))


# --- telling it -----------------------------------------------------------------------------------


def complaint(result: Result) -> str:
    """What somebody needs who looks for the reason."""
    lines = (result.folder / "log").read_text(errors="replace").rstrip().splitlines()
    return "\n".join(
        [
            f"\n--- {result.job.name}: {result}",
            *(f"failed: {name}" for name in result.names),
            *(f"failed once of two times: {name}" for name in result.chance),
            *(f"  | {line}" for line in lines[-TAIL_LINES:]),
            f"the whole log: {result.folder / 'log'}",
        ]
    )


def table(results: Sequence[Result]) -> str:
    """A row for each job, and the sum."""
    rows = [("", "passed", "failed", "skipped", "lost", "seconds")]
    rows += [
        (
            result.job.name,
            str(result.passed),
            str(result.failed),
            str(result.skipped),
            lost_word(result),
            f"{result.seconds:.0f}",
        )
        for result in results
    ]
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows]
    passed, failed = (sum(getattr(r, key) for r in results) for key in ("passed", "failed"))
    chance = [name for result in results for name in result.chance]
    if chance:
        lines.append(f"failed once of two times: {', '.join(chance)}")
    late = [f"{result.left_out} of {result.job.name}" for result in results if result.left_out]
    late += [f"all of {result.job.name}" for result in results if not result.begun]
    if late:
        lines.append(f"left out, for {NO_TIME}: {', '.join(late)}")
    lost = [result.job.name.removeprefix("kernel ") for result in results if result.lost]
    if lost:
        lines.append(f"lost guests: {', '.join(lost)}")
    return "\n".join(["", *lines, f"{passed} passed, {failed} failed"])


def lost_word(result: Result) -> str:
    """Whether the guest was lost, if there was one."""
    if not result.job.guest:
        return ""
    return "LOST" if result.lost else "once" if result.again else "no"


def _interrupted(number: int, _frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
