"""From a model version to a module image: planned first, then built from what the cache lacks.

The layers, from what changes least to what changes most: base, wheels, edgekit's runtime, the
user's app, the model. Each has a recipe whose inputs decide its digest; a finished layer is found
again by them. So a changed model costs the model's layer, a configuration and a manifest.
"""

import hashlib
import importlib.util
import logging
import re
import threading
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgekit.errors import Corrupt, ImageError, OciError
from edgekit.oci.blobs import Blobs
from edgekit.oci.descriptor import Descriptor, Platform, canonical_json
from edgekit.oci.image import NamedLayer, Settings, put_image, put_index
from edgekit.oci.layer import (
    Compression,
    Entry,
    Layer,
    compressor_identity,
    file_digest,
    write_layer,
)
from edgekit.packager.base import USER, DebianBase
from edgekit.packager.debian import lock_debian
from edgekit.packager.store import Progress, Store
from edgekit.packager.wheels import REQUIREMENTS, WheelLayer, lock_wheels

log = logging.getLogger(__name__)

FORMAT = 1
DEFAULT_BASE = "debian:bookworm"
DEFAULT_PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))
# Weights hardly compress: the fastest level takes a fifth of the time for nearly the same size.
MODEL_LEVEL = 1
# Where it saves less than this share, a model is stored as it is: trained float32 weights save 7 %,
# which no line is worth the time for, and a device unpacks nothing.
MODEL_SAVING = 0.1
_SAMPLES, _SAMPLE_LENGTH = 4, 128 * 1024

RUNTIME = "opt/edgekit/runtime"
APP = "opt/edgekit/app"
MODEL = "opt/edgekit/model"


@dataclass(frozen=True)
class PackagedModel:
    """The model version that goes into an image.

    Args:
        name: of the model in the registry.
        version: from 1.
        digest: of the file, `sha256:...`.
        file: the ONNX file.
        inputs: name, datatype and shape of each, as plain values.
        outputs: the same.
    """

    name: str
    version: int
    digest: str
    file: Path
    inputs: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()

    @property
    def reference(self) -> str:
        """`NAME:VERSION`."""
        return f"{self.name}:{self.version}"

    def describe(self) -> bytes:
        """What `model.json` in the image says."""
        return canonical_json(
            {
                "name": self.name,
                "version": self.version,
                "digest": self.digest,
                "inputs": [dict(each) for each in self.inputs],
                "outputs": [dict(each) for each in self.outputs],
            }
        )


class Recipe(Protocol):
    """How a layer is made; frozen, so that a plan stays what it was."""

    @property
    def name(self) -> str:
        """Who brings the layer: `base`, `wheels`, `runtime`, `app` or `model`."""
        ...

    def inputs(self) -> list[object]:
        """All that the layer's content depends on, as JSON."""
        ...

    def prepare(self, store: Store, progress: Progress | None) -> None:
        """Fetch what `entries` needs."""
        ...

    def entries(self, store: Store) -> list[Entry]:
        """The layer's files."""
        ...


@dataclass(frozen=True)
class Files:
    """The recipe of a layer of local files: the runtime, or the user's app.

    Args:
        name: of the layer.
        files: path in the image, where the file is, its digest.
    """

    name: str
    files: tuple[tuple[str, Path, str], ...]

    def inputs(self) -> list[object]:
        """Paths and digests."""
        return [FORMAT, [[path, digest] for path, _file, digest in self.files]]

    def prepare(self, _store: Store, _progress: Progress | None) -> None:
        """Nothing to fetch."""

    def entries(self, _store: Store) -> list[Entry]:
        """The files, checked to be the planned ones."""
        return [Entry(path, content=_checked(file, digest)) for path, file, digest in self.files]


@dataclass(frozen=True)
class ModelLayer:
    """The recipe of the model's layer.

    Args:
        model: the model version.
        compressible: whether compressing it is worth the time.
    """

    model: PackagedModel
    compressible: bool = True
    name: str = "model"

    def inputs(self) -> list[object]:
        """The model's digest and description."""
        return [FORMAT, self.model.digest, self.model.describe().decode()]

    def prepare(self, _store: Store, _progress: Progress | None) -> None:
        """Nothing to fetch."""

    def entries(self, _store: Store) -> list[Entry]:
        """`model.onnx` and `model.json`.

        Raises:
            Corrupt: the file is not the registered one.
        """
        if file_digest(self.model.file) != self.model.digest:
            raise Corrupt(
                f"{self.model.file} is not the model registered as {self.model.reference}"
            )
        return [
            Entry(f"{MODEL}/model.onnx", content=self.model.file),
            Entry(f"{MODEL}/model.json", content=self.model.describe()),
        ]


