# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts on promises as a JUnit XML report, which CI systems show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

from tracer.promise import Breach, Verdict

WHOLE = "the trace is whole"


def junit(
    verdicts: Sequence[Verdict],
    name: str,
    words: Callable[[Breach], str],
    wrong: str | None = None,
) -> bytes:
    """Return the report; ``words`` tells a breach, ``name`` is the suite's: the trace's.

    ``wrong``: what is wrong with the trace, so that the verdicts are not on all of it.
    """
    broken = sum(not verdict.kept for verdict in verdicts)
    suite = ET.Element(
        "testsuite",
        name=f"skbtrace expect {name}",
        tests=str(len(verdicts) + (wrong is not None)),
        failures=str(broken),
        errors=str(int(wrong is not None)),
        skipped="0",
    )
    for verdict in verdicts:
        case = ET.SubElement(suite, "testcase", classname="skbtrace", name=verdict.promise.name)
        for breach in verdict.breaches:
            message = f"expected {breach.expected}; seen: {breach.seen}"
            ET.SubElement(case, "failure", message=message).text = words(breach)
    if wrong is not None:
        case = ET.SubElement(suite, "testcase", classname="skbtrace", name=WHOLE)
        ET.SubElement(case, "error", message=wrong)
    whole = ET.Element("testsuites")
    whole.append(suite)
    return bytes(ET.tostring(whole, encoding="utf-8", xml_declaration=True)) + b"\n"
