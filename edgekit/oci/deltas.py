"""A layer as the difference from an older one: an artefact beside the image, for whoever has both.

The artefact refers to the image, so that a device that is about to pull finds it. It is only a
shorter way to bytes whose digest is known already: what it makes is checked as anything that is
pulled, and where anything does not fit the whole layer is fetched.
"""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgekit.errors import Corrupt, EdgekitError, OciError
from edgekit.oci.artifacts import artifact_layer, list_artifacts, put_artifact
from edgekit.oci.blobs import CHUNK, Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.compressed import opened_content
from edgekit.oci.compression import compression_of, compressor_identity
from edgekit.oci.descriptor import Descriptor, is_digest
from edgekit.oci.difference import apply_difference, write_difference
from edgekit.oci.image import Manifest
from edgekit.oci.layer import compress
from edgekit.oci.upload import Advance

log = logging.getLogger(__name__)

DELTA = "application/vnd.edgekit.layer.delta.v1"
# the annotations of a delta
_FROM, _TO = "edgekit.delta.from", "edgekit.delta.to"
_SIZE, _LEVEL = "edgekit.delta.content.size", "edgekit.delta.level"
_COMPRESSOR = "edgekit.delta.compressor"
# what a device unpacks at most for one layer, in bytes
CONTENT_LIMIT = 16 * 1024**3
# a delta of a larger share of the layer is not worth its work
_WORTH = 0.9
# how many times a compressed layer may expand; deflate cannot do more
_EXPANDS = 1100


@dataclass(frozen=True)
class Delta:
    """A way from one layer to another, as its annotations tell it.

    Args:
        artifact: the artefact's manifest.
        source: digest of the layer that one must have.
        target: digest of the layer that comes out.
        size: of that layer's content, uncompressed, in bytes.
        level: that it is compressed at.
        compressor: that it is compressed by; another one might give other bytes.
    """

    artifact: Descriptor
    source: str
    target: str
    size: int
    level: int
    compressor: str

    @classmethod
    def read(cls, artifact: Descriptor) -> "Delta | None":
        """What a listed artefact says of itself; None where that is no delta for us."""
        said = artifact.annotations
        try:
            size, level = int(said[_SIZE]), int(said[_LEVEL])
            found = cls(artifact, said[_FROM], said[_TO], size, level, said[_COMPRESSOR])
        except (KeyError, ValueError):
            return None
        # a higher level of zstd would take more memory than a device may have
        proper = is_digest(found.source) and is_digest(found.target) and 0 <= level <= 9
        return found if proper and 0 < size <= CONTENT_LIMIT else None


def make_delta(
    old_blobs: Blobs,
    old: Descriptor,
    blobs: Blobs,
    new: Descriptor,
    image: Descriptor,
    levels: Sequence[int] = (0,),
) -> Descriptor:
    """Write the delta from layer `old` to layer `new` as an artefact about `image`.

    It is applied once before it is anybody's.

    Args:
        old_blobs: hold the layer that devices have.
        old: that layer.
        blobs: hold the layer that devices are to get, and the image; take the artefact.
        new: that layer.
        image: the index or manifest that devices pull.
        levels: that the new layer may have been compressed at.

    Raises:
        OciError: the delta would hardly be shorter than the layer, or the layer was compressed by
            another compressor than the one here.
    """
    compression = compression_of(new)
    with (
        opened_content(old_blobs, old, CONTENT_LIMIT) as (before, before_size),
        opened_content(blobs, new, CONTENT_LIMIT) as (after, after_size),
        tempfile.TemporaryFile(prefix="edgekit-delta-") as file,
    ):
        write_difference(before, before_size, after, after_size, file)
        if file.tell() > new.size * _WORTH:
            raise OciError(
                f"the layers share too little: the delta has {file.tell()} of {new.size} bytes",
                "let devices fetch the whole layer",
            )
        level = _level(file, before, after_size, new, levels)
        file.seek(0)
        with blobs.writer() as writer:
            shutil.copyfileobj(file, writer, CHUNK)
            payload = Descriptor(DELTA, writer.digest, writer.size)
    about = {
        _FROM: old.digest,
        _TO: new.digest,
        _SIZE: str(after_size),
        _LEVEL: str(level),
        _COMPRESSOR: compressor_identity(compression),
    }
    return put_artifact(blobs, image, DELTA, payload, annotations=about)


def _level(
    difference: BinaryIO, old: BinaryIO, size: int, new: Descriptor, levels: Sequence[int]
) -> int:
    """The level of compression at which the difference gives the very layer."""
    with tempfile.TemporaryDirectory(prefix="edgekit-delta-") as folder:
        for level in levels:
            difference.seek(0)
            content = apply_difference(difference, old, size)
            with suppress(Corrupt):
                compress(content, Blobs(Path(folder)), new, compression_of(new), level)
                return level
    raise OciError(
        f"{new.digest} was compressed by another compressor than the one here",
        "make the delta where the image was built",
    )


def delta_size(blobs: Blobs, artifact: Descriptor) -> int:
    """How many bytes whoever uses a delta fetches for it."""
    return Manifest.parse(artifact, blobs.read(artifact)).layers[0].size


def list_deltas(client: RegistryClient, name: str, image: str) -> tuple[Delta, ...]:
    """The deltas that a registry has for the image with that digest; none where it cannot tell."""
    try:
        found = [Delta.read(each) for each in list_artifacts(client, name, image, DELTA)]
    except EdgekitError as error:
        log.info("no deltas for %s: %s", image, error)
        return ()
    return tuple(delta for delta in found if delta)


def fetch_by_delta(
    client: RegistryClient,
    name: str,
    layer: Descriptor,
    deltas: Sequence[Delta],
    blobs: Blobs,
    advance: Advance | None = None,
) -> bool:
    """Bring `layer` into `blobs` by a delta from a layer that they hold.

    Returns:
        Whether that went well; if not, nothing is kept and the whole layer is to be fetched.
    """
    mine = compressor_identity(compression_of(layer))
    for delta in deltas:
        if delta.target != layer.digest or delta.compressor != mine:
            continue
        if not blobs.path(delta.source).exists():
            continue
        try:
            _fetch(client, name, layer, delta, blobs, advance)
        except (EdgekitError, OSError) as error:
            log.warning("no delta for %s: %s; it is fetched whole", layer.digest, error)
        else:
            return True
    return False


def _fetch(
    client: RegistryClient,
    name: str,
    layer: Descriptor,
    delta: Delta,
    blobs: Blobs,
    advance: Advance | None,
) -> None:
    compression = compression_of(layer)
    expands = delta.size / layer.size
    if expands > _EXPANDS or (compression == "none" and expands != 1):
        raise Corrupt(f"it makes {delta.size} bytes for a layer of {layer.size}")
    with tempfile.TemporaryDirectory(prefix="edgekit-delta-") as folder:
        fetched = Blobs(Path(folder))
        payload = artifact_layer(client, name, delta.artifact, fetched)
        if payload.size >= layer.size:
            raise Corrupt(f"it has {payload.size} bytes, and the layer {layer.size}")
        client.get_blob(name, payload, fetched, advance)
        source = blobs.path(delta.source)
        held = Descriptor("", delta.source, source.stat().st_size)
        with (
            fetched.open(payload) as difference,
            opened_content(blobs, held, CONTENT_LIMIT) as (old, _size),
        ):
            content = apply_difference(difference, old, delta.size)
            compress(content, blobs, layer, compression, delta.level)
