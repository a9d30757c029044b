# SPDX-License-Identifier: GPL-2.0-only
"""``skbtrace doctor``: whether this host can trace, and what to type where it cannot."""

from __future__ import annotations

import click

from tracer.errors import PREREQUISITE, SkbtraceError


@click.command(epilog="Example: sudo skbtrace doctor")
def doctor() -> int:
    """Check what tracing needs: root, bcc, kprobes, BTF, lockdown, the probes' functions.

    With everything there, the kernel program is compiled for this kernel and every probe is
    attached and removed again: by a kprobe or, where it says so, by fentry, fexit or tp_btf,
    which cost less.
    """
    from tracer.kernel.host import checks

    good = True
    for check in checks():
        good &= check.good
        _line(check.good, check.name, check.found, None if check.good else check.fix)
    if not good:
        return PREREQUISITE
    from tracer.kernel.source import KernelSource

    source = KernelSource(scope={})
    try:
        places = source.start()
        source.stop()
    except SkbtraceError as error:
        _line(False, "program", error.message, error.hint)
        return error.exit_code
    finally:
        source.close()
    _line(True, "program", "compiles and loads", None)
    for place in places:
        there = place.symbol is not None
        good &= there
        how = f", by {place.by}" if place.by else ""
        _line(there, place.function, f"{place.symbol or place.why_missing or 'missing'}{how}", None)
    return 0 if good else PREREQUISITE


def _line(good: bool, name: str, found: str, fix: str | None) -> None:
    click.echo(f"{'ok  ' if good else 'FAIL'}  {name:<26} {found}")
    if fix:
        click.echo(f"      {'':<26} try: {fix}")
