# SPDX-License-Identifier: GPL-2.0-only
"""The Debian mirror that apt is configured with: its indexes and its package files."""

from __future__ import annotations

import hashlib
import http.client
import lzma
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURE = "amd64"
MIRROR_VARIABLE = "SKBTRACE_DEBIAN_MIRROR"

# Third parties publish suites and a component `main` too. Only the archive itself uses these names.
SUITES = frozenset(
    {"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid"}
    | {"bullseye", "bookworm", "trixie", "forky", "duke"}
)

_TIMEOUT_S = 60.0
_ATTEMPTS = 3
_CHUNK = 1 << 18
_KERNEL_PACKAGE = re.compile(r"linux-(?:image|binary|modules|base)-(?:[\w.+~-]+-)?amd64")
_RELATION = re.compile(r"(?P<name>[\w.+~-]+)\s*(?:\(=\s*(?P<version>[^)\s]+)\))?")


class MirrorError(Exception):
    """The mirror cannot be found, cannot be reached, or does not have what was asked for."""


@dataclass(frozen=True, slots=True)
class Package:
    """One stanza of a package index, as far as unpacking it needs."""

    name: str
    version: str
    depends: str
    filename: str
    sha256: str
    size: int


# --- which mirror ---------------------------------------------------------------------------------


def configured_mirror(apt: Path = Path("/etc/apt"), environ: Mapping[str, str] = os.environ) -> str:
    """The URI of the first main Debian archive that apt knows, or the one the environment names."""
    override = environ.get(MIRROR_VARIABLE)
    if override:
        return override.rstrip("/")
    parts = apt / "sources.list.d"
    # apt's own order: the single file first, then the parts by name.
    files = [apt / "sources.list", *(sorted(parts.iterdir()) if parts.is_dir() else [])]
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if file.suffix == ".sources":
            uris = archives_deb822(text)
        elif file.suffix == ".list":
            uris = archives_one_line(text)
        else:
            continue
        for uri in uris:
            return uri
    raise MirrorError(
        f"apt on this host is not configured with a Debian archive ({apt});"
        f" name one in {MIRROR_VARIABLE}"
    )


def archives_one_line(text: str) -> Iterator[str]:
    """The Debian archives in a file of the one-line format (`deb [options] uri suite main`)."""
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split()
        if len(words) >= 4 and words[0] == "deb":
            yield from _archives([words[1]], [words[2]], words[3:])


def archives_deb822(text: str) -> Iterator[str]:
    """The Debian archives in a file of the deb822 format (stanzas of `Types:`, `URIs:`, …)."""
    text = "".join(line for line in text.splitlines(True) if not line.startswith("#"))
    for fields in stanzas(text):
        if fields.get("enabled", "yes").lower() in {"no", "false", "0"}:
            continue
        if "deb" in fields.get("types", "").split():
            yield from _archives(
                fields.get("uris", "").split(),
                fields.get("suites", "").split(),
                fields.get("components", "").split(),
            )


def _archives(uris: list[str], suites: list[str], components: list[str]) -> Iterator[str]:
    """The URIs that are a main Debian archive; security and third parties are not."""
    if "main" in components and SUITES.intersection(suites):
        yield from (u.rstrip("/") for u in uris if u.startswith(("http://", "https://")))


