"""`edgekit image sign, verify, sbom`: who made an image, of what, and who trusts it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.image_keys import KEY
from edgekit.cli.image_named import PLAIN_HTTP, recorded_digest, store_here
from edgekit.cli.output import json_option, print_json, say
from edgekit.cli.policy import policy_options, tell_verified, verify_in_registry

if TYPE_CHECKING:
    from edgekit.oci.signing import Policy


@click.command()
@click.argument("name")
@click.option("--key", required=True, metavar=KEY, help="The signing key: a file, or in a token.")
@click.option("--builder", default="", help="Who built it, for the provenance: a URI.")
@PLAIN_HTTP
@json_option
def sign(name: str, key: str, builder: str, plain_http: bool, as_json: bool) -> None:
    """Sign the image NAME (REGISTRY/NAME:TAG or oci:DIR), and say what is in it.

    The signature is stored beside the image, as cosign stores its own. For an image that was built
    in this workspace, a signed bill of material (CycloneDX) and provenance (SLSA) go with it.

    \b
    Examples:
      edgekit image sign registry.example.com/digits:1 --key release.key
      edgekit image sign oci:out --key release.key
      edgekit image sign oci:out --key 'pkcs11:token=release;object=signing'
    """
    from edgekit.packager.materials import LOCAL_BUILDER

    digest, said = sign_image(name, key, builder or LOCAL_BUILDER, plain_http)
    if as_json:
        print_json({"digest": digest, "statements": said})
        return
    click.echo(digest)
    for kind in said:
        say(f"  signed: {kind}")


def sign_image(name: str, key: str, builder: str, plain_http: bool) -> tuple[str, list[str]]:
    """Sign an image where it is; its digest and the kinds of statements that are signed now."""
    import tempfile

    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.layout import Layout
    from edgekit.oci.reference import Reference
    from edgekit.oci.signers import open_signer
    from edgekit.packager.papers import sign_layout, sign_remote, statements

    store = store_here()
    if name.startswith("oci:"):
        folder, _, called = name.removeprefix("oci:").partition(":")
        layout = Layout(Path(folder))
        root = layout.find(called)
        said = statements(root.digest, called, store, builder)
        with open_signer(key) as signer:
            sign_layout(layout, root, said, signer)
        return root.digest, [each.predicate_type for each in said]
    reference = Reference.parse(name)
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-sign-") as temporary,
        open_signer(key) as signer,
        RegistryClient(reference, plain_http=plain_http) as client,
    ):
        root, _data = client.get_manifest(reference.name, reference.target)
        where = f"{reference.registry}/{reference.name}"
        said = statements(root.digest, where, store, builder)
        sign_remote(reference, root, said, signer, client, Blobs(Path(temporary)))
    return root.digest, [each.predicate_type for each in said]


@click.command()
@click.argument("name")
@policy_options(required=True)
@PLAIN_HTTP
@json_option
def verify(name: str, policy: "Policy", plain_http: bool, as_json: bool) -> None:
    """Check that NAME (REGISTRY/NAME:TAG or oci:DIR) is signed by one of the keys.

    Needs no service but the registry, and for oci:DIR not even that. Exits 1 where the image is
    not signed so.

    \b
    Examples:
      edgekit image verify registry.example.com/digits:1 --key release.key.pub
      edgekit image verify oci:out --key release.key.pub --builder urn:example:ci
      edgekit image verify registry.example.com/digits:1 --policy policy.toml
    """
    from edgekit.oci.layout import Layout
    from edgekit.oci.reference import Reference
    from edgekit.packager.papers import verify_layout

    if name.startswith("oci:"):
        folder, _, called = name.removeprefix("oci:").partition(":")
        digest, found = verify_layout(Layout(Path(folder)), called, policy)
    else:
        digest, found = verify_in_registry(Reference.parse(name), policy, plain_http)
    tell_verified(digest, found, as_json)


@click.command()
@click.argument("name")
@json_option
def sbom(name: str, as_json: bool) -> None:
    """Print the bill of material (CycloneDX 1.6) of an image that was built in this workspace.

    NAME is a model version, or the image's digest.

    \b
    Examples:
      edgekit image sbom digits:1 > digits.cdx.json
    """
    from edgekit.errors import WorkspaceError
    from edgekit.packager.materials import bill_of_material, recall_materials

    _ = as_json  # the document is JSON either way
    store = store_here()
    if store is None:
        raise WorkspaceError("there is no workspace here that could know", "build the image in one")
    digest = recorded_digest(name)
    sys.stdout.write(bill_of_material(recall_materials(store, digest), digest).decode() + "\n")
