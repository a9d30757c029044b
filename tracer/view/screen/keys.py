# SPDX-License-Identifier: GPL-2.0-only
"""The keys: the only table of what can be pressed, what it does, and what it is called."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """A key, or some that do the same."""

    keys: str
    """As Textual names them, with commas between."""
    action: str
    """The method of the view, without ``action_``."""
    shown: str
    """As a person reads it."""
    text: str
    """What it does, for the help."""
    brief: str = ""
    """For the line of keys; empty if there is no room for it there."""


KEYS: tuple[Key, ...] = (
    Key("question_mark", "help", "?", "this help", "help"),
    Key("j,down", "move(1)", "j Down", "the next journey; in the detail, the next hop"),
    Key("k,up", "move(-1)", "k Up", "the one before"),
    Key("pagedown,ctrl+f", "page(1)", "PgDn", "a page on"),
    Key("pageup,ctrl+b", "page(-1)", "PgUp", "a page back"),
    Key("g,home", "first", "g Home", "the first"),
    Key("G,end", "last", "G End", "the last"),
    Key("enter", "enter", "Enter", "into the detail; of a flow or drop: its journeys", "detail"),
    Key("tab", "other_pane", "Tab", "between list and detail"),
    Key("escape", "leave", "Esc", "back: the page, the detail, the filter"),
    Key("slash", "filter", "/", "filter the list, with an expression of pcap-filter(7)", "filter"),
    Key("K", "to_kernel", "K", "hand the filter to the kernel: it alone is traced from then on"),
    Key("d", "drops", "d", "drops only", "drops"),
    Key("a", "flows", "a", "by flow: counts, rates, latencies", "flows"),
    Key("l", "steps", "l", "by step: how long it is from one function to the next", "latency"),
    Key("x", "places", "x", "drops by reason and place"),
    Key("p", "freeze", "p", "freeze what is shown; the capture goes on", "freeze"),
    Key("F,f", "follow", "F", "follow: always choose the latest", "follow"),
    Key("s", "scale", "s", "the scale: in proportion to time, or every step alike", "scale"),
    Key("o", "map", "o", "the topology's map, with the way of the chosen packet", "map"),
    Key("i", "explain", "i", "explain the function of the chosen hop"),
    Key("b", "branch", "b", "go to the branch that leaves at the chosen hop, or to the parent"),
    Key("m", "mark", "m", "mark the chosen journey; two can be compared"),
    Key("c", "compare", "c", "compare the two marked ones, or the marked with the chosen one"),
    Key("e", "export", "e", "write the chosen journey, with its branches, as a trace", "export"),
    Key("w", "write", "w", "write all that are listed as a trace"),
    Key("y", "copy", "y", "copy the chosen journey as text"),
    Key("left_square_bracket", "scrub(-0.01)", "[", "one hundredth of the time back"),
    Key("right_square_bracket", "scrub(0.01)", "]", "one hundredth of the time on"),
    Key("left_curly_bracket", "scrub(-0.1)", "{", "a tenth of the time back"),
    Key("right_curly_bracket", "scrub(0.1)", "}", "a tenth of the time on"),
    Key("space", "play", "Space", "replay a trace as fast as it was; again: stop"),
    Key("ctrl+z", "suspend_process", "Ctrl-Z", "suspend"),
    Key("q,ctrl+c", "quit", "q Ctrl-C", "quit; again: without reading what waits", "quit"),
)
