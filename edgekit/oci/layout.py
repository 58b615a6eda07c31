"""OCI layouts: an image in a folder; and the archive that `docker load` takes."""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from edgekit.errors import OciError
from edgekit.oci.blobs import Blobs
from edgekit.oci.descriptor import MANIFEST_LIMIT, Descriptor, canonical_json
from edgekit.oci.image import Manifest, parse_index, walk
from edgekit.wholefile import whole_file

_MARK = {"imageLayoutVersion": "1.0.0"}
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Layout:
    """A folder with `oci-layout`, `index.json` and `blobs/sha256`."""

    folder: Path

    @property
    def blobs(self) -> Blobs:
        """The layout's blobs."""
        return Blobs(self.folder / "blobs")

    def roots(self) -> tuple[Descriptor, ...]:
        """What `index.json` lists.

        Raises:
            OciError: the folder is no OCI layout.
            Corrupt: its index does not read.
        """
        try:
            mark = json.loads((self.folder / "oci-layout").read_bytes())
            with (self.folder / "index.json").open("rb") as file:
                data = file.read(MANIFEST_LIMIT)
        except (OSError, ValueError) as error:
            raise OciError(f"{self.folder} is no OCI layout: {error}") from error
        if not isinstance(mark, dict) or not str(mark.get("imageLayoutVersion")).startswith("1."):
            raise OciError(f"{self.folder} is an OCI layout of an unknown version")
        return parse_index(Descriptor.of("", data), data)

    def find(self, name: str = "") -> Descriptor:
        """The image called `name` (or with that digest), or the only one where `name` is empty.

        Raises:
            OciError: there is none, or more than one without a name to choose by.
        """
        # what is said about an image is listed too, and is none
        roots = [root for root in self.roots() if not root.artifact_type]
        chosen = [
            root
            for root in roots
            if not name or name in (root.annotations.get(REF_NAME), root.digest)
        ]
        if len(chosen) == 1:
            return chosen[0]
        names = (
            ", ".join(root.annotations.get(REF_NAME, root.digest) for root in roots) or "nothing"
        )
        raise OciError(f"{self.folder} holds {names}", f"choose one: {self.folder}:NAME")

    def add(self, blobs: Blobs, root: Descriptor, name: str = "") -> None:
        """Copy the image at `root` with all its blobs in, and list it under `name`.

        An image listed before under the same name gives way; its blobs stay.
        """
        for descriptor in walk(blobs, root):
            self.blobs.copy_from(blobs, descriptor)
        kept: list[Descriptor] = []
        if (self.folder / "index.json").exists():
            kept = [
                other
                for other in self.roots()
                if (other.annotations.get(REF_NAME), other.digest) != (name or None, root.digest)
                and not (name and other.annotations.get(REF_NAME) == name)
            ]
        annotations = dict(root.annotations) | ({REF_NAME: name} if name else {})
        listed = replace(root, annotations=annotations)
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor.to_json() for descriptor in (*kept, listed)],
        }
        _replace(self.folder / "oci-layout", canonical_json(_MARK))
        _replace(self.folder / "index.json", canonical_json(index))


def write_docker_archive(
    path: Path, blobs: Blobs, manifest: Manifest, names: Sequence[str] = ()
) -> None:
    """Write one platform's image as a tar archive for `docker load`.

    The format is that of `docker save` (image specification v1.2): `manifest.json` beside the
    configuration and the layers, which the engine accepts compressed.

    Args:
        path: the archive; replaced when it is whole.
        blobs: hold the image.
        manifest: of the one platform.
        names: what the engine is to call the image, as in `digits:1`.

    Raises:
        OciError: the file cannot be written.
        Corrupt: a blob is missing.
    """
    config = manifest.config.digest.removeprefix("sha256:") + ".json"
    layers = [layer.digest.removeprefix("sha256:") + "/layer.tar" for layer in manifest.layers]
    listing = [{"Config": config, "RepoTags": list(names) or None, "Layers": layers}]
    try:
        with (
            whole_file(path) as whole,
            tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            _add_bytes(archive, "manifest.json", canonical_json(listing))
            _add_bytes(archive, config, blobs.read(manifest.config))
            for name, layer in dict(zip(layers, manifest.layers, strict=True)).items():
                info = tarfile.TarInfo(name)
                info.size = layer.size
                with blobs.open(layer) as file:
                    archive.addfile(info, file)
    except OSError as error:
        raise OciError(f"cannot write {path}: {error.strerror or error}") from error


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, BytesIO(data))


def _replace(path: Path, data: bytes) -> None:
    """Write a whole file or leave what was there."""
    try:
        with whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise OciError(f"cannot write {path}: {error.strerror or error}") from error
