# SPDX-License-Identifier: GPL-2.0-only
"""Netfilter rules, loaded with the ``nft`` program into the namespace the calling thread is in."""

from __future__ import annotations

import os
import shutil
import subprocess

from tracer.errors import PrerequisiteError
from tracer.text import printable
from tracer.topology import rewrites

TIMEOUT_S = 30.0
"""How long nft may take; it may have to load kernel modules first."""

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_MODULES = "nf_tables nf_conntrack nft_chain_nat nft_ct nft_nat nft_masq"


def nft() -> str:
    """Return where the program is. Raises PrerequisiteError if it is not installed."""
    # Debian's users do not have the sbin folders in their PATH.
    program = shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if program is None:
        raise PrerequisiteError(
            "the lab's firewall rules need the program nft, which is not installed",
            hint="sudo apt-get install nftables",
        )
    return program


def unload(table: str) -> None:
    """Remove the table of the family ip, if there is one that has to do with addresses.

    Raises what ``load`` raises. Neither nft nor a module of the kernel is wanted otherwise.
    """
    if ("ip", table) in rewrites.nat_tables():
        load(f"delete table ip {table}\n")


def load(rules: str) -> None:
    """Add the rules, all or none. Raises PrerequisiteError if nft or the kernel cannot, OSError."""
    try:
        done = subprocess.run(
            [nft(), "-f", "-"],
            input=rules,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,  # Ctrl-C is for skbtrace, which undoes everything
            env=os.environ | {"LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"nft did not end within {TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        why = printable(said[0]) if said else f"exit status {done.returncode}"
        raise PrerequisiteError(
            f"this kernel does not take the lab's firewall rules, it may lack modules (nft: {why})",
            hint=f"sudo modprobe -a {_MODULES}",
        )
