"""Signing an image and what is known of it, and checking that before it is trusted."""

from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import NotFound
from edgekit.oci.artifacts import (
    fetch_artifact,
    layout_artifacts,
    list_artifacts,
    push_artifact,
    put_artifact,
)
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import Descriptor, parse_json
from edgekit.oci.layout import Layout
from edgekit.oci.reference import Reference
from edgekit.oci.signing import (
    BUNDLE,
    CYCLONEDX,
    PROVENANCE,
    SIGNED,
    Policy,
    Statement,
    Verified,
    read_private_key,
    sign,
    verify,
)
from edgekit.packager.materials import (
    LOCAL_BUILDER,
    bill_of_material,
    provenance,
    recall_materials,
)
from edgekit.packager.store import Store


def statements(
    digest: str, name: str, store: Store | None, builder: str = LOCAL_BUILDER
) -> list[Statement]:
    """What can be said of an image: that it is signed, and, where it was built, what is in it.

    Args:
        digest: of the image.
        name: where it is, without tag.
        store: of the workspace it was built in; None where there is none.
        builder: who built it, for the provenance.
    """
    said = [Statement(digest, SIGNED, {}, name)]
    if store is None:
        return said
    try:
        materials = recall_materials(store, digest)
    except NotFound:
        return said
    bill = parse_json(bill_of_material(materials, digest), "the bill of material")
    said.append(Statement(digest, CYCLONEDX, bill, name))
    said.append(Statement(digest, PROVENANCE, provenance(materials, builder), name))
    return said


def write_papers(
    blobs: Blobs, root: Descriptor, said: Sequence[Statement], key: Path
) -> list[Descriptor]:
    """Sign statements and write each as an artefact about the image.

    Raises:
        Unauthorized: the key does not read.
    """
    private = read_private_key(key)
    papers = []
    for statement in said:
        bundle = sign(statement, private)
        annotations = {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": statement.predicate_type,
        }
        digest = Descriptor.of(BUNDLE, bundle).digest.replace(":", "-")
        papers.append(
            put_artifact(blobs, root, BUNDLE, bundle, f"{digest}.sigstore.json", annotations)
        )
    return papers


def push_papers(
    blobs: Blobs, papers: Sequence[Descriptor], name: str, client: RegistryClient
) -> None:
    """Send papers to the repository of their image."""
    for paper in papers:
        push_artifact(blobs, paper, name, client)


def verify_remote(
    reference: Reference, client: RegistryClient, blobs: Blobs, policy: Policy
) -> tuple[str, tuple[Verified, ...]]:
    """Check an image of a registry against a policy; its digest and what was said of it.

    Raises:
        Unauthorized: the policy is not met.
        OciError: there is no such image.
    """
    descriptor, _data = client.get_manifest(reference.name, reference.target)
    bundles = [
        fetch_artifact(client, reference.name, each, blobs)
        for each in list_artifacts(client, reference.name, descriptor.digest, BUNDLE)
    ]
    return descriptor.digest, verify(descriptor.digest, bundles, policy)


def verify_layout(layout: Layout, name: str, policy: Policy) -> tuple[str, tuple[Verified, ...]]:
    """The same for an image in a layout folder, with nothing but the folder and the keys."""
    digest = layout.find(name).digest
    return digest, verify(digest, layout_artifacts(layout, digest, BUNDLE), policy)
