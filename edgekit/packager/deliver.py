"""Where a finished image goes: a registry, a folder, an archive, or the Docker engine here."""

import platform as machine
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ImageError
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import Descriptor, Platform
from edgekit.oci.image import choose_platform, manifests_of
from edgekit.oci.layout import Layout, write_docker_archive
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import Ahead, Progress, Pushed, push
from edgekit.packager.image import BuiltImage

_LOAD_SECONDS = 600


@dataclass(frozen=True)
class Output:
    """`oci:FOLDER[:NAME]` or `docker-archive:FILE`."""

    kind: str
    path: Path
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "Output":
        """Read what `--output` was given.

        Raises:
            ImageError: it is none of the two.
        """
        kind, _, rest = text.partition(":")
        if kind not in ("oci", "docker-archive") or not rest:
            raise ImageError(
                f"{text!r} is no place for an image", "write oci:FOLDER or docker-archive:FILE"
            )
        path, _, name = rest.partition(":")
        return cls(kind, Path(path), name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f":{self.name}" if self.name else "")


def host_platform() -> Platform:
    """The platform of this machine."""
    name = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())
    return Platform("linux", name)


def write(image: BuiltImage, output: Output, name: str) -> None:
    """Write an image to a layout folder, or one platform of it to an archive.

    Args:
        image: a finished one.
        output: where to.
        name: what it is called there, where the output says nothing else.

    Raises:
        ImageError: an archive is wanted of several platforms.
        OciError: the disk refuses.
    """
    called = output.name or name
    if output.kind == "oci":
        Layout(output.path).add(image.blobs, image.root, called)
        return
    found = manifests_of(image.blobs, image.root)
    if len(found) != 1:
        raise ImageError(
            f"a docker-archive holds one platform, this image has {len(found)}",
            f"give --platform {next(iter(found))}",
        )
    write_docker_archive(output.path, image.blobs, next(iter(found.values())), [called])


def load(image: BuiltImage, name: str) -> None:
    """Load the image for this machine into the Docker engine that the `docker` command talks to.

    Raises:
        ImageError: there is no such command, or the engine refuses.
        OciError: the image is for other platforms.
    """
    if not shutil.which("docker"):
        raise ImageError("there is no docker command here", "write an archive: --output")
    found = manifests_of(image.blobs, image.root)
    chosen = choose_platform(list(found), host_platform(), "the image")
    with tempfile.TemporaryDirectory(prefix="edgekit-load-") as folder:
        path = Path(folder) / "image.tar"
        write_docker_archive(path, image.blobs, found[chosen], [name])
        answer = subprocess.run(
            ["docker", "load", "--quiet", "--input", str(path)],
            capture_output=True,
            text=True,
            timeout=_LOAD_SECONDS,
            check=False,
        )
    if answer.returncode:
        raise ImageError(f"docker load: {answer.stderr.strip()[-300:]}", "is the engine running?")


@contextmanager
def push_ahead(reference: Reference | None, plain_http: bool = False) -> Iterator[Ahead | None]:
    """Push an image while it is made in the block, if it is to be pushed."""
    if reference is None:
        yield None
        return
    with (
        RegistryClient(reference, plain_http=plain_http) as client,
        Ahead(reference, client) as ahead,
    ):
        yield ahead


def push_image(
    blobs: Blobs,
    root: Descriptor,
    reference: Reference,
    plain_http: bool = False,
    progress: Progress | None = None,
) -> Pushed:
    """Push the image at `root` of `blobs`; see `edgekit.oci.transfer.push`."""
    with RegistryClient(reference, plain_http=plain_http) as client:
        return push(blobs, root, reference, client, progress)
