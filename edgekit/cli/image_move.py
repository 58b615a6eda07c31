"""`edgekit image copy, delete, bundle, unbundle`: images from place to place."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.image_named import FILE, PLAIN_HTTP, located, recorded
from edgekit.cli.output import json_option, print_json, progress, say
from edgekit.cli.policy import policy_options

if TYPE_CHECKING:
    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.descriptor import Descriptor
    from edgekit.oci.layout import Layout
    from edgekit.oci.reference import Reference
    from edgekit.oci.signing import Policy


@contextmanager
def _scratch() -> "Iterator[Blobs]":
    from edgekit.oci.blobs import Blobs

    with tempfile.TemporaryDirectory(prefix="edgekit-image-") as folder:
        yield Blobs(Path(folder))


@click.command()
@click.argument("source", metavar="REGISTRY/NAME:TAG")
@click.argument("target", metavar="REGISTRY/NAME:TAG")
@PLAIN_HTTP
@json_option
def copy(source: str, target: str, plain_http: bool, as_json: bool) -> None:
    """Copy an image with all platforms and its signatures from registry to registry.

    \b
    Examples:
      edgekit image copy localhost:5000/digits:1 registry.example.com/digits:1
    """
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.oci.transfer import copy as copy_image

    began = time.monotonic()
    origin, goal = Reference.parse(source), Reference.parse(target)
    with (
        _scratch() as blobs,
        RegistryClient(origin, plain_http=plain_http) as reading,
        RegistryClient(goal, plain_http=plain_http) as writing,
        progress("copy") as advance,
    ):
        pushed = copy_image(
            origin, goal, reading, writing, blobs, lambda _blob, step, _had: advance(step)
        )
        digest = pushed.reference.digest
        papers = _copy_papers(digest, origin, goal, reading, writing, blobs)
    seconds = round(time.monotonic() - began, 3)
    if as_json:
        print_json(
            {
                "digest": digest,
                "reference": target,
                "papers": papers,
                "bytes_uploaded": pushed.bytes_uploaded,
                "seconds": seconds,
            }
        )
        return
    click.echo(str(pushed.reference))
    say(f"{pushed.bytes_uploaded} bytes uploaded, {papers} signed statements, {seconds:.1f} s")


def _copy_papers(
    digest: str,
    origin: "Reference",
    goal: "Reference",
    reading: "RegistryClient",
    writing: "RegistryClient",
    blobs: "Blobs",
) -> int:
    from edgekit.oci.artifacts import fetch_artifact, list_artifacts, push_artifact
    from edgekit.oci.signing import BUNDLE

    papers = list_artifacts(reading, origin.name, digest, BUNDLE)
    for paper in papers:
        fetch_artifact(reading, origin.name, paper, blobs)
        _fetch_config(reading, origin.name, paper, blobs)
        push_artifact(blobs, paper, goal.name, writing)
    return len(papers)


def _fetch_config(client: "RegistryClient", name: str, paper: "Descriptor", blobs: "Blobs") -> None:
    from edgekit.oci.image import Manifest

    manifest = Manifest.parse(paper, blobs.read(paper))
    client.get_blob(name, manifest.config, blobs)


@click.command()
@click.argument("name")
@click.option("--forget", is_flag=True, help="Only forget it here, do not ask the registry.")
@PLAIN_HTTP
@json_option
def delete(name: str, forget: bool, plain_http: bool, as_json: bool) -> None:
    """Delete the image NAME: REGISTRY/NAME:TAG there and here, or what is recorded here.

    NAME can also be a digest or a model version: then everything recorded here is forgotten, and
    registries keep what they have.

    \b
    Examples:
      edgekit image delete registry.example.com/digits:1
      edgekit image delete digits:1
      edgekit image delete registry.example.com/digits:1 --forget
    """
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    registry = Registry.open(Workspace.find())
    remote = "/" in name and not name.startswith("oci:")
    records = recorded(registry, name)
    if remote and not forget:
        reference = Reference.parse(name)
        with RegistryClient(reference, plain_http=plain_http) as client:
            descriptor, _data = client.get_manifest(reference.name, reference.target)
            client.delete_manifest(reference.name, descriptor.digest)
    for record in records:
        registry.delete_image(record.digest, record.reference)
    if as_json:
        print_json({"deleted": [record.reference for record in records]})
        return
    for record in records:
        say(f"deleted {record.reference} ({record.model})")
    if not records:
        say(f"deleted {name}; nothing was recorded of it here")


@click.command()
@click.argument("name")
@click.argument("path", type=FILE)
@PLAIN_HTTP
@json_option
def bundle(name: str, path: Path, plain_http: bool, as_json: bool) -> None:
    """Put the image NAME with all platforms and its signatures into one file.

    The file is an OCI archive: for a site without a network, and for skopeo.

    \b
    Examples:
      edgekit image bundle registry.example.com/digits:1 digits-1.tar
    """
    from edgekit.oci.archive import write_archive
    from edgekit.oci.layout import Layout

    with tempfile.TemporaryDirectory(prefix="edgekit-bundle-") as folder:
        layout = Layout(Path(folder))
        digest = _gather(name, layout, plain_http)
        write_archive(layout, path)
    if as_json:
        print_json({"digest": digest, "file": str(path), "size": path.stat().st_size})
        return
    click.echo(digest)
    say(f"{path}: {path.stat().st_size} bytes")


def _gather(name: str, layout: "Layout", plain_http: bool) -> str:
    """Copy an image and what is said about it into a layout; the image's digest."""
    from edgekit.oci.artifacts import fetch_artifact, list_artifacts
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.image import walk
    from edgekit.oci.reference import Reference
    from edgekit.oci.signing import BUNDLE
    from edgekit.oci.transfer import fetch_documents

    called = name.rpartition("/")[2].partition("@")[0] if "/" in name else name
    if "/" not in name or name.startswith("oci:"):
        with located(name, plain_http) as (blobs, root):
            layout.add(blobs, root, called.rpartition(":")[2] if "oci:" in name else called)
            _add_papers_of_layout(name, root.digest, layout)
        return root.digest
    reference = Reference.parse(name)
    with RegistryClient(reference, plain_http=plain_http) as client:
        root = fetch_documents(reference, layout.blobs, client)
        for descriptor in walk(layout.blobs, root):
            client.get_blob(reference.name, descriptor, layout.blobs)
        layout.add(layout.blobs, root, called)
        for paper in list_artifacts(client, reference.name, root.digest, BUNDLE):
            fetch_artifact(client, reference.name, paper, layout.blobs)
            _fetch_config(client, reference.name, paper, layout.blobs)
            layout.add(layout.blobs, paper)
    return root.digest


