"""Image configurations, manifests and indexes of the OCI image specification 1.1."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import Corrupt, OciError
from edgekit.oci.blobs import Blobs
from edgekit.oci.descriptor import (
    CONFIG,
    INDEX,
    INDEXES,
    MANIFEST,
    MANIFESTS,
    Descriptor,
    Platform,
    canonical_json,
    parse_json,
)
from edgekit.oci.layer import Layer

# Images carry no time of their making: it would be the only thing that two builds do not share.
CREATED = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Settings:
    """How a container of the image is started: the `config` of an image's configuration."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_directory: str = "/"
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    health_check: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form in an image's configuration."""
        value: dict[str, Any] = {"WorkingDir": self.working_directory}
        if self.entrypoint:
            value["Entrypoint"] = list(self.entrypoint)
        if self.command:
            value["Cmd"] = list(self.command)
        if self.environment:
            value["Env"] = [f"{name}={text}" for name, text in self.environment.items()]
        if self.user:
            value["User"] = self.user
        if self.ports:
            value["ExposedPorts"] = {port: {} for port in self.ports}
        if self.volumes:
            value["Volumes"] = {volume: {} for volume in self.volumes}
        if self.labels:
            value["Labels"] = dict(self.labels)
        if self.health_check:
            # Docker's extension, which its engine reads from OCI configurations too; nanoseconds
            value["Healthcheck"] = {
                "Test": ["CMD", *self.health_check],
                "Interval": 30_000_000_000,
                "Timeout": 5_000_000_000,
                "StartPeriod": 10_000_000_000,
            }
        return value


@dataclass(frozen=True)
class NamedLayer:
    """A layer and who brought it, as told in the image's history."""

    layer: Layer
    name: str


def put_image(
    blobs: Blobs,
    platform: Platform,
    settings: Settings,
    layers: Sequence[NamedLayer],
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Write the configuration and the manifest of one platform's image.

    Returns:
        The manifest's descriptor, with its platform.
    """
    config = platform.to_json() | {
        "created": CREATED,
        "config": settings.to_json(),
        "rootfs": {"type": "layers", "diff_ids": [named.layer.diff_id for named in layers]},
        "history": [
            {"created": CREATED, "created_by": f"edgekit: {named.name}"} for named in layers
        ],
    }
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blobs.put(canonical_json(config), CONFIG).to_json(),
        "layers": [named.layer.descriptor.to_json() for named in layers],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    descriptor = blobs.put(canonical_json(manifest), MANIFEST)
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, platform)


def put_index(
    blobs: Blobs, manifests: Sequence[Descriptor], annotations: Mapping[str, str] | None = None
) -> Descriptor:
    """Write an index over `manifests` and return its descriptor."""
    index: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [manifest.to_json() for manifest in manifests],
    }
    if annotations:
        index["annotations"] = dict(annotations)
    return blobs.put(canonical_json(index), INDEX)


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read: the configuration and the layers of one platform's image."""

    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @classmethod
    def parse(cls, descriptor: Descriptor, data: bytes) -> "Manifest":
        """Read the bytes of a manifest.

        Raises:
            Corrupt: they are no image manifest.
        """
        value = parse_json(data, f"manifest {descriptor.digest}")
        layers, annotations = value.get("layers"), value.get("annotations") or {}
        if not isinstance(layers, list) or not isinstance(annotations, dict):
            raise Corrupt(f"manifest {descriptor.digest} has no list of layers")
        return cls(
            descriptor,
            Descriptor.from_json(value.get("config")),
            tuple(Descriptor.from_json(layer) for layer in layers),
            {str(name): str(text) for name, text in annotations.items()},
        )


def parse_index(descriptor: Descriptor, data: bytes) -> tuple[Descriptor, ...]:
    """The manifests that an index lists.

    Raises:
        Corrupt: the bytes are no index.
    """
    manifests = parse_json(data, f"index {descriptor.digest}").get("manifests")
    if not isinstance(manifests, list):
        raise Corrupt(f"index {descriptor.digest} has no list of manifests")
    return tuple(Descriptor.from_json(manifest) for manifest in manifests)


def children(descriptor: Descriptor, data: bytes) -> tuple[Descriptor, ...]:
    """What an index or a manifest with these bytes refers to; nothing for other blobs."""
    if descriptor.media_type in INDEXES:
        return parse_index(descriptor, data)
    if descriptor.media_type in MANIFESTS:
        manifest = Manifest.parse(descriptor, data)
        return (manifest.config, *manifest.layers)
    return ()


def walk(blobs: Blobs, root: Descriptor) -> Iterator[Descriptor]:
    """Everything that `root` refers to and then `root` itself, each once, children first."""
    seen: set[str] = set()

    def visit(descriptor: Descriptor, depth: int) -> Iterator[Descriptor]:
        if descriptor.digest in seen:
            return
        seen.add(descriptor.digest)
        if descriptor.media_type in (*INDEXES, *MANIFESTS):
            if depth > 4:
                raise Corrupt(f"{root.digest} nests indexes too deeply")
            for child in children(descriptor, blobs.read(descriptor)):
                yield from visit(child, depth + 1)
        yield descriptor

    return visit(root, 0)


def manifests_of(blobs: Blobs, root: Descriptor) -> dict[Platform, Manifest]:
    """The image manifests below `root` by platform, in the order of the index."""
    if root.media_type in MANIFESTS:
        manifest = Manifest.parse(root, blobs.read(root))
        platform = root.platform or Platform.from_json(
            parse_json(blobs.read(manifest.config), f"configuration {manifest.config.digest}")
        )
        return {platform: manifest}
    found = {}
    for child in parse_index(root, blobs.read(root)):
        # an attestation's platform is unknown/unknown
        if child.media_type in MANIFESTS and child.platform and child.platform.os != "unknown":
            found[child.platform] = Manifest.parse(child, blobs.read(child))
    return found


def choose_platform(available: Sequence[Platform], wanted: Platform, what: str) -> Platform:
    """The platform of `available` that runs on `wanted`.

    Raises:
        OciError: none does; the message lists those that are there.
    """
    for platform in available:
        if wanted.runs(platform):
            return platform
    there = ", ".join(str(platform) for platform in available) or "none"
    raise OciError(f"{what} has no image for {wanted}; it has {there}")


def stored_root(blobs: Blobs, digest: str) -> Descriptor:
    """The descriptor of an index or manifest that `blobs` has, known by its digest alone.

    Raises:
        Corrupt: it is not here any more, or is neither.
    """
    path = blobs.path(digest)
    if not path.exists():
        raise Corrupt(f"image {digest} is not in the cache any more", "build it again")
    found = Descriptor("", digest, path.stat().st_size)
    value = parse_json(blobs.read(found), f"image {digest}")
    media_type = value.get("mediaType")
    if media_type not in (*INDEXES, *MANIFESTS):
        raise Corrupt(f"{digest} is neither an index nor a manifest")
    return Descriptor(media_type, digest, found.size)
