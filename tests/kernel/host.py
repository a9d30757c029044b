# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of labs share: the host as it is, children that are interrupted and killed."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tracer import process
from tracer.probes import PROBES
from tracer.topology import netns, record
from tracer.topology.build import standing
from tracer.topology.guard import NAME as GUARD
from tracer.topology.spec import Interface, Lab

PROBED = Path("/sys/kernel/tracing/enabled_functions")
"""The functions at whose entry something is called: by kprobes and by fentry alike."""
LIMIT_S = 60.0
"""An emulated guest is slow. Nothing waits that long if all is well."""


def run(*command: str | bytes) -> str:
    """Run a command, which must succeed; its output."""
    return subprocess.run(command, check=True, capture_output=True).stdout.decode(errors="replace")


def called(told: Path = PROBED) -> list[str]:
    """The functions that ``PROBED`` tells, or a copy of it."""
    lines = told.read_text().splitlines()
    # What is called stands behind the function, or below it.
    return [line.split()[0] for line in lines if not line[:1].isspace()]


def probed(told: Path = PROBED) -> set[str]:
    """The same without what the compiler appended."""
    return {function.partition(".")[0] for function in called(told)}


def left_behind() -> list[str]:
    """Probes, devices and namespaces of ours."""
    links = [link["ifname"] for link in json.loads(run("ip", "-j", "link"))]
    namespaces = run("ip", "netns", "list").split()
    return [
        *(probed() & {probe.function for probe in PROBES}),
        *(n for n in links if n.startswith(("veth", "docker0", "skbt"))),
        *(n for n in namespaces if n.startswith("skbtrace")),
    ]


def snapshot() -> dict[str, str]:
    """Everything about the host that a lab could change."""
    seen = {}
    for family, shows in ("-4", "link addr netns"), ("-6", "addr"):
        commands = [*shows.split(), "rule", "route show table all", "neigh show nud permanent"]
        told = subprocess.check_output(
            ["ip", "-d", family, "-batch", "-"], input="\n".join(commands), text=True
        )
        # On a host that has more than the lab, some things tick.
        seen[f"ip {family}"] = re.sub(r"(timer|lft|expires) +[\d.]+(sec)?", r"\1", told)
    seen["rules"] = run("nft", "list", "ruleset")
    for family in ("ip", "ip6"):
        # What x_tables has. Saying so would load its modules, so it is asked only if there is some.
        tables = Path(f"/proc/net/{family}_tables_names")
        if tables.exists() and tables.read_text():
            seen[str(tables)] = run(f"{family}tables-legacy-save")
    seen["namespaces"] = " ".join(sorted(file.name for file in netns.RUN_NETNS.iterdir()))
    mounts = Path("/proc/mounts").read_text().splitlines(keepends=True)
    seen["mounts"] = "".join(line for line in mounts if "netns" in line)
    seen["records"] = " ".join(sorted(path.name for path in record.FOLDER.glob("*.json*")))
    for path in sorted(Path("/proc/sys/net").rglob("*")):
        try:
            seen[str(path)] = path.read_text()
        except OSError:  # a folder, or write-only
            seen[str(path)] = ""
    seen.pop("/proc/sys/net/netfilter/nf_conntrack_count", None)
    return seen


def snmp(container: Interface) -> dict[str, int]:
    """The namespace's own counters."""

    def read() -> str:
        return Path("/proc/thread-self/net/snmp").read_text()

    lines = netns.inside(f"/run/netns/{container.netns}", read).splitlines()
    counters = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol, *fields = names.split()
        for field, value in zip(fields, values.split()[1:], strict=True):
            counters[protocol.rstrip(":") + field] = int(value)
    return counters


def open_files() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a child and return its pid. Its exit status is 1 if ``work`` raises."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        work()
        os._exit(0)
    except BaseException as error:
        print(f"child: {error!r}", file=sys.stderr)
        os._exit(1)


def exit_code(pid: int) -> int:
    """Return the child's exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does; the test fails if it never does it."""
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


