# SPDX-License-Identifier: GPL-2.0-only
"""A bridge, veth pairs, namespaces and a process whose names are made to harm a terminal.

Linux accepts them all: 15 bytes of nearly anything for a device, any bytes but / and NUL under
/run/netns. They come out escaped wherever skbtrace prints or writes them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import Trace, skbtrace
from tests.kernel.host import run
from tracer.text import printable
from tracer.topology import netns

pytestmark = [pytest.mark.kernel, pytest.mark.once]

BRIDGE = b"br\x1b[31m\xe2\x80\xae[red]"
PORTS = (b"\xff\xc2\x9b31m\x07[b]v", b"{0}\x1b]0;t\x07\xe2\x81\xa7")
ENDS = (b"\x80\x9b2J\xc2\x85[bold]", b"x\x7f\x08\x08\xe2\x80\x8f[link]")
PLACES = (b"c1\x1b[2J\n[red]\xff\xe2\x81\xa6", b"c2 \xc2\x9b31m\r\x07[red] $(reboot)")
ADDRESSES = ("10.66.0.2", "10.66.0.3")
PING = b"\x1b[7m\xff[red]ping"
PINGS = 3
WIDE = os.environ | {"COLUMNS": "200"}
CODE = re.compile(r"\x1b\[[0-9;]*m")


def shown(name: bytes) -> str:
    """A name as it may be printed."""
    text = printable(os.fsdecode(name))
    assert text.isprintable()
    assert os.fsencode(text) != name
    return text


def clean(text: str) -> bool:
    """Whether a terminal shows every line of it as it is."""
    return all(printable(line) == line for line in text.split("\n"))


def hostile(*args: str, status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command; what it prints must be harmless."""
    done = skbtrace(*args, status=status, **options)
    assert clean(done.stdout)
    assert clean(done.stderr)
    return done


