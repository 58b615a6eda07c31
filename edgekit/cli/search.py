"""What commands that search images and FPGA packages share."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgekit.cli.registered import LABEL, wanted_labels

if TYPE_CHECKING:
    from edgekit.registry import ArtefactQuery

F = TypeVar("F", bound=Callable[..., Any])


def search_options(command: F) -> F:
    """Add the options that `artefact_query` takes."""
    for option in (
        click.option("--search", "text", help="Only where this stands in name, place or label."),
        click.option("--latest", is_flag=True, help="Only the newest of each model."),
        click.option("--property", "properties", metavar=LABEL, multiple=True, help="As --tag."),
        click.option("--tag", "tags", metavar=LABEL, multiple=True, help="KEY alone: any value."),
        click.option("--uses", help="Made of NAME:VERSION, or of what was made from that."),
        click.option("--model", help="Made of this model, NAME or NAME:VERSION."),
    ):
        command = option(command)
    return command


def artefact_query(
    model: str | None,
    uses: str | None,
    tags: Sequence[str],
    properties: Sequence[str],
    latest: bool,
    text: str | None,
    board: str | None = None,
) -> "ArtefactQuery":
    """What the options ask for."""
    from edgekit.registry import ArtefactQuery, ModelRef

    return ArtefactQuery(
        model=ModelRef.parse(model) if model else None,
        uses=ModelRef.parse(uses) if uses else None,
        tags=wanted_labels(tags),
        properties=wanted_labels(properties),
        board=board,
        latest=latest,
        text=text,
    )
