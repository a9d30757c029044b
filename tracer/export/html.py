# SPDX-License-Identifier: GPL-2.0-only
"""A trace as one HTML file: the report that a browser opens from disk, with nothing from outside.

What is in it is foreign: names of devices and processes may be written to harm who reads them.
They stand only in a JSON data block, in which no character can end it, and ``report.js`` makes
text nodes of them. Should that fail, a content policy lets the browser run the one script and the
one style sheet of this package, whose hashes it names, load nothing and speak to nobody.

All journeys are counted; some thousand at most are listed (``shown`` says which ones and why), so
that neither the memory of this program nor the browser's grows with the trace.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from string import Template

from tracer.export.formats import Exported
from tracer.export.report import report

_ESCAPED = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&"})
"""What could end the data block or begin another one. In JSON they occur in texts only."""


def html(trace: Exported) -> Iterator[bytes]:
    """Give the report's pieces, once the trace was gone through."""
    found, journeys = report(trace)
    style, script = _asset("report.css"), _asset("report.js")
    before, after = (Template(part) for part in _asset("report.html").split("$data"))
    title = escape(f"{found['capture']['name']} - skbtrace")
    yield before.substitute(policy=policy(style, script), title=title, style=style).encode()
    yield f'{{"report":{_json(found)},"journeys":['.encode()
    for number, journey in enumerate(journeys):
        yield f"{',' if number else ''}\n{_json(journey)}".encode()
    yield b"]}"
    yield after.substitute(script=script).encode()


def policy(style: str, script: str) -> str:
    """Return the content policy of a page with this style sheet and this script."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
            # A browser that knows these also refuses to make markup of text.
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return files("tracer.export").joinpath(name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    # All beyond ASCII is escaped by json itself, line separators and lone surrogates among it.
    return json.dumps(value, separators=(",", ":")).translate(_ESCAPED)
