"""A model version in an OCI registry, as the CNCF's ModelPack lays it out; and back.

An artefact has a manifest (`artifactType`), a configuration that describes the model, and a layer
for each file, as it is, named by an annotation. The format is before 1.0, and all that depends on
it is in this module: https://github.com/modelpack/model-spec, `docs/spec.md` and
`schema/config-schema.json`. What it has no place for, tags, properties, lineage, is in annotations
of the manifest that begin with `edgekit.`; artefacts of other tools do without.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from edgekit.errors import Corrupt, OciError, RegistryError
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import (
    MANIFEST,
    MANIFEST_LIMIT,
    MANIFESTS,
    Descriptor,
    canonical_json,
    parse_json,
)
from edgekit.oci.reference import Reference
from edgekit.oci.upload import Advance
from edgekit.registry.records import ModelRef, ModelVersion, check_path
from edgekit.registry.registry import Registry

_log = logging.getLogger(__name__)

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
CODE = "application/vnd.cncf.model.code.v1.raw"
FILEPATH = "org.cncf.model.filepath"

_TITLE = "org.opencontainers.image.title"
_MODEL, _ROLE = "edgekit.model", "edgekit.model.role"
_FRAMEWORK = "edgekit.model.framework"
_TAGS, _PROPERTIES, _PARENT = "edgekit.tags", "edgekit.properties", "edgekit.parent"
_MAIN = "model"
# what our roles are to other tools, and what their layers are to us where no role is said
_MEDIA_TYPES = {_MAIN: WEIGHT, "weights": WEIGHT, "score": CODE, "requirements": CODE}
_MOST_FILES = 1000


@dataclass(frozen=True)
class Pushed:
    """What a push did: the artefact by digest, and the bytes that went."""

    reference: Reference
    bytes_uploaded: int


def push_model(
    registry: Registry,
    ref: ModelRef,
    target: Reference,
    client: RegistryClient,
    advance: Advance | None = None,
) -> Pushed:
    """Put a model version into an OCI registry; what it has already is not sent again.

    Args:
        registry: has the version.
        ref: the version.
        target: where it goes; without a tag, by digest only.
        client: of that OCI registry.
        advance: told how many bytes went.

    Raises:
        NotFound: there is no such version.
        RegistryError: one of its files is missing or damaged.
        Unreachable, Unauthorized, OciError: the OCI registry fails or refuses.
    """
    version = registry.get(ref)
    parent = registry.get(version.parent) if version.parent else None
    with tempfile.TemporaryDirectory(prefix="edgekit-modelpack-") as folder:
        blobs = _Stored(Path(folder), _local_files(registry, version))
        manifest = put_manifest(blobs, version, parent)
        data = blobs.read(manifest)
        sent = 0
        config, layers, _ = _parts(data, str(target))
        for descriptor in (*layers, config):
            if not client.has_blob(target.name, descriptor.digest):
                sent += client.put_blob(target.name, descriptor, blobs, advance)
        place = target.tag or manifest.digest
        if client.manifest_digest(target.name, place) != manifest.digest:
            client.put_manifest(target.name, place, MANIFEST, data)
            sent += manifest.size
    return Pushed(target.at(manifest.digest), sent)


def pull_model(
    registry: Registry,
    source: Reference,
    client: RegistryClient,
    name: str | None = None,
    advance: Advance | None = None,
) -> ModelVersion:
    """Register the model of an artefact as the next version of its name.

    Its files are fetched into a folder of their own, checked against their digests, and registered
    as any other: what is no valid model is refused, and nothing of it stays. Where it was made from
    a version that is registered here with the same file, this is its parent here too.

    Args:
        registry: takes it.
        source: the artefact.
        client: of its OCI registry.
        name: to register it under; by default the one it has.
        advance: told how many bytes came.

    Raises:
        Corrupt: it is no ModelPack artefact, or not what its digests say.
        Unreachable, Unauthorized, OciError: the OCI registry fails, refuses or has no such thing.
        ModelError, RegistryError: the model or what is said of it is refused.
    """
    shown = str(source)
    descriptor, data = client.get_manifest(source.name, source.target)
    if descriptor.media_type not in MANIFESTS:
        raise OciError(f"{shown} is no model but {descriptor.media_type}", "name one model")
    config, layers, annotations = _parts(data, shown)
    files = _files(layers, shown)
    with registry.scratch() as scratch:
        blobs = Blobs(scratch / "blobs")
        client.get_blob(source.name, config, blobs)
        about = _About.read(blobs.read(config), annotations, shown)
        called = _name(name or about.name, shown)
        main = _main(files, about.framework, shown)
        folder = scratch / "model"
        _refuse_too_much(files.values(), scratch, shown)
        for path, layer in files.items():
            client.get_blob(source.name, layer, blobs, advance)
            if not blobs.has(layer):
                raise Corrupt(f"{shown} gives another size than {path} has: {layer.size}")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            blobs.path(layer.digest).replace(folder / path)
        roles = {_role(layer): folder / path for path, layer in files.items()}
        return registry.register(
            folder / main,
            called,
            tags=about.tags,
            properties=about.properties,
            parent=_parent_here(registry, about.parent),
            framework=about.framework,
            score=roles.get("score"),
            requirements=roles.get("requirements") if "score" in roles else None,
        )


def put_manifest(
    blobs: Blobs, version: ModelVersion, parent: ModelVersion | None = None
) -> Descriptor:
    """Write the configuration and the manifest of a version; returns the manifest's descriptor."""
    layers = [_layer(_MAIN, version.filename, version.digest, version.size)]
    layers += [_layer(file.role, file.path, file.digest, file.size) for file in version.files]
    config = blobs.put(canonical_json(_config(version, layers)), CONFIG)
    annotations = {
        "org.opencontainers.image.title": version.name,
        "org.opencontainers.image.version": str(version.version),
        "org.opencontainers.image.created": _time(version),
        _MODEL: str(version.ref),
        _FRAMEWORK: version.framework,
        _TAGS: json.dumps(version.tags, sort_keys=True),
        _PROPERTIES: json.dumps(version.properties, sort_keys=True),
    }
    if parent is not None:
        annotations[_PARENT] = f"{parent.ref}@{parent.digest}"
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "annotations": annotations,
    }
    return blobs.put(canonical_json(document), MANIFEST)


