"""From what a fleet file calls an image to a reference by digest."""

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgekit.errors import ManifestError
from edgekit.fleet.hub import Configuration
from edgekit.registry.records import Carried

if TYPE_CHECKING:
    from edgekit.registry import Registry

LAYOUT = "oci:"  # a reference to a folder, from which no device can pull

# a reference as written in the file -> OCI reference by digest
ImageResolver = Callable[[str], str]

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}\Z")
_ANYWHERE = re.compile(r"@(sha256:[0-9a-f]{64})\b")
_MODEL = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?::(?:[1-9][0-9]*|latest))?\Z")


def is_by_digest(reference: str) -> bool:
    """Whether the reference names one image for ever."""
    return _DIGEST.search(reference) is not None


def carried(configuration: Configuration) -> Carried:
    """The condition of a deployment, and the digests of all images that it names."""
    text = json.dumps(dict(configuration.content))
    return Carried(configuration.condition, frozenset(_ANYWHERE.findall(text)))


def is_model(reference: str) -> bool:
    """Whether the reference is a model's (`digits`, `digits:1`): an image's holds a slash."""
    return _MODEL.match(reference) is not None


def no_records(reference: str) -> str:
    """The resolver where there is no registry of models: refuses every model reference.

    Raises:
        ManifestError: always.
    """
    raise ManifestError(
        f"no image of {reference} is known here",
        f"name it: --image {reference}=HOST/NAME@sha256:DIGEST",
    )


def recorded(open_registry: "Callable[[], Registry]") -> ImageResolver:
    """A resolver that takes the newest image recorded for a model version.

    Args:
        open_registry: called once, when the first model is asked for.

    Returns:
        A resolver that raises ManifestError when no image of the model is in an OCI registry.
    """
    opened: list[Registry] = []

    def newest(reference: str) -> str:
        from edgekit.registry import ArtefactQuery, ModelRef

        if not opened:
            opened.append(open_registry())
        # NAME alone is the newest version, not whichever version was built last
        model = opened[0].get(ModelRef.parse(reference)).ref
        images = opened[0].images(ArtefactQuery(model=model))
        pullable = [image for image in images if not image.reference.startswith(LAYOUT)]
        if not pullable:
            built = f" but in {images[-1].reference}" if images else ""
            raise ManifestError(
                f"no image of {model} is in a registry{built}",
                f"build and push one (edgekit image build {model}), or name it with --image",
            )
        return f"{_without_tag(pullable[-1].reference)}@{pullable[-1].digest}"

    return newest


def _without_tag(reference: str) -> str:
    host, slash, name = reference.partition("@")[0].rpartition("/")
    return f"{host}{slash}{name.partition(':')[0]}"


def not_looked_up(reference: str) -> str:
    """The resolver for looking at a file's form alone: a digest of zeros for every model."""
    return f"model/{reference.partition(':')[0]}@sha256:{'0' * 64}"


def from_table(images: Mapping[str, str], otherwise: ImageResolver = no_records) -> ImageResolver:
    """A resolver that looks into `images` first (reference -> image by digest).

    Raises:
        ManifestError: a value in `images` is not by digest.
    """
    for reference, image in images.items():
        if not is_by_digest(image):
            raise ManifestError(
                f"--image {reference}={image} is not by digest", "write it as NAME@sha256:DIGEST"
            )
    return lambda reference: images[reference] if reference in images else otherwise(reference)


def resolve(reference: str, resolver: ImageResolver) -> str:
    """The image by digest that `reference` stands for.

    Args:
        reference: an OCI reference by digest, a model reference, or anything the resolver knows.
        resolver: asked for all that is not by digest.

    Raises:
        ManifestError: it is a tag, which can move, or the resolver knows no image of it.
    """
    if is_by_digest(reference):
        return reference
    if is_model(reference):
        found = resolver(reference)
        if not is_by_digest(found):
            raise ManifestError(f"the image of {reference} is {found}, which is not by digest")
        return found
    raise ManifestError(
        f"image {reference} is a tag, which can move",
        "write it as NAME@sha256:DIGEST, or name a model: digits:1",
    )