@dataclass(frozen=True)
class PlatformPlan:
    """The layers of one platform's image, lowest first."""

    platform: Platform
    recipes: tuple[Recipe, ...]


@dataclass(frozen=True)
class ImagePlan:
    """What an image is to be made of. The same plan gives the same image on any machine."""

    model: str
    platforms: tuple[PlatformPlan, ...]
    settings: Settings
    compression: Compression = "gzip"
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.platforms:
            raise ImageError("an image needs a platform", "give --platform linux/amd64")

    @property
    def digest(self) -> str:
        """The digest of all inputs."""
        value = [
            FORMAT,
            self.model,
            self.settings.to_json(),
            self.compression,
            dict(self.annotations),
            [
                [
                    str(plan.platform),
                    [layer_key(recipe, self.compression) for recipe in plan.recipes],
                ]
                for plan in self.platforms
            ],
        ]
        return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True)
class BuiltLayer:
    """A layer of a finished image: who brought it, its digest, its size as stored."""

    name: str
    platforms: tuple[str, ...]
    digest: str
    size: int
    cached: bool


@dataclass(frozen=True)
class BuiltImage:
    """A finished image in the cache.

    Args:
        root: the index (or the manifest, where it was built for one platform only).
        platforms: what it runs on.
        layers: each blob once, lowest first.
        blobs: hold everything.
        plan: the plan's digest.
    """

    root: Descriptor
    platforms: tuple[Platform, ...]
    layers: tuple[BuiltLayer, ...]
    blobs: Blobs
    plan: str

    @property
    def digest(self) -> str:
        """What the image is pulled by."""
        return self.root.digest