def _config(version: ModelVersion, layers: Sequence[Descriptor]) -> dict[str, Any]:
    return {
        "descriptor": {
            "createdAt": _time(version),
            "name": version.name,
            "version": str(version.version),
        },
        "config": {"format": version.framework},
        # layers are files as they are, so that what is inside has the digest of the layer
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
    }


def _layer(role: str, path: str, digest: str, size: int) -> Descriptor:
    return Descriptor(
        _MEDIA_TYPES[role], digest, size, annotations={FILEPATH: path, _TITLE: path, _ROLE: role}
    )


def _time(version: ModelVersion) -> str:
    return version.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Stored(Blobs):
    """Blobs of which some are files elsewhere, so that large ones are not copied to be sent."""

    def __init__(self, folder: Path, files: Mapping[str, Path]) -> None:
        super().__init__(folder)
        self._files = files

    def path(self, digest: str) -> Path:
        """Where the blob is: one of the files, or in the folder."""
        return self._files.get(digest) or super().path(digest)


def _local_files(registry: Registry, version: ModelVersion) -> dict[str, Path]:
    """A verified local file for each digest of the version."""
    digests = {version.digest, *(file.digest for file in version.files)}
    return {digest: registry.stored_file(digest) for digest in digests}


def _parts(data: bytes, shown: str) -> tuple[Descriptor, tuple[Descriptor, ...], dict[str, str]]:
    """The configuration, the layers and the annotations of a model's manifest."""
    value = parse_json(data, f"the manifest of {shown}")
    kind = value.get("artifactType")
    layers, annotations = value.get("layers"), value.get("annotations") or {}
    config = Descriptor.from_json(value.get("config"))
    if kind != ARTIFACT or config.media_type != CONFIG:
        raise Corrupt(
            f"{shown} is no model but {kind or config.media_type!s:.100}",
            "models are ModelPack artefacts, as edgekit model push makes them",
        )
    if not isinstance(layers, list) or not 1 <= len(layers) <= _MOST_FILES:
        raise Corrupt(f"{shown} is a model without files, or with more than {_MOST_FILES}")
    if not isinstance(annotations, dict):
        raise Corrupt(f"the annotations of {shown} do not read")
    texts = {str(key): str(text) for key, text in annotations.items()}
    return config, tuple(Descriptor.from_json(layer) for layer in layers), texts


