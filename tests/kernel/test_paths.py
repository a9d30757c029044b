# SPDX-License-Identifier: GPL-2.0-only
"""Every path of paths.py on the running kernel: the full list of functions, and what it proves."""

from __future__ import annotations

import json
import sys
from pathlib import Path as File

import pytest

from tests.kernel.conftest import HOUSE, IN_A_GUEST, KERNEL, TRIES, Trace, sh, skbtrace
from tests.kernel.paths import (
    DATAGRAM_WHOLE,
    FORWARDED,
    PATHS,
    ROWS,
    SCENES,
    TAPPED,
    Given,
    Path,
    Way,
)
from tracer.model import Hop, Journey, Outcome
from tracer.probes import DEFAULT_LAYERS, PROBES
from tracer.view.tree import families
from tracer.words import change_words, verdict_words

pytestmark = pytest.mark.kernel

SELINUX = File("/sys/fs/selinux").exists()

PROBED = {probe.function: probe for probe in PROBES}


def shell(script: str, folder: File) -> str:
    """The script, with what it finds in its environment."""
    return f"export F={folder} HOUSE={HOUSE} PYTHON={sys.executable}\n{script}"


class Stage:
    """The scenes, each captured when it is first asked for."""

    def __init__(self, folder: File) -> None:
        self.folder = folder
        self._captured: dict[tuple[str, str], Trace] = {}

    def capture(self, name: str, layers: str = "all") -> Trace:
        found = self._captured.get((name, layers))
        if found is None:
            found = self._captured[name, layers] = self._capture(name, layers)
        return found

    def left(self, name: str, file: str) -> str:
        """What a scene has left to look at."""
        return (self.folder / f"{name}-all" / file).read_text()

    def _capture(self, name: str, layers: str) -> Trace:
        scene = SCENES[name]
        folder = self.folder / f"{name}-{layers.replace(',', '-')}"
        folder.mkdir(exist_ok=True)
        path = folder / "trace.json"
        if scene.cards and not IN_A_GUEST:
            pytest.skip("no two network cards on one wire here: make kernel gives a guest two")
        skbtrace("lab", "up", scene.lab)
        try:
            sh(shell(scene.before, folder))
            for _ in range(TRIES if scene.cards else 1):
                skbtrace(
                    *("--topology", scene.topology or scene.lab, "--layers", layers, "-q", "-f"),
                    *("-w", str(path), "--", "sh", "-ec", shell(scene.script, folder)),
                )
                if not Trace(path).summary.lost["probe_missed"]:
                    break
        finally:
            skbtrace("lab", "down", scene.lab)
            sh(shell(scene.after, folder))
        trace = Trace(path)
        assert not any(trace.summary.lost.values()), trace.summary.lost
        return trace


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"))


def told(hop: Hop) -> str:
    """A hop as paths.py writes it."""
    words = [hop.function]
    if hop.verdict is not None:
        words.append(verdict_words(hop.verdict)[0])
    return " ".join([*words, place(hop)]).rstrip()


def place(hop: Hop) -> str:
    return f"{hop.device.netns.name}/{hop.device.ifname}" if hop.device else ""


def expected(way: Way, seen: list[str]) -> list[str]:
    """The way on this kernel. Of hops that are there or not, those that were seen."""
    return [
        hop.hop if isinstance(hop, Given) else hop
        for hop in way
        if not isinstance(hop, Given) or holds(hop, seen)
    ]


def holds(given: Given, seen: list[str]) -> bool:
    condition = given.condition
    return (
        condition.since <= KERNEL < condition.until
        and (SELINUX or not condition.selinux)
        and (given.hop in seen or not condition.maybe)
    )


def find(trace: Trace, path: Path) -> Journey:
    """The packet that a path is about."""
    which = path.which
    found = [
        j
        for j in sorted(trace.journeys, key=lambda j: (j.start_ns, int(j.id)))
        if (j.parent is not None) == which.branch
        and place(j.hops[0]) == which.at
        and all(getattr(j.flow, name) == value for name, value in which.flow.items())
    ]
    assert len(found) > which.nth, sorted(
        {(j.flow, place(j.hops[0])) for j in trace.journeys}, key=str
    )
    return found[which.nth]


def named(path: Path) -> str:
    return f"{path.row}: {path.title}"


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_a_packet_takes_its_path(path: Path, stage: Stage) -> None:
    journey = find(stage.capture(path.scene), path)
    seen = [told(hop) for hop in journey.hops]
    assert seen == expected(path.way, seen)
    assert (journey.outcome, journey.proof) == (path.outcome, path.proof)
    if path.branches is not None:
        assert len(journey.branches) == path.branches
    assert ("answers" in [r.kind for r in journey.references]) == path.answers
    assert path.changes == tuple(
        (told(hop), " ".join(change_words(change, "->")))
        for hop in journey.hops
        for change in hop.changes
        if change.field in path.watched
    )


@pytest.mark.parametrize("path", [p for p in PATHS if p.scene == "veth"], ids=named)
def test_the_default_layers_show_the_same_without_the_others(path: Path, stage: Stage) -> None:
    def shown(hop: str) -> bool:
        probe = PROBED[hop.split(maxsplit=1)[0]]
        return probe.always or probe.layer in DEFAULT_LAYERS

    journey = find(stage.capture(path.scene, ",".join(sorted(DEFAULT_LAYERS))), path)
    seen = [told(hop) for hop in journey.hops]
    assert seen == [hop for hop in expected(path.way, seen) if shown(hop)]
    assert (journey.outcome, journey.proof) == (path.outcome, path.proof)


