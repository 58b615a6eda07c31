"""Pushing and pulling whole images; only what the other side lacks goes over the line."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from edgekit.errors import OciError
from edgekit.oci.blobs import Blobs, BlobWriter, Follower
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import INDEXES, MANIFESTS, Descriptor, Platform
from edgekit.oci.image import Manifest, choose_platform, manifests_of, parse_index, walk
from edgekit.oci.layout import Layout
from edgekit.oci.reference import Reference

if TYPE_CHECKING:
    from edgekit.oci.deltas import Delta

log = logging.getLogger(__name__)

_PARALLEL = 4
# a smaller layer is as quick to fetch whole as its delta is to find
DELTA_FROM = 64 * 1024

# told of each blob: its descriptor, bytes that just went, and whether it was there already
Progress = Callable[[Descriptor, int, bool], None]


@dataclass(frozen=True)
class Pushed:
    """What a push did: the image by digest, and the bytes of blobs and manifests that went."""

    reference: Reference
    bytes_uploaded: int
    blobs_uploaded: int
    blobs_present: int


@dataclass(frozen=True)
class Image:
    """An image on this machine: its manifest, and the blobs that hold the rest."""

    blobs: Blobs
    manifest: Manifest
    platform: Platform


class Ahead:
    """A push that begins before there is an image: layers go up while they are written.

    Args:
        reference: where the image goes.
        client: of that registry; closed where the block fails.
    """

    def __init__(self, reference: Reference, client: RegistryClient) -> None:
        self._reference, self._name, self._client = reference, reference.name, client
        self._pool = ThreadPoolExecutor(_PARALLEL)
        self._sending: dict[BlobWriter, Future[int | None]] = {}
        self._there = self._pool.submit(self._client.manifest_digest, self._name, reference.tag)

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, failed: object, *_more: object) -> None:
        if failed:
            self._client.close()  # what is being sent is not needed any more
        self._pool.shutdown(cancel_futures=True)

    def follow(self, writer: BlobWriter) -> None:
        """Send what a writer gets."""
        self._sending[writer] = self._pool.submit(self._send, writer.follow())

    def _send(self, blob: Follower) -> int | None:
        with closing(blob):
            try:
                return self._client.put_blob_while_written(self._name, blob)
            except (OciError, httpx.TransportError, httpx.StreamError) as error:
                log.info("a layer did not go up while it was written: %s", error)
                return None

    def there(self) -> str:
        """The digest that the tag stood for when this began; empty where there was none."""
        return self._there.result()

    def sent(self, digest: str) -> int | None:
        """The bytes sent of a blob, 0 where it was there; None where it is to be sent by `push`."""
        for writer, sending in self._sending.items():
            if writer.whole and writer.digest == digest:
                return sending.result()
        return None

    def finish(self, blobs: Blobs, root: Descriptor, progress: Progress | None = None) -> "Pushed":
        """Send what has not been sent; see `push`."""
        return push(blobs, root, self._reference, self._client, progress, ahead=self)


def push(
    blobs: Blobs,
    root: Descriptor,
    reference: Reference,
    client: RegistryClient,
    progress: Progress | None = None,
    mount_from: str = "",
    ahead: Ahead | None = None,
) -> Pushed:
    """Send the image at `root` to `reference`.

    Blobs go first, then manifests, then the index under its tag, so that whoever pulls never
    finds an image with a part missing.

    Args:
        blobs: hold the image.
        root: its index or manifest.
        reference: where it goes; without a tag, by digest only.
        client: of that registry.
        progress: told of each blob.
        mount_from: a repository of the same registry to take blobs from.
        ahead: what has been sent already.

    Raises:
        Unreachable, Unauthorized, OciError: the registry fails or refuses.
        Corrupt: a blob is missing here.
    """
    tell = progress or _silent
    name = reference.name
    target = reference.tag or root.digest
    unchanged = ahead is None or ahead.there() == root.digest
    if unchanged and client.manifest_digest(name, target) == root.digest:
        return Pushed(reference.at(root.digest), 0, 0, 0)
    everything = list(walk(blobs, root))
    documents = [each for each in everything if each.media_type in (*INDEXES, *MANIFESTS)]
    contents = [each for each in everything if each not in documents]
    below = [each.digest for each in documents if each.digest != root.digest]

    def send(descriptor: Descriptor) -> int:
        gone = ahead.sent(descriptor.digest) if ahead else None
        if gone is not None:
            tell(descriptor, gone, not gone)
            return gone or -1
        if client.has_blob(name, descriptor.digest):
            tell(descriptor, 0, True)
            return -1
        return client.put_blob(
            name, descriptor, blobs, lambda step: tell(descriptor, step, False), mount_from
        )

    with ThreadPoolExecutor(_PARALLEL) as pool:
        sending = pool.map(send, contents)
        known = set(pool.map(lambda each: client.manifest_digest(name, each), below))
        sent = list(sending)
    total = sum(size for size in sent if size > 0)
    for document in documents:
        if document.digest in known:
            continue
        place = target if document.digest == root.digest else document.digest
        client.put_manifest(name, place, document.media_type, blobs.read(document))
        total += document.size
    present = sum(1 for size in sent if size < 0)
    log.info("pushed %s to %s: %d bytes", root.digest, reference, total)
    return Pushed(reference.at(root.digest), total, len(sent) - present, present)


def pull(
    source: Reference | Layout,
    blobs: Blobs,
    platform: Platform | None = None,
    client: RegistryClient | None = None,
    progress: Progress | None = None,
    name: str = "",
) -> Image:
    """Bring one platform's image to this machine, checking every digest.

    Args:
        source: a reference, or a layout folder.
        blobs: take what is fetched; what they have already is not fetched again.
        platform: which one; the only one where None.
        client: of the reference's registry; one is made where None.
        progress: told of each blob.
        name: which image of a layout that holds several.

    Raises:
        Unreachable, Unauthorized, OciError: the registry fails, refuses or has no such image.
        Corrupt: what came is not what its digest says.
    """
    if isinstance(source, Layout):
        return _pull_layout(source, blobs, platform, name)
    if client is not None:
        return _pull_registry(source, blobs, platform, client, progress)
    with RegistryClient(source) as made:
        return _pull_registry(source, blobs, platform, made, progress)


def _pull_layout(layout: Layout, blobs: Blobs, platform: Platform | None, name: str) -> Image:
    root = layout.find(name)
    found = manifests_of(layout.blobs, root)
    chosen = _choose(list(found), platform, str(layout.folder))
    manifest = found[chosen]
    for descriptor in (manifest.config, *manifest.layers, manifest.descriptor):
        blobs.copy_from(layout.blobs, descriptor)
    return Image(blobs, manifest, chosen)


def fetch_root(reference: Reference, blobs: Blobs, client: RegistryClient) -> Descriptor:
    """Fetch what a reference points at, an index or a manifest, and nothing below it."""
    descriptor, data = client.get_manifest(reference.name, reference.target)
    if descriptor.media_type not in (*INDEXES, *MANIFESTS):
        raise OciError(f"{reference} is no image but {descriptor.media_type}")
    blobs.put(data, descriptor.media_type)
    return descriptor


def fetch_documents(reference: Reference, blobs: Blobs, client: RegistryClient) -> Descriptor:
    """Fetch an image's index, manifests and configurations, but no layer; returns its root."""
    root = fetch_root(reference, blobs, client)
    waiting = [root]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.media_type in INDEXES:
            for child in parse_index(descriptor, blobs.read(descriptor)):
                found, data = client.get_manifest(reference.name, child.digest)
                blobs.put(data, found.media_type)
                waiting.append(child)
        elif descriptor.media_type in MANIFESTS:
            manifest = Manifest.parse(descriptor, blobs.read(descriptor))
            client.get_blob(reference.name, manifest.config, blobs)
    return root