def _files(layers: Sequence[Descriptor], shown: str) -> dict[str, Descriptor]:
    """The layers by the paths of their files.

    Raises:
        Corrupt: a layer is packed, has no path or one that leads outside, or two have one path.
    """
    found: dict[str, Descriptor] = {}
    for layer in layers:
        if not layer.media_type.endswith(".raw"):
            raise Corrupt(
                f"{shown} has a layer of type {layer.media_type[:100]}, and only raw ones are read",
                "push it with a tool that writes raw layers: modctl build --raw",
            )
        path = layer.annotations.get(FILEPATH, "")
        try:
            check_path(path)
        except RegistryError as error:
            raise Corrupt(f"{shown} has a file at no path of its own: {path[:200]!r}") from error
        if any(f"{path}/".startswith(f"{other}/") for other in found) or any(
            other.startswith(f"{path}/") for other in found
        ):
            raise Corrupt(f"{shown} has two files at {path}")
        if _role(layer):
            found[path] = layer
        else:
            _log.warning("%s is no part of a registered model and stays behind", path)
    return found


def _role(layer: Descriptor) -> str:
    """What a layer is for: as it says itself, else by its type and name."""
    said = layer.annotations.get(_ROLE, "")
    if said in _MEDIA_TYPES:
        return said
    name = layer.annotations[FILEPATH]
    if layer.media_type == CODE and name == "score.py":
        return "score"
    if layer.media_type == CODE and name == "requirements.txt":
        return "requirements"
    return "weights" if layer.media_type == WEIGHT else ""


def _name(name: str, shown: str) -> str:
    try:
        return ModelRef(name).name
    except RegistryError as error:
        raise RegistryError(
            f"{shown} is of a model with no name that fits here: {error}",
            hint="give it one: --name NAME",
        ) from error


def _refuse_too_much(layers: Iterable[Descriptor], folder: Path, shown: str) -> None:
    """Refuse files for which there is no room, before any is fetched: they are kept twice."""
    total, free = sum(layer.size for layer in layers), shutil.disk_usage(folder).free
    if 2 * total > free:
        raise RegistryError(
            f"{shown} has {total:,} bytes; to take it in needs twice that, and {folder} has "
            f"{free:,} left",
            hint="make room, or put the workspace on a larger disk",
        )


def _main(files: Mapping[str, Descriptor], framework: str, shown: str) -> str:
    """The path of the model itself; other tools do not say which of the files it is."""
    marked = [path for path, layer in files.items() if _role(layer) == _MAIN]
    weights = [path for path, layer in files.items() if _role(layer) == "weights"]
    if framework == "onnx" and not marked:
        marked = [path for path in weights if path.endswith(".onnx")]
    chosen = marked or weights
    if len(chosen) != 1:
        raise Corrupt(
            f"{shown} does not say which of its {len(files)} files is the model",
            "push it with one model file",
        )
    return chosen[0]


@dataclass(frozen=True)
class _About:
    """What an artefact says of its model, in its configuration and its annotations."""

    name: str
    framework: str
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    parent: str

    @classmethod
    def read(cls, data: bytes, annotations: Mapping[str, str], shown: str) -> "_About":
        value = parse_json(data, f"the configuration of {shown}")
        described, config = value.get("descriptor"), value.get("config")
        if not isinstance(described, dict) or not isinstance(config, dict):
            raise Corrupt(f"the configuration of {shown} describes no model")
        named = ModelRef.parse(annotations[_MODEL]).name if _MODEL in annotations else ""
        return cls(
            name=named or str(described.get("name") or "").lower(),
            framework=annotations.get(_FRAMEWORK) or str(config.get("format") or "onnx").lower(),
            tags=_labels(annotations, _TAGS, shown),
            properties=_labels(annotations, _PROPERTIES, shown),
            parent=annotations.get(_PARENT, ""),
        )


def _labels(annotations: Mapping[str, str], key: str, shown: str) -> dict[str, str]:
    text = annotations.get(key, "{}")
    found = parse_json(text.encode()[:MANIFEST_LIMIT], f"the annotation {key} of {shown}")
    if not all(isinstance(value, str) for value in found.values()):
        raise Corrupt(f"the annotation {key} of {shown} does not read")
    return found


def _parent_here(registry: Registry, said: str) -> ModelRef | None:
    """The registered version with the parent's digest: by its name and number, or by any."""
    reference, _, digest = said.partition("@")
    same = [version for version in registry.models() if version.digest == digest]
    for version in same:
        if str(version.ref) == reference:
            return version.ref
    return same[-1].ref if same else None
