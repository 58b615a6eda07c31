"""`edgekit image build, push`: make an image, and send it to a registry."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.image_named import FILE, PLAIN_HTTP, image_store, located, shared, size
from edgekit.cli.output import json_option, print_json, print_table, progress, say
from edgekit.cli.registered import LABEL, labels

if TYPE_CHECKING:
    from edgekit.oci.descriptor import Platform
    from edgekit.packager.image import BuiltImage
    from edgekit.packager.recipes import PackagedModel
    from edgekit.registry import ModelRef, ModelVersion, Registry, TensorSpec
    from edgekit.registry.records import Role


@click.command()
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
    type=FILE,
    help="A script with init() and run(data) that answers; the registered one by default.",
)
@click.option(
    "--requirements",
    type=FILE,
    help="A requirements.txt of what score.py imports.",
)
@click.option("--tag", "tags", multiple=True, metavar=LABEL, help="Can be changed later.")
@click.option("--property", "properties", multiple=True, metavar=LABEL, help="Cannot be changed.")
@click.option(
    "--fpga",
    metavar="BOARD",
    help="Put the model's FPGA package for this board into it, and what serves that.",
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
    metavar="PATH|pkcs11:URI",
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
    tags: tuple[str, ...],
    properties: tuple[str, ...],
    fpga: str | None,
    push_to: str | None,
    output: str | None,
    load_it: bool,
    compression: str,
    key: str | None,
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
      edgekit image build digits-int8:1 --fpga ecp5-85f --push registry.example.com/digits-fpga:1
    """
    from edgekit.oci.reference import Reference
    from edgekit.packager.deliver import Output, host_platform, load, push_ahead, write
    from edgekit.packager.image import build_image
    from edgekit.packager.materials import LOCAL_BUILDER
    from edgekit.packager.plan import DEFAULT_PLATFORMS, plan_image
    from edgekit.registry import ModelRef, Registry
    from edgekit.workspace import Workspace

    began = time.monotonic()
    # everything the user typed is read before anything is done
    if fpga and score:
        raise click.UsageError("--fpga serves a package as it is: give no --score")
    if key:
        from edgekit.oci.signers import open_signer

        with open_signer(key):
            """It opens; it signs when the image is where it goes."""
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
    version = registry.get(ModelRef.parse(model))
    ref = version.ref
    if not fpga:
        score = score or _stored(registry, version, "score")
        requirements = requirements or _stored(registry, version, "requirements")
    packaged = _packaged(registry, version, by_script=score is not None)
    if fpga:
        packaged = _with_package(registry, packaged, ref, fpga)
    store = image_store(workspace)
    with push_ahead(target, plain_http) as ahead:
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
            built = build_image(plan, store, tell, ahead.follow if ahead else None)
        uploaded = 0
        where = "local"
        if place:
            write(built, place, packaged.reference)
            where = str(place)
        if load_it:
            load(built, packaged.reference)
            where = f"docker:{packaged.reference}"
        if ahead and target:
            with progress("push") as advance:
                pushed = ahead.finish(
                    built.blobs, built.root, lambda _blob, step, _had: advance(step)
                )
            uploaded, where = pushed.bytes_uploaded, str(target)
    if key and target:
        from edgekit.cli.image_trust import sign_image

        sign_image(str(target.at(built.digest)), key, LOCAL_BUILDER, plain_http)
    registry.record_image(
        model=ref,
        digest=built.digest,
        reference=where,
        platforms=[str(platform) for platform in built.platforms],
        tags=labels(tags),
        properties=labels(properties) | ({"fpga.board": fpga} if fpga else {}),
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
            shared(layer.platforms),
            size(layer.size),
            "cached" if layer.cached else "built",
        )
        for layer in built.layers
    ]
    print_table(model.reference, ("layer", "for", "size", ""), rows)
    click.echo(built.digest)
    sent = f", {size(uploaded)} uploaded" if pushed_to else ""
    say(f"{where}: done in {seconds:.1f} s{sent}")


@click.command()
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
    say(f"{size(pushed.bytes_uploaded)} uploaded in {seconds:.1f} s")


def _record_again(digest: str, reference: str) -> None:
    """Where the image is recorded, record its new place too."""
    from edgekit.errors import WorkspaceError
    from edgekit.registry import ArtefactQuery, Registry
    from edgekit.workspace import Workspace

    try:
        registry = Registry.open(Workspace.find())
    except WorkspaceError:
        return
    for record in registry.images(ArtefactQuery(digest=digest))[:1]:
        registry.record_image(
            model=record.model,
            digest=digest,
            reference=reference,
            platforms=record.platforms,
            tags=record.tags,
            properties=record.properties,
        )


def _platforms(texts: tuple[str, ...]) -> "tuple[Platform, ...]":
    from edgekit.oci.descriptor import Platform

    return tuple(Platform.parse(part) for text in texts for part in text.split(","))


def _packaged(registry: "Registry", version: "ModelVersion", *, by_script: bool) -> "PackagedModel":
    """What goes into the image; a script finds the file by the name it was registered by."""
    from edgekit.packager.recipes import PackagedModel

    def plain(spec: "TensorSpec") -> dict[str, Any]:
        return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}

    def stored(digest: str) -> Callable[[], Path]:
        # hashed by whoever reads it into the layer
        return cache(lambda: registry.stored_file(digest, verify=False))

    return PackagedModel(
        version.name,
        version.version,
        version.digest,
        stored(version.digest),
        tuple(plain(spec) for spec in version.inputs),
        tuple(plain(spec) for spec in version.outputs),
        (str(version.parent),) if version.parent else (),
        kind="onnx" if version.framework == "onnx" else "file",
        filename=version.filename if by_script else "",
        others=tuple(
            (file.path, stored(file.digest), file.digest) for file in version.files_for("weights")
        ),
    )


def _stored(registry: "Registry", version: "ModelVersion", role: "Role") -> Path | None:
    """The file that was registered with a version for a role."""
    for file in version.files_for(role):
        return registry.stored_file(file.digest)
    return None


def _with_package(
    registry: "Registry", model: "PackagedModel", ref: "ModelRef", board: str
) -> "PackagedModel":
    """The same version, as its FPGA package for a board."""
    from dataclasses import replace

    from edgekit.packager.fpga import package_for

    record = package_for(registry, ref, board)
    file = cache(lambda: registry.graph_file(record))
    return replace(model, digest=record.digest, file=file, kind="npu", filename="", others=())


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
        yield lambda what, step, _total: status.update(f"{what} ({size(step)})")