def at_step(number: int, act: Callable[[], None]) -> None:
    """Call ``act`` before the given one of the steps by which this process changes the host."""
    steps = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps
        # A netlink request; a mount, unshare or setns; a record that is written or removed; nft;
        # a setting that is written.
        if event in {
            "sys.set_asyncgen_hook_firstiter",
            "ctypes.dlsym",
            "os.rename",
            "os.remove",
            "subprocess.Popen",
        } or (event == "open" and f"{arguments[0]}"[:9] == "/proc/sys" and arguments[1] == "w"):
            steps += 1
            if steps == number:
                act()

    sys.addaudithook(count)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def guard_of(pid: int) -> int:
    """The child that takes a lab down if that process is killed."""
    (guard,) = (p.pid for p in process.family(pid) if _comm(p.pid) == GUARD)
    return guard


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def kill(pid: int, *, and_guard: bool) -> None:
    """Kill a child that keeps a lab, and first its guard, or wait until that has done its work."""
    guard = guard_of(pid)
    ended = os.pidfd_open(guard)
    if and_guard:
        os.kill(guard, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    assert exit_code(pid) == -signal.SIGKILL
    assert select.select([ended], [], [], LIMIT_S)[0]
    os.close(ended)


@contextmanager
def held(lab: Lab) -> Iterator[int]:
    """A child that keeps the lab standing; its pid, once the lab stands."""
    standing_now, tell = os.pipe()

    def keep() -> None:
        with standing(lab) as built:
            os.write(tell, b"1" if built else b"0")
            signal.pause()

    pid = forked(keep)
    os.close(tell)
    try:
        assert os.read(standing_now, 1) == b"1"
        yield pid
    finally:
        os.close(standing_now)


# -- who reaches whom ------------------------------------------------------------------------

OUTSIDE, OTHER = "203.0.113.2", "198.51.100.2"
"""Two that have a cable each to this host, and know no other way."""
AS_DOCKER = {
    "out": True,
    "seen outside as": "203.0.113.1",
    "in": False,
    "from cable to cable": False,
    "to the next container": True,
    "to the host": True,
}
"""What happens where a Docker Engine made docker0 (test_docker.py), or the lab did."""


@contextmanager
def neighbours() -> Iterator[None]:
    """They are there, in the namespaces outside and other."""
    with ExitStack() as stack:
        for name, address in ("outside", OUTSIDE), ("other", OTHER):
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
            run(*f"ip link add to-{name} type veth peer name eth0 netns {name}".split())
            stack.callback(run, "ip", "link", "del", f"to-{name}")
            if Path("/proc/sys/net/ipv6").exists():  # else it tells the host that it is there
                run("sysctl", "-qw", f"net.ipv6.conf.to-{name}.disable_ipv6=1")
            host = f"{address[:-1]}1"
            run("ip", "addr", "add", f"{host}/24", "dev", f"to-{name}")
            run("ip", "link", "set", f"to-{name}", "up")
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "route", "add", "default", "via", host)
        yield


def inside(name: str) -> tuple[str, ...]:
    """How a command is started in the namespace of that name."""
    return ("ip", "netns", "exec", name)


def answered(where: Sequence[str], address: str) -> bool:
    """Whether an echo request is answered; ``where``: what stands before the command."""
    ping = (*where, "ping", "-q", "-c", "1", "-W", "3", address)
    return subprocess.run(ping, stdout=subprocess.DEVNULL, check=False).returncode == 0


def effects(container: Sequence[str], address: str, beside: str) -> dict[str, object]:
    """Who reaches whom: a container of docker0, the one beside it, the host, the neighbours."""

    def icmp() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

    with netns.inside("/run/netns/outside", icmp) as witness:
        witness.settimeout(60)
        out = answered(container, OUTSIDE)
        sender = str(witness.recvfrom(2048)[1][0])
    return {
        "out": out,
        "seen outside as": sender,
        "in": answered(inside("outside"), address),
        "from cable to cable": answered(inside("outside"), OTHER),
        "to the next container": answered(container, beside),
        "to the host": answered(container, "172.17.0.1"),
    }


def complaints() -> list[str]:
    """What the kernel log warns of: a bug, a lockup, a stall."""
    log = run("dmesg", "--level", "emerg,alert,crit,err,warn")
    words = ("WARNING", "BUG", "lockup", "stall")
    return [line for line in log.splitlines() if any(word in line for word in words)]
