# SPDX-License-Identifier: GPL-2.0-only
"""Run a command in a guest: `python3 -m tests.vm run --kernel 6.1 -- uname -a`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.vm import kernels, peer
from tests.vm.guest import DEFAULT_MEMORY_MIB, DEFAULT_TIMEOUT_S, Guest
from tests.vm.kernels import KERNELS, KernelError
from tests.vm.lost import GuestLost, GuestTimedOut
from tests.vm.qemu import NICS

# The meanings of sysexits.h, where it has one: unavailable, and internal software error.
EXIT_UNAVAILABLE = 69
EXIT_LOST = 70
EXIT_TIMED_OUT = 71


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        status: int = options.act(options)
        return status
    except GuestLost as lost:
        _say(lost)
        return EXIT_TIMED_OUT if isinstance(lost, GuestTimedOut) else EXIT_LOST
    except (KernelError, peer.PeerError) as error:
        print(f"tests.vm: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Nobody reads what the command writes. Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(options: argparse.Namespace) -> int:
    return Guest(
        options.kernel,
        memory_mib=options.memory,
        append=" ".join(options.append),
        devices=[
            *(NICS if options.nics else ()),
            *(word for words in options.qemu for word in shlex.split(words)),
        ],
    ).run(
        options.command,
        out=options.out,
        timeout_s=options.timeout,
        env=dict(options.env),
        tty=options.tty,
    )


def _fetch(options: argparse.Namespace) -> int:
    for alias in options.kernel or KERNELS:
        kernel = kernels.obtain(alias, update=options.update)
        print(f"{alias}: {kernel.release} in {kernel.tree}")
    if not options.kernel:
        for each in peer.PEERS:
            print(f"{each.name}: {each.obtain()}")
    return 0


def _list(_options: argparse.Namespace) -> int:
    for alias in KERNELS:
        kernel = kernels.cached(alias)
        print(f"{alias}: {kernel.release if kernel else 'not fetched'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.vm", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="boot a kernel and run a command in it")
    run.add_argument("--kernel", choices=KERNELS, required=True, help="which kernel")
    run.add_argument("--out", type=Path, metavar="DIR", help="a folder the command may write to")
    run.add_argument("--tty", action="store_true", help="lend the command this terminal")
    run.add_argument("--env", type=_assignment, action="append", default=[], metavar="K=V")
    run.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S")
    run.add_argument("--memory", type=int, default=DEFAULT_MEMORY_MIB, metavar="MIB")
    run.add_argument("--append", action="append", default=[], help="more kernel arguments")
    run.add_argument("--qemu", action="append", default=[], help="more QEMU arguments")
    run.add_argument("--nics", action="store_true", help="two network cards on one wire")
    run.add_argument("command", nargs="+", metavar="-- COMMAND [ARGUMENT …]")
    run.set_defaults(act=_run)

    fetch = commands.add_parser("fetch", help="put kernels into the cache")
    fetch.add_argument("--kernel", choices=KERNELS, action="append", help="which (default: all)")
    fetch.add_argument("--update", action="store_true", help="ask the mirror for newer ones")
    fetch.set_defaults(act=_fetch)

    show = commands.add_parser("list", help="show which kernels are in the cache")
    show.set_defaults(act=_list)
    return parser


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return key, value


def _say(lost: GuestLost) -> None:
    if lost.console:
        print(f"--- the last of the console of {lost.kernel}", file=sys.stderr)
        print(lost.console, file=sys.stderr)
        print("---", file=sys.stderr)
    print(f"tests.vm: {lost}", file=sys.stderr)


def _interrupted(number: int, _frame: FrameType | None) -> None:
    # Unwinding ends QEMU, restores the terminal and removes the temporary folders.
    # A second signal must not unwind the unwinding.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