def compresses(path: Path) -> bool:
    """Whether a model file saves more than `MODEL_SAVING` when compressed, judged by samples."""
    whole = small = 0
    with path.open("rb") as file:
        length = path.stat().st_size
        for number in range(_SAMPLES):
            file.seek(length * number // _SAMPLES)
            sample = file.read(_SAMPLE_LENGTH)
            whole += len(sample)
            small += len(zlib.compress(sample, MODEL_LEVEL))
    return small < whole * (1 - MODEL_SAVING)


def layer_key(recipe: Recipe, compression: Compression) -> str:
    """Names a layer by its inputs; the compressor is one of them."""
    chosen, level = _packing(recipe, compression)
    value = [recipe.name, recipe.inputs(), chosen, level, compressor_identity(chosen)]
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _packing(recipe: Recipe, compression: Compression) -> tuple[Compression, int | None]:
    """How a recipe's layer is compressed, and how hard."""
    if not isinstance(recipe, ModelLayer):
        return compression, None
    if not recipe.compressible:
        return "none", None
    return compression, MODEL_LEVEL


def plan_image(
    model: PackagedModel,
    store: Store,
    platforms: Sequence[Platform] = DEFAULT_PLATFORMS,
    base: str = DEFAULT_BASE,
    score: Path | None = None,
    compression: Compression = "gzip",
    update: bool = False,
    progress: Progress | None = None,
) -> ImagePlan:
    """Decide what an image is made of. Goes to the network only for what no lock has yet.

    Args:
        model: the model version.
        store: holds the locks.
        platforms: what it is to run on.
        base: `debian:SUITE`.
        score: the user's `score.py`.
        compression: `gzip`, or `zstd` for engines that are new enough.
        update: resolve packages and wheels again.
        progress: told of what is fetched.

    Raises:
        ImageError: it cannot be built so.
        Unreachable, Corrupt: what must be resolved cannot be.
    """
    ordered = sorted(set(platforms))
    suite = re.fullmatch(r"debian:([a-z]+)", base)
    if not suite:
        raise ImageError(f"{base!r} is no base that is known here", f"write {DEFAULT_BASE}")
    debian = lock_debian(suite[1], ordered, store, update, progress)
    wheels = lock_wheels(
        f"wheels-{debian.python}",
        REQUIREMENTS,
        ordered,
        debian.python,
        debian.glibc,
        store,
        update,
        progress,
    )
    shared: list[Recipe] = [runtime_files()]
    if score is not None:
        shared.append(app_files(score))
    shared.append(ModelLayer(model, compresses(model.file)))
    plans = tuple(
        PlatformPlan(
            platform,
            (
                DebianBase(debian.packages[str(platform)]),
                WheelLayer(
                    str(platform), debian.python, debian.glibc, wheels.platforms[str(platform)]
                ),
                *shared,
            ),
        )
        for platform in ordered
    )
    return ImagePlan(
        model.reference, plans, module_settings(model), compression, module_annotations(model, base)
    )


def module_settings(model: PackagedModel) -> Settings:
    """How a module is started; the contract is in docs/architecture.md."""
    return Settings(
        entrypoint=("/usr/bin/python3", "-m", "edgekit_runtime"),
        command=("scorer",),
        environment={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": f"/{RUNTIME}:/opt/edgekit/lib",
            "EDGEKIT_MODEL": f"/{MODEL}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        user=f"{USER}:{USER}",
        ports=("8080/tcp",),
        labels={
            "org.opencontainers.image.title": model.name,
            "org.opencontainers.image.version": str(model.version),
        },
    )


def module_annotations(model: PackagedModel, base: str) -> dict[str, str]:
    """Annotations of the index and of each manifest: what is in it, by digest."""
    return {
        "org.opencontainers.image.title": model.name,
        "org.opencontainers.image.version": str(model.version),
        "org.opencontainers.image.base.name": base,
        "edgekit.model": model.reference,
        "edgekit.model.digest": model.digest,
    }


def runtime_files() -> Files:
    """The files of `edgekit_runtime` as it is installed here."""
    spec = importlib.util.find_spec("edgekit_runtime")
    if spec is None or not spec.submodule_search_locations:
        raise ImageError("edgekit_runtime is not installed here", "install edgekit again")
    folder = Path(next(iter(spec.submodule_search_locations)))
    return Files("runtime", _tree(folder, f"{RUNTIME}/edgekit_runtime"))


def app_files(score: Path) -> Files:
    """The user's `score.py`.

    Raises:
        ImageError: it is not there, or is no Python.
    """
    try:
        compile(score.read_bytes(), str(score), "exec")
    except OSError as error:
        raise ImageError(f"cannot read {score}: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        raise ImageError(f"{score} is no Python program: {error}") from error
    return Files("app", ((f"{APP}/score.py", score, file_digest(score)),))


def _tree(folder: Path, target: str) -> tuple[tuple[str, Path, str], ...]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            inner = path.relative_to(folder).as_posix()
            found.append((f"{target}/{inner}", path, file_digest(path)))
    return tuple(found)


def _checked(file: Path, digest: str) -> bytes:
    data = file.read_bytes()
    if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
        raise ImageError(f"{file} changed after the image was planned", "build again")
    return data


def build_image(plan: ImagePlan, store: Store, progress: Progress | None = None) -> BuiltImage:
    """Make what the cache lacks, and put the image together.

    Raises:
        ImageError, OciError: a layer cannot be made.
        Unreachable, Corrupt: something to be fetched is not there, or is not what it should be.
    """
    needed: dict[str, Recipe] = {}
    users: dict[str, list[str]] = {}
    for platform in plan.platforms:
        for recipe in platform.recipes:
            key = layer_key(recipe, plan.compression)
            needed[key] = recipe
            users.setdefault(key, []).append(str(platform.platform))
    made: dict[str, tuple[Layer, bool]] = {}
    lock = threading.Lock()

    def make(key: str) -> None:
        outcome = _layer(key, needed[key], plan.compression, store, progress)
        with lock:
            made[key] = outcome

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, needed))
    manifests = []
    for platform in plan.platforms:
        named = [
            NamedLayer(made[layer_key(recipe, plan.compression)][0], recipe.name)
            for recipe in platform.recipes
        ]
        manifests.append(
            put_image(store.blobs, platform.platform, plan.settings, named, plan.annotations)
        )
    root = put_index(store.blobs, manifests, plan.annotations)
    layers = tuple(
        BuiltLayer(
            recipe.name,
            tuple(users[key]),
            made[key][0].descriptor.digest,
            made[key][0].descriptor.size,
            made[key][1],
        )
        for key, recipe in needed.items()
    )
    built = tuple(platform.platform for platform in plan.platforms)
    return BuiltImage(root, built, layers, store.blobs, plan.digest)


def _layer(
    key: str, recipe: Recipe, compression: Compression, store: Store, progress: Progress | None
) -> tuple[Layer, bool]:
    """A layer from the cache, or made now; and whether it was there."""
    record = store.read_record("layers", key)
    if record is not None:
        try:
            layer = Layer(Descriptor.from_json(record["descriptor"]), str(record["diff_id"]))
            if store.blobs.has(layer.descriptor):
                return layer, True
        except (KeyError, OciError):
            log.warning("the record of layer %s does not read; it is made again", key)
    recipe.prepare(store, progress)
    layer = write_layer(recipe.entries(store), store.blobs, *_packing(recipe, compression))
    store.write_record(
        "layers", key, {"descriptor": layer.descriptor.to_json(), "diff_id": layer.diff_id}
    )
    if progress:
        progress(f"layer {recipe.name}", layer.descriptor.size, 0)
    return layer, False