# --- what the index says --------------------------------------------------------------------------


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The stanzas of a deb822 text: field names in lower case, continuation lines joined."""
    for block in re.split(r"\n(?:[ \t]*\n)+", text):
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            if line[:1] in {" ", "\t"}:
                if last:
                    fields[last] += "\n" + line.strip()
            else:
                key, colon, value = line.partition(":")
                if colon:
                    last = key.strip().lower()
                    fields[last] = value.strip()
        if fields:
            yield fields


def kernel_packages(index: str) -> list[Package]:
    """The kernel packages of a `Packages` text; the other sixty thousand are not looked at."""
    blocks = (b for b in index.split("\n\n") if b.lstrip("\n").startswith("Package: linux-"))
    return [
        Package(
            name=fields["package"],
            version=fields.get("version", ""),
            depends=fields.get("depends", ""),
            filename=fields.get("filename", ""),
            sha256=fields.get("sha256", ""),
            size=int(fields.get("size", "0")),
        )
        for block in blocks
        for fields in stanzas(block)
        if _KERNEL_PACKAGE.fullmatch(fields.get("package", ""))
    ]


def resolve(packages: Iterable[Package], metapackage: str) -> list[Package]:
    """The concrete packages that a metapackage stands for, with the metapackages left out.

    An index often lists two ABI versions of a kernel: only the metapackage says which is current.
    From 7.x on an image is itself only a list of its parts (linux-binary-*, linux-modules-*).
    """
    known: dict[str, list[Package]] = {}
    for package in packages:
        known.setdefault(package.name, []).append(package)
    if metapackage not in known:
        raise MirrorError(f"the package index has no {metapackage}")
    found: dict[str, Package] = {}
    wanted: list[tuple[str, str | None]] = [(metapackage, None)]
    while wanted:
        name, version = wanted.pop(0)
        if name in found:
            continue
        candidates = [p for p in known.get(name, []) if version in {None, p.version}]
        if not candidates:
            raise MirrorError(
                f"the package index has no {name}{f' = {version}' if version else ''},"
                f" which {metapackage} needs"
            )
        found[name] = candidates[-1]
        wanted += _kernel_relations(candidates[-1].depends)
    return [p for p in found.values() if re.search(r"-\d", p.name)]


def _kernel_relations(depends: str) -> Iterator[tuple[str, str | None]]:
    for relation in depends.split(","):
        match = _RELATION.match(relation.strip())
        if match and _KERNEL_PACKAGE.fullmatch(match["name"]):
            yield match["name"], match["version"]


# --- fetching -------------------------------------------------------------------------------------


def fetch_index(mirror: str, suite: str) -> str:
    """The text of a suite's package index."""
    path = f"dists/{suite}/main/binary-{ARCHITECTURE}/Packages.xz"
    data = bytearray()
    _download(f"{mirror}/{path}", f"index of {suite}", data.extend, data.clear)
    try:
        return lzma.decompress(data).decode("utf-8", errors="replace")
    except lzma.LZMAError as error:
        raise MirrorError(f"{mirror}/{path} is damaged: {error}") from error


def fetch_package(mirror: str, package: Package, folder: Path) -> Path:
    """Download a package file into a folder and prove its checksum. Never leaves half a file."""
    target = folder / package.filename.rpartition("/")[2]
    partial = target.with_name(target.name + ".partial")
    digest = hashlib.sha256()
    with partial.open("w+b") as file:

        def add(chunk: bytes) -> None:
            file.write(chunk)
            digest.update(chunk)

        def restart() -> None:
            nonlocal digest
            file.seek(0)
            file.truncate()
            digest = hashlib.sha256()

        # `+` and `~` stand in Debian version numbers, and some mirrors take a bare `+` for a space.
        url = f"{mirror}/{urllib.parse.quote(package.filename)}"
        _download(url, target.name, add, restart)
    if digest.hexdigest() != package.sha256:
        partial.unlink()
        raise MirrorError(f"{url}: the checksum is not the one in the package index")
    partial.rename(target)
    return target


def _download(
    url: str, label: str, add: Callable[[bytes], None], restart: Callable[[], None]
) -> None:
    """Feed the body of a URL to `add`; on a broken connection start over, a few times."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
                total = int(response.headers.get("Content-Length") or 0)
                progress = _Progress(label, total)
                got = 0
                while chunk := response.read(_CHUNK):
                    add(chunk)
                    got += len(chunk)
                    progress.show(got)
                progress.close()
            if total and got != total:
                raise http.client.IncompleteRead(b"", total - got)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == _ATTEMPTS:
                raise MirrorError(f"the mirror does not have {url}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == _ATTEMPTS:
                raise MirrorError(f"cannot fetch {url}: {error}") from error
        restart()
        time.sleep(attempt)


class _Progress:
    """A line on standard error, for what takes longer than a second."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._due = time.monotonic() + 1.0
        self._live = sys.stderr.isatty()
        self._shown = False

    def show(self, got: int) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        # A log has no use for ten lines a second.
        self._due = now + (0.2 if self._live else 10.0)
        self._shown = True
        of = f" of {self._total / 1e6:.0f}" if self._total else ""
        text = f"fetching {self._label}: {got / 1e6:.0f}{of} MB"
        print(text, end="\r" if self._live else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._shown and self._live:
            print(file=sys.stderr)
