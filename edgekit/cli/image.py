"""`edgekit image`: turn a model version into a module image, and bring it to where it is used."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.image_move import bundle, copy, delete, diff, unbundle
from edgekit.cli.image_trust import PLAIN_HTTP, keygen, sbom, sign, sign_image, verify
from edgekit.cli.output import json_option, print_json, print_table, progress, say

if TYPE_CHECKING:
    from edgekit.oci.blobs import Blobs
    from edgekit.oci.descriptor import Descriptor, Platform
    from edgekit.packager.image import BuiltImage, PackagedModel
    from edgekit.packager.store import Store
    from edgekit.registry import ImageRecord, ModelRef, Registry
    from edgekit.workspace import Workspace


@click.group()
def image() -> None:
    """Turn a model version into a module image.

    \b
    Examples:
      edgekit image build digits:1 --push registry.example.com/digits:1
      edgekit image build digits:1 --platform linux/arm64 --output oci:out
      edgekit image build digits:1 --load
      edgekit image show digits:1
      edgekit image diff digits:1 digits:2
      edgekit image sign registry.example.com/digits:1 --key release.key
      edgekit image verify registry.example.com/digits:1 --key release.key.pub
    """


for _command in (bundle, copy, delete, diff, keygen, sbom, sign, unbundle, verify):
    image.add_command(_command)


@image.command()
@click.argument("model")
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    help="linux/amd64 or linux/arm64, with commas or repeated; both where not given.",
)
@click.option("--base", default="debian:bookworm", show_default=True, help="Or REGISTRY/NAME:TAG.")
@click.option(
    "--score",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A score.py of your own, put into the image.",
)
@click.option(
    "--requirements",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A requirements.txt of what score.py imports.",
)
@click.option("--push", "push_to", metavar="REGISTRY/NAME:TAG", help="Push it to a registry.")
@click.option(
    "--output", metavar="oci:DIR|docker-archive:FILE", help="Write it to a file or folder."
)
@click.option("--load", "load_it", is_flag=True, help="Load it into the Docker engine here.")
@click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd"]),
    default="gzip",
    show_default=True,
    help="zstd needs Docker 23 or containerd 1.5 where it runs.",
)
@click.option(
    "--sign",
    "key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Sign what was pushed with this key, with its bill of material and provenance.",
)
@click.option("--update", is_flag=True, help="Take the newest packages and wheels, not the locked.")
@PLAIN_HTTP
@json_option
def build(
    model: str,
    platforms: tuple[str, ...],
    base: str,
    score: Path | None,
    requirements: Path | None,
    push_to: str | None,
    output: str | None,
    load_it: bool,
    compression: str,
    key: Path | None,
    update: bool,
    plain_http: bool,
    as_json: bool,
) -> None:
    """Build the image of MODEL (NAME:VERSION), without Docker and without root.

    The same inputs give the same digest on any machine. What was resolved once (Debian packages,
    wheels) is locked in the workspace; what was built once is not built again.

    \b
    Examples:
      edgekit image build digits:1 --push registry.example.com/digits:1
      edgekit image build digits:1 --platform linux/arm64 --output oci:out
      edgekit image build digits --output docker-archive:digits.tar --platform linux/amd64
    """
    from edgekit.oci.reference import Reference
    from edgekit.oci.signing import read_private_key
    from edgekit.packager.deliver import Output, host_platform, load, push_image, write
    from edgekit.packager.image import DEFAULT_PLATFORMS, build_image, plan_image
    from edgekit.packager.materials import LOCAL_BUILDER
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    began = time.monotonic()
    # everything the user typed is read before anything is done
    if key:
        read_private_key(key)
        if not push_to:
            raise click.UsageError("--sign signs what is pushed: give --push too")
    target = Reference.parse(push_to) if push_to else None
    place = Output.parse(output) if output else None
    chosen = _platforms(platforms)
    if not chosen:
        alone = load_it or (place is not None and place.kind == "docker-archive")
        chosen = (host_platform(),) if alone and target is None else DEFAULT_PLATFORMS
    workspace = Workspace.find()
    registry = Registry.open(workspace)
    packaged, ref = _packaged(registry, model)
    store = _store(workspace)
    with _telling() as tell:
        plan = plan_image(
            packaged,
            store,
            chosen,
            base=base,
            score=score,
            requirements=requirements,
            compression="zstd" if compression == "zstd" else "gzip",
            update=update,
            progress=tell,
        )
        built = build_image(plan, store, tell)
    uploaded = 0
    where = "local"
    if place:
        write(built, place, packaged.reference)
        where = str(place)
    if load_it:
        load(built, packaged.reference)
        where = f"docker:{packaged.reference}"
    if target:
        with progress("push") as advance:
            pushed = push_image(
                built.blobs, built.root, target, plain_http, lambda _blob, step, _had: advance(step)
            )
        uploaded, where = pushed.bytes_uploaded, str(target)
        if key:
            sign_image(str(target.at(built.digest)), key, LOCAL_BUILDER, plain_http)
    registry.record_image(
        model=ref,
        digest=built.digest,
        reference=where,
        platforms=[str(platform) for platform in built.platforms],
    )
    seconds = time.monotonic() - began
    _report(built, packaged, where, uploaded, seconds, as_json, pushed_to=target is not None)


def _report(
    built: "BuiltImage",
    model: "PackagedModel",
    where: str,
    uploaded: int,
    seconds: float,
    as_json: bool,
    pushed_to: bool,
) -> None:
    if as_json:
        print_json(
            {
                "model": model.reference,
                "digest": built.digest,
                "reference": where,
                "platforms": [str(platform) for platform in built.platforms],
                "layers": [
                    {
                        "name": layer.name,
                        "platforms": list(layer.platforms),
                        "digest": layer.digest,
                        "size": layer.size,
                        "cached": layer.cached,
                    }
                    for layer in built.layers
                ],
                "bytes_uploaded": uploaded,
                "seconds": round(seconds, 3),
            }
        )
        return
    rows = [
        (
            layer.name,
            _shared(layer.platforms),
            _size(layer.size),
            "cached" if layer.cached else "built",
        )
        for layer in built.layers
    ]
    print_table(model.reference, ("layer", "for", "size", ""), rows)
    click.echo(built.digest)
    sent = f", {_size(uploaded)} uploaded" if pushed_to else ""
    say(f"{where}: done in {seconds:.1f} s{sent}")


@image.command("list")
@click.option("--model", help="Only images of this model, NAME or NAME:VERSION.")
@json_option
def list_images(model: str | None, as_json: bool) -> None:
    """List the images that were made, oldest first.

    \b
    Examples:
      edgekit image list
      edgekit image list --model digits:1 --json
    """
    from edgekit.registry import ModelRef, Registry
    from edgekit.workspace import Workspace

    registry = Registry.open(Workspace.find())
    found = registry.images(model=ModelRef.parse(model) if model else None)
    if as_json:
        print_json({"images": [record.as_dict() for record in found]})
        return
    if not found:
        say("No images yet; make one: edgekit image build MODEL:VERSION")
        return
    rows = [
        (
            str(record.model),
            record.digest.removeprefix("sha256:")[:12],
            _shared(record.platforms),
            record.reference,
            f"{record.created:%Y-%m-%d %H:%M}",
        )
        for record in found
    ]
    print_table("", ("model", "digest", "platforms", "where", "made (UTC)"), rows)


@image.command()
@click.argument("name")
@PLAIN_HTTP
@json_option
def show(name: str, plain_http: bool, as_json: bool) -> None:
    """Show what NAME consists of: its layers, their sizes, who brought them.

    NAME is a model version whose image was built here, a digest, oci:DIR, or REGISTRY/NAME:TAG.

    \b
    Examples:
      edgekit image show digits:1
      edgekit image show oci:out
      edgekit image show registry.example.com/digits:1 --json
    """
    from edgekit.oci.describe import describe

    with located(name, plain_http) as (blobs, root):
        value = describe(blobs, root)
    if as_json:
        print_json(value)
        return
    for entry in value["platforms"]:
        rows = [
            (layer["by"], layer["digest"].removeprefix("sha256:")[:12], _size(layer["size"]))
            for layer in entry["layers"]
        ]
        total = sum(layer["size"] for layer in entry["layers"])
        print_table(f"{entry['platform']}  {_size(total)}", ("brought by", "digest", "size"), rows)
    click.echo(f"{value['digest']}")
    for key, text in sorted(value["annotations"].items()):
        click.echo(f"  {key} = {text}")


@image.command()
@click.argument("name")
@click.argument("target", metavar="REGISTRY/NAME:TAG")
@PLAIN_HTTP
@json_option
def push(name: str, target: str, plain_http: bool, as_json: bool) -> None:
    """Push an image that was built before: NAME is a model version, a digest, or oci:DIR.

    \b
    Examples:
      edgekit image push digits:1 registry.example.com/digits:1
      edgekit image push oci:out localhost:5000/digits:1
    """
    from edgekit.oci.reference import Reference
    from edgekit.packager.deliver import push_image

    began = time.monotonic()
    reference = Reference.parse(target)
    with located(name, plain_http) as (blobs, root), progress("push") as advance:
        pushed = push_image(
            blobs, root, reference, plain_http, lambda _blob, step, _had: advance(step)
        )
    _record_again(root.digest, target)
    seconds = time.monotonic() - began
    if as_json:
        print_json(
            {
                "digest": root.digest,
                "reference": target,
                "bytes_uploaded": pushed.bytes_uploaded,
                "seconds": round(seconds, 3),
            }
        )
        return
    click.echo(str(pushed.reference))
    say(f"{_size(pushed.bytes_uploaded)} uploaded in {seconds:.1f} s")


def _record_again(digest: str, reference: str) -> None:
    """Where the image is recorded, record its new place too."""
    from edgekit.errors import WorkspaceError
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    try:
        registry = Registry.open(Workspace.find())
    except WorkspaceError:
        return
    for record in registry.images(digest=digest)[:1]:
        registry.record_image(
            model=record.model, digest=digest, reference=reference, platforms=record.platforms
        )


def _platforms(texts: tuple[str, ...]) -> "tuple[Platform, ...]":
    from edgekit.oci.descriptor import Platform

    return tuple(Platform.parse(part) for text in texts for part in text.split(","))


def _packaged(registry: "Registry", model: str) -> "tuple[PackagedModel, ModelRef]":
    from edgekit.errors import ImageError
    from edgekit.packager.image import PackagedModel
    from edgekit.registry import ModelRef, TensorSpec

    def plain(spec: TensorSpec) -> dict[str, Any]:
        return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}

    version = registry.get(ModelRef.parse(model))
    if version.framework != "onnx":
        raise ImageError(
            f"{version.ref} is a {version.framework} model, and images score ONNX models",
            "export it to ONNX and register that",
        )
    packaged = PackagedModel(
        version.name,
        version.version,
        version.digest,
        registry.model_file(version.ref),
        tuple(plain(spec) for spec in version.inputs),
        tuple(plain(spec) for spec in version.outputs),
        (str(version.parent),) if version.parent else (),
    )
    return packaged, version.ref


def _store(workspace: "Workspace") -> "Store":
    from edgekit.packager.store import Store

    return Store(workspace.cache, workspace.folder / "locks")


@contextmanager
def located(name: str, plain_http: bool) -> "Iterator[tuple[Blobs, Descriptor]]":
    """The blobs and the root of the image that `name` stands for."""
    from edgekit.oci.layout import Layout

    if name.startswith("oci:"):
        folder, _, called = name.removeprefix("oci:").partition(":")
        layout = Layout(Path(folder))
        yield layout.blobs, layout.find(called)
    elif "/" in name:
        with _remote(name, plain_http) as found:
            yield found
    else:
        yield _local(name)


@contextmanager
def _remote(name: str, plain_http: bool) -> "Iterator[tuple[Blobs, Descriptor]]":
    """An image of a registry: its documents are fetched, its layers are not."""
    import tempfile

    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.oci.transfer import fetch_documents

    reference = Reference.parse(name)
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-show-") as folder,
        RegistryClient(reference, plain_http=plain_http) as client,
    ):
        blobs = Blobs(Path(folder))
        yield blobs, fetch_documents(reference, blobs, client)


def _local(name: str) -> "tuple[Blobs, Descriptor]":
    """The newest image that was built here of a model version, or the one with a digest."""
    from edgekit.oci.image import stored_root
    from edgekit.workspace import Workspace

    blobs = _store(Workspace.find()).blobs
    return blobs, stored_root(blobs, recorded_digest(name))


def recorded(registry: "Registry", name: str) -> "list[ImageRecord]":
    """The records of an image: by its place, its digest, or the model version in it."""
    from edgekit.oci.descriptor import is_digest
    from edgekit.registry import ModelRef

    if is_digest(name):
        return registry.images(digest=name)
    if "/" in name or name.startswith(("oci:", "docker")):
        return [record for record in registry.images() if record.reference == name]
    return registry.images(model=registry.get(ModelRef.parse(name)).ref)


def recorded_digest(name: str) -> str:
    """The digest of the newest image recorded under a name.

    Raises:
        NotFound: none was built here.
    """
    from edgekit.errors import NotFound
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    found = recorded(Registry.open(Workspace.find()), name)
    if not found:
        raise NotFound(f"no image of {name} was built here", f"edgekit image build {name}")
    return found[-1].digest


@contextmanager
def _telling() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of a build: one bar that names what is going on, on a terminal only."""
    import sys

    if not sys.stderr.isatty():
        yield lambda _what, _step, _total: None
        return
    from rich.console import Console
    from rich.status import Status

    with Status("planning", console=Console(stderr=True)) as status:
        yield lambda what, step, _total: status.update(f"{what} ({_size(step)})")


def _shared(platforms: tuple[str, ...]) -> str:
    return ", ".join(platform.removeprefix("linux/") for platform in platforms)


def _size(count: int) -> str:
    """Bytes for people, in decimal units as registries show them."""
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"
