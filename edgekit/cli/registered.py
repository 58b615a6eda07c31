"""What commands on registered models share: the open registry, tags and properties as options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.output import say

if TYPE_CHECKING:
    from edgekit.registry import Registry

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
LABEL = "KEY=VALUE"


def open_registry(*, create: bool = False) -> "Registry":
    """The registry of the workspace found from here; with `create`, made where there is none."""
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    workspace = Workspace.find_or_create(announce=say) if create else Workspace.find()
    return Registry.open(workspace)


def labels(texts: Sequence[str]) -> dict[str, str]:
    """Tags or properties from `KEY=VALUE` texts.

    Raises:
        click.BadParameter: a text has no `=`.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE")
        found[key] = value
    return found


def wanted_labels(texts: Sequence[str]) -> dict[str, str | None]:
    """What to look for, from `KEY=VALUE` and `KEY` texts; None stands for any value."""
    pairs = (text.partition("=") for text in texts)
    return {key: value if equals else None for key, equals, value in pairs}


def joined(pairs: Mapping[str, str]) -> str:
    """Tags or properties as one text for people."""
    return " ".join(f"{key}={value}" for key, value in pairs.items())
