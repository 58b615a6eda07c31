"""An FPGA package as an artefact of an OCI registry: pushed, signed, verified as an image is.

The manifest's type is `PACKAGE`, its one layer the package's file as it is, and its configuration
says what it was made from. The same package gives the same digest wherever it is pushed from.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgekit.errors import ImageError
from edgekit.oci.blobs import CHUNK, Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import MANIFEST, Descriptor, canonical_json, parse_json
from edgekit.oci.image import Manifest
from edgekit.oci.reference import Reference
from edgekit.oci.signing import PROVENANCE, SIGNED, Statement
from edgekit.packager.materials import LOCAL_BUILDER
from edgekit.registry.records import GraphRecord
from edgekit.wholefile import whole_file

PACKAGE = "application/vnd.edgekit.fpga.package.v1"
CONFIG = "application/vnd.edgekit.fpga.package.config.v1+json"
BUILD_TYPE = "urn:edgekit:fpga:v1"


def put_package(blobs: Blobs, file: Path, record: GraphRecord, model_digest: str) -> Descriptor:
    """Write a registered FPGA package as an artefact.

    Args:
        blobs: take it.
        file: the package.
        record: what the registry knows of it.
        model_digest: of the model version it computes.

    Returns:
        The manifest's descriptor.
    """
    with file.open("rb") as source, blobs.writer(expected=record.digest) as writer:
        shutil.copyfileobj(source, writer, CHUNK)
    title = f"{record.model.name}-{record.model.version}-{record.board}.npu"
    layer = Descriptor(
        PACKAGE,
        record.digest,
        record.size,
        annotations={"org.opencontainers.image.title": title},
    )
    config = {
        "model": str(record.model),
        "model_digest": model_digest,
        "board": record.board,
        "cycles": record.cycles,
        "proof": dict(record.proof),
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": PACKAGE,
        "config": blobs.put(canonical_json(config), CONFIG).to_json(),
        "layers": [layer.to_json()],
        "annotations": {
            "org.opencontainers.image.title": record.model.name,
            "org.opencontainers.image.version": str(record.model.version),
            "edgekit.model": str(record.model),
            "edgekit.model.digest": model_digest,
            "edgekit.fpga.board": record.board,
        },
    }
    return replace(blobs.put(canonical_json(manifest), MANIFEST), artifact_type=PACKAGE)


def package_statements(
    digest: str, name: str, record: GraphRecord, model_digest: str, builder: str = LOCAL_BUILDER
) -> list[Statement]:
    """What is signed of a package: that it is, and how it was made (SLSA provenance v1)."""
    model, _, number = str(record.model).partition(":")
    provenance = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"model": str(record.model), "board": record.board},
            "resolvedDependencies": [
                {
                    "uri": f"pkg:generic/{quote(model)}@{number}",
                    "digest": {"sha256": model_digest.removeprefix("sha256:")},
                }
            ],
        },
        "runDetails": {"builder": {"id": builder, "version": {"edgekit": version("edgekit")}}},
    }
    return [Statement(digest, SIGNED, {}, name), Statement(digest, PROVENANCE, provenance, name)]


def fetch_package(
    reference: Reference, client: RegistryClient, target: Path, digest: str = ""
) -> dict[str, Any]:
    """Bring a package from a registry to a file, which is whole or not there.

    Args:
        reference: where it is.
        client: of its registry.
        target: the file.
        digest: of the manifest that was verified; where empty, whatever the reference leads to.

    Returns:
        What its configuration says, with the `digest` of the package and of the `manifest`.

    Raises:
        ImageError: what is there is no FPGA package, or `target` cannot be written.
        Corrupt: it is not what its digests say.
    """
    found, data = client.get_manifest(reference.name, digest or reference.target)
    document = parse_json(data, f"manifest {found.digest}")
    manifest = Manifest.parse(found, data)
    if document.get("artifactType") != PACKAGE or len(manifest.layers) != 1:
        raise ImageError(f"{reference} is no FPGA package", "edgekit image show tells what it is")
    (layer,) = manifest.layers
    with tempfile.TemporaryDirectory(prefix="edgekit-fpga-") as folder:
        blobs = Blobs(Path(folder))
        client.get_blob(reference.name, manifest.config, blobs)
        client.get_blob(reference.name, layer, blobs)
        config: Mapping[str, Any] = parse_json(blobs.read(manifest.config), "its configuration")
        try:
            with blobs.open(layer) as source, whole_file(target) as file:
                shutil.copyfileobj(source, file)
        except OSError as error:
            raise ImageError(f"cannot write {target}: {error.strerror}") from error
    return {**config, "digest": layer.digest, "manifest": found.digest}
