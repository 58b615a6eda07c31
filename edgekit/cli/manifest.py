"""`edgekit manifest`: build, check and compare deployment manifests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import json_option, print_json, say
from edgekit.errors import ManifestError

if TYPE_CHECKING:
    from edgekit.fleet import ImageResolver
    from edgekit.manifest import Change
    from edgekit.registry import Registry

FILE = click.Path(path_type=Path, dir_okay=False)
_SHOWN = 60

image_option = click.option(
    "--image",
    "images",
    multiple=True,
    metavar="MODEL=IMAGE",
    help="The image of a model, by digest, instead of the newest recorded; can be repeated.",
)


def resolver(images: tuple[str, ...]) -> "ImageResolver":
    """The resolver for `--image MODEL=NAME@sha256:...` options, else the workspace's records.

    Raises:
        ManifestError: an option does not read.
    """
    from edgekit.fleet import from_table, recorded

    table = {}
    for text in images:
        model, equals, image = text.partition("=")
        if not equals:
            raise ManifestError(f"--image {text} does not read", "write --image MODEL=IMAGE")
        table[model] = image
    return from_table(table, recorded(_registry))


def _registry() -> "Registry":
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    return Registry.open(Workspace.find())


@click.group()
def manifest() -> None:
    """Generate, check and compare deployment manifests.

    \b
    Examples:
      edgekit manifest build fleet.yaml --group line-a -o line-a.json
      edgekit manifest check fleet.yaml
      edgekit manifest diff line-a.json fleet.yaml --group line-a
    """


@manifest.command()
@click.argument("fleet", type=FILE)
@click.option("--group", help="The group; needed where the file has several.")
@click.option("--output", "-o", type=FILE, help="Write here instead of to stdout.")
@image_option
@json_option
def build(
    fleet: Path, group: str | None, output: Path | None, images: tuple[str, ...], as_json: bool
) -> None:
    """Build the manifest of a group of FLEET, a fleet file.

    \b
    Examples:
      edgekit manifest build fleet.yaml
      edgekit manifest build fleet.yaml --group line-a -o line-a.json
      edgekit manifest build fleet.yaml --image digits:1=localhost:5000/digits@sha256:...
    """
    from edgekit.fleet import load_fleet
    from edgekit.manifest import content_digest
    from edgekit.manifest.storing import store

    loaded = load_fleet(fleet, resolver(images))
    if group is None and len(loaded.groups) > 1:
        names = ", ".join(item.name for item in loaded.groups)
        raise ManifestError(f"{fleet} has several groups", f"choose one with --group: {names}")
    chosen = loaded.group(group) if group else loaded.groups[0]
    if output:
        store(output, json.dumps(chosen.manifest, indent=2).encode() + b"\n")
        say(f"{output}: manifest of group {chosen.name}, {len(chosen.modules)} modules")
    if as_json:
        print_json(
            {
                "fleet": loaded.name,
                "group": chosen.name,
                "digest": content_digest(chosen.manifest),
                "path": str(output) if output else None,
                "manifest": chosen.manifest,
            }
        )
    elif not output:
        print_json(chosen.manifest)


@manifest.command()
@click.argument("file", type=FILE)
@json_option
def check(file: Path, as_json: bool) -> int:
    """Look for what the hub or the device would refuse or ignore in FILE.

    FILE is a fleet file or a manifest as JSON. Images of models are not looked up. Exits 1 when
    there are errors; warnings alone exit 0.

    \b
    Examples:
      edgekit manifest check fleet.yaml
      edgekit manifest check deployment.json --json
    """
    from edgekit.fleet.images import not_looked_up
    from edgekit.manifest import Severity
    from edgekit.manifest import check as check_manifest

    found = [
        (group, finding)
        for group, content in _manifests(file, None, not_looked_up).items()
        for finding in check_manifest(content)
    ]
    errors = sum(finding.severity is Severity.ERROR for _, finding in found)
    if as_json:
        rows = [
            {
                "group": group,
                "severity": finding.severity,
                "path": finding.path,
                "message": finding.message,
            }
            for group, finding in found
        ]
        print_json({"file": str(file), "ok": not errors, "findings": rows})
    else:
        for group, finding in found:
            where = f"{group}: {finding.path}" if group else finding.path
            click.echo(f"{finding.severity}: {where}: {finding.message}")
        warnings = len(found) - errors
        say(f"{file}: {_counted(errors, 'error')}, {_counted(warnings, 'warning')}")
    return 1 if errors else 0


@manifest.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--group", help="Of a fleet file, this group.")
@image_option
@json_option
def diff(
    before: Path, after: Path, group: str | None, images: tuple[str, ...], as_json: bool
) -> int:
    """Show what is different between two manifests, or two fleet files.

    createOptions are compared as objects. Exits 0 when they are equal, 3 when not.

    \b
    Examples:
      edgekit manifest diff old.json new.json
      edgekit manifest diff deployed.json fleet.yaml --group line-a
    """
    from edgekit.manifest import diff as difference
    from edgekit.manifest import readable

    resolve = resolver(images)
    sides = [_manifests(file, group, resolve) for file in (before, after)]
    if any(list(side) == [""] for side in sides):
        # a manifest has no group's name: compare it with the one that the other file has
        for file, side in zip((before, after), sides, strict=True):
            if len(side) != 1:
                raise ManifestError(f"{file} has several groups", "choose one with --group")
        contents = [readable(next(iter(side.values()))["modulesContent"]) for side in sides]
    else:
        contents = [
            {name: readable(item["modulesContent"]) for name, item in side.items()}
            for side in sides
        ]
    changes = difference(*contents)
    if as_json:
        print_json({"equal": not changes, "changes": [vars(change) for change in changes]})
    else:
        print_changes(changes)
    return 3 if changes else 0


def _manifests(
    file: Path, group: str | None, resolve: "ImageResolver"
) -> dict[str, Mapping[str, Any]]:
    """The manifests in a file by group; the group of a bare manifest is ""."""
    from edgekit.fleet import load_fleet
    from edgekit.manifest import modules_content

    if file.suffix != ".json":
        fleet = load_fleet(file, resolve, refuse=False)
        chosen = [fleet.group(group)] if group else fleet.groups
        return {item.name: item.manifest for item in chosen}
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise ManifestError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{file} is no JSON ({error})") from error
    try:
        return {"": {"modulesContent": modules_content(data)}}
    except ManifestError as error:
        raise ManifestError(f"{file}: {error}", error.hint) from error


def print_changes(changes: "list[Change]") -> None:
    """One line for each change on stdout: + added, - removed, ~ changed."""
    signs = {"added": "+", "removed": "-", "changed": "~"}
    for change in changes:
        if change.kind == "changed":
            values = f"{_short(change.before)} -> {_short(change.after)}"
        else:
            values = _short(change.after if change.kind == "added" else change.before)
        click.echo(f"{signs[change.kind]} {change.where}: {values}")


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
