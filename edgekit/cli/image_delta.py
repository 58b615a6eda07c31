"""`edgekit image delta, apply-delta`: a new model for devices that have the old one."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.image_named import PLAIN_HTTP, located, size
from edgekit.cli.output import json_option, print_json, print_table, say

if TYPE_CHECKING:
    from edgekit.oci.blobs import Blobs
    from edgekit.oci.descriptor import Descriptor


@click.command()
@click.argument("old")
@click.argument("new", metavar="REGISTRY/NAME:TAG")
@PLAIN_HTTP
@json_option
def delta(old: str, new: str, plain_http: bool, as_json: bool) -> None:
    """Store beside image NEW how its model's layer follows from that of OLD.

    A device that has OLD then fetches only the difference; what comes out has the digest of the
    whole layer, or is thrown away and the whole layer fetched. OLD is a model version built here, a
    digest, oci:DIR, or REGISTRY/NAME:TAG; the delta is pushed to NEW's registry.

    \b
    Examples:
      edgekit image delta digits:1 registry.example.com/digits:2
      edgekit image delta registry.example.com/digits:1 registry.example.com/digits:2
    """
    import tempfile

    from edgekit.oci.artifacts import push_artifact
    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.oci.transfer import fetch_documents
    from edgekit.packager.deltas import model_deltas

    began = time.monotonic()
    reference = Reference.parse(new)
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-delta-") as folder,
        located(old, plain_http) as (old_blobs, old_root),
        RegistryClient(reference, plain_http=plain_http) as client,
    ):
        blobs = Blobs(Path(folder))
        root = fetch_documents(reference, blobs, client)

        def fetch_old(layer: "Descriptor") -> None:
            _fetch(old, old_blobs, layer, plain_http)

        made = model_deltas(
            (old_blobs, old_root, fetch_old),
            (blobs, root, lambda layer: client.get_blob(reference.name, layer, blobs)),
        )
        for each in made:
            push_artifact(blobs, each.artifact, reference.name, client)
    rows = [(each.platforms, each.size, each.whole, each.artifact.digest) for each in made]
    if as_json:
        names = ("platforms", "size", "layer_size", "digest")
        value: dict[str, Any] = {"deltas": [dict(zip(names, row, strict=True)) for row in rows]}
        print_json(value | {"digest": root.digest, "seconds": round(time.monotonic() - began, 3)})
        return
    click.echo(root.digest)
    for platforms, length, whole, _digest in rows:
        say(f"  {', '.join(platforms)}: {size(length)} instead of {size(whole)}")


def _fetch(name: str, blobs: "Blobs", layer: "Descriptor", plain_http: bool) -> None:
    """Fetch a layer of an image of a registry; other images have theirs."""
    if "/" not in name or name.startswith("oci:"):
        return
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference

    reference = Reference.parse(name)
    with RegistryClient(reference, plain_http=plain_http) as client:
        client.get_blob(reference.name, layer, blobs)


@click.command("apply-delta")
@click.argument("new", metavar="REGISTRY/NAME:TAG")
@click.argument("layout", metavar="oci:DIR")
@click.option("--platform", help="linux/amd64 or linux/arm64; this machine's where not given.")
@PLAIN_HTTP
@json_option
def apply_delta(
    new: str, layout: str, platform: str | None, plain_http: bool, as_json: bool
) -> None:
    """Bring image NEW into a layout folder that holds an older one, by deltas where they fit.

    Every layer has its digest in the end; what no delta fits is fetched whole.

    \b
    Examples:
      edgekit image apply-delta registry.example.com/digits:2 oci:images
    """
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.descriptor import Descriptor, Platform
    from edgekit.oci.layout import Layout
    from edgekit.oci.reference import Reference
    from edgekit.oci.transfer import pull
    from edgekit.packager.deliver import host_platform

    if not layout.startswith("oci:"):
        raise click.UsageError(f"{layout!r} is no layout folder: write oci:DIR")
    reference = Reference.parse(new)
    chosen = Platform.parse(platform) if platform else host_platform()
    place, _, called = layout.removeprefix("oci:").partition(":")
    goal = Layout(Path(place))
    fetched: dict[str, int] = {}

    def tell(blob: Descriptor, step: int, _present: bool) -> None:
        fetched[blob.digest] = fetched.get(blob.digest, 0) + step

    with RegistryClient(reference, plain_http=plain_http) as client:
        image = pull(reference, goal.blobs, chosen, client, tell)
    goal.add(goal.blobs, image.manifest.descriptor, called or new.rpartition("/")[2])
    rows = [(each.digest, each.size, fetched.get(each.digest, 0)) for each in image.manifest.layers]
    if as_json:
        layers = [dict(zip(("digest", "size", "fetched"), row, strict=True)) for row in rows]
        digest = image.manifest.descriptor.digest
        print_json({"digest": digest, "layers": layers, "bytes_fetched": sum(fetched.values())})
        return
    print_table(
        str(chosen),
        ("layer", "size", "fetched"),
        [
            (digest.removeprefix("sha256:")[:12], size(whole), size(got))
            for digest, whole, got in rows
        ],
    )
    click.echo(image.manifest.descriptor.digest)
