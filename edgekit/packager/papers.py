"""Signing an image and what is known of it, and checking that before it is trusted."""

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from edgekit.errors import Corrupt, NotFound
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
from edgekit.oci.keys import Signer
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
    open_bundle,
    sign,
    verify,
)
from edgekit.packager.materials import (
    LOCAL_BUILDER,
    Materials,
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
    said.append(Statement(digest, CYCLONEDX, _bill(materials, digest, store), name))
    said.append(Statement(digest, PROVENANCE, provenance(materials, builder), name))
    return said


def _bill(materials: Materials, digest: str, store: Store) -> dict[str, Any]:
    """The bill of material, made once: its library takes longer to import than most signatures."""
    key = f"{digest.removeprefix('sha256:')}-{version('edgekit')}"
    bill = store.read_record("bills", key)
    if bill is None:
        bill = parse_json(bill_of_material(materials, digest), "the bill of material")
        store.write_record("bills", key, bill)
    return bill


def write_papers(
    blobs: Blobs, root: Descriptor, said: Sequence[Statement], key: Signer
) -> list[Descriptor]:
    """Sign statements and write each as an artefact about the image.

    Raises:
        Unauthorized: a token refuses.
    """
    papers = []
    for statement in said:
        bundle = sign(statement, key)
        annotations = {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": statement.predicate_type,
        }
        digest = Descriptor.of(BUNDLE, bundle).digest.replace(":", "-")
        papers.append(
            put_artifact(blobs, root, BUNDLE, bundle, f"{digest}.sigstore.json", annotations)
        )
    return papers


def sign_remote(
    reference: Reference,
    root: Descriptor,
    said: Sequence[Statement],
    key: Signer,
    client: RegistryClient,
    blobs: Blobs,
) -> None:
    """Sign what is said of an image of a registry; what the key has signed before stays.

    Raises:
        Unauthorized: a token refuses.
        Unreachable, OciError: the registry fails or refuses.
    """
    there = _bundles(reference.name, root.digest, client, blobs)
    for paper in write_papers(blobs, root, _unsigned(said, there, key), key):
        push_artifact(blobs, paper, reference.name, client)


def sign_layout(layout: Layout, root: Descriptor, said: Sequence[Statement], key: Signer) -> None:
    """The same for an image in a layout folder."""
    there = layout_artifacts(layout, root.digest, BUNDLE)
    for paper in write_papers(layout.blobs, root, _unsigned(said, there, key), key):
        layout.add(layout.blobs, paper)


def _unsigned(said: Sequence[Statement], bundles: Sequence[bytes], key: Signer) -> list[Statement]:
    """What the key has not signed yet: a token's signatures differ each time, and would pile up."""
    signed = set()
    for bundle in bundles:
        with suppress(Corrupt):  # somebody else's
            if verified := open_bundle(bundle, [key.public_key]):
                signed.add(verified.statement.to_bytes())
    return [statement for statement in said if statement.to_bytes() not in signed]


def _bundles(name: str, digest: str, client: RegistryClient, blobs: Blobs) -> list[bytes]:
    return [
        fetch_artifact(client, name, each, blobs)
        for each in list_artifacts(client, name, digest, BUNDLE)
    ]


def verify_remote(
    reference: Reference, client: RegistryClient, blobs: Blobs, policy: Policy
) -> tuple[str, tuple[Verified, ...]]:
    """Check an image of a registry against a policy; its digest and what was said of it.

    Raises:
        Unauthorized: the policy is not met.
        OciError: there is no such image.
    """
    descriptor, _data = client.get_manifest(reference.name, reference.target)
    bundles = _bundles(reference.name, descriptor.digest, client, blobs)
    return descriptor.digest, verify(descriptor.digest, bundles, policy)


def verify_layout(layout: Layout, name: str, policy: Policy) -> tuple[str, tuple[Verified, ...]]:
    """The same for an image in a layout folder, with nothing but the folder and the keys."""
    digest = layout.find(name).digest
    return digest, verify(digest, layout_artifacts(layout, digest, BUNDLE), policy)
