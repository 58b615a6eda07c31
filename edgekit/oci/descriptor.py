"""Descriptors, platforms and the media types of the OCI image specification 1.1."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import Corrupt, OciError

CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"

# What Docker wrote before the OCI specification; read everywhere, written nowhere.
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEXES = (INDEX, DOCKER_INDEX)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)

# The distribution specification asks registries to take manifests of at least 4 MiB.
MANIFEST_LIMIT = 4 * 1024 * 1024
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes) -> str:
    """The digest of `data`, as `sha256:...`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """`value` as JSON in the one way that we write it: keys sorted, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object that came from outside.

    Raises:
        Corrupt: it is no JSON object; the message begins with `what`.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what} is no JSON") from error
    if not isinstance(value, dict):
        raise Corrupt(f"{what} is no JSON object")
    return value


@dataclass(frozen=True, order=True)
class Platform:
    """An operating system and a processor, as in `linux/arm64` or `linux/arm/v7`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """Read `OS/ARCHITECTURE[/VARIANT]`.

        Raises:
            OciError: it has another form.
        """
        parts = text.strip().split("/")
        if len(parts) not in (2, 3) or not all(
            re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts
        ):
            raise OciError(f"{text!r} is no platform", "write it as linux/amd64 or linux/arm64")
        return cls(*parts)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Platform":
        """Read the platform of a descriptor or of an image's configuration."""
        return cls(
            str(value.get("os", "")),
            str(value.get("architecture", "")),
            str(value.get("variant", "")),
        )

    def to_json(self) -> dict[str, str]:
        """The form in an index."""
        value = {"os": self.os, "architecture": self.architecture}
        return value | ({"variant": self.variant} if self.variant else {})

    def runs(self, other: "Platform") -> bool:
        """Whether an image for `other` is one for this platform; arm64 and arm64/v8 are one."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        usual = "v8" if self.architecture == "arm64" else ""
        return (self.variant or usual) == (other.variant or usual)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True)
class Descriptor:
    """What a manifest says of a blob: its media type, digest and size in bytes.

    Raises:
        Corrupt: the digest is no sha256 digest or the size is negative.
    """

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""

    def __post_init__(self) -> None:
        if not is_digest(self.digest):
            raise Corrupt(f"{self.digest[:80]!r} is no sha256 digest")
        if self.size < 0:
            raise Corrupt(f"{self.digest} is said to have {self.size} bytes")

    @classmethod
    def of(cls, media_type: str, data: bytes, **more: Any) -> "Descriptor":
        """The descriptor of `data`."""
        return cls(media_type, digest_of(data), len(data), **more)

    @classmethod
    def from_json(cls, value: Any) -> "Descriptor":
        """Read a descriptor of a manifest or an index.

        Raises:
            Corrupt: it lacks a field, or one has another type than it must.
        """
        try:
            media_type, digest, size = value["mediaType"], value["digest"], value["size"]
            platform = value.get("platform")
            annotations = value.get("annotations") or {}
            artifact_type = value.get("artifactType") or ""
            texts = (media_type, digest, artifact_type, *annotations, *annotations.values())
            if type(size) is not int or not all(isinstance(text, str) for text in texts):
                raise TypeError
            return cls(
                media_type,
                digest,
                size,
                Platform.from_json(platform) if platform else None,
                annotations,
                artifact_type,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise Corrupt(f"a descriptor does not read: {str(value)[:120]}") from error

    def to_json(self) -> dict[str, Any]:
        """The form in a manifest or an index."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.platform:
            value["platform"] = self.platform.to_json()
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        return value