def _add_papers_of_layout(name: str, digest: str, layout: "Layout") -> None:
    from edgekit.oci.artifacts import layout_papers
    from edgekit.oci.layout import Layout

    if not name.startswith("oci:"):
        return
    source = Layout(Path(name.removeprefix("oci:").partition(":")[0]))
    for paper in layout_papers(source, digest):
        layout.add(source.blobs, paper)


@click.command()
@click.argument("path", type=FILE)
@click.argument("target", metavar="REGISTRY/NAME:TAG|oci:DIR")
@policy_options(required=False)
@PLAIN_HTTP
@json_option
def unbundle(
    path: Path, target: str, policy: "Policy | None", plain_http: bool, as_json: bool
) -> None:
    """Bring a bundled image with its signatures into a registry or a layout folder.

    With --key or --policy it is taken only if it is signed so.

    \b
    Examples:
      edgekit image unbundle digits-1.tar localhost:5000/digits:1 --key release.key.pub
    """
    from edgekit.oci.archive import opened_archive
    from edgekit.oci.artifacts import layout_papers, push_artifact
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.layout import Layout
    from edgekit.oci.reference import Reference
    from edgekit.oci.transfer import push
    from edgekit.packager.papers import verify_layout

    with opened_archive(path) as layout:
        root = layout.find()
        if policy is not None:
            verify_layout(layout, "", policy)
        papers = layout_papers(layout, root.digest)
        if target.startswith("oci:"):
            folder, _, called = target.removeprefix("oci:").partition(":")
            goal = Layout(Path(folder))
            goal.add(layout.blobs, root, called)
            for paper in papers:
                goal.add(layout.blobs, paper)
        else:
            reference = Reference.parse(target)
            with RegistryClient(reference, plain_http=plain_http) as client:
                push(layout.blobs, root, reference, client)
                for paper in papers:
                    push_artifact(layout.blobs, paper, reference.name, client)
    if as_json:
        print_json({"digest": root.digest, "reference": target, "papers": len(papers)})
        return
    click.echo(root.digest)
    say(f"{target}: with {len(papers)} signed statements")
