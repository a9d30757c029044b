# SPDX-License-Identifier: GPL-2.0-only
"""What happens when a guest does not live to report how its command ended."""

from __future__ import annotations


class GuestLost(Exception):  # noqa: N818 - being lost is a fact about a guest
    """A guest ended without reporting how the command ended. This is not a failed command."""

    def __init__(self, kernel: str, why: str, console: str) -> None:
        super().__init__(f"guest {kernel} lost: {why}")
        self.kernel = kernel
        """The alias of the kernel that ran in it."""
        self.why = why
        self.console = console
        """The last lines of its console."""


class GuestTimedOut(GuestLost):
    """The command had not ended when its time was up, and the guest was ended."""
