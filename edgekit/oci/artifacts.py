"""What is said about an image, stored beside it: signatures, provenance, bills of material.

An artefact is a manifest whose `subject` is the image (image specification 1.1). Registries list
them by the referrers API; where one has none, an index under the tag `sha256-HEX` does, which the
client that pushes keeps (distribution specification 1.1, "Referrers Tag Schema").
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgekit.errors import Corrupt, OciError
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import (
    EMPTY,
    INDEX,
    MANIFEST,
    MANIFEST_LIMIT,
    Descriptor,
    canonical_json,
    parse_json,
)
from edgekit.oci.image import parse_index
from edgekit.oci.layout import Layout


def put_artifact(
    blobs: Blobs,
    subject: Descriptor,
    media_type: str,
    payload: bytes | Descriptor,
    title: str = "",
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Write a document about `subject` as an artefact of the same media type.

    Args:
        blobs: take the document and its manifest.
        subject: the image's index or manifest.
        media_type: of the document; also the artefact's type.
        payload: the document, or where it is in `blobs`.
        title: a file name for whoever fetches it with another tool.
        annotations: shown in lists of referrers.

    Returns:
        The descriptor of the artefact's manifest, with its type and annotations.
    """
    layer = blobs.put(payload, media_type) if isinstance(payload, bytes) else payload
    if title:
        layer = replace(layer, annotations={"org.opencontainers.image.title": title})
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": media_type,
        "config": blobs.put(b"{}", EMPTY).to_json(),
        "layers": [layer.to_json()],
        "subject": Descriptor(subject.media_type, subject.digest, subject.size).to_json(),
    }
    if annotations:
        document["annotations"] = dict(annotations)
    manifest = blobs.put(canonical_json(document), MANIFEST)
    return replace(manifest, artifact_type=media_type, annotations=annotations or {})


def push_artifact(blobs: Blobs, artifact: Descriptor, name: str, client: RegistryClient) -> None:
    """Send an artefact to the repository of its subject, and see to it that it is listed.

    Raises:
        Unreachable, Unauthorized, OciError: the registry fails or refuses.
    """
    data = blobs.read(artifact)
    document = parse_json(data, f"artefact {artifact.digest}")
    for part in (document["config"], *document["layers"]):
        descriptor = Descriptor.from_json(part)
        if not client.has_blob(name, descriptor.digest):
            client.put_blob(name, descriptor, blobs)
    _digest, listed = client.put_artifact_manifest(name, artifact.digest, MANIFEST, data)
    if not listed:
        _list_by_tag(artifact, str(document["subject"]["digest"]), name, client)


def _list_by_tag(artifact: Descriptor, subject: str, name: str, client: RegistryClient) -> None:
    listed = [each for each in _by_tag(client, name, subject) if each.digest != artifact.digest]
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [each.to_json() for each in (*listed, artifact)],
    }
    client.put_manifest(name, fallback_tag(subject), INDEX, canonical_json(index))


def fallback_tag(digest: str) -> str:
    """The tag that lists the referrers of `digest` where a registry has no API for it."""
    return digest.replace(":", "-")


def list_artifacts(
    client: RegistryClient, name: str, subject: str, media_type: str
) -> list[Descriptor]:
    """The artefacts of a type that a registry has for the image with digest `subject`."""
    found = client.referrers(name, subject)
    if found is None:
        found = _by_tag(client, name, subject)
    return [each for each in found if each.artifact_type == media_type]


def _by_tag(client: RegistryClient, name: str, subject: str) -> list[Descriptor]:
    tag = fallback_tag(subject)
    if not client.manifest_digest(name, tag):
        return []
    return list(parse_index(*client.get_manifest(name, tag)))


def fetch_artifact(client: RegistryClient, name: str, artifact: Descriptor, blobs: Blobs) -> bytes:
    """The document of an artefact, brought into `blobs`.

    Raises:
        Corrupt: it is not about what it is listed under, or does not read.
    """
    layer = artifact_layer(client, name, artifact, blobs)
    if layer.size > MANIFEST_LIMIT:
        raise OciError(f"{layer.digest} is a document of {layer.size} bytes; none is so long")
    client.get_blob(name, layer, blobs)
    return blobs.read(layer)


def artifact_layer(
    client: RegistryClient, name: str, artifact: Descriptor, blobs: Blobs
) -> Descriptor:
    """What an artefact consists of: its one layer. Only its manifest is fetched.

    Raises:
        Corrupt: it has not one layer.
    """
    descriptor, data = client.get_manifest(name, artifact.digest)
    blobs.put(data, descriptor.media_type)
    return _document(data, artifact.digest)


def layout_papers(layout: Layout, subject: str) -> list[Descriptor]:
    """The artefacts that a layout lists for the image with digest `subject`."""
    found = []
    for root in layout.roots():
        if not root.artifact_type:
            continue
        document = parse_json(layout.blobs.read(root), f"artefact {root.digest}")
        about = document.get("subject")
        if isinstance(about, dict) and about.get("digest") == subject:
            found.append(root)
    return found


def layout_artifacts(layout: Layout, subject: str, media_type: str) -> list[bytes]:
    """The documents of a type that a layout has for the image with digest `subject`."""
    return [
        layout.blobs.read(_document(layout.blobs.read(root), root.digest))
        for root in layout_papers(layout, subject)
        if root.artifact_type == media_type
    ]


def _document(data: bytes, digest: str) -> Descriptor:
    layers = parse_json(data, f"artefact {digest}").get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        raise Corrupt(f"artefact {digest} has not one document")
    return Descriptor.from_json(layers[0])
