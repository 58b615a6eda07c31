"""What an image is to be made of: its layers by their recipes, how it starts, what it is called.

The layers, from what changes least to what changes most: base, wheels, edgekit's runtime, the
user's app, the model. Each has a recipe whose inputs decide its digest.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import ImageError
from edgekit.oci.compression import Compression, compressor_identity
from edgekit.oci.descriptor import Platform, canonical_json
from edgekit.oci.image import Settings
from edgekit.oci.reference import Reference
from edgekit.packager.base import USER, DebianBase
from edgekit.packager.debian import lock_debian
from edgekit.packager.pulled import GLIBC, PulledBase, lock_base
from edgekit.packager.recipes import (
    FORMAT,
    MODEL,
    MODEL_LEVEL,
    RUNTIME,
    ModelLayer,
    PackagedModel,
    Recipe,
    app_files,
    model_layer,
    runtime_files,
)
from edgekit.packager.store import Progress, Store
from edgekit.packager.wheels import (
    FPGA_REQUIREMENTS,
    REQUIREMENTS,
    WheelLayer,
    WheelLock,
    lock_wheels,
    read_requirements,
)

DEFAULT_BASE = "debian:bookworm"
DEFAULT_PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))


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


def layer_key(recipe: Recipe, compression: Compression) -> str:
    """Names a layer by its inputs; the compressor is one of them."""
    chosen, level = packing(recipe, compression)
    value = [recipe.name, recipe.inputs(), chosen, level, compressor_identity(chosen)]
    return hashlib.sha256(canonical_json(value)).hexdigest()


def packing(recipe: Recipe, compression: Compression) -> tuple[Compression, int | None]:
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
    requirements: Path | None = None,
    compression: Compression = "gzip",
    update: bool = False,
    progress: Progress | None = None,
) -> ImagePlan:
    """Decide what an image is made of. Goes to the network only for what no lock has yet.

    Args:
        model: the model version.
        store: holds the locks.
        platforms: what it is to run on.
        base: `debian:SUITE`, or `REGISTRY/NAME:TAG` of an image with Python on glibc.
        score: the user's `score.py`, which then answers requests.
        requirements: a file of what it imports, as pip reads it.
        compression: `gzip`, or `zstd` for engines that are new enough.
        update: resolve packages and wheels again.
        progress: told of what is fetched.

    Raises:
        ImageError: it cannot be built so.
        Unreachable, Corrupt: what must be resolved cannot be.
    """
    if model.kind == "file" and score is None:
        raise ImageError(
            f"only a scoring script can load {model.reference}, and there is none",
            "write one with init() and run(data), and give it: --score score.py",
        )
    ordered = sorted(set(platforms))
    bases, target = _bases(base, ordered, store, update, progress)
    fpga = model.kind == "npu"
    needed: Sequence[str] = FPGA_REQUIREMENTS if fpga else REQUIREMENTS
    series = "wheels-fpga" if fpga else "wheels"
    lock = f"{series}-{target.python}{target.suffix}"
    python, glibc = target.python, target.glibc
    wheels = lock_wheels(lock, needed, ordered, python, glibc, store, update, progress)
    above: WheelLock | None = None
    if requirements is not None:
        asked = read_requirements(requirements)
        key = hashlib.sha256("\n".join(sorted(asked)).encode()).hexdigest()[:12]
        above = lock_wheels(
            f"{lock}-app-{key}", asked, ordered, python, glibc, store, update, progress, wheels
        )
    shared: list[Recipe] = [runtime_files(model.kind)]
    if score is not None:
        shared.append(app_files(score))
    shared.append(model_layer(model, store))
    plans = []
    for platform in ordered:
        name, under = str(platform), bases[str(platform)]
        link = under.link if isinstance(under, PulledBase) else ""
        recipes: list[Recipe] = [
            under,
            WheelLayer(name, python, glibc, wheels.platforms[name], link=link),
        ]
        if above and above.platforms[name]:
            recipes.append(WheelLayer(name, python, glibc, above.platforms[name], "dependencies"))
        plans.append(PlatformPlan(platform, (*recipes, *shared)))
    return ImagePlan(
        model.reference,
        tuple(plans),
        module_settings(model, target.environment, script=score is not None),
        compression,
        module_annotations(model, base),
    )


@dataclass(frozen=True)
class Target:
    """What wheels must fit: the Python and C library of a base, and what the base's lock is called.

    Args:
        python: as in `3.11`.
        glibc: as in (2, 36).
        suffix: of the lock's name, where the C library is not that of the default base.
        environment: that the base sets.
    """

    python: str
    glibc: tuple[int, int]
    suffix: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def _bases(
    base: str,
    platforms: Sequence[Platform],
    store: Store,
    update: bool,
    progress: Progress | None,
) -> tuple[Mapping[str, DebianBase | PulledBase], Target]:
    if suite := re.fullmatch(r"debian:([a-z]+)", base):
        debian = lock_debian(suite[1], platforms, store, update, progress)
        made = {str(each): DebianBase(debian.packages[str(each)]) for each in platforms}
        return made, Target(debian.python, debian.glibc)
    if "/" not in base:
        raise ImageError(
            f"{base!r} is no base that is known here", f"write {DEFAULT_BASE} or REGISTRY/NAME:TAG"
        )
    pulled = lock_base(Reference.parse(base), platforms, store, update)
    first = next(iter(pulled.values()))
    suffix = f"-glibc{GLIBC[0]}.{GLIBC[1]}"
    return pulled, Target(first.python, GLIBC, suffix, dict(first.environment))


def module_settings(
    model: PackagedModel, environment: Mapping[str, str] | None = None, script: bool = False
) -> Settings:
    """How a module is started; the contract is in docs/architecture.md.

    Args:
        model: in the image.
        environment: of the base, which ours goes over.
        script: a scoring script answers requests.
    """
    fpga = model.kind == "npu"
    role = "script-scorer" if script else "fpga-scorer" if fpga else "scorer"
    return Settings(
        entrypoint=("/usr/bin/python3", "-m", "edgekit_runtime"),
        command=(role,),
        environment={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            **(environment or {}),
            "PYTHONPATH": f"/{RUNTIME}:/opt/edgekit/lib",
            "EDGEKIT_MODEL": f"/{MODEL}",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"EDGEKIT_GRPC_PORT": "8081"} if fpga else {}),
        },
        user=f"{USER}:{USER}",
        ports=("8080/tcp", "8081/tcp") if fpga else ("8080/tcp",),
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
