# SPDX-License-Identifier: GPL-2.0-only
"""A real Docker Engine: its containers are called what Docker calls them.

What is expected comes from ``docker inspect``. The image is a busybox, made here: no registry.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import FOR_ENGINES, HOUSE, TIMEOUT_S, Trace, path_of, skbtrace
from tests.kernel.host import AS_DOCKER, effects, exit_code, forked, inside, neighbours, run
from tests.kernel.image import busybox
from tests.vm.peer import DOCKER
from tracer.model import Journey, Outcome
from tracer.topology import netns
from tracer.topology.build import standing
from tracer.topology.spec import LABS

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not FOR_ENGINES, reason="an engine wants a guest of its own"),
]

MODULES = "overlay br_netfilter xt_MASQUERADE xt_conntrack xt_addrtype veth bridge"
RUN = {
    "web": ("-p", "8088:80"),
    "db": (),
    "side": ("--network", "container:web"),
    "hosted": ("--network", "host"),
    "api": ("--network", "back"),
}
"""Container → how it is started."""


class Engine:
    """A Docker Engine that runs for these tests."""

    def __init__(self, folder: Path) -> None:
        tree = DOCKER.tree
        self._environment = {
            **os.environ,
            "PATH": f"{tree}/usr/sbin:{tree}/usr/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        data = folder / "data"
        data.mkdir()
        subprocess.run(["modprobe", "-a", *MODULES.split()], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", data], check=True)
        self.log = folder / "dockerd.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                ["dockerd", "--data-root", str(data), "--pidfile", str(folder / "pid")],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until and self._process.poll() is None:
            if self.run("info", check=False).returncode == 0:
                return
            time.sleep(1)
        raise AssertionError(self.log.read_text()[-3000:])

    def run(self, *words: str, check: bool = True, **options: Any) -> Any:
        """Run a docker command."""
        done = subprocess.run(
            ["docker", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            **options,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def inspect(self, container: str) -> dict[str, Any]:
        """What Docker says about a container."""
        (told,) = json.loads(self.run("inspect", container).stdout)
        return dict(told)

    def address(self, container: str) -> str:
        """Its one IPv4 address."""
        (network,) = self.inspect(container)["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def image(self, folder: Path) -> None:
        """A busybox with the few names that are called."""
        busybox(folder, "sh", "sleep", "ping", "nc")
        with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
            self.run("import", "-", "busybox", stdin=tar.stdout)

    def stop(self) -> None:
        """Take everything down."""
        self.run("rm", "-f", *RUN, "www", "late", "data", check=False)
        self.run("network", "rm", "back", check=False)
        self._process.terminate()
        self._process.wait(TIMEOUT_S)
        subprocess.run(["ip", "link", "del", "docker0"], check=True)
        subprocess.run(["nft", "flush", "ruleset"], check=True)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Five containers: on docker0, in another's namespace, on the host's, on a network of users."""
    assert DOCKER.is_there, "Docker is not there: python3 -m tests.vm fetch"
    folder = tmp_path_factory.mktemp("docker")
    one = Engine(folder)
    try:
        one.wait()
        one.image(folder / "image")
        one.run("network", "create", "back")
        for name, how in RUN.items():
            one.run("run", "-d", "--name", name, *how, "busybox", "/bin/sleep", "3600")
        yield one
    finally:
        one.stop()


def traced(path: Path, bridge: str, *command: str, environment: dict[str, str]) -> Trace:
    skbtrace(
        *("--topology", bridge, "--layers", "transport,socket", "-q", "-f", "-w", str(path)),
        *("--", *command),
        env=environment,
    )
    return Trace(path)


def ping(engine: Engine, path: Path, bridge: str, sender: str, to: str) -> Trace:
    """Three echo requests out of a container."""
    docker = engine._environment
    return traced(path, bridge, "docker", "exec", sender, "ping", "-c", "3", to, environment=docker)


def test_every_hop_between_two_containers_is_called_as_docker_calls_it(
    engine: Engine, tmp_path: Path
) -> None:
    web, db = engine.address("web"), engine.address("db")
    trace = ping(engine, tmp_path / "t.json", "docker0", "web", db)
    requests = trace.of("icmp", web, icmp_type=8)
    assert len(requests) == 3
    for request in requests:
        path = [name for name in path_of(request) if "/" in name]
        assert path[0] == "veth_xmit web/eth0"
        assert path[-1] == "icmp_rcv db/eth0"
        netnses = list(dict.fromkeys(name.split()[1].split("/")[0] for name in path))
        assert netnses == ["web", "host", "db"]


def test_the_topology_is_what_docker_inspect_says(engine: Engine, tmp_path: Path) -> None:
    trace = ping(engine, tmp_path / "t.json", "docker0", "db", engine.address("web"))
    topology = trace.capture.topology
    assert topology is not None
    found = {d.netns.name: address for d, address in topology.addresses if "." in address}
    assert found == {
        "host": f"{engine.inspect('web')['NetworkSettings']['Gateway']}/16",
        "web": f"{engine.address('web')}/16",
        "db": f"{engine.address('db')}/16",
    }


