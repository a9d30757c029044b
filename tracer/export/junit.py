# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts on promises as a JUnit XML report, which CI systems show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

from tracer.promise import Breach, Verdict


def junit(verdicts: Sequence[Verdict], name: str, words: Callable[[Breach], str]) -> bytes:
    """Return the report; ``words`` tells a breach, ``name`` is the suite's: the trace's."""
    broken = sum(not verdict.kept for verdict in verdicts)
    suite = ET.Element(
        "testsuite",
        name=f"skbtrace expect {name}",
        tests=str(len(verdicts)),
        failures=str(broken),
        errors="0",
        skipped="0",
    )
    for verdict in verdicts:
        case = ET.SubElement(suite, "testcase", classname="skbtrace", name=verdict.promise.name)
        for breach in verdict.breaches:
            message = f"expected {breach.expected}; seen: {breach.seen}"
            ET.SubElement(case, "failure", message=message).text = words(breach)
    whole = ET.Element("testsuites")
    whole.append(suite)
    return bytes(ET.tostring(whole, encoding="utf-8", xml_declaration=True)) + b"\n"
