"""Finding and tagging what was made from models: the same for images and FPGA packages."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgekit.cli.image_named import recorded, shared, size
from edgekit.cli.output import json_option, print_json, print_table, say
from edgekit.cli.registered import joined, labels, open_registry, wanted_labels

if TYPE_CHECKING:
    from edgekit.registry import ArtefactQuery, Registry

F = TypeVar("F", bound=Callable[..., Any])

_WANTED = "KEY[=VALUE]"
_PROPERTY = "Only with this property."


def _search_options(command: F) -> F:
    """What images and FPGA packages are looked for by."""
    for decorate in (
        click.option("--property", "properties", multiple=True, metavar=_WANTED, help=_PROPERTY),
        click.option("--tag", "tags", multiple=True, metavar=_WANTED, help="Only with this tag."),
        click.option("--uses", metavar="REF", help="Only what comes from this version."),
        click.option("--model", help="Only of this model, NAME or NAME:VERSION."),
        click.argument("text", required=False),
    ):
        command = decorate(command)
    return command


def _query(
    text: str | None,
    model: str | None,
    uses: str | None,
    tags: Sequence[str],
    properties: Sequence[str],
    latest: bool,
    board: str | None = None,
) -> "ArtefactQuery":
    from edgekit.registry import ArtefactQuery, ModelRef

    return ArtefactQuery(
        model=None if model is None else ModelRef.parse(model),
        uses=None if uses is None else ModelRef.parse(uses),
        tags=wanted_labels(tags),
        properties=wanted_labels(properties),
        board=board,
        latest=latest,
        text=text,
    )


@click.command("list")
@_search_options
@click.option("--latest", is_flag=True, help="Only the newest image of each model.")
@json_option
def list_images(as_json: bool, **wanted: Any) -> None:
    """List the images that were made, oldest first.

    With TEXT, only those that have it in their model's name, their digest, place, tags or
    properties.

    \b
    Examples:
      edgekit image list
      edgekit image list --model digits:1 --json
      edgekit image list --uses digits:1 --tag stage=production
      edgekit image list registry.example.com --latest
    """
    found = open_registry().images(_query(**wanted))
    if as_json:
        print_json({"images": [record.as_dict() for record in found]})
    elif not found:
        say("No such images. Make one: edgekit image build MODEL:VERSION")
    else:
        print_table(
            "",
            ("model", "digest", "platforms", "where", "tags", "made"),
            [
                (
                    str(record.model),
                    _short(record.digest),
                    shared(record.platforms),
                    record.reference,
                    joined(record.tags),
                    record.created.astimezone().strftime("%Y-%m-%d %H:%M"),
                )
                for record in found
            ],
        )


@click.command("list")
@_search_options
@click.option("--board", help="Only for this board.")
@click.option("--latest", is_flag=True, help="Only the newest for each model and board.")
@json_option
def list_packages(as_json: bool, **wanted: Any) -> None:
    """List the FPGA packages in the registry, oldest first.

    With TEXT, only those that have it in their model's name, their digest, board, tags or
    properties.

    \b
    Examples:
      edgekit fpga list
      edgekit fpga list --uses digits:1 --latest
      edgekit fpga list --board ecp5-85f --tag stage=production --json
    """
    found = open_registry().graphs(_query(**wanted))
    if as_json:
        print_json({"packages": [record.as_dict() for record in found]})
    elif not found:
        say("No such packages. Make one: edgekit fpga compile MODEL:VERSION -o FILE")
    else:
        print_table(
            "",
            ("model", "board", "cycles", "size", "digest", "tags", "made"),
            [
                (
                    str(record.model),
                    record.board,
                    f"{record.cycles:,}",
                    size(record.size),
                    _short(record.digest),
                    joined(record.tags),
                    record.created.astimezone().strftime("%Y-%m-%d %H:%M"),
                )
                for record in found
            ],
        )


@click.command("tag")
@click.argument("name")
@click.argument("tags", nargs=-1, metavar="KEY=VALUE...")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove this tag.")
@json_option
def tag_image(name: str, tags: Sequence[str], remove: Sequence[str], as_json: bool) -> None:
    """Set and remove tags of the image NAME, in all places where it is recorded.

    NAME is a model version whose image was built here, a digest, oci:DIR or REGISTRY/NAME:TAG.

    \b
    Examples:
      edgekit image tag digits:1 stage=production
      edgekit image tag registry.example.com/digits:1 --remove stage
    """
    from edgekit.errors import NotFound

    registry, changes = open_registry(), _changes(tags, remove)
    found = recorded(registry, name)
    if not found:
        raise NotFound(f"no image {name} is recorded here", "edgekit image list shows them")
    _tag(registry, found[-1].digest, changes, as_json)


@click.command("tag")
@click.argument("package")
@click.argument("tags", nargs=-1, metavar="KEY=VALUE...")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove this tag.")
@json_option
def tag_package(package: str, tags: Sequence[str], remove: Sequence[str], as_json: bool) -> None:
    """Set and remove tags of an FPGA package in the registry.

    PACKAGE is its digest or NAME:VERSION[@BOARD], whose newest package it then is.

    \b
    Examples:
      edgekit fpga tag digits-int8:1 stage=production
      edgekit fpga tag digits-int8:1@ecp5-85f --remove stage
    """
    registry, changes = open_registry(), _changes(tags, remove)
    _tag(registry, _digest(registry, package), changes, as_json)


@click.command("delete")
@click.argument("package")
@json_option
def delete_package(package: str, as_json: bool) -> None:
    """Delete an FPGA package from the registry.

    PACKAGE is its digest or NAME:VERSION[@BOARD], whose newest package it then is. Its file goes
    with `edgekit model gc`.

    \b
    Examples:
      edgekit fpga delete digits-int8:1@ecp5-85f
    """
    registry = open_registry()
    digest = _digest(registry, package)
    registry.delete_graph(digest)
    if as_json:
        print_json({"deleted": digest})
    else:
        click.echo(f"Deleted {digest}")


def _digest(registry: "Registry", package: str) -> str:
    from edgekit.packager.fpga import stored_package

    return package if package.startswith("sha256:") else stored_package(registry, package)[1].digest


def _changes(tags: Sequence[str], remove: Sequence[str]) -> dict[str, str | None]:
    if not tags and not remove:
        raise click.UsageError("Name a tag to set (KEY=VALUE) or to --remove.")
    return {**labels(tags), **dict.fromkeys(remove)}


def _tag(
    registry: "Registry", digest: str, changes: Mapping[str, str | None], as_json: bool
) -> None:
    changed = registry.tag_artefact(digest, changes)
    if as_json:
        print_json({"changed": [record.as_dict() for record in changed]})
    else:
        click.echo(f"{digest}  {joined(changed[0].tags) or 'no tags'}")


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
