"""`edgekit image`: turn a model version into a module image, and bring it to where it is used."""

import click

from edgekit.cli.artefacts import list_images, tag_image
from edgekit.cli.image_build import build, push
from edgekit.cli.image_delta import apply_delta, delta
from edgekit.cli.image_keys import keygen, public_key
from edgekit.cli.image_move import bundle, copy, delete, unbundle
from edgekit.cli.image_show import diff, show
from edgekit.cli.image_trust import sbom, sign, verify


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


for _command in (
    *(apply_delta, build, bundle, copy, delete, delta, diff, keygen, list_images),
    *(public_key, push, sbom, show, sign, tag_image, unbundle, verify),
):
    image.add_command(_command)
