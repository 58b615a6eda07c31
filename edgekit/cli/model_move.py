"""`edgekit model push, pull, download, export, import`: models from place to place."""

from pathlib import Path

import click

from edgekit.cli.image_named import PLAIN_HTTP
from edgekit.cli.output import json_option, print_json, progress, say
from edgekit.cli.registered import FILE, open_registry


@click.command()
@click.argument("ref")
@click.argument("target", metavar="REGISTRY/NAME:TAG")
@PLAIN_HTTP
@json_option
def push(ref: str, target: str, plain_http: bool, as_json: bool) -> None:
    """Put a version into an OCI registry.

    It becomes a ModelPack artefact of the CNCF, which other tools can read; its tags, properties
    and parent go with it.

    \b
    Examples:
      edgekit model push digits:1 registry.example.com/models/digits:1
      edgekit model push digits:production localhost:5000/digits:1 --json
    """
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.registry import ModelRef
    from edgekit.registry.modelpack import push_model

    goal = Reference.parse(target)
    registry = open_registry()
    version = registry.get(ModelRef.parse(ref))
    with (
        RegistryClient(goal, plain_http=plain_http) as client,
        progress("push", version.total_size) as advance,
    ):
        pushed = push_model(registry, version.ref, goal, client, advance)
    if as_json:
        print_json(
            {
                "ref": str(version.ref),
                "reference": target,
                "digest": pushed.reference.digest,
                "bytes_uploaded": pushed.bytes_uploaded,
            }
        )
        return
    click.echo(str(pushed.reference))
    say(f"{version.ref}: {pushed.bytes_uploaded:,} bytes uploaded")


@click.command()
@click.argument("source", metavar="REGISTRY/NAME:TAG")
@click.option("--name", help="Name to register it under.  [default: the one it has]")
@PLAIN_HTTP
@json_option
def pull(source: str, name: str | None, plain_http: bool, as_json: bool) -> None:
    """Register a model from an OCI registry as the next version of its name.

    It is checked as any other, and keeps its tags and properties. Where the version it was made
    from is registered here, it is its parent here too.

    \b
    Examples:
      edgekit model pull registry.example.com/models/digits:1
      edgekit model pull localhost:5000/digits:1 --name digits-from-lab
    """
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.registry.modelpack import pull_model

    origin = Reference.parse(source)
    with RegistryClient(origin, plain_http=plain_http) as client, progress("pull") as advance:
        version = pull_model(open_registry(create=True), origin, client, name, advance)
    if as_json:
        print_json(version.as_dict())
    else:
        click.echo(f"Registered {version.ref}  {version.digest}  {version.total_size:,} bytes")


@click.command(name="export")
@click.argument("archive", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def export_all(archive: Path, as_json: bool) -> None:
    """Write everything that is registered to one file.

    Models with their files, tags, aliases and history; images and FPGA packages made from them.

    \b
    Examples:
      edgekit model export registry.tar
    """
    count = open_registry().export_archive(archive)
    if as_json:
        print_json({"path": str(archive), "versions": count, "bytes": archive.stat().st_size})
    else:
        click.echo(f"Wrote {archive}  {count} versions  {archive.stat().st_size:,} bytes")


@click.command(name="import")
@click.argument("archive", type=FILE)
@json_option
def import_all(archive: Path, as_json: bool) -> None:
    """Take in everything from such a file.

    All of it or, where a model of the same name is here already or the file is damaged, nothing.

    \b
    Examples:
      edgekit model import registry.tar
    """
    count = open_registry(create=True).import_archive(archive)
    if as_json:
        print_json({"path": str(archive), "versions": count})
    else:
        click.echo(f"Took in {count} versions from {archive}")


@click.command()
@click.argument("ref")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="File or folder to write to.  [default: NAME-VERSION.onnx]",
)
@json_option
def download(ref: str, output: Path | None, as_json: bool) -> None:
    """Copy a version's file out of the registry, verified.

    What belongs to it is written beside it: weights in other files, the scoring script.

    \b
    Examples:
      edgekit model download digits -o digits.onnx
      edgekit model download digits:1 -o models/
    """
    from edgekit.registry import ModelRef

    registry = open_registry()
    version = registry.get(ModelRef.parse(ref))
    target = output or Path()
    if target.is_dir():
        suffix = Path(version.filename).suffix or f".{version.framework}"
        target = target / f"{version.name}-{version.version}{suffix}"
    written = registry.copy_model(version.ref, target)
    if as_json:
        paths = [str(path) for path in written]
        print_json(
            {
                "ref": str(version.ref),
                "path": str(target),
                "paths": paths,
                "digest": version.digest,
            }
        )
        return
    for path in written[:-1]:
        click.echo(f"Wrote {path}")
    click.echo(f"Wrote {target}  {version.digest}")
