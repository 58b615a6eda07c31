"""Debian packages: versions compare as dpkg does, and indexes are trusted by their hashes only."""

import hashlib
import lzma
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekit.errors import Corrupt, ImageError
from edgekit.oci.descriptor import Platform
from edgekit.packager.base import DebianBase
from edgekit.packager.debian import compare_versions, lock_debian
from edgekit.packager.store import Store

from .conftest import deb

AMD64 = Platform("linux", "amd64")

versions = st.from_regex(r"\A([0-3]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,4})?\Z")


@pytest.mark.needs("dpkg")
@settings(max_examples=60, deadline=None)
@example("1.0~rc1", "1.0")
@example("1:0", "2")
@example("2.36-9+deb12u14", "2.36-9+deb12u4")
@given(versions, versions)
def test_versions_compare_as_dpkg_does(left, right):
    difference = compare_versions(left, right)
    word = "lt" if difference < 0 else "gt" if difference else "eq"
    answer = subprocess.run(["dpkg", "--compare-versions", left, word, right])
    assert answer.returncode == 0


class Mirror:
    """A Debian mirror in a folder, as a web server serves it."""

    def __init__(self, folder):
        self.folder = folder
        self.packages = []

    def add(self, name, version, depends="", content=b"x"):
        data = deb(name, version, (f"./usr/share/doc/{name}/copyright", content))
        plain = version.partition(":")[2] or version
        filename = f"pool/main/{name[0]}/{name}/{name}_{plain}_amd64.deb"
        path = self.folder / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.packages.append(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDepends: {depends}\n"
            f"Filename: {filename}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        return path

    def release(self, origin="Debian"):
        data = lzma.compress("\n".join(self.packages).encode())
        sha256 = hashlib.sha256(data).hexdigest()
        dist = self.folder / "dists" / "bookworm"
        index = dist / "main" / "binary-amd64" / "by-hash" / "SHA256" / sha256
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_bytes(data)
        (dist / "InRelease").write_text(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"
            f"Origin: {origin}\nSHA256:\n {sha256} {len(data)} main/binary-amd64/Packages.xz\n"
            "-----BEGIN PGP SIGNATURE-----\n\nnone\n-----END PGP SIGNATURE-----\n"
        )
        return index


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror with a small suite that nobody signed, on a machine without gpgv."""
    found = Mirror(tmp_path / "mirror")
    found.add("base-files", "12")
    found.add("ca-certificates", "1", "openssl (>= 1), debconf | debconf-2.0")
    found.add("libstdc++6", "12", "libc6 (>= 2)")
    found.add("netbase", "6")
    found.add("python3-minimal", "3.11", "python3.11-minimal, dpkg")
    found.add("python3.11-minimal", "3.11.2", "libc6, missing | zlib1g")
    found.add("libpython3.11-stdlib", "3.11.2", "media-types | mime-support, libreadline8")
    found.add("zlib1g", "1:1")
    found.add("libc6", "2.36-9")
    found.add("libc6", "2.36-10")
    found.add("unwanted", "1")
    found.release()
    handler = partial(SimpleHTTPRequestHandler, directory=str(found.folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("EDGEKIT_DEBIAN_MIRROR", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("edgekit.packager.debian.shutil.which", lambda _name: None)
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache", tmp_path / "locks")


@pytest.mark.usefixtures("mirror")
def test_what_is_needed_in_its_newest_version(store):
    lock = lock_debian("bookworm", [AMD64], store)
    assert {package.name: package.version for package in lock.packages["linux/amd64"]} == {
        "base-files": "12",
        "ca-certificates": "1",
        "libc6": "2.36-10",
        "libpython3.11-stdlib": "3.11.2",
        "libstdc++6": "12",
        "netbase": "6",
        "python3-minimal": "3.11",
        "python3.11-minimal": "3.11.2",
        "zlib1g": "1:1",
    }
    assert (lock.python, lock.glibc, lock.signed) == ("3.11", (2, 36), False)


def test_the_lock_holds_until_an_update(mirror, store):
    first = lock_debian("bookworm", [AMD64], store)
    mirror.add("netbase", "7")
    mirror.release()
    assert lock_debian("bookworm", [AMD64], store) == first
    newer = lock_debian("bookworm", [AMD64], store, update=True)
    assert "7" in {package.version for package in newer.packages["linux/amd64"]}


def test_packages_are_fetched_once_and_checked(mirror, store):
    lock = lock_debian("bookworm", [AMD64], store)
    base = DebianBase(lock.packages["linux/amd64"])
    base.prepare(store, None)
    assert "usr/share/doc/zlib1g/copyright" in {entry.path for entry in base.entries(store)}
    shutil.rmtree(mirror.folder)
    base.prepare(store, None)


def test_a_package_that_is_another(mirror, store):
    lock = lock_debian("bookworm", [AMD64], store)
    path = next(mirror.folder.rglob("zlib1g_*.deb"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(
        Corrupt, match=r"zlib1g_1_amd64\.deb as fetched is not what its sha256 says"
    ):
        DebianBase(lock.packages["linux/amd64"]).prepare(store, None)


def test_an_index_that_is_another(mirror, store):
    index = mirror.release()
    index.write_bytes(lzma.compress(b"Package: evil\n").ljust(index.stat().st_size, b"\0"))
    with pytest.raises(Corrupt, match=r"Packages.xz"):
        lock_debian("bookworm", [AMD64], store)


def test_an_archive_of_somebody_else(mirror, store):
    mirror.release(origin="Somebody")
    with pytest.raises(ImageError, match="no Debian archive but that of Somebody"):
        lock_debian("bookworm", [AMD64], store)


@pytest.mark.needs("gpgv")
def test_a_signature_of_nobody_is_refused(mirror, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("EDGEKIT_DEBIAN_MIRROR", "http://127.0.0.1:1")
    from edgekit.packager import debian

    data = (mirror.folder / "dists/bookworm/InRelease").read_bytes()
    with pytest.raises(Corrupt, match="signature of Debian's InRelease"):
        debian._verified(data)
