"""`edgekit image show, diff`: what is in an image, what changed."""

import click

from edgekit.cli.image_named import PLAIN_HTTP, located, size
from edgekit.cli.output import json_option, print_json, print_table, say


@click.command()
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
            (layer["by"], layer["digest"].removeprefix("sha256:")[:12], size(layer["size"]))
            for layer in entry["layers"]
        ]
        total = sum(layer["size"] for layer in entry["layers"])
        print_table(f"{entry['platform']}  {size(total)}", ("brought by", "digest", "size"), rows)
    click.echo(f"{value['digest']}")
    for key, text in sorted(value["annotations"].items()):
        click.echo(f"  {key} = {text}")


@click.command()
@click.argument("old")
@click.argument("new")
@PLAIN_HTTP
@json_option
def diff(old: str, new: str, plain_http: bool, as_json: bool) -> int:
    """Show which layers of NEW a device that has OLD would fetch. Exits 3 where any changed.

    \b
    Examples:
      edgekit image diff digits:1 digits:2
      edgekit image diff registry.example.com/digits:1 oci:out
    """
    from edgekit.oci.describe import changed_layers, describe

    with located(old, plain_http) as before, located(new, plain_http) as after:
        changes = changed_layers(describe(*before), describe(*after))
    if as_json:
        print_json({"changes": changes})
    elif not changes:
        say("the same layers")
    else:
        rows = [(each["platform"], each["by"], each["change"], each["size"]) for each in changes]
        print_table("", ("platform", "layer", "change", "bytes to fetch"), rows)
    return 3 if changes else 0
