"""A store filled with small packages and wheels, so that images are built without a network."""

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from dataclasses import asdict

import pytest

from edgekit.oci.layer import file_digest
from edgekit.packager.debian import Package
from edgekit.packager.mirror import Mirror
from edgekit.packager.recipes import PackagedModel
from edgekit.packager.store import Store, write_file
from edgekit.packager.wheels import REQUIREMENTS, Wheel


def tar(*members):
    """A tar archive of (name, content) files, (name, None) directories and TarInfo objects."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755 if "bin/" in name else 0o644
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def deb(name, version, *members):
    """The bytes of a `.deb`: an ar archive of three members."""
    control = f"Package: {name}\nVersion: {version}\n".encode()
    out = b"!<arch>\n"
    for member, data in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", tar(("./control", control))),
        ("data.tar.xz", tar(*members)),
    ):
        out += f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data
        out += b"\n" * (len(data) % 2)
    return out


def wheel(name, version, files):
    """The bytes of a wheel."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            info = zipfile.ZipInfo(path, (2026, 1, 2, 3, 4, 6))
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
        archive.writestr(f"{name}-{version}.dist-info/METADATA", f"Name: {name}\n")
        archive.writestr(f"{name}-{version}.dist-info/RECORD", "")
    return out.getvalue()


def add_package(store, name, version, architecture, *members):
    data = deb(name, version, *members)
    package = Package(
        name,
        version,
        architecture,
        "main",
        f"pool/main/{name[0]}/{name}/{name}_{version}_{architecture}.deb",
        len(data),
        hashlib.sha256(data).hexdigest(),
    )
    write_file(package.download(Mirror("")).path(store), data)
    return package


def add_wheel(store, name, version, tag, files):
    data = wheel(name, version, files)
    made = Wheel(
        name, version, f"{name}-{version}-{tag}.whl", hashlib.sha256(data).hexdigest(), len(data)
    )
    write_file(made.path(store), data)
    return made


@pytest.fixture
def store(tmp_path):
    """Two platforms' packages and wheels, locked and in the cache."""
    store = Store(tmp_path / "cache", tmp_path / "locks")
    packages, wheels = {}, {}
    for platform, architecture, machine in (
        ("linux/amd64", "amd64", "x86_64"),
        ("linux/arm64", "arm64", "aarch64"),
    ):
        packages[platform] = [
            add_package(
                store,
                "libc6",
                "2.36-9",
                architecture,
                (f"./lib/{machine}-linux-gnu/libc.so.6", architecture.encode()),
                ("./usr/share/doc/libc6/copyright", b"free"),
                ("./usr/share/man/man7/libc.7.gz", b"long"),
            ),
            add_package(
                store,
                "python3.11-minimal",
                "3.11.2-6",
                architecture,
                ("./usr/bin/python3.11", b"interpreter"),
            ),
        ]
        wheels[platform] = [
            add_wheel(store, "numpy", "2.0", f"cp311-cp311-manylinux_2_28_{machine}",
                      {"numpy/__init__.py": "", "numpy/core.so": machine, "numpy/tests/x.py": ""})
        ]  # fmt: skip
    lock = {"suite": "bookworm", "signed": True}
    store.write_lock(
        "debian-bookworm",
        lock | {"packages": {name: [asdict(each) for each in packages[name]] for name in packages}},
    )
    store.write_lock(
        "wheels-3.11",
        {
            "python": "3.11",
            "requirements": sorted(REQUIREMENTS),
            "platforms": {name: [asdict(each) for each in wheels[name]] for name in wheels},
        },
    )
    return store


@pytest.fixture
def model(tmp_path):
    def make(content=b"weights", version=1):
        path = tmp_path / f"model-{version}.onnx"
        path.write_bytes(content)
        return PackagedModel(
            "digits", version, file_digest(path), path, ({"name": "x", "shape": [None, 64]},)
        )

    return make


def copy_store(store, folder):
    """The same downloads and locks elsewhere, without any finished layer."""
    other = Store(folder / "cache", folder / "locks")
    shutil.copytree(store.downloads, other.downloads)
    shutil.copytree(store.cache / "wheels", other.cache / "wheels")
    shutil.copytree(store.locks, other.locks)
    return other


def layer_files(blobs, layer):
    """Path -> tar member of a layer."""
    data = blobs.path(layer.digest).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def layer_file(blobs, layer, path):
    """The content of one file of a layer."""
    data = blobs.path(layer.digest).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(path)
        assert file is not None
        return file.read()


def config_of(blobs, manifest):
    return json.loads(blobs.read(manifest.config))
