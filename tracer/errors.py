# SPDX-License-Identifier: GPL-2.0-only
"""Errors a person may meet. Each says what failed and, as its hint, what to type next.

The command line turns them into one sentence and an exit code (``cli``'s error boundary);
nothing below ``cli`` prints or exits. This module knows nothing of the rest of the house.
"""

from __future__ import annotations

FAILURE = 1
USAGE = 2
PREREQUISITE = 3
UNEXPECTED = 4
"""Nothing failed, but what was looked at is not as it should be: broken promises, differences."""
COMMAND_NOT_STARTED = 125


class SkbtraceError(Exception):
    """Something went wrong that a person can understand.

    ``hint`` is the next command to type, or ``None``; ``exit_code`` is the process's status.
    """

    exit_code = FAILURE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SkbtraceError):
    """The command line asks for something that cannot be meant."""

    exit_code = USAGE


class PrerequisiteError(SkbtraceError):
    """This host lacks something tracing needs: root, bcc, BTF, kprobes."""

    exit_code = PREREQUISITE


class DecodeError(SkbtraceError):
    """Bytes from the kernel are not a record of the wire format."""


class TraceFileError(SkbtraceError):
    """A trace file cannot be read or written."""


class TopologyError(SkbtraceError):
    """A bridge, namespace or lab is not what was asked for."""


class CommandError(SkbtraceError):
    """The COMMAND behind ``--`` could not be started."""

    exit_code = COMMAND_NOT_STARTED
