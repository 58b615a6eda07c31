"""`edgekit image keygen, sign, verify, sbom`: who made an image, of what, and who trusts it."""

import sys
from pathlib import Path

import click

from edgekit.cli.image_named import FILE, PLAIN_HTTP, recorded_digest, store_here
from edgekit.cli.output import json_option, print_json, say


@click.command()
@click.argument("path", type=FILE)
@json_option
def keygen(path: Path, as_json: bool) -> None:
    """Make a signing key at PATH, and its public key at PATH.pub.

    The private key is encrypted with EDGEKIT_SIGNING_PASSWORD where that is set. A file that exists
    is never replaced.

    \b
    Examples:
      edgekit image keygen release.key
    """
    import os

    from edgekit.errors import ImageError
    from edgekit.oci.signing import fingerprint, new_key

    private, public = new_key()
    beside = path.with_name(f"{path.name}.pub")
    for target, data, mode in ((path, private, 0o600), (beside, public, 0o644)):
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise ImageError(f"cannot write {target}: {error.strerror}") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    if as_json:
        print_json({"key": str(path), "public": str(beside), "fingerprint": fingerprint(public)})
        return
    say(f"{path}: keep it secret. {beside}: give it to whoever verifies.")


@click.command()
@click.argument("name")
@click.option("--key", type=FILE, required=True, help="The signing key.")
@click.option("--builder", default="", help="Who built it, for the provenance: a URI.")
@PLAIN_HTTP
@json_option
def sign(name: str, key: Path, builder: str, plain_http: bool, as_json: bool) -> None:
    """Sign the image NAME (REGISTRY/NAME:TAG or oci:DIR), and say what is in it.

    The signature is stored beside the image, as cosign stores its own. For an image that was built
    in this workspace, a signed bill of material (CycloneDX) and provenance (SLSA) go with it.

    \b
    Examples:
      edgekit image sign registry.example.com/digits:1 --key release.key
      edgekit image sign oci:out --key release.key
    """
    from edgekit.packager.materials import LOCAL_BUILDER

    digest, said = sign_image(name, key, builder or LOCAL_BUILDER, plain_http)
    if as_json:
        print_json({"digest": digest, "statements": said})
        return
    click.echo(digest)
    for kind in said:
        say(f"  signed: {kind}")


def sign_image(name: str, key: Path, builder: str, plain_http: bool) -> tuple[str, list[str]]:
    """Sign an image where it is; its digest and the kinds of statements that were signed."""
    import tempfile

    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.layout import Layout
    from edgekit.oci.reference import Reference
    from edgekit.oci.transfer import fetch_root
    from edgekit.packager.papers import push_papers, statements, write_papers

    store = store_here()
    if name.startswith("oci:"):
        folder, _, called = name.removeprefix("oci:").partition(":")
        layout = Layout(Path(folder))
        root = layout.find(called)
        said = statements(root.digest, called, store, builder)
        for paper in write_papers(layout.blobs, root, said, key):
            layout.add(layout.blobs, paper)
        return root.digest, [each.predicate_type for each in said]
    reference = Reference.parse(name)
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-sign-") as temporary,
        RegistryClient(reference, plain_http=plain_http) as client,
    ):
        blobs = Blobs(Path(temporary))
        root = fetch_root(reference, blobs, client)
        where = f"{reference.registry}/{reference.name}"
        said = statements(root.digest, where, store, builder)
        push_papers(blobs, write_papers(blobs, root, said, key), reference.name, client)
    return root.digest, [each.predicate_type for each in said]


@click.command()
@click.argument("name")
@click.option("--key", "keys", type=FILE, multiple=True, required=True, help="A public key.")
@click.option("--builder", "builders", multiple=True, help="Provenance must name this builder.")
@PLAIN_HTTP
@json_option
def verify(
    name: str, keys: tuple[Path, ...], builders: tuple[str, ...], plain_http: bool, as_json: bool
) -> None:
    """Check that NAME (REGISTRY/NAME:TAG or oci:DIR) is signed by one of the keys.

    Needs no service but the registry, and for oci:DIR not even that. Exits 1 where the image is
    not signed so.

    \b
    Examples:
      edgekit image verify registry.example.com/digits:1 --key release.key.pub
      edgekit image verify oci:out --key release.key.pub --builder urn:example:ci
    """
    import tempfile

    from edgekit.errors import ImageError
    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.layout import Layout
    from edgekit.oci.reference import Reference
    from edgekit.oci.signing import Policy
    from edgekit.packager.papers import verify_layout, verify_remote

    try:
        policy = Policy(tuple(path.read_bytes() for path in keys), builders)
    except OSError as error:
        raise ImageError(f"cannot read {error.filename}: {error.strerror}") from error
    if name.startswith("oci:"):
        folder, _, called = name.removeprefix("oci:").partition(":")
        digest, found = verify_layout(Layout(Path(folder)), called, policy)
    else:
        reference = Reference.parse(name)
        with (
            tempfile.TemporaryDirectory(prefix="edgekit-verify-") as temporary,
            RegistryClient(reference, plain_http=plain_http) as client,
        ):
            digest, found = verify_remote(reference, client, Blobs(Path(temporary)), policy)
    if as_json:
        said = [{"statement": each.statement.predicate_type, "key": each.key} for each in found]
        print_json({"digest": digest, "verified": said})
        return
    click.echo(digest)
    for each in found:
        say(f"  {each.statement.predicate_type} signed by {each.key}")


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