# -- what the articles say besides, against witnesses that are not skbtrace --------------------


def hops(trace: Trace, function: str) -> list[tuple[Journey, Hop]]:
    return [(j, hop) for j in trace.journeys for hop in j.hops if hop.function == function]


def of(name: str, stage: Stage, title: str) -> Journey:
    """The packet of the path whose title begins so."""
    (path,) = [p for p in PATHS if p.scene == name and p.title.startswith(title)]
    return find(stage.capture(name), path)


def test_every_row_has_a_path() -> None:
    assert {path.row for path in PATHS} == set(ROWS)
    assert len({named(path) for path in PATHS}) == len(PATHS)


def test_the_forwarding_table_fills(stage: Stage) -> None:
    """Row 6."""
    trace = stage.capture("bridge")
    assert len(hops(trace, "br_flood")) == 1
    assert len(hops(trace, "br_forward")) == 3
    assert stage.left("bridge", "before") == ""
    learnt = {line.split()[0] for line in stage.left("bridge", "after").splitlines()}
    assert learnt == {"02:42:c0:a8:00:65", "02:42:c0:a8:00:66"}


def test_the_rules_counters_agree(stage: Stage) -> None:
    """Rows 7 and 8."""
    trace = stage.capture("nat")
    rules: dict[str, list[int]] = {}
    for each in json.loads(stage.left("nat", "rules"))["nftables"]:
        if "rule" in each:
            counted = [e["counter"]["packets"] for e in each["rule"]["expr"] if "counter" in e]
            rules.setdefault(each["rule"]["chain"], []).extend(counted)
    asked = [hop.verdict.chain for _, hop in hops(trace, "nft_do_chain") if hop.verdict]
    assert asked.count("FORWARD") == sum(rules["FORWARD"]) > 2 * FORWARDED
    rewritten = {"PREROUTING": "dst", "POSTROUTING": "src"}
    for chain, field in rewritten.items():
        by_the_rule = [
            hop
            for _, hop in hops(trace, "nft_do_chain")
            if hop.verdict and hop.verdict.chain == chain
            if field in [change.field for change in hop.changes]
        ]
        assert len(by_the_rule) == sum(rules[chain]) == 1, chain
    # One journey each, whatever its addresses are.
    assert len(trace.of("icmp", "192.168.0.2", icmp_type=8)) == FORWARDED
    assert len(trace.of("icmp", "203.0.113.2", icmp_type=0)) == FORWARDED


def test_tcpdump_gets_what_the_tap_hops_show(stage: Stage) -> None:
    """Row 11."""
    trace = stage.capture("docker0")
    said = stage.left("docker0", "tcpdump")
    (received,) = [int(line.split()[0]) for line in said.splitlines() if "received by" in line]
    tapped = hops(trace, "tpacket_rcv")
    assert len(tapped) == received == 2 * TAPPED
    for _, hop in tapped:
        assert hop.socket is not None
        assert (hop.socket.family, hop.socket.netns.name) == ("packet", "host")


def test_three_namespaces(stage: Stage) -> None:
    """Row 13: of the packet, of the process, of the socket."""
    journey = of("docker0", stage, "a process of the host")
    first, taken, end = journey.hops[0], journey.hops[-2], journey.hops[-1]
    assert place(first) == "c1/eth0"
    assert first.task is not None
    assert first.task.netns is not None
    assert first.task.netns.name == "host"
    assert taken.socket is not None
    assert (taken.socket.netns.name, taken.socket.proto) == ("c2", "udp")
    if DATAGRAM_WHOLE.since > KERNEL:  # else it may be another CPU that frees it
        assert end.task is not None
        assert end.task.netns is not None
        assert end.task.netns.name == "host"
    # ping, which is where its packets begin, has no other namespace to tell.
    ping = of("docker0", stage, "the request: the pair")
    assert ping.hops[0].task is not None
    assert (ping.hops[0].task.comm, ping.hops[0].task.netns) == ("ping", None)


def test_what_was_sent_again(stage: Stage) -> None:
    """Row 16: as many as the sender's own count says."""
    trace = stage.capture("docker0")
    (counted,) = [int(word) for word in stage.left("docker0", "lost").split()[1:]]
    sent = [j for j in trace.journeys if j.flow.dport == 8001 and j.flow.tcp_flags == "P."]
    again = [j for j in sent if [r.kind for r in j.references] == ["repeats"]]
    assert len(again) == counted == len(sent) - 1 > 0
    assert sent[0].outcome is Outcome.DROPPED
    (family,) = [f for f in families(lambda: trace.journeys) if f[0][1].id == sent[0].id]
    assert [j.id for _, j in family] == [j.id for j in sent]  # a tree
    arrived = [j for j in sent if any(h.function == "tcp_v4_do_rcv" for h in j.hops)]
    assert arrived == sent[-1:]
    assert {told(h) for j in sent for h in j.hops if h.function == "nft_do_chain"} >= {
        "nft_do_chain ipv4 lossy/in DROP rule 2 c2/eth0"
    }


def test_sockets_of_a_connection(stage: Stage) -> None:
    """Row 16."""
    for title, where in (("SYN: ", "c2"), ("SYN-ACK", "c1"), ("data", "c2"), ("FIN", "c2")):
        (path,) = [p for p in PATHS if p.row == 16 and p.title.startswith(title)][:1]
        sockets = [h.socket for h in find(stage.capture("docker0"), path).hops if h.socket]
        assert {(s.netns.name, s.type, s.proto) for s in sockets} == {(where, "stream", "tcp")}
