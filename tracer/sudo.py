# SPDX-License-Identifier: GPL-2.0-only
"""Who typed ``sudo``: what a person names, a file or COMMAND, is opened and run as that person.

This module knows nothing of what is opened or run.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import NamedTuple

_OF_SUDO = frozenset({"SUDO_COMMAND", "SUDO_GID", "SUDO_HOME", "SUDO_TTY", "SUDO_UID", "SUDO_USER"})
"""What sudo puts into the environment, see sudo(8)."""


class User(NamedTuple):
    """A user of this host, with what a login would give."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """All, ``gid`` among them."""
    name: str
    home: str
    shell: str

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return ``environ``, which sudo made, as this user's: no word of sudo is left in it."""
        own = {"HOME": self.home, "LOGNAME": self.name, "SHELL": self.shell, "USER": self.name}
        return {name: value for name, value in environ.items() if name not in _OF_SUDO} | own


def user_behind_sudo(environ: Mapping[str, str]) -> User | None:
    """Return the person who typed ``sudo``, or None if this process is that person.

    A user without an entry in the password file has one group and the home ``/``.
    """
    if os.geteuid() != 0:
        return None
    try:
        uid, gid = int(environ["SUDO_UID"]), int(environ["SUDO_GID"])
    except (KeyError, ValueError):
        return None
    if uid <= 0:
        return None
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return User(uid, gid, (gid,), str(uid), "/", "/bin/sh")
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return User(uid, gid, groups, entry.pw_name, entry.pw_dir, entry.pw_shell or "/bin/sh")