@pytest.fixture(scope="module")
def bridge() -> Iterator[str]:
    """A bridge with two ports, each the end of a pair into a namespace of its own; its name."""
    assert max(map(len, (BRIDGE, *PORTS, *ENDS))) == 15
    run("ip", "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0")
    try:
        run("ip", "link", "set", BRIDGE, "up")
        for place, port, end, address in zip(PLACES, PORTS, ENDS, ADDRESSES, strict=True):
            netns.create(os.fsdecode(place))
            run("ip", "link", "add", port, "type", "veth", "peer", "name", end, "netns", place)
            run("ip", "link", "set", port, "master", BRIDGE, "up")
            run("ip", "-n", place, "addr", "add", f"{address}/24", "dev", end)
            run("ip", "-n", place, "link", "set", end, "up")
        ping = ("ping", "-q", "-c", "1", ADDRESSES[1])  # who has which address is known from now on
        run("nsenter", "--net=/run/netns/" + os.fsdecode(PLACES[0]), *ping)
        yield os.fsdecode(BRIDGE)
    finally:
        for place in PLACES:
            netns.remove(os.fsdecode(place))
        run("ip", "link", "del", BRIDGE)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A ping from one namespace to the other, by a program with such a name."""
    found = shutil.which("ping")
    assert found is not None
    program = tmp_path / os.fsdecode(PING)
    program.symlink_to(found)
    inside = f"--net=/run/netns/{os.fsdecode(PLACES[0])}"
    ping = ["nsenter", inside, str(program), "-q", "-c", str(PINGS), "-i", "0.02", ADDRESSES[1]]
    return ["sh", "-c", 'exec "$@" >/dev/null', "sh", *ping]


def test_a_ping_between_them_is_traced_and_shown_without_harm(
    bridge: str, command: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "t.json"
    live = hostile("--topology", bridge, "-w", str(path), "--", *command, env=WIDE)
    assert live.stderr.count(shown(BRIDGE)) == 2  # found, opening
    for place, port, end in zip(PLACES, PORTS, ENDS, strict=True):
        assert f"{shown(place)}/{shown(end)}" in live.stdout
        assert f"host/{shown(port)}" in live.stdout

    with path.open("rb") as stream:
        again = hostile("show", "-", stdin=stream, env=WIDE)
    assert again.stdout == live.stdout
    hostile("show", str(path))
    hostile("show", "--ascii", str(path))
    colored = skbtrace("show", "--color", "always", str(path))
    assert "\x1b[" in colored.stdout
    assert CODE.sub("", colored.stdout) == hostile("show", str(path)).stdout

    trace = Trace(path)
    requests = trace.of("icmp", ADDRESSES[0], icmp_type=8)
    assert len(requests) == PINGS
    hops = [hop for request in requests for hop in request.hops]
    names = {(h.device.netns.name, h.device.ifname) for h in hops if h.device is not None}
    inside = {(shown(place), shown(end)) for place, end in zip(PLACES, ENDS, strict=True)}
    assert names == inside | {("host", shown(port)) for port in PORTS}
    assert {hop.task.comm for hop in hops if hop.task is not None} >= {
        printable(PING[:15].decode(errors="replace"))
    }


def test_json_is_ascii_and_every_text_in_it_is_harmless(bridge: str, command: list[str]) -> None:
    done = hostile("--topology", bridge, "--json", "--", *command)
    lines = done.stdout.splitlines()
    assert done.stdout.isascii()

    def texts(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for key, each in value.items():
                yield from (key, *texts(each))
        elif isinstance(value, list):
            for each in value:
                yield from texts(each)

    found = {text for line in lines for text in texts(json.loads(line))}
    assert all(clean(text) and "\n" not in text for text in found)
    assert {shown(name) for name in (BRIDGE, *PORTS, *ENDS, *PLACES)} <= found


def test_the_drawing_is_harmless(bridge: str) -> None:
    drawn = hostile("topo", bridge, env=WIDE).stdout
    for name in (BRIDGE, *PORTS, *ENDS, *PLACES):
        assert shown(name) in drawn
    assert hostile("topo", "--ascii", env=WIDE).stdout.isascii()
    (told,) = map(json.loads, hostile("topo", bridge, "--json").stdout.splitlines())
    assert told["name"] == shown(BRIDGE)


def test_they_are_selected_as_they_are_and_as_they_are_shown(
    bridge: str, command: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "t.json"
    for name in (os.fsdecode(PLACES[0]), shown(PLACES[0])):
        hostile(*("--topology", bridge, "-f", "-w", str(path), "--from", name), "--", *command)
        assert {j.flow.src for j in Trace(path).of("icmp")} == {ADDRESSES[0]}
        shows = hostile("show", "--to", os.fsdecode(PLACES[1]), str(path))
        assert shows.stdout.count("echo request") == PINGS


def test_messages_are_harmless(bridge: str, tmp_path: Path) -> None:
    unknown = "none\x1b[31m\u202e[red]\udcff"
    done = hostile("--topology", unknown, status=1)
    assert f"there is no bridge {printable(unknown)} on this host" in done.stderr
    assert shown(BRIDGE) in done.stderr  # one of those there are
    hostile("topo", unknown, status=1)
    hostile("--topology", os.fsdecode(PORTS[0]), status=1)
    hostile("lab", "up", unknown, status=2)
    hostile("show", str(tmp_path / unknown), status=1)
    hostile("--topology", bridge, "-w", f"/nowhere/{unknown}", status=1)
    hostile("--topology", bridge, "-q", "--", f"/nowhere/{unknown}", status=125)
    hostile("--topology", bridge, "--bad" + unknown, status=2)
    for option in ("--netns", "--container", "--from", "--to"):
        done = hostile("--topology", bridge, option, unknown, status=1)
        assert printable(unknown) in done.stderr


def test_a_lab_that_would_collide_says_with_what(bridge: str) -> None:
    run("ip", "addr", "add", "172.17.0.9/16", "dev", BRIDGE)
    try:
        done = hostile("lab", "up", "docker0", status=1)
        assert f"this host already reaches it through {shown(BRIDGE)}" in done.stderr
    finally:
        run("ip", "addr", "del", "172.17.0.9/16", "dev", BRIDGE)
