# SPDX-License-Identifier: GPL-2.0-only
"""What a guest is to do: the files that its /init finds in /job."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.vm.kernels import Kernel
from tracer.kernel.compiler import ELSEWHERE


def job(
    kernel: Kernel,
    command: Sequence[str],
    *,
    folder: Path,
    out: Path,
    env: Mapping[str, str],
    size: tuple[int, int] | None,
) -> dict[str, str]:
    """The files of a job. `size` is the terminal's, for a command that gets one."""
    if not command:
        raise ValueError("a guest needs a command")
    rows, columns = size or (0, 0)
    return {
        "settings": _settings(
            {
                "RELEASE": kernel.release,
                "MODULES": str(kernel.modules),
                "NAME": f"guest-{kernel.alias}",
                "OUT": str(out),
                "FOLDER": str(folder),
                "TTY": "1" if size else "0",
                "ROWS": str(rows),
                "COLUMNS": str(columns),
            }
        ),
        "command": _script(command, folder, _environment(os.environ, out, env, bool(size))),
    }


def _settings(values: Mapping[str, str]) -> str:
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())


def _script(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """A shell script that becomes the command."""
    words = [f"{key}={value}" for key, value in environment.items()] + list(command)
    # env(1) by its path, because busybox's shell takes its own applets for programs of the host.
    return f"cd {shlex.quote(str(folder))} || exit 1\nexec /usr/bin/env -i {shlex.join(words)}\n"


def _environment(
    host: Mapping[str, str], out: Path, more: Mapping[str, str], tty: bool
) -> dict[str, str]:
    """The command's environment: what it needs, and only what is meant for it of the host's."""
    path = host.get("PATH", os.defpath).split(":")
    path += [folder for folder in ("/usr/local/sbin", "/usr/sbin", "/sbin") if folder not in path]
    passed = {"CI", *(("COLORTERM", "NO_COLOR") if tty else ())}
    return {
        "PATH": ":".join(path),
        "HOME": host.get("HOME", "/root"),
        "TERM": host.get("TERM", "linux") if tty else "dumb",
        "LANG": "C.UTF-8",
        ELSEWHERE: "/run/skbtrace/bin/busybox sh /run/skbtrace/init compile",
        **{k: v for k, v in host.items() if k in passed or k.startswith("SKBTRACE_")},
        **more,
        "SKBTRACE_OUT": str(out),
    }
