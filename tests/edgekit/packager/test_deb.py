"""Unpacking packages: links, merged /usr, and nothing hostile."""

import tarfile

import pytest

from edgekit.errors import Corrupt
from edgekit.packager.deb import is_trimmed, read_deb, relative_link

from .conftest import deb


@pytest.fixture
def package(tmp_path):
    def write(*members):
        path = tmp_path / "x_1_amd64.deb"
        path.write_bytes(deb("x", "1", *members))
        return path

    return write


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("./lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so", "../lib/x86_64-linux-gnu/ld.so"),
        ("./lib/x/a", "../../usr/lib/y", "../y"),
        ("./usr/lib/a", "/etc/ssl/certs", "../../etc/ssl/certs"),
        ("./usr/bin/python3", "python3.11", "python3.11"),
        ("./usr/lib/x/libz.so.1", "libz.so.1.2", "libz.so.1.2"),
        ("./etc/os-release", "../usr/lib/os-release", "../usr/lib/os-release"),
    ],
)
def test_links_are_relative_and_between_merged_places(name, target, expected):
    assert relative_link(name, target, "x") == expected


def test_files_are_read_with_plain_modes(package):
    setuid = tarfile.TarInfo("./usr/bin/su")
    setuid.mode = 0o6775
    control, entries = read_deb(package(("./bin/tool", b"x"), setuid, ("./usr/share", None)))
    assert control.startswith("Package: x\n")
    assert {entry.path: (entry.kind, entry.mode) for entry in entries} == {
        "usr/bin/tool": ("file", 0o755),
        "usr/bin/su": ("file", 0o755),
        "usr/share": ("directory", 0o755),
    }


def test_a_hard_link_becomes_a_copy(package):
    path = package(("./usr/a", b"text"), link("./usr/b", "./usr/a", tarfile.LNKTYPE))
    assert {entry.path: entry.content for entry in read_deb(path)[1]} == {
        "usr/a": b"text",
        "usr/b": b"text",
    }


@pytest.mark.parametrize(
    "bad",
    [
        ("./../etc/passwd", b"x"),
        ("/etc/passwd", b"x"),
        link("./usr/a", "../../../etc"),
        link("./dev/null", "", tarfile.CHRTYPE),
        link("./usr/b", "./usr/missing", tarfile.LNKTYPE),
    ],
)
def test_hostile_members_are_refused(package, bad):
    with pytest.raises(Corrupt):
        read_deb(package(bad))


@pytest.mark.parametrize("data", [b"", b"!<arch>\n", b"!<arch>\n" + b"x" * 60, b"PK\x03\x04"])
def test_what_is_no_package_is_told(tmp_path, data):
    (tmp_path / "x.deb").write_bytes(data)
    with pytest.raises(Corrupt, match=r"x.deb"):
        read_deb(tmp_path / "x.deb")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("usr/share/doc/libc6/copyright", False),
        ("usr/share/doc/libc6/changelog.gz", True),
        ("usr/bin/python3.11", False),
        ("usr/bin/python3", False),
        ("usr/bin/perl", True),
        ("usr/lib/python3.11/ssl.py", False),
        ("usr/lib/python3.11/test/x.py", True),
        ("usr/lib/python3.11/lib-dynload/readline.cpython-311-x86_64-linux-gnu.so", True),
        ("usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", False),
        ("usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", True),
    ],
)
def test_what_is_left_out(path, expected):
    assert is_trimmed(path) == expected
