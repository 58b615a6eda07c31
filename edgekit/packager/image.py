"""Making a planned image: the layers that the cache lacks, then what puts them together.

A finished layer is found again by its recipe's inputs. So a changed model costs the model's layer,
a configuration and a manifest.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edgekit.errors import OciError
from edgekit.oci.blobs import Blobs, BlobWriter
from edgekit.oci.compression import Compression
from edgekit.oci.descriptor import Descriptor, Platform
from edgekit.oci.image import NamedLayer, put_image, put_index
from edgekit.oci.layer import Layer, write_layer
from edgekit.packager.base import DebianBase
from edgekit.packager.debian import Package
from edgekit.packager.imports import check_imports
from edgekit.packager.materials import Materials, remember_materials
from edgekit.packager.plan import ImagePlan, layer_key, packing
from edgekit.packager.pulled import PulledBase
from edgekit.packager.recipes import (
    Files,
    ModelLayer,
    PackagedModel,
    Recipe,
    remember_compressible,
)
from edgekit.packager.store import Progress, Store, sweep_unfinished
from edgekit.packager.wheels import (
    Wheel,
    WheelLayer,
)

log = logging.getLogger(__name__)

Follow = Callable[[BlobWriter], None]


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


def build_image(
    plan: ImagePlan,
    store: Store,
    progress: Progress | None = None,
    follow: Follow | None = None,
) -> BuiltImage:
    """Make what the cache lacks, and put the image together.

    Args:
        plan: what it is made of.
        store: holds the cache.
        progress: told of what is done.
        follow: given the writer of each layer that is made and needs no compression, which would
            take longer than to send it.

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
    made: dict[str, tuple[tuple[Layer, ...], bool]] = {}
    lock = threading.Lock()

    def make(key: str) -> None:
        outcome = _layers(key, needed[key], plan.compression, store, progress, follow)
        with lock:
            made[key] = outcome

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, needed))
    if not all(cached for _layers, cached in made.values()):
        sweep_unfinished(store)
    _check_app(plan, {key: layers for key, (layers, _cached) in made.items()}, store)
    manifests = []
    for platform in plan.platforms:
        named = [
            NamedLayer(layer, recipe.name)
            for recipe in platform.recipes
            for layer in made[layer_key(recipe, plan.compression)][0]
        ]
        manifests.append(
            put_image(store.blobs, platform.platform, plan.settings, named, plan.annotations)
        )
    root = put_index(store.blobs, manifests, plan.annotations)
    remember_materials(store, root.digest, materials_of(plan))
    layers = tuple(
        BuiltLayer(
            recipe.name,
            tuple(users[key]),
            layer.descriptor.digest,
            layer.descriptor.size,
            made[key][1],
        )
        for key, recipe in needed.items()
        for layer in made[key][0]
    )
    built = tuple(platform.platform for platform in plan.platforms)
    return BuiltImage(root, built, layers, store.blobs, plan.digest)


def _check_app(plan: ImagePlan, made: Mapping[str, tuple[Layer, ...]], store: Store) -> None:
    """See to it that the user's script finds what it imports, before the image is anybody's."""
    for platform in plan.platforms:
        brought: list[Layer] = []
        for recipe in platform.recipes:
            if isinstance(recipe, WheelLayer | PulledBase):
                brought += made[layer_key(recipe, plan.compression)]
            elif isinstance(recipe, Files) and recipe.name == "app":
                ((_path, score, _digest),) = recipe.files
                check_imports(score, brought, store, str(platform.platform))


def materials_of(plan: ImagePlan) -> Materials:
    """What a plan's image is made of, by name, version and digest."""
    packages: dict[str, tuple[Package, ...]] = {}
    wheels: dict[str, tuple[Wheel, ...]] = {}
    files: dict[str, str] = {}
    model: PackagedModel | None = None
    for each in plan.platforms:
        for recipe in each.recipes:
            if isinstance(recipe, DebianBase):
                packages[str(each.platform)] = recipe.packages
            elif isinstance(recipe, WheelLayer):
                wheels[str(each.platform)] = (*wheels.get(str(each.platform), ()), *recipe.wheels)
            elif isinstance(recipe, Files):
                files |= {path: digest for path, _file, digest in recipe.files}
            elif isinstance(recipe, ModelLayer):
                model = recipe.model
    assert model is not None
    base = plan.annotations.get("org.opencontainers.image.base.name", "")
    return Materials(
        plan.model, model.digest, model.parents, base, plan.digest, packages, wheels, files
    )


def _layers(
    key: str,
    recipe: Recipe,
    compression: Compression,
    store: Store,
    progress: Progress | None,
    follow: Follow | None,
) -> tuple[tuple[Layer, ...], bool]:
    """The layers of a recipe, its own or those of a pulled base; and whether they were here."""
    if isinstance(recipe, PulledBase):
        here = all(store.blobs.has(layer.descriptor) for layer in recipe.layers)
        recipe.prepare(store, progress)
        return recipe.layers, here
    layer, cached = _layer(key, recipe, compression, store, progress, follow)
    return (layer,), cached


def _layer(
    key: str,
    recipe: Recipe,
    compression: Compression,
    store: Store,
    progress: Progress | None,
    follow: Follow | None,
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
    chosen, level = packing(recipe, compression)
    layer = write_layer(
        recipe.entries(store), store.blobs, chosen, level, follow if chosen == "none" else None
    )
    if isinstance(recipe, ModelLayer):
        remember_compressible(recipe, store)
    store.write_record(
        "layers", key, {"descriptor": layer.descriptor.to_json(), "diff_id": layer.diff_id}
    )
    if progress:
        progress(f"layer {recipe.name}", layer.descriptor.size, 0)
    return layer, False
