# SPDX-License-Identifier: GPL-2.0-only
"""What each way of being called costs by itself: programs that do nothing, at the same functions.

kprobe and kretprobe work everywhere. fentry and fexit need the kernel's type information for the
function: not for what is in a module on 5.10, nor for what the compiler has cloned. A raw
tracepoint is where the kernel's authors have put one. Runs in the guest; writes
$SKBTRACE_OUT/mechanisms.json.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.bench.guest import CLIENT, SERVER_IP, floods, say
from tracer.kernel.bcc import load_bcc
from tracer.kernel.compiler import SOURCE
from tracer.topology.build import standing
from tracer.topology.spec import LABS

FLOODS, REQUESTS, ROUNDS = 2, 2000, 3
FUNCTIONS = (
    "__dev_forward_skb",
    "icmp_rcv",
    "nf_hook_slow",
    "__dev_queue_xmit",
    "ip_local_deliver",
)
"""On the way of an echo request and its reply, none of them in a module."""
TRACEPOINTS = ("net_dev_start_xmit", "net_dev_xmit", "netif_receive_skb", "napi_poll", "kfree_skb")
COUNT = "BPF_PERCPU_ARRAY(hits, u64, 1);"
EMPTY = "{ int zero = 0; u64 *n = hits.lookup(&zero); if (n) *n += 1; return 0; }"


def _kprobe(bpf: Any) -> None:
    for function in FUNCTIONS:
        bpf.attach_kprobe(event=function.encode(), fn_name=b"count")


def _kretprobe(bpf: Any) -> None:
    for function in FUNCTIONS:
        bpf.attach_kretprobe(event=function.encode(), fn_name=b"count")


def _nothing(_: Any) -> None:
    """bcc attaches these by itself."""


MECHANISMS: Mapping[str, tuple[str, Callable[[Any], None]]] = {
    "kprobe": (f"int count(void *ctx) {EMPTY}", _kprobe),
    "fentry": (" ".join(f"KFUNC_PROBE({f}) {EMPTY}" for f in FUNCTIONS), _nothing),
    "kretprobe": (f"int count(void *ctx) {EMPTY}", _kretprobe),
    "fexit": (" ".join(f"KRETFUNC_PROBE({f}) {EMPTY}" for f in FUNCTIONS), _nothing),
    "raw tracepoint": (
        " ".join(f"RAW_TRACEPOINT_PROBE({t}) {EMPTY}" for t in TRACEPOINTS),
        _nothing,
    ),
}


def measured(name: str) -> dict[str, Any]:
    """The floods' least round trip in us, and hits for each round trip."""
    bcc = load_bcc()
    text, attach = MECHANISMS[name]
    os.environ["BCC_KERNEL_SOURCE"] = str(SOURCE / "stubs")
    flags = [f"-I{SOURCE}", "-Wno-macro-redefined"]
    bpf = bcc.BPF(text=f"{COUNT}\n{text}".encode(), cflags=flags)
    try:
        attach(bpf)
        before = sum(bpf[b"hits"][0])
        figures = floods(FLOODS, REQUESTS)
        hits = sum(bpf[b"hits"][0]) - before
    finally:
        bpf.cleanup()
    return {"us": 1000 * figures["minimum"], "hits": hits / (FLOODS * REQUESTS)}


def main() -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    with standing(LABS["docker0"]):
        ping = ["ip", "netns", "exec", CLIENT, "ping", "-q", "-c", "1", SERVER_IP]
        subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
        for number in range(ROUNDS):
            untraced = {"us": 1000 * floods(FLOODS, REQUESTS)["minimum"], "hits": 0.0}
            runs.setdefault("untraced", []).append(untraced)
            for name in MECHANISMS:
                say(f"{name}, {number + 1} of {ROUNDS}")
                try:
                    runs.setdefault(name, []).append(measured(name))
                except Exception as error:  # bcc raises bare Exceptions
                    say(f"{name}: {error}")
    Path(os.environ["SKBTRACE_OUT"], "mechanisms.json").write_text(json.dumps(runs, indent=1))


def rows(runs: dict[str, list[dict[str, Any]]]) -> list[tuple[bool, str, str, str]]:
    """Rows: good, what, the figure, no bar."""
    base = min(run["us"] for run in runs["untraced"])
    found = [(True, "round trip, least: untraced", f"{base:.1f} us", "")]
    for name in MECHANISMS:
        if not runs.get(name):
            found.append((True, f"added by one {name}", "not on this kernel", ""))
            continue
        least = min(run["us"] for run in runs[name])
        hits = runs[name][0]["hits"]
        words = f"{1000 * (least - base) / hits:.0f} ns ({least - base:.1f} us for {hits:.1f})"
        found.append((True, f"added by one {name}", words, ""))
    return found


if __name__ == "__main__":
    main()
