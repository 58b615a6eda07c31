"""`edgekit fpga push, verify, pull`: FPGA packages, moved as images are."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.image_keys import KEY
from edgekit.cli.image_named import FILE, PLAIN_HTTP, size
from edgekit.cli.output import json_option, print_json, progress, say
from edgekit.cli.policy import policy_options, tell_verified, verify_in_registry
from edgekit.cli.registered import open_registry

if TYPE_CHECKING:
    from edgekit.oci.descriptor import Descriptor
    from edgekit.oci.signing import Policy

NAMED = "NAME:VERSION[@BOARD]"


@click.command()
@click.argument("package", metavar=NAMED)
@click.argument("target", metavar="REGISTRY/NAME:TAG")
@click.option("--sign", "key", metavar=KEY, help="Sign it with this key, with its provenance.")
@PLAIN_HTTP
@json_option
def push(package: str, target: str, key: str | None, plain_http: bool, as_json: bool) -> None:
    """Push PACKAGE to an OCI registry.

    The same package has the same digest wherever it is pushed to. Any registry keeps it, and
    `edgekit image copy` and `delete` move it as an image.

    \b
    Examples:
      edgekit fpga push digits-int8:1 registry.example.com/digits-npu:1 --sign release.key
    """
    import tempfile
    from contextlib import ExitStack

    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.oci.signers import open_signer
    from edgekit.oci.transfer import push as push_artefact
    from edgekit.packager.fpga import stored_package
    from edgekit.packager.fpga_artifact import package_statements, put_package
    from edgekit.packager.papers import sign_remote

    began = time.monotonic()
    reference = Reference.parse(target)
    with ExitStack() as stack:
        signer = stack.enter_context(open_signer(key)) if key else None
        registry = open_registry()
        file, record = stored_package(registry, package)
        model_digest = registry.get(record.model).digest
        blobs = Blobs(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-"))))
        root = put_package(blobs, file, record, model_digest)
        client = stack.enter_context(RegistryClient(reference, plain_http=plain_http))
        advance = stack.enter_context(progress("push"))

        def tell(_blob: "Descriptor", step: int, _present: bool) -> None:
            advance(step)

        pushed = push_artefact(blobs, root, reference, client, tell)
        if signer:
            where = f"{reference.registry}/{reference.name}"
            said = package_statements(root.digest, where, record, model_digest)
            sign_remote(reference, root, said, signer, client, blobs)
    value = {
        "digest": root.digest,
        "package": record.digest,
        "reference": target,
        "signed": bool(key),
        "bytes_uploaded": pushed.bytes_uploaded,
        "seconds": round(time.monotonic() - began, 3),
    }
    if as_json:
        print_json(value)
        return
    click.echo(str(pushed.reference))
    say(f"{size(pushed.bytes_uploaded)} uploaded{', signed' if key else ''}")


@click.command()
@click.argument("name", metavar="REGISTRY/NAME:TAG")
@policy_options(required=True)
@PLAIN_HTTP
@json_option
def verify(name: str, policy: "Policy", plain_http: bool, as_json: bool) -> None:
    """Check that the package in a registry is signed by one of the keys. Exits 1 if it is not.

    \b
    Examples:
      edgekit fpga verify registry.example.com/digits-npu:1 --key release.key.pub
      edgekit fpga verify registry.example.com/digits-npu:1 --policy policy.toml
    """
    from edgekit.oci.reference import Reference

    digest, found = verify_in_registry(Reference.parse(name), policy, plain_http)
    tell_verified(digest, found, as_json)


@click.command()
@click.argument("name", metavar="REGISTRY/NAME:TAG")
@click.option("-o", "--output", required=True, type=FILE, help="The package's file.")
@policy_options(required=False)
@PLAIN_HTTP
@json_option
def pull(name: str, output: Path, policy: "Policy | None", plain_http: bool, as_json: bool) -> None:
    """Fetch a package from a registry; with --key or --policy only if it is signed so.

    \b
    Examples:
      edgekit fpga pull registry.example.com/digits-npu:1 -o digits.npu --key release.key.pub
    """
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.packager.fpga_artifact import fetch_package

    reference = Reference.parse(name)
    digest = ""
    if policy is not None:
        digest, _found = verify_in_registry(reference, policy, plain_http)
    with RegistryClient(reference, plain_http=plain_http) as client:
        found = fetch_package(reference, client, output, digest)
    if as_json:
        print_json({"file": str(output), "verified": bool(digest), **found})
        return
    click.echo(found["manifest"])
    signed = "signed" if digest else "whether it is signed was not asked"
    say(f"{output}: {found['model']} for {found['board']}, {signed}")
