# SPDX-License-Identifier: GPL-2.0-only
"""What is not chosen is not there: no probe of it, and so no cost, by the kernel's own list."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.conftest import KERNEL, Trace, sh, skbtrace
from tests.kernel.host import PROBED, probed
from tracer.probes import LAYERS, PROBES, Attach, chosen

pytestmark = [pytest.mark.kernel, pytest.mark.once, pytest.mark.usefixtures("lab")]


def with_probes(folder: Path, layers: str) -> tuple[set[str], Trace]:
    """The functions with a probe on them while skbtrace runs, as the kernel lists them."""
    trace, kept = folder / "trace.json", folder / "probed"
    skbtrace(
        *("--topology", "docker0", "-q", "-f", "-w", str(trace), "--layers", layers),
        *("--", "cp", str(PROBED), str(kept)),
    )
    return probed(kept), Trace(trace)


def functions(layers: str) -> set[str]:
    """What has a probe on this kernel, with the modules that are loaded."""
    table = [PROBES[i] for i in chosen(LAYERS if layers == "all" else ())]
    return {
        p.function
        for p in table
        if p.attach is not Attach.RAW_TRACEPOINT
        and (p.module is None or Path("/sys/module", p.module).exists())
        and (p.since is None or tuple(map(int, p.since.split("."))) <= KERNEL)
    }


def at_tracepoints(trace: Trace) -> set[str]:
    """What is called where its tracepoint is, which is not on the kernel's list of functions."""
    tracepoints = {p.function: p.tracepoint for p in PROBES if p.tracepoint is not None}
    places = trace.capture.probes
    return {p.function for p in places if p.symbol and p.symbol == tracepoints.get(p.function)}


def test_a_layer_that_is_not_chosen_has_no_probe(tmp_path: Path) -> None:
    there, trace = with_probes(tmp_path, "none")
    assert there == functions("none") - at_tracepoints(trace)
    assert set(trace.capture.attached) == functions("none") | {"kfree_skb"}


def test_a_layer_that_is_chosen_has_all_its_probes_that_this_kernel_can_have(
    tmp_path: Path,
) -> None:
    sh("modprobe -a nf_tables nft_compat ip_tables ip6_tables nft_reject_ipv4 nft_reject_inet")
    there, trace = with_probes(tmp_path, "all")
    renamed = {
        place.symbol: place.function for place in trace.capture.probes if place.symbol is not None
    }
    assert trace.capture.missing == ()
    assert {renamed.get(symbol, symbol) for symbol in there} == functions("all") - at_tracepoints(
        trace
    )


def test_a_layer_that_does_not_exist_is_refused() -> None:
    done = skbtrace("--topology", "docker0", "--layers", "ip,wings", status=2)
    assert "there is no layer wings (there are: device, bridge," in done.stderr
