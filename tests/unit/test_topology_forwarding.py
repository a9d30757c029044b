# SPDX-License-Identifier: GPL-2.0-only
"""Forwarding: what is read before it is switched on. That it is put back: tests/kernel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tracer.topology import forwarding

CLOSED = {"all/accept_redirects": "1", "all/forwarding": "0", "lo/forwarding": "0"}


@pytest.mark.parametrize(
    ("before", "is_open"),
    [
        ({}, True),  # the switch was on
        (CLOSED, False),
        (CLOSED | {"tun0/forwarding": "1"}, True),
        (CLOSED | {"default/forwarding": "1"}, True),
    ],
)
def test_whether_somebody_forwarded(before: Mapping[str, str], is_open: bool) -> None:
    assert forwarding.is_open(before) is is_open


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in CLOSED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    (tmp_path / "ip_forward").write_text("0\n")
    monkeypatch.setattr(forwarding, "_CONF", tmp_path)
    monkeypatch.setattr(forwarding, "_SWITCH", tmp_path / "ip_forward")
    return tmp_path


def test_what_is_read_is_all_that_changes_and_nothing_where_nothing_does(conf: Path) -> None:
    assert forwarding.settings() == CLOSED
    (conf / "ip_forward").write_text("1\n")
    assert forwarding.settings() == {}


def test_no_path_is_written_because_a_record_names_it(conf: Path) -> None:
    (conf / "secret").write_text("mine")
    forwarding.put_back(CLOSED | {"secret": "0", "../secret": "0", "gone/forwarding": "1"})
    assert (conf / "secret").read_text() == "mine"
    assert {path.name for path in conf.iterdir()} == {"all", "lo", "ip_forward", "secret"}
