"""A base from an OCI registry: its layers as they are, and what they say of the Python in them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ImageError
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import Descriptor, Platform, parse_json
from edgekit.oci.layer import Entry, Layer
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import Image, pull
from edgekit.oci.unpack import MEMBER_LIMIT, SIZE_LIMIT, open_layer
from edgekit.packager.store import Progress, Store

# Wheels for this C library run on all that are in support; a pulled base does not tell its own.
GLIBC = (2, 28)


@dataclass(frozen=True)
class PulledBase:
    """The recipe of a base that is there already: the layers of one platform's image.

    Args:
        reference: where it is, by digest.
        layers: lowest first.
        python: the interpreter's version, as in `3.11`.
        interpreter: its path, without the leading slash.
        environment: that the base sets.
    """

    reference: str
    layers: tuple[Layer, ...]
    python: str
    interpreter: str
    environment: tuple[tuple[str, str], ...] = ()
    name: str = "base"

    def inputs(self) -> list[object]:
        """The digests of its layers."""
        return [[layer.descriptor.digest, layer.diff_id] for layer in self.layers]

    def prepare(self, store: Store, progress: Progress | None) -> None:
        """Fetch the layers that the cache lacks."""
        missing = [each for each in self.layers if not store.blobs.has(each.descriptor)]
        if not missing:
            return
        reference = Reference.parse(self.reference)
        with RegistryClient(reference) as client:
            for layer in missing:
                client.get_blob(reference.name, layer.descriptor, store.blobs)
                if progress:
                    total = sum(each.descriptor.size for each in missing)
                    progress("fetch the base", layer.descriptor.size, total)

    def entries(self, _store: Store) -> list[Entry]:
        """Nothing of its own: the layers are used as they are."""
        return []

    @property
    def link(self) -> str:
        """What `/usr/bin/python3` must lead to where the base has no such file; else empty."""
        return "" if self.interpreter == "usr/bin/python3" else f"../../{self.interpreter}"


def lock_base(
    reference: Reference,
    platforms: Iterable[Platform],
    store: Store,
    update: bool = False,
    plain_http: bool = False,
) -> dict[str, PulledBase]:
    """The base for each platform, from the lock where it has all, else pulled and looked into.

    Raises:
        ImageError: it has no Python, one that no wheel is for, or another C library than glibc.
        Unreachable, Unauthorized, OciError, Corrupt: the registry fails.
    """
    name = "base-" + re.sub(r"[^a-z0-9.]+", "-", str(reference).lower())
    kept = (store.read_lock(name) or {}) if not update else {}
    found: dict[str, PulledBase] = {}
    missing = []
    for platform in platforms:
        value = kept.get(str(platform))
        if isinstance(value, dict):
            found[str(platform)] = _from_json(value)
        else:
            missing.append(platform)
    if missing:
        with RegistryClient(reference, plain_http=plain_http) as client:
            digest = client.manifest_digest(reference.name, reference.target)
            exact = reference.at(digest) if digest else reference
            for platform in missing:
                image = pull(exact, store.blobs, platform, client)
                found[str(platform)] = look_into(image, str(exact))
        whole = {**kept, **{key: _to_json(base) for key, base in found.items()}}
        store.write_lock(name, whole)
    versions = {base.python for base in found.values()}
    if len(versions) > 1:
        raise ImageError(f"{reference} has Python {' and '.join(sorted(versions))} by platform")
    return found


def _to_json(base: PulledBase) -> dict[str, Any]:
    return {
        "reference": base.reference,
        "layers": [[each.descriptor.to_json(), each.diff_id] for each in base.layers],
        "python": base.python,
        "interpreter": base.interpreter,
        "environment": dict(base.environment),
    }


def _from_json(value: Mapping[str, Any]) -> PulledBase:
    try:
        return PulledBase(
            value["reference"],
            tuple(Layer(Descriptor.from_json(each), diff_id) for each, diff_id in value["layers"]),
            value["python"],
            value["interpreter"],
            tuple(value["environment"].items()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImageError(f"the lock of the base does not read: {error!r}", "delete it") from error


def look_into(image: Image, reference: str) -> PulledBase:
    """What a base holds, from the names in its layers; nothing of it is unpacked or run.

    Raises:
        ImageError: no wheels can be laid on it.
    """
    names: dict[str, str] = {}
    left = SIZE_LIMIT
    for layer in image.manifest.layers:
        with open_layer(image.blobs, layer) as archive:
            for member in archive:
                left -= max(member.size, 0)
                if left < 0 or len(names) > MEMBER_LIMIT:
                    raise ImageError(f"{reference} holds more than a base may", "choose another")
                if member.isdev() or ".." in member.name.split("/"):
                    raise ImageError(
                        f"{reference} holds {member.name[:80]!r}, "
                        + ("a device or a pipe" if member.isdev() else "a path that leads outside"),
                        "take a base without it",
                    )
                names[member.name.removeprefix("./")] = member.linkname
    if any(re.search(r"(^|/)ld-musl-[^/]*$", name) for name in names):
        raise ImageError(
            f"{reference} is built on musl, for which ONNX Runtime has no wheels",
            "take a base on glibc, as Debian's",
        )
    interpreter, python = _interpreter(names, reference)
    config = parse_json(image.blobs.read(image.manifest.config), "the base's configuration")
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(diff_ids) != len(image.manifest.layers):
        raise ImageError(f"{reference} says something else of its layers in two places")
    settings = config.get("config") or {}
    environment = [str(line).partition("=") for line in settings.get("Env") or []]
    return PulledBase(
        reference,
        tuple(
            Layer(layer, str(diff_id))
            for layer, diff_id in zip(image.manifest.layers, diff_ids, strict=True)
        ),
        python,
        interpreter,
        tuple((variable, value) for variable, _, value in environment),
    )


def _interpreter(names: Mapping[str, str], reference: str) -> tuple[str, str]:
    for folder in ("usr/bin", "usr/local/bin", "bin"):
        path = f"{folder}/python3"
        if path not in names:
            continue
        versions = [names[path], *(name for name in names if name.startswith(f"{path}."))]
        for text in versions:
            if found := re.search(r"python(3\.\d+)$", text):
                return path, found[1]
    raise ImageError(
        f"{reference} has no Python 3 in /usr/bin or /usr/local/bin",
        "take a base with Python, or --base debian:bookworm",
    )