def test_topo_draws_what_docker_inspect_says(engine: Engine) -> None:
    drawn = skbtrace("topo", "docker0", env={**os.environ, "COLUMNS": "100"}).stdout
    for container in ("web", "db"):
        assert f"{container}/eth0  {engine.address(container)}/16" in drawn
    every = [json.loads(line) for line in skbtrace("topo", "--json").stdout.splitlines()]
    joined = {t["name"]: {p["other"]["netns"] for p in t["pairs"]} for t in every}
    (network,) = json.loads(engine.run("network", "inspect", "back").stdout)
    assert joined == {"docker0": {"web", "db"}, f"br-{network['Id'][:12]}": {"api"}}


def test_topo_knows_what_docker_rewrites(engine: Engine) -> None:
    (told,) = map(json.loads, skbtrace("topo", "docker0", "--json").stdout.splitlines())
    (network,) = json.loads(engine.run("network", "inspect", "bridge").stdout)
    subnet = network["IPAM"]["Config"][0]["Subnet"]
    (at,) = {
        port["HostPort"] for port in engine.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"]
    }
    server = f"{engine.address('web')}:80"
    by_hook = {(r["hook"], r["kind"], r.get("src")): r for r in told["rewrites"]}
    for hook in ("PRE_ROUTING", "LOCAL_OUT"):
        published = by_hook[hook, "dnat", None]
        assert (published["proto"], published["dport"], published["to"]) == ("tcp", at, server)
        assert published["iifname"] == "!docker0"
        assert "--dst-type LOCAL" in published["rule"]
    assert by_hook["POST_ROUTING", "masquerade", subnet]["oifname"] == "!docker0"
    assert "host" in {netns["netns"] for netns in told["forwards"]}
    drawn = skbtrace("topo", "docker0").stdout
    assert f"NAT  tcp :{at} → {server}\n" in drawn
    assert f"NAT  {subnet} → masquerade\n" in drawn
    assert "not forwarded" not in drawn


def test_the_lab_forwards_and_translates_as_docker_does(engine: Engine) -> None:
    lab = LABS["docker0"]
    c1, c2 = lab.talks[0]

    def as_the_lab_does() -> None:
        netns._libc("unshare", netns._CLONE_NEWNET)  # a host without Docker
        run("ip", "link", "set", "lo", "up")
        run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        with standing(lab) as built, neighbours():
            assert built
            assert effects(inside(c1.netns), c1.ip, c2.ip) == AS_DOCKER

    with neighbours():
        web, db = engine.address("web"), engine.address("db")
        docker = ("env", f"PATH={engine._environment['PATH']}", "docker", "exec", "web")
        assert effects(docker, web, db) == AS_DOCKER
    assert exit_code(forked(as_the_lab_does)) == 0
    saved = run("iptables-save", "-t", "nat")
    assert "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE" in saved
    assert lab.router is not None
    assert 'ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade' in lab.router.chains


def test_a_network_of_the_users_own(engine: Engine, tmp_path: Path) -> None:
    (network,) = json.loads(engine.run("network", "inspect", "back").stdout)
    bridge = f"br-{network['Id'][:12]}"
    gateway = network["IPAM"]["Config"][0]["Gateway"]
    trace = ping(engine, tmp_path / "t.json", bridge, "api", gateway)
    requests = trace.of("icmp", engine.address("api"), icmp_type=8)
    assert len(requests) == 3
    assert all(path_of(r)[0] == "veth_xmit api/eth0" for r in requests)
    assert all(f"icmp_rcv host/{bridge}" in path_of(r) for r in requests)


def test_a_container_that_is_renamed(engine: Engine, tmp_path: Path) -> None:
    engine.run("rename", "web", "www")
    try:
        trace = ping(engine, tmp_path / "t.json", "docker0", "db", engine.address("www"))
    finally:
        engine.run("rename", "www", "web")
    names = {path_of(j)[-2].split()[-1] for j in trace.of("icmp", icmp_type=8)}
    assert names == {"www/eth0"}


LATER = (
    "docker run -d --name late busybox /bin/sleep 3600 >/dev/null;"
    """until last | grep -q '"netns":"late"'; do sleep 0.2; done;"""
    "docker exec late ping -c 3 {gateway}; docker rename late data;"
    """until last | grep -q '"netns":"data"'; do sleep 0.2; done;"""
    "docker exec data ping -c 4 {gateway}; docker rm -f data >/dev/null;"
    """while last | grep -q '"netns":"data"'; do sleep 0.2; done"""
)
"""Each step when the trace tells that what was before it is known."""
LAST = """last() {{ grep '"type":"topology"' {trace} | tail -n 1; }};"""