def copy(
    source: Reference,
    target: Reference,
    source_client: RegistryClient,
    target_client: RegistryClient,
    blobs: Blobs,
    progress: Progress | None = None,
) -> Pushed:
    """Bring an image with all its platforms from one place to another.

    Blobs that the target has are not fetched; within one registry none is: it mounts them.

    Args:
        source: where it is.
        target: where it goes.
        source_client: of the source's registry.
        target_client: of the target's.
        blobs: hold what is on its way.
        progress: told of each blob.
    """
    root = fetch_documents(source, blobs, source_client)
    near = source.name if source.registry == target.registry else ""
    for descriptor in walk(blobs, root):
        if blobs.has(descriptor):
            continue
        if target_client.has_blob(target.name, descriptor.digest):
            continue
        if near and not target_client.mount_blob(target.name, descriptor, near):
            continue
        source_client.get_blob(source.name, descriptor, blobs)
    return push(blobs, root, target, target_client, progress)


def _pull_registry(
    reference: Reference,
    blobs: Blobs,
    platform: Platform | None,
    client: RegistryClient,
    progress: Progress | None,
) -> Image:
    tell = progress or _silent
    asked = root = fetch_root(reference, blobs, client)
    if root.media_type in INDEXES:
        listed = {
            child.platform: child
            for child in parse_index(root, blobs.read(root))
            if child.platform and child.platform.os != "unknown"
        }
        child = listed[_choose(list(listed), platform, str(reference))]
        found, data = client.get_manifest(reference.name, child.digest)
        blobs.put(data, found.media_type)
        root = child
    manifest = Manifest.parse(root, blobs.read(root))

    deltas: tuple[Delta, ...] = ()
    large = [each for each in manifest.layers if each.size >= DELTA_FROM]
    if not all(blobs.has(each) for each in large):
        from edgekit.oci.deltas import fetch_by_delta, list_deltas  # imports numpy

        deltas = list_deltas(client, reference.name, asked.digest)

    def fetch(descriptor: Descriptor) -> None:
        def advance(step: int) -> None:
            tell(descriptor, step, False)

        if blobs.has(descriptor):
            tell(descriptor, 0, True)
        elif not (
            deltas and fetch_by_delta(client, reference.name, descriptor, deltas, blobs, advance)
        ):
            client.get_blob(reference.name, descriptor, blobs, advance)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(fetch, (manifest.config, *manifest.layers)))
    there = next(iter(manifests_of(blobs, root)))
    return Image(blobs, manifest, _choose([there], platform, str(reference)))


def _choose(available: list[Platform], wanted: Platform | None, what: str) -> Platform:
    if wanted is not None:
        return choose_platform(available, wanted, what)
    if len(available) == 1:
        return available[0]
    there = ", ".join(str(platform) for platform in available) or "none"
    raise OciError(f"{what} has images for {there}", "name the platform")


def _silent(_descriptor: Descriptor, _step: int, _present: bool) -> None:
    """Nobody wants to know."""
