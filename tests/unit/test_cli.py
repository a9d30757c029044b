# SPDX-License-Identifier: GPL-2.0-only
"""The command line without a kernel: words, statuses, options and COMMAND told apart."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tracer import __version__
from tracer.cli import COMMANDS, options, run
from tracer.cli.select import Typed, on_this_host
from tracer.cli.trace import Options, trace
from tracer.errors import PrerequisiteError, TopologyError
from tracer.model import Device, Netns, Topology
from tracer.probes import DEFAULT_LAYERS, LAYERS
from tracer.selection import Namespaces, Selection
from tracer.topology.names import Names

HOUSE = Path(__file__).parents[2]


def test_help_ends_with_examples_and_names_every_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "sudo skbtrace --topology docker0" in out.split("Examples:")[1]
    for name, (_, text) in COMMANDS.items():
        assert f"  {name}" in out
        assert text in out


def test_no_words_at_all_are_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: skbtrace")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    assert "Example" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--nope"], "No such option '--nope'"),
        (["nonsense"], "No such command 'nonsense'"),
        (["--topology", "docker0", "-c", "0"], "Invalid value for '-c'"),
        (["--topology", "docker0", "-t", "-1"], "Invalid value for '-t'"),
        (["--topology", "docker0", "--"], "there is no command behind --"),
        (["-w", "x.json"], "say what to trace"),
        (["--topology", "docker0", "--json", "-w", "-"], "both write to standard output"),
        (["--topology", "docker0", "--out-rotate", "1M"], "say how they are called"),
        (["--topology", "docker0", "--json", "--out-rotate", "1M"], "-w trace.json --out-rotate"),
        (["--topology", "docker0", "-w", "-", "--out-rotate", "1M"], "say how they are called"),
        (["--topology", "docker0", "-w", "t.gz", "--out-rotate", "1x"], "try: --out-rotate 100M"),
        (["--topology", "docker0", "--sample", "0"], "Invalid value for '--sample'"),
        (["--topology", "docker0", "-s", "0"], "0 is not in the range 1<=x<=2048"),
        (["--topology", "docker0", "--snaplen", "2049"], "Invalid value for '--snaplen' / '-s'"),
        (["--topology", "docker0", "--max-rate", "x"], "Invalid value for '--max-rate'"),
        (["--topology", "docker0", "--cpu-limit", "0"], "Invalid value for '--cpu-limit'"),
        (["--topology", "docker0", "--trigger", "late"], "--trigger late is neither drop, nor"),
        (["--topology", "docker0", "tcp", "prot", "80"], "      ^^^^\n  try: man 7 pcap-filter"),
        (["--topology", "docker0", ""], "the filter is empty"),
        (["topo", "docker0", "--json", "--dot"], "both say how it is printed"),
    ],
)
def test_bad_words_are_a_usage_error(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert sentence in capsys.readouterr().err


def test_names_of_namespaces_may_be_given_several_times() -> None:
    words = ("--netns", "a", "--container", "b", "--from", "c", "--to", "d", "--netns", "e")
    context = trace.make_context("skbtrace", ["--topology", "docker0", "--device", "f", *words])
    assert Options(**context.params).ends == (("a", "e"), ("b",), ("c",), ("f",), ("d",))


C1, C2 = Netns(101, "c1"), Netns(102, "c2")
TOPOLOGY = Topology(
    "docker0",
    ends=(Device(C1, 2, "eth0"), Device(C2, 2, "eth0")),
    addresses=((Device(C1, 2, "eth0"), "172.17.0.2/16"), (Device(C2, 2, "eth0"), "fe80::3/64")),
)


@pytest.mark.parametrize("name", ["eth0", "c1/eth0"])
def test_a_device_is_called_with_or_without_its_namespace(name: str) -> None:
    typed = Typed((), (), (), (name,), ())
    selection = on_this_host(typed, Names(), TOPOLOGY)
    assert selection is not None
    assert selection.devices == {name}


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    typed = Typed((), (), (), ("c3/eth0",), ())
    with pytest.raises(TopologyError) as told:
        on_this_host(typed, Names(), TOPOLOGY)
    there = "docker0 has no device c3/eth0 (there are: c1/eth0, c2/eth0)"
    assert told.value.message == there


def test_names_become_the_namespaces_they_mean_now(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"c1": frozenset({101}), "c2": frozenset({102})}
    monkeypatch.setattr(Names, "find", lambda _, name: known[name])
    monkeypatch.setattr(Names, "container", lambda _, name: known[name])
    typed = Typed(netns=("c1", "c2"), container=("c1",), origin=(), device=(), target=("c2",))
    selection = on_this_host(typed, Names(), TOPOLOGY)
    assert selection == Selection(
        netns=Namespaces(frozenset({101, 102})),
        container=Namespaces(frozenset({101})),
        target=Namespaces(frozenset({102})),
        addresses=frozenset({"fe80::3"}),
    )
    assert on_this_host(Typed(), Names(), TOPOLOGY) is None


@pytest.mark.parametrize(
    ("words", "hint"), [([], "topo"), (["br\x1b[31m"], r"topo br\x1b[31m"), (["--dot"], "topo")]
)
def test_topo_says_that_it_needs_root(
    words: list[str],
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run(["topo", *words]) == 3
    said = "skbtrace: looking into other network namespaces needs root\n"
    assert capsys.readouterr().err == f"{said}  try: sudo skbtrace {hint}\n"


def command_of(*words: str) -> list[str]:
    context = trace.make_context("skbtrace", list(words))
    command: list[str] = context.meta["command"]
    return command


def test_what_stands_behind_two_dashes_is_a_command() -> None:
    assert command_of("--topology", "docker0") == []
    assert command_of("--topology", "docker0", "--", "ping", "-c", "3") == ["ping", "-c", "3"]
    assert command_of("--topology", "docker0", "--", "sh", "--", "x") == ["sh", "--", "x"]
    assert command_of("show", "--", "-strange-name") == []


def test_a_trace_tells_what_was_typed_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, str]] = []

    def keep(typed: Options, *_: object) -> int:
        told.append(dict(typed.chosen))
        return 0

    monkeypatch.setattr(sys.modules["tracer.cli.trace"], "_trace", keep)
    names = [
        "--netns",
        "a",
        "--netns",
        "b\x1b",
        "--container",
        "c",
        "--device",
        "d",
        "--from",
        "e",
        "--to",
        "f",
    ]
    numbers = ["--sample", "4", "--max-rate", "5", "--per-flow", "6", "--cpu-limit", "7"]
    others = [
        "-Q",
        "in",
        "--mark",
        "7/7",
        "--process",
        "ping",
        "--trigger",
        "drop",
        "--trigger",
        "absorbed",
    ]
    run(["--topology", "x", *names, *numbers, *others, "tcp", "port", "80"])
    run(["--topology", "x", "-q", "-c", "3", "--layers", "all"])
    assert told == [
        {
            **{"filter": "tcp port 80", "Q": "in", "mark": "7/7", "process": "ping"},
            **{"netns": r"a, b\x1b", "container": "c", "device": "d", "from": "e", "to": "f"},
            **{"sample": "4", "max-rate": "5", "per-flow": "6", "cpu-limit": "7"},
            "trigger": "drop, absorbed",
        },
        {},
    ]


def test_what_stands_behind_the_options_is_a_filter() -> None:
    def words(*typed: str) -> tuple[list[str], list[str]]:
        meta = trace.make_context("skbtrace", list(typed)).meta
        return meta.get("filter", []), meta["command"]

    docker0 = ("--topology", "docker0")
    assert words(*docker0) == ([], [])
    assert words(*docker0, "tcp", "port", "80") == (["tcp", "port", "80"], [])
    assert words(*docker0, "-q", "host", "lab", "--", "ping", "x") == (
        ["host", "lab"],
        ["ping", "x"],
    )
    assert words(*docker0, "tcp[0] - 1 = 2 and icmp") == (["tcp[0] - 1 = 2 and icmp"], [])


def test_an_error_is_a_sentence_and_the_next_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: BaseException) -> int:
        def invoke(_context: click.Context) -> int:
            raise error

        monkeypatch.setattr(trace, "invoke", invoke)
        return run(["--topology", "docker0"])

    assert fail(PrerequisiteError("no kprobes", hint="make demo")) == 3
    assert capsys.readouterr().err == "skbtrace: no kprobes\n  try: make demo\n"
    assert fail(TopologyError("no bridge")) == 1
    assert capsys.readouterr().err == "skbtrace: no bridge\n"
    assert fail(KeyboardInterrupt()) == 130
    assert fail(OSError(5, "Input/output error", "x")) == 1
    assert capsys.readouterr().err.endswith("skbtrace: Input/output error: x\n")


def test_on_a_host_that_cannot_trace_the_guest_is_offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from tracer.kernel import host

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host, "bcc_path", lambda: tmp_path)
    monkeypatch.setattr(host, "_KPROBE_PMU", tmp_path / "missing")
    assert run(["--topology", "docker0"]) == 3
    sentence, hint = capsys.readouterr().err.splitlines()
    assert sentence == "skbtrace: this kernel has no kprobes (CONFIG_KPROBE_EVENTS)"
    assert hint.startswith("  try: make demo")

    monkeypatch.setattr(host, "_KPROBE_PMU", tmp_path)
    monkeypatch.setattr(host, "VMLINUX", tmp_path / "missing")
    assert run(["--topology", "docker0"]) == 3
    assert "no type information" in capsys.readouterr().err

    monkeypatch.setattr(host, "VMLINUX", tmp_path)
    locked = tmp_path / "lockdown"
    locked.write_text("none integrity [confidentiality]\n")
    monkeypatch.setattr(host, "_LOCKDOWN", locked)
    assert run(["--topology", "docker0"]) == 3
    assert "locked down" in capsys.readouterr().err

    monkeypatch.setattr(host, "bcc_path", lambda: None)
    assert run(["--topology", "docker0"]) == 3
    assert "apt-get install python3-bpfcc" in capsys.readouterr().err

    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run(["--topology", "docker0"]) == 3
    assert "needs root" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_a_quiet_success() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m tracer schema | true; exit 0"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--help"], ["schema"], ["probes"]])
def test_what_needs_no_kernel_loads_neither_bcc_nor_pyroute2(words: list[str]) -> None:
    program = (
        "import sys; from tracer.cli import run; run(sys.argv[1:]);"
        "print([m for m in ('bcc', 'pyroute2') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "[]\n"


def test_help_is_fast() -> None:
    """The bar is 0.15 s of a processor: others may want it as well just now."""
    best = float("inf")
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "tracer", "--help"], cwd=HOUSE, check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        best = min(best, spent)
    assert best < 0.15


def test_the_layers_that_help_names_are_those_there_are() -> None:
    assert options.NAMES.split(", ") == list(LAYERS)
    assert options.DEFAULT.split(", ") == [name for name in LAYERS if name in DEFAULT_LAYERS]
