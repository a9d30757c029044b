# SPDX-License-Identifier: GPL-2.0-only
"""Which mirror apt knows, and which packages make a kernel."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.vm import mirror

DEB822 = """\
Types: deb
# a comment may stand anywhere
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

Types: deb deb-src
URIs: http://first.example/debian/
 http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGPL0BUBEADmW5NdOOHwPIJlgPu6JDcKw/NZJPR8lsD3K87ZM18gzyQZJD+w
"""

ONE_LINE = """\
# deb http://comment.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main
deb https://third.example/apt nodistro main
deb cdrom:[Debian 12]/ bookworm main
deb http://contrib.example/debian bookworm contrib
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://first.example/debian bookworm main  # x
deb http://second.example/debian sid main
"""

# As in an index: two ABI versions of one kernel, another flavour, and a package of no interest.
TWO_VERSIONS = """\
Package: linux-image-6.1.0-47-amd64
Version: 6.1.170-3
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool
Filename: pool/linux-image-6.1.0-47-amd64_6.1.170-3_amd64.deb
Size: 47
SHA256: 4747

Package: linux-image-6.1.0-50-amd64
Source: linux-signed-amd64 (6.1.176+1)
Version: 6.1.176-1
Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool
Description: Linux 6.1 for 64-bit PCs (signed)
 Package: linux-image-amd64 is not the name of this one.
Filename: pool/linux-image-6.1.0-50-amd64_6.1.176-1_amd64.deb
Size: 50
SHA256: 5050

Package: linux-image-amd64
Version: 6.1.176-1
Depends: linux-image-6.1.0-50-amd64 (= 6.1.176-1)
Filename: pool/linux-image-amd64_6.1.176-1_amd64.deb
Size: 1
SHA256: 0101

Package: linux-image-cloud-amd64
Version: 6.1.176-1
Depends: linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)

Package: bash
Version: 5.2
"""

SPLIT = """\
Package: linux-base
Version: 4.15

Package: linux-base-amd64
Version: 7.2.13-1
Depends: linux-base-7.2.13+deb14-amd64 (= 7.2.13-1)

Package: linux-base-7.2.13+deb14-amd64
Version: 7.2.13-1
Depends: linux-base (>= 4.12~)

Package: linux-binary-7.2.13+deb14-amd64
Version: 7.2.13-1
Depends: linux-base-7.2.13+deb14-amd64 (= 7.2.13-1)

Package: linux-image-7.2.13+deb14-amd64
Version: 7.2.13-1
Depends: dracut | linux-initramfs-tool, linux-base-7.2.13+deb14-amd64 (= 7.2.13-1),
 linux-binary-7.2.13+deb14-amd64 (= 7.2.13-1), linux-modules-7.2.13+deb14-amd64 (= 7.2.13-1)

Package: linux-image-amd64
Version: 7.2.13-1
Depends: linux-base-amd64 (= 7.2.13-1), linux-image-7.2.13+deb14-amd64 (= 7.2.13-1)

Package: linux-image-amd64-dbg
Version: 7.2.13-1

Package: linux-modules-7.2.13+deb14-amd64
Version: 7.2.12-1

Package: linux-modules-7.2.13+deb14-amd64
Version: 7.2.13-1
Depends: kmod, linux-base-7.2.13+deb14-amd64 (= 7.2.13-1)
"""


def apt(folder: Path, files: Mapping[str, str]) -> Path:
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_both_formats_give_the_first_main_archive_and_nothing_else() -> None:
    expected = ["http://first.example/debian", "http://second.example/debian"]
    assert list(mirror.archives_deb822(DEB822)) == expected
    assert list(mirror.archives_one_line(ONE_LINE)) == expected


def test_the_single_file_comes_before_the_parts(tmp_path: Path) -> None:
    single = "deb http://single.example/debian stable main\n"
    folder = apt(tmp_path, {"sources.list": single, "sources.list.d/debian.sources": DEB822})
    assert mirror.configured_mirror(folder, {}) == "http://single.example/debian"


def test_a_part_is_read_by_its_ending_and_others_are_left_alone(tmp_path: Path) -> None:
    saved = ONE_LINE.replace("first", "former")
    files = {"sources.list.d/a.list.save": saved, "sources.list.d/b.list": ONE_LINE}
    assert mirror.configured_mirror(apt(tmp_path, files), {}) == "http://first.example/debian"


def test_the_environment_wins(tmp_path: Path) -> None:
    environ = {mirror.MIRROR_VARIABLE: "http://own.example/debian/"}
    assert mirror.configured_mirror(tmp_path, environ) == "http://own.example/debian"


def test_a_host_without_a_debian_archive_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(mirror.MirrorError, match=mirror.MIRROR_VARIABLE):
        mirror.configured_mirror(tmp_path, {})


def test_the_metapackage_decides_between_two_versions() -> None:
    packages = mirror.resolve(mirror.kernel_packages(TWO_VERSIONS), "linux-image-amd64")
    assert packages == [
        mirror.Package(
            name="linux-image-6.1.0-50-amd64",
            version="6.1.176-1",
            depends="kmod, linux-base (>= 4.3~),"
            " initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool",
            filename="pool/linux-image-6.1.0-50-amd64_6.1.176-1_amd64.deb",
            sha256="5050",
            size=50,
        )
    ]


def test_a_kernel_in_parts_is_put_together_from_the_parts_of_its_version() -> None:
    packages = mirror.resolve(mirror.kernel_packages(SPLIT), "linux-image-amd64")
    assert {(p.name, p.version) for p in packages} == {
        (f"linux-{part}-7.2.13+deb14-amd64", "7.2.13-1")
        for part in ("base", "binary", "image", "modules")
    }


def test_an_index_with_no_kernel_is_an_error() -> None:
    with pytest.raises(mirror.MirrorError, match="has no linux-image-amd64"):
        mirror.resolve(mirror.kernel_packages("Package: bash\n"), "linux-image-amd64")


def test_an_index_with_a_hole_names_what_is_missing() -> None:
    text = TWO_VERSIONS.replace("Package: linux-image-6.1.0-50-amd64", "Package: something-else")
    with pytest.raises(mirror.MirrorError, match=r"linux-image-6\.1\.0-50-amd64 = 6\.1\.176-1"):
        mirror.resolve(mirror.kernel_packages(text), "linux-image-amd64")


def test_an_index_is_read_from_where_the_archive_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "dists" / "bookworm" / "main" / "binary-amd64"
    folder.mkdir(parents=True)
    (folder / "Packages.xz").write_bytes(lzma.compress(TWO_VERSIONS.encode()))
    assert mirror.fetch_index(tmp_path.as_uri(), "bookworm") == TWO_VERSIONS


def package_file(folder: Path, content: bytes) -> mirror.Package:
    (folder / "pool").mkdir()
    name = "pool/linux-image-6.12.107+deb13-amd64.deb"
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return mirror.Package("linux-image", "1", "", name, digest, len(content))


def test_a_package_is_fetched_under_its_own_name(tmp_path: Path) -> None:
    package = package_file(tmp_path, b"content")
    file = mirror.fetch_package(tmp_path.as_uri(), package, tmp_path)
    assert file == tmp_path / "linux-image-6.12.107+deb13-amd64.deb"
    assert file.read_bytes() == b"content"


def test_a_package_with_another_checksum_leaves_nothing_behind(tmp_path: Path) -> None:
    package = package_file(tmp_path, b"content")
    (tmp_path / package.filename).write_bytes(b"changed")
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(mirror.MirrorError, match="checksum"):
        mirror.fetch_package(tmp_path.as_uri(), package, target)
    assert list(target.iterdir()) == []
