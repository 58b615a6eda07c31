"""Deltas between the model layers of two images."""

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.errors import ImageError
from edgekit.oci.blobs import Blobs
from edgekit.oci.deltas import delta_size, make_delta
from edgekit.oci.describe import describe
from edgekit.oci.descriptor import Descriptor
from edgekit.packager.recipes import MODEL_LEVEL

# blobs, the image's root in them, and what brings a layer into them
Source = tuple[Blobs, Descriptor, Callable[[Descriptor], None]]


@dataclass(frozen=True)
class ModelDelta:
    """A delta that was made.

    Args:
        artifact: its manifest, in the new image's blobs.
        platforms: that it serves.
        size: of the delta, in bytes.
        whole: bytes of the layer that it stands for.
    """

    artifact: Descriptor
    platforms: tuple[str, ...]
    size: int
    whole: int


def model_deltas(old: Source, new: Source) -> list[ModelDelta]:
    """Make the deltas for the model's layer of each platform that both images have.

    Raises:
        ImageError: they have no model's layer on a common platform, or the same one.
        OciError: the layers share too little.
    """
    (old_blobs, old_root, fetch_old), (blobs, root, fetch) = old, new
    before, after = _model_layers(old_blobs, old_root), _model_layers(blobs, root)
    pairs: dict[tuple[str, str], list[str]] = {}
    for platform in before.keys() & after.keys():
        pair = (before[platform].digest, after[platform].digest)
        pairs.setdefault(pair, []).append(platform)
    if not pairs:
        raise ImageError(
            "the images have no model on a platform in common", "name images of edgekit"
        )
    made = []
    for (source, target), platforms in sorted(pairs.items()):
        if source == target:
            continue
        held, wanted = before[platforms[0]], after[platforms[0]]
        fetch_old(held)
        fetch(wanted)
        artifact = make_delta(old_blobs, held, blobs, wanted, root, (MODEL_LEVEL,))
        served = tuple(sorted(platforms))
        made.append(ModelDelta(artifact, served, delta_size(blobs, artifact), wanted.size))
    if not made:
        raise ImageError("both images have the same model", "nothing is to be fetched")
    return made


def _model_layers(blobs: Blobs, root: Descriptor) -> dict[str, Descriptor]:
    """Platform -> its model's layer."""
    return {
        entry["platform"]: Descriptor(layer["media_type"], layer["digest"], layer["size"])
        for entry in describe(blobs, root)["platforms"]
        for layer in entry["layers"]
        if layer["by"] == "model"
    }
