"""`edgekit model`: register, list, quantize and delete models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.model_lineage import lineage, lines
from edgekit.cli.model_measure import profile, quantize
from edgekit.cli.model_move import download, export_all, import_all, pull, push
from edgekit.cli.output import json_option, print_json, print_table, say
from edgekit.cli.registered import (
    FILE,
    LABEL,
    joined,
    labels,
    open_registry,
    wanted_labels,
)

if TYPE_CHECKING:
    from edgekit.registry import ProfileRecord


@click.group()
def model() -> None:
    """Register, list, quantize and delete models.

    A model is a name with versions, counted from 1, that never change. Where a command takes a
    REF, write NAME:VERSION, or NAME alone for the newest version.

    \b
    Examples:
      edgekit model register digits.onnx --name digits --tag data=uci
      edgekit model list --latest
      edgekit model quantize digits --calibration calibration.npz --test test.npz
      edgekit model download digits-int8 -o digits-int8.onnx
    """


@model.command()
@click.argument("path", type=FILE)
@click.option("--name", required=True, help="Name of the model; a new one begins at version 1.")
@click.option("--tag", "tags", multiple=True, metavar=LABEL, help="Can be changed later.")
@click.option("--property", "properties", multiple=True, metavar=LABEL, help="Cannot be changed.")
@click.option("--framework", default="onnx", show_default=True, help="What the file is for.")
@click.option("--score", type=FILE, help="A script that loads it: init() and run(data).")
@click.option("--requirements", type=FILE, help="A requirements.txt of what the script imports.")
@json_option
def register(
    path: Path,
    name: str,
    tags: Sequence[str],
    properties: Sequence[str],
    framework: str,
    score: Path | None,
    requirements: Path | None,
    as_json: bool,
) -> None:
    """Store the model file PATH as the next version of a name.

    An ONNX file is checked, its inputs and outputs are read, and weights that it keeps in files
    beside it are stored with it. A file of another framework is stored as it is, with the script
    that loads it.

    \b
    Examples:
      edgekit model register digits.onnx --name digits
      edgekit model register digits.onnx --name digits --tag stage=trial --property data=uci
      edgekit model register model.pkl --name trees --framework sklearn \\
          --score score.py --requirements requirements.txt
    """
    registered = open_registry(create=True).register(
        path,
        name,
        tags=labels(tags),
        properties=labels(properties),
        framework=framework,
        score=score,
        requirements=requirements,
    )
    if as_json:
        print_json(registered.as_dict())
        return
    click.echo(f"Registered {registered.ref}  {registered.digest}  {registered.total_size:,} bytes")
    for file in registered.files:
        click.echo(f"  with {file.path} ({file.role}, {file.size:,} bytes)")


@model.command(name="list")
@click.argument("text", required=False)
@click.option("--name", help="Only versions of this model.")
@click.option("--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="Only with this tag.")
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="KEY[=VALUE]",
    help="Only with this property.",
)
@click.option("--framework", help="Only of this framework.")
@click.option("--latest", is_flag=True, help="Only the newest version of each model.")
@click.option("--uses", metavar="REF", help="Only what was made from this version.")
@click.option("--deleted", is_flag=True, help="What is deleted and can still be restored.")
@json_option
def list_models(
    text: str | None,
    name: str | None,
    tags: Sequence[str],
    properties: Sequence[str],
    framework: str | None,
    latest: bool,
    uses: str | None,
    deleted: bool,
    as_json: bool,
) -> None:
    """List what is registered.

    With TEXT, only what has it in its name, framework, tags, properties or aliases.

    \b
    Examples:
      edgekit model list
      edgekit model list mnist
      edgekit model list --latest --tag stage=production
      edgekit model list --uses digits:1
      edgekit model list --name digits --json
    """
    from edgekit.registry import ModelRef, Query

    registry = open_registry()
    found = registry.models(
        Query(
            name=name,
            tags=wanted_labels(tags),
            properties=wanted_labels(properties),
            framework=framework,
            latest=latest,
            uses=None if uses is None else ModelRef.parse(uses),
            text=text,
            deleted=deleted,
        )
    )
    if as_json:
        newest = {record.model: record.as_dict() for record in registry.profiles()}
        print_json(
            {
                "models": [
                    {**version.as_dict(), "profile": newest.get(version.ref)} for version in found
                ]
            }
        )
    elif not found:
        say("Nothing found. Register a model: edgekit model register PATH --name NAME")
    else:
        print_table(
            "",
            ["Model", "Aliases", "Bytes", "Digest", "Made from", "Tags", "Registered"],
            [
                (
                    str(version.ref),
                    " ".join(version.aliases),
                    f"{version.total_size:,}",
                    version.digest.removeprefix("sha256:")[:12],
                    str(version.parent or ""),
                    joined(version.tags),
                    version.created.astimezone().strftime("%Y-%m-%d %H:%M"),
                )
                for version in found
            ],
        )


@model.command()
@click.argument("ref")
@json_option
def show(ref: str, as_json: bool) -> None:
    """Show all that is known of a version.

    \b
    Examples:
      edgekit model show digits
      edgekit model show digits:1 --json
    """
    from edgekit.registry import ArtefactQuery, ModelRef

    registry = open_registry()
    version = registry.get(ModelRef.parse(ref))
    profiles = registry.profiles(version.ref)
    made = ArtefactQuery(model=version.ref)
    images, graphs = registry.images(made), registry.graphs(made)
    tree = lineage(registry, version)
    if as_json:
        running = registry.deployments(version.ref)
        print_json(
            {
                **version.as_dict(),
                "profiles": [record.as_dict() for record in profiles],
                "images": [image.as_dict() for image in images],
                "graphs": [graph.as_dict() for graph in graphs],
                "deployments": [deployment.as_dict() for deployment in running],
                "lineage": tree,
            }
        )
        return
    about = [
        ("Model", str(version.ref)),
        ("Digest", version.digest),
        ("Size", f"{version.size:,} bytes"),
        *(("With", f"{file.path} ({file.role}, {file.size:,} bytes)") for file in version.files),
        ("Framework", version.framework),
        *(("Input", str(spec)) for spec in version.inputs),
        *(("Output", str(spec)) for spec in version.outputs),
        ("Aliases", " ".join(version.aliases) or "-"),
        ("Tags", joined(version.tags) or "-"),
        ("Properties", joined(version.properties) or "-"),
        ("Made from", str(version.parent or "-")),
        ("Registered", version.created.astimezone().isoformat(" ", "seconds")),
        *(("Profile", text) for record in profiles for text in _profiled(record)),
    ]
    for label, text in about:
        click.echo(f"{label + ':':<14}{text}")
    click.echo("Lineage:")
    for line in lines(tree):
        click.echo(f"  {line}")


@model.command()
@click.argument("ref")
@click.argument("tags", nargs=-1, metavar="KEY=VALUE...")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove this tag.")
@json_option
def tag(ref: str, tags: Sequence[str], remove: Sequence[str], as_json: bool) -> None:
    """Set and remove tags of a version.

    \b
    Examples:
      edgekit model tag digits:3 stage=production
      edgekit model tag digits:3 --remove stage
    """
    from edgekit.registry import ModelRef

    if not tags and not remove:
        raise click.UsageError("Name a tag to set (KEY=VALUE) or to --remove.")
    changes: dict[str, str | None] = {**labels(tags), **dict.fromkeys(remove)}
    changed = open_registry().tag(ModelRef.parse(ref), changes)
    if as_json:
        print_json(changed.as_dict())
    else:
        click.echo(f"{changed.ref}  {joined(changed.tags) or 'no tags'}")


@model.command()
@click.argument("ref")
@click.argument("name")
@click.option(
    "--protect/--no-protect",
    "protected",
    default=None,
    help="Keep the version from being deleted and the alias from being moved; or lift this.",
)
@click.option("--remove", is_flag=True, help="Remove the alias.")
@json_option
def alias(ref: str, name: str, protected: bool | None, remove: bool, as_json: bool) -> None:
    """Let a NAME stand for a version.

    It can then be written instead of the number, and moved to another version later.

    \b
    Examples:
      edgekit model alias digits:3 production --protect
      edgekit model alias digits:4 production --no-protect
      edgekit model alias digits production --remove
    """
    from edgekit.registry import ModelRef

    registry, wanted = open_registry(), ModelRef.parse(ref)
    if remove:
        registry.remove_alias(wanted.name, name)
        result = {"model": wanted.name, "alias": name, "removed": True}
        text = f"Removed the alias {wanted.name}:{name}"
    else:
        version = registry.set_alias(wanted, name, protected=protected)
        result = version.as_dict()
        text = f"{wanted.name}:{name} is {version.ref}"
    if as_json:
        print_json(result)
    else:
        click.echo(text)


@model.command()
@click.argument("ref")
@json_option
def delete(ref: str, as_json: bool) -> None:
    """Delete a version that nothing is made from.

    It is refused while an image, an FPGA package or another version is made from it, or a protected
    alias stands for it; the message names them. Until garbage collection it can be restored.

    \b
    Examples:
      edgekit model delete digits:3
    """
    from edgekit.registry import ModelRef

    gone = open_registry().delete(ModelRef.parse(ref))
    if as_json:
        print_json({"deleted": str(gone.ref)})
    else:
        click.echo(f"Deleted {gone.ref}")


@model.command()
@click.argument("ref")
@json_option
def restore(ref: str, as_json: bool) -> None:
    """Bring back a deleted version.

    \b
    Examples:
      edgekit model list --deleted
      edgekit model restore digits:3
    """
    from edgekit.registry import ModelRef

    back = open_registry().restore(ModelRef.parse(ref))
    if as_json:
        print_json(back.as_dict())
    else:
        click.echo(f"Restored {back.ref}")


@model.command()
@click.option(
    "--deleted-for",
    "days",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Only what was deleted at least so long ago.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def gc(days: float, dry_run: bool, as_json: bool) -> None:
    """Remove deleted versions for good.

    Their files go with them, and files that nothing names any more. Files younger than an hour
    stay: another process may be registering them.

    \b
    Examples:
      edgekit model gc --dry-run
      edgekit model gc --deleted-for 0
    """
    from datetime import timedelta

    done = open_registry().collect_garbage(deleted_for=timedelta(days=days), dry_run=dry_run)
    if as_json:
        print_json(
            {
                "versions": [str(ref) for ref in done.versions],
                "files": done.blobs,
                "leftovers": done.leftovers,
                "bytes": done.freed,
                "dry_run": dry_run,
            }
        )
        return
    for ref in done.versions:
        click.echo(f"{ref}")
    click.echo(
        f"{'Would remove' if dry_run else 'Removed'} {len(done.versions)} versions and "
        f"{len(done.blobs)} files, {done.freed:,} bytes"
    )


def _profiled(record: "ProfileRecord") -> tuple[str, str]:
    """A profile in two lines: what was measured, and where."""
    measured = record.measured
    when = record.created.astimezone().strftime("%Y-%m-%d %H:%M")
    latency = f"{measured['p50'] * 1e6:,.0f} µs median, {measured['p99'] * 1e6:,.0f} µs 99%"
    return (
        f"{latency}, {measured['memory'] / 1e6:,.1f} MB of memory",
        f"  {when} on {measured['machine']}, threads: {measured['threads']}",
    )


for _command in (download, export_all, import_all, profile, pull, push, quantize):
    model.add_command(_command)
