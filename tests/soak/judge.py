# SPDX-License-Identifier: GPL-2.0-only
"""What a soak has measured → rows of a table: is it good, what, the figure, the bar."""

from __future__ import annotations

from statistics import median_low
from typing import Any

GROWTH_KB = 4096
"""What the allocator may keep for the largest burst so far."""

Row = tuple[bool, str, str, str]


def rows(figures: dict[str, Any]) -> list[Row]:
    """Rows for one kernel. What waits and what is remembered grow to their bounds in the first two
    fifths of the samples. Medians, for who looks into a namespace has some descriptors meanwhile.
    """
    samples = figures["samples"]
    fifth = max(len(samples) // 5, 1)
    settled, last = samples[2 * fifth : 3 * fifth] or samples, samples[-fifth:]
    kb, open_files = (
        [median_low(sample[what] for sample in some) for some in (settled, last)]
        for what in ("kb", "files")
    )
    footer = figures["footer"]
    lost = footer["lost"]
    sent = figures["requests"]
    seen = footer["counted"]["hits"]["icmp_rcv"]
    ended = sum(each["packets"] for each in footer["counted"]["ended"])
    unfinished = footer["outcomes"].get("unfinished", 0)
    told = figures["journeys"] - unfinished + lost["ring_full"] + lost["hop_limit"]
    return [
        (True, "kernel, CPUs", f"{figures['kernel']}, {figures['cpus']}", ""),
        (True, "s, containers that came and went", f"{figures['s']:.0f}, {figures['came']}", ""),
        (figures["status"] == 0, "the tracer's exit status", f"{figures['status']}", "0"),
        (
            figures["journeys"] == footer["journeys"],
            "journeys written and read",
            f"{footer['journeys']}, {figures['journeys']}",
            "equal",
        ),
        (
            2 * sent <= seen + lost["probe_missed"] <= 2 * sent + figures["late"],
            "echo requests answered; hits of icmp_rcv, missed",
            f"{sent}; {seen}, {lost['probe_missed']}",
            "twice",
        ),
        (
            told == ended,
            "ended, counted in the kernel; journeys and lost ones",
            f"{ended}; {told}",
            "equal",
        ),
        (True, "losses", ", ".join(f"{k} {v}" for k, v in lost.items() if v) or "none", ""),
        (
            kb[1] <= kb[0] + GROWTH_KB,
            "tracer, resident: early, late, kB",
            f"{kb[0]}, {kb[1]}",
            f"<= {kb[0] + GROWTH_KB}",
        ),
        (
            open_files[1] <= open_files[0],
            "descriptors: early, late",
            f"{open_files[0]}, {open_files[1]}",
            f"<= {open_files[0]}",
        ),
        (not figures["left"], "left behind", ", ".join(figures["left"]) or "nothing", "nothing"),
        (
            not figures["complaints"],
            "complaints in the kernel log",
            figures["complaints"][0] if figures["complaints"] else "none",
            "none",
        ),
    ]