def test_a_container_that_starts_is_renamed_and_goes(engine: Engine, tmp_path: Path) -> None:
    gateway = engine.inspect("web")["NetworkSettings"]["Gateway"]
    file = tmp_path / "t.json"
    work = LAST.format(trace=file) + LATER.format(gateway=gateway)
    docker = engine._environment
    trace = traced(file, "docker0", "sh", "-ec", work, environment=docker)
    requests = sorted(trace.of("icmp", icmp_type=8, dst=gateway), key=lambda j: j.start_ns)
    assert [path_of(j)[0] for j in requests] == [
        *["veth_xmit late/eth0"] * 3,
        *["veth_xmit data/eth0"] * 4,
    ]
    there = [{d.netns.name for d in c.topology.ends} for c in trace.changes]
    assert {"web", "db", "late"} in there
    assert {"web", "db", "data"} in there
    assert there[-1] == {"web", "db"}


def test_a_published_port_is_followed_from_the_uplink_on(engine: Engine, tmp_path: Path) -> None:
    docker = engine._environment
    outside = (
        "ip netns add outside; ip link add vout type veth peer name eth0 netns outside;"
        "ip addr add 10.9.0.1/24 dev vout; ip link set vout up;"
        "ip -n outside addr add 10.9.0.2/24 dev eth0; ip -n outside link set eth0 up"
    )
    subprocess.run(["sh", "-ec", outside], check=True)
    work = (
        "docker exec -d web sh -c 'echo hello | nc -l -p 80'; sleep 2;"
        "ip netns exec outside ping -q -c 2 10.9.0.1;"
        "ip netns exec outside busybox nc -w 5 10.9.0.1 8088 </dev/null | grep hello"
    )
    try:
        trace = traced(tmp_path / "t.json", "docker0", "sh", "-ec", work, environment=docker)
    finally:
        subprocess.run(["ip", "netns", "del", "outside"], check=True)
    web = engine.address("web")
    (syn,) = trace.of("tcp", "10.9.0.2", tcp_flags="S")
    assert (syn.flow.dst, syn.flow.dport) == ("10.9.0.1", 8088)
    path = [name for name in path_of(syn) if "/" in name]
    assert path[0] == "__netif_receive_skb_core host/vout"
    assert "br_dev_xmit host/docker0" in path or "veth_xmit" in " ".join(path)
    assert path[-1].split()[1] == "web/eth0"
    changes = [c for hop in syn.hops for c in hop.changes]
    assert {("dst", web), ("dport", 80)} <= {(c.field, c.new) for c in changes}
    assert syn.outcome is Outcome.DELIVERED
    assert trace.of("icmp", "10.9.0.2") == []  # they never came to docker0
    assert trace.summary.beside >= 2
    topology = trace.capture.topology
    assert topology is not None
    assert ("dnat", f"{web}:80", "8088") in {(r.kind, r.to, r.dport) for r in topology.rewrites}
    assert "host/vout" in {f"{d.netns.name}/{d.ifname}" for d in topology.uplinks}


def test_containers_that_share_a_namespace_are_called_by_its_owner(engine: Engine) -> None:
    told = subprocess.check_output(
        [
            sys.executable,
            "-c",
            "from tracer.topology.names import Names\n"
            "print(*sorted(p.netns.name for p in Names().places().values()))",
        ],
        cwd=HOUSE,
        text=True,
    )
    assert {"host", "web", "db", "api"} <= set(told.split())
    assert not {"side", "hosted"} & set(told.split())  # they have no namespace of their own


def selected(engine: Engine, path: Path, *options: str) -> list[Journey]:
    """The echo requests and replies among what is selected while web pings db, and db web."""
    web, db = engine.address("web"), engine.address("db")
    pings = f"docker exec web ping -c 3 {db}; docker exec db ping -c 3 {web}"
    skbtrace(
        *("--topology", "docker0", "--layers", "transport,socket", "-q", "-f", "-w", str(path)),
        *(*options, "--", "sh", "-ec", pings),
        env=engine._environment,
    )
    return Trace(path).of("icmp")


def test_containers_are_selected_by_name_and_by_id(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    web, db = engine.address("web"), engine.address("db")
    container = engine.inspect("db")["Id"]
    for name in ("db", container, container[:12]):
        assert len(selected(engine, path, "--container", name)) == 12
    assert {j.flow.src for j in selected(engine, path, "--from", "web")} == {web}
    assert {j.flow.src for j in selected(engine, path, "--to", container[:12])} == {web}
    assert {j.flow.dst for j in selected(engine, path, "--to", "web", "--from", "db")} == {web}
    shown = skbtrace("show", "--to", "web", str(path)).stdout
    assert shown.count(f"{db} > {web}") == 6


def test_a_container_is_selected_that_has_no_namespace_of_its_own(
    engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "t.json"
    web = engine.address("web")
    assert {j.flow.src for j in selected(engine, path, "--from", "side")} == {web}
    assert len(selected(engine, path, "--container", "side", "--container", "db")) == 12
    passed = selected(engine, path, "--container", "hosted")  # the bridge is the host's
    assert len(passed) == 12
    assert selected(engine, path, "--from", "hosted") == []


def test_a_container_that_does_not_run_is_not_selected(engine: Engine) -> None:
    done = skbtrace("--topology", "docker0", "--container", "cache", status=1)
    assert done.stderr.splitlines()[-2:] == [
        "skbtrace: no container cache runs on this host (there are: api, db, hosted, side, web)",
        "  try: sudo skbtrace topo",
    ]
