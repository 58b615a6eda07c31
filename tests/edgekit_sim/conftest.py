"""Images made here: one program that waits, and this machine's interpreter with its libraries."""

import json
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import Platform
from edgekit.oci.image import NamedLayer, Settings, put_image
from edgekit.oci.layer import Entry, write_layer
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import push
from edgekit_sim.ociregistry import Registry

# x86-64 Linux: pause(2) in a loop; assembled by hand so that no compiler is needed
CODE = bytes.fromhex(
    "b822000000"  # mov eax, 34 (pause)
    "0f05"  # syscall
    "ebf7"  # jmp back
)


def waiting_program() -> bytes:
    """An ELF file of one segment that sleeps until it is killed."""
    base, head = 0x400000, 64 + 56
    size = head + len(CODE)

    def number(value: int, width: int) -> bytes:
        return value.to_bytes(width, "little")

    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += number(2, 2) + number(62, 2) + number(1, 4) + number(base + head, 8)
    header += number(64, 8) + number(0, 8) + number(0, 4)
    header += number(64, 2) + number(56, 2) + number(1, 2) + bytes(6)
    segment = number(1, 4) + number(5, 4) + number(0, 8) + number(base, 8) * 2
    segment += number(size, 8) * 2 + number(0x1000, 8)
    return header + segment + CODE


@pytest.fixture
def static_image() -> Iterator[str]:
    """The id of an image in the Docker engine whose only program waits."""
    import docker

    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("wait")
        member.mode, member.size = 0o755, len(waiting_program())
        tar.addfile(member, BytesIO(waiting_program()))
    client = docker.from_env()
    reply = client.api.import_image_from_data(archive.getvalue(), changes=['CMD ["/wait"]'])
    image = json.loads(reply.strip().splitlines()[-1])["status"]
    yield image
    client.api.remove_image(image, force=True)
    client.close()


@pytest.fixture(scope="session")
def python_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A reference, by digest, to an image of this interpreter, in a registry of the test's own.

    It has the interpreter, its loader and its libraries. The standard library and the packages
    stay where they are on this machine: a module finds them by `PYTHONHOME` and `PYTHONPATH`.
    """
    folder = tmp_path_factory.mktemp("registry")
    blobs = Blobs(folder / "blobs")
    interpreter = Path(sys.executable).resolve()
    arch = platform.machine()
    entries = [Entry("usr/bin/python3.real", content=interpreter, mode=0o755)]
    entries.append(Entry("usr/bin/python3", "symlink", target="/usr/bin/python3.real"))
    for name, path in re.findall(r"(\S+)(?: =>)? (/\S+) \(0x", _linked(interpreter)):
        place = name.lstrip("/") if name.startswith("/") else f"usr/lib/{arch}-linux-gnu/{name}"
        entries.append(Entry(place, content=Path(path).resolve(), mode=0o755))
    loader = re.search(r"^\s*(/\S+) \(0x", _linked(interpreter), re.MULTILINE)
    if loader:
        place = loader.group(1).lstrip("/")
        entries = [entry for entry in entries if entry.path != place]
        entries.append(Entry(place, content=Path(loader.group(1)).resolve(), mode=0o755))
    layer = NamedLayer(write_layer(entries, blobs, "none"), "interpreter")
    settings = Settings(
        entrypoint=("/usr/bin/python3", "-m", "edgekit_runtime"), command=("scorer",)
    )
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[arch]
    root = put_image(blobs, Platform("linux", architecture), settings, [layer])
    with Registry(folder / "registry") as registry:
        reference = Reference.parse(f"{registry.address}/python:1")
        with RegistryClient(reference) as client:
            pushed = push(blobs, root, reference, client)
        yield str(pushed.reference)


def _linked(program: Path) -> str:
    return subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
