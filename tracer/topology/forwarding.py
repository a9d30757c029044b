# SPDX-License-Identifier: GPL-2.0-only
"""IPv4 forwarding of the namespace the calling thread is in: switched, and put back as it was.

The switch, ip_forward, is one of many settings that it sets: when its value changes, the kernel
gives every device and the default of later ones the same, and turns all/accept_redirects around
(inet_forward_change in net/ipv4/devinet.c). So all of them are read before. One thing it does is
not put back: a device that merges what it receives (LRO) stops doing so.

This module knows no lab.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_SWITCH = Path("/proc/sys/net/ipv4/ip_forward")
_CONF = Path("/proc/sys/net/ipv4/conf")
_REDIRECTS = "all/accept_redirects"
_DEFAULT = "default/forwarding"
_DEVICES = "*/forwarding"


def settings() -> dict[str, str]:
    """Return what switching it on would change: path below conf → value. Raises OSError.

    Nothing where it is on already.
    """
    if _SWITCH.read_text() != "0\n":
        return {}
    paths = [_CONF / _REDIRECTS, *_CONF.glob(_DEVICES)]
    found = {}
    for path in paths:
        with suppress(FileNotFoundError):  # its device went
            found[str(path.relative_to(_CONF))] = path.read_text().strip()
    return found


def is_open(before: Mapping[str, str]) -> bool:
    """Whether, by these settings, some device forwarded without the switch, or it was on."""
    return not before or any(before[name] != "0" for name in before if name != _REDIRECTS)


def switch(*, on: bool) -> None:
    """Forward, or do not. Raises OSError."""
    _SWITCH.write_text("1" if on else "0")


def put_back(before: Mapping[str, str]) -> None:
    """Make the settings what they were. Nothing if there are none. Raises OSError.

    A device that came since has what one that comes later will have.
    """
    if not before:
        return
    if _SWITCH.read_text() != "0\n":
        _SWITCH.write_text("0")
    for path in [_CONF / _REDIRECTS, *_CONF.glob(_DEVICES)]:
        value = before.get(str(path.relative_to(_CONF)), before.get(_DEFAULT))
        with suppress(FileNotFoundError):
            if value is not None and path.read_text().strip() != value:
                path.write_text(value)
