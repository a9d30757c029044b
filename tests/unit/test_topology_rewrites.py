# SPDX-License-Identifier: GPL-2.0-only
"""Rules that change addresses, from what iptables 1.8.9 and nft 1.0.6 really print."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.model import Netns, Rewrite
from tracer.topology import rewrites
from tracer.topology.rewrites import of_iptables, of_nft

HOST = Netns(1, "host")
PRINTED = Path(__file__).parent / "rules"
NFT, LEGACY, LISTED = (
    (PRINTED / name).read_text(encoding="utf-8")
    for name in ("iptables-nft.txt", "iptables-legacy.txt", "nft.json")
)
DOCKERS = "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8088 -j DNAT --to-destination 172.17.0.2:80"
PUBLISHED = Rewrite(
    HOST,
    "PRE_ROUTING",
    "dnat",
    "172.17.0.2:80",
    proto="tcp",
    dport="8088",
    iifname="!docker0",
    rule=f"-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER; {DOCKERS}",
)
MASQUERADED = Rewrite(
    HOST,
    "POST_ROUTING",
    "masquerade",
    src="172.17.0.0/16",
    oifname="!docker0",
    rule="-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
)


def without_rule(found: list[Rewrite]) -> list[Rewrite]:
    return [rewrite._replace(rule="") for rewrite in found]


def test_dockers_own_rules() -> None:
    jump = "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER"
    found = of_iptables(NFT, HOST)
    assert found[:3] == [
        PUBLISHED,
        PUBLISHED._replace(hook="LOCAL_OUT", dst="!127.0.0.0/8", rule=f"{jump}; {DOCKERS}"),
        MASQUERADED,
    ]
    assert without_rule(found[3:]) == [
        Rewrite(
            *(HOST, "POST_ROUTING", "masquerade", None),
            proto="tcp",
            src="172.17.0.2",
            dst="172.17.0.2",
            dport="80",
        )
    ]


def test_both_kinds_of_iptables_print_alike() -> None:
    assert set(of_iptables(NFT, HOST)) <= set(of_iptables(LEGACY, HOST))


def test_redirect_ranges_snat_and_what_is_not_understood() -> None:
    found = [r for r in of_iptables(LEGACY, HOST) if r not in of_iptables(NFT, HOST)]
    assert without_rule(found) == [
        Rewrite(HOST, "PRE_ROUTING", "redirect", ":5353", proto="udp", dport="53"),
        Rewrite(
            *(HOST, "PRE_ROUTING", "dnat", "192.168.0.2"),
            proto="tcp",
            dst="203.0.113.1",
            dport="8000-8010",
        ),
        Rewrite(
            *(HOST, "POST_ROUTING", "snat", "203.0.113.1"),
            src="192.168.0.0/24",
            oifname="uplink",
        ),
        Rewrite(HOST, "POST_ROUTING", "masquerade", proto="!tcp"),
    ]
    assert "--mark 0x7" in found[-1].rule


def test_native_chains_of_nft() -> None:
    router = {"iifname": "uplink", "proto": "tcp", "dport": "8088"}
    other = {"proto": "udp", "dst": "!10.0.0.0/8"}
    found = of_nft(LISTED, HOST)
    assert without_rule(found) == [
        Rewrite(HOST, "PRE_ROUTING", "dnat", "192.168.0.2:80", **router),
        Rewrite(HOST, "PRE_ROUTING", "redirect", ":53", **other, dport="53"),
        Rewrite(HOST, "PRE_ROUTING", "redirect", ":53", **other, dport="5353"),
        Rewrite(HOST, "PRE_ROUTING", "dnat", proto="tcp", dport="8000-8010"),
        Rewrite(HOST, "PRE_ROUTING", "redirect", src="10.1.0.0/16"),
        Rewrite(HOST, "PRE_ROUTING", "redirect", src="10.2.0.1"),
        Rewrite(HOST, "POST_ROUTING", "masquerade", src="192.168.0.0/24", oifname="uplink"),
        Rewrite(
            *(HOST, "POST_ROUTING", "snat", "1.2.3.4:100-200"),
            proto="tcp",
            dst="10.1.0.0/16",
            oifname="lo",
        ),
        Rewrite(HOST, "POST_ROUTING", "masquerade", src="fd00::/64"),
        Rewrite(HOST, "PRE_ROUTING", "dnat", "[fd00::2]:8080", proto="tcp", dport="80"),
    ]
    assert found[0].rule == 'iifname "uplink" tcp dport 8088 dnat to 192.168.0.2:80'
    assert found[1].rule == (
        "udp dport { 53, 5353 } jump OTHER; meta l4proto udp ip daddr != 10.0.0.0/8 redirect to :53"
    )
    assert "192.168.0.3" in found[3].rule  # a map: where it leads depends on the port
    assert '"mark"' in found[4].rule


def test_rules_of_iptables_are_not_told_twice() -> None:
    assert "xt" in LISTED
    assert not any(r.to == "172.17.0.2:80" for r in of_nft(LISTED, HOST))


def test_a_chain_that_leads_to_itself_ends() -> None:
    loop = "-A PREROUTING -j A\n-A A -j A\n-A A -p tcp -j REDIRECT --to-ports 1\n"
    found = of_iptables(loop, HOST)
    assert 0 < len(found) < 100
    assert {rewrite.to for rewrite in found} == {":1"}


@pytest.mark.parametrize(
    "line",
    ["-A POSTROUTING", '-A POSTROUTING -s "', "-A POSTROUTING -s", "-A POSTROUTING -j", "*nat"],
)
def test_a_line_that_is_cut_off_costs_that_line_only(line: str) -> None:
    assert of_iptables(f"{line}\n{NFT}", HOST) == of_iptables(NFT, HOST)


@given(st.text())
def test_anything_printed_gives_rules_or_none(printed: str) -> None:
    assert of_iptables(printed, HOST) == []
    assert of_nft(printed, HOST) == []


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["match", "left", "right", "op", "dnat", "addr", "set", "jump"]),
            inner,
            max_size=3,
        )
    ),
)


@given(st.lists(_anything, max_size=3))
def test_a_rule_of_anything_raises_nothing(expressions: list[object]) -> None:
    chain = {"family": "ip", "table": "t", "name": "c", "type": "nat", "hook": "output"}
    rule = {"family": "ip", "table": "t", "chain": "c", "expr": expressions}
    listed = json.dumps({"nftables": [{"chain": chain}, {"rule": rule}]})
    for rewrite in of_nft(listed, HOST):
        assert rewrite.rule.isprintable()


def test_names_that_would_reach_the_terminal_are_made_safe() -> None:
    saved = '-A POSTROUTING -o "v\x1b[31mx" -m comment --comment "\x1b[2J" -j MASQUERADE'
    (found,) = of_iptables(saved, HOST)
    assert found.oifname == r"v\x1b[31mx"
    assert "\x1b" not in found.rule


@pytest.mark.parametrize("body", ["sleep 60", "echo '-A POSTROUTING -j MASQUERADE'; exit 1"])
def test_a_program_that_hangs_or_fails_costs_its_rules_only(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(rewrites, "TIMEOUT_S", 0.2)
    assert rewrites._run("nft") == ""
    assert rewrites._run("no-such-program") == ""
