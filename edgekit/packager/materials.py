"""What an image is made of: kept when it is built, told as a bill of material and as provenance."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from edgekit.errors import NotFound
from edgekit.packager.debian import Package
from edgekit.packager.store import Store
from edgekit.packager.wheels import Wheel

BUILD_TYPE = "urn:edgekit:image:v1"
LOCAL_BUILDER = "urn:edgekit:builder:local"


@dataclass(frozen=True)
class Materials:
    """Everything that went into an image, by name, version and digest.

    Args:
        model: `NAME:VERSION`.
        model_digest: of the model's file.
        parents: what the model was made from, nearest first.
        base: as it was asked for.
        plan: the plan's digest.
        packages: Debian's, for each platform.
        wheels: for each platform.
        files: path in the image -> digest, of edgekit's runtime and the user's files.
    """

    model: str
    model_digest: str
    parents: tuple[str, ...]
    base: str
    plan: str
    packages: Mapping[str, tuple[Package, ...]]
    wheels: Mapping[str, tuple[Wheel, ...]]
    files: Mapping[str, str]


def remember_materials(store: Store, digest: str, materials: Materials) -> None:
    """Keep the materials of the image with that digest."""
    key = digest.removeprefix("sha256:")
    if store.read_record("images", key) is None:
        store.write_record("images", key, asdict(materials))


def recall_materials(store: Store, digest: str) -> Materials:
    """The materials of an image that was built in this workspace.

    Raises:
        NotFound: it was not, or the cache was emptied since.
    """
    value = store.read_record("images", digest.removeprefix("sha256:"))
    if value is None:
        raise NotFound(
            f"nothing is known here about what {digest} is made of",
            "build it again, in this workspace",
        )
    return Materials(
        value["model"],
        value["model_digest"],
        tuple(value["parents"]),
        value["base"],
        value["plan"],
        {
            name: tuple(Package(**each) for each in listed)
            for name, listed in value["packages"].items()
        },
        {name: tuple(Wheel(**each) for each in listed) for name, listed in value["wheels"].items()},
        value["files"],
    )


def _package_url(package: Package, suite: str) -> str:
    """The package URL (purl) of a Debian package."""
    return (
        f"pkg:deb/debian/{quote(package.name)}@{quote(package.version)}"
        f"?arch={package.architecture}&distro={suite}"
    )


def _inputs(materials: Materials) -> Iterator[tuple[str, str]]:
    """Package URL and sha256 of everything that was fetched, each once."""
    suite = materials.base.replace(":", "-")
    seen = set()
    for packages in materials.packages.values():
        for package in packages:
            seen.add((_package_url(package, suite), package.sha256))
    for wheels in materials.wheels.values():
        for wheel in wheels:
            url = (
                f"pkg:pypi/{quote(wheel.name)}@{quote(wheel.version)}?file_name={quote(wheel.file)}"
            )
            seen.add((url, wheel.sha256))
    yield from sorted(seen)


def provenance(materials: Materials, builder: str = LOCAL_BUILDER) -> dict[str, Any]:
    """How the image came to be, as a predicate of SLSA provenance v1."""
    dependencies = [{"uri": uri, "digest": {"sha256": sha}} for uri, sha in _inputs(materials)]
    name, _, number = materials.model.partition(":")
    dependencies.append(
        {
            "uri": f"pkg:generic/{quote(name)}@{number}",
            "digest": {"sha256": materials.model_digest.removeprefix("sha256:")},
        }
    )
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "model": materials.model,
                "base": materials.base,
                "platforms": sorted(materials.wheels),
            },
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": builder, "version": {"edgekit": version("edgekit")}},
            "metadata": {"invocationId": materials.plan},
        },
    }


def bill_of_material(materials: Materials, digest: str) -> bytes:
    """A CycloneDX 1.6 document of the image, the model and its lineage in it; the same each time.

    Args:
        materials: of the image.
        digest: the image's.
    """
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType, Pedigree
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    def sha256(value: str) -> list[HashType]:
        return [HashType(alg=HashAlgorithm.SHA_256, content=value.removeprefix("sha256:"))]

    name, _, number = materials.model.partition(":")
    image = Component(
        name=name,
        version=number,
        type=ComponentType.CONTAINER,
        bom_ref=digest,
        hashes=sha256(digest),
    )
    ancestors = [
        Component(
            name=parent.partition(":")[0],
            version=parent.partition(":")[2],
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=f"model:{parent}",
        )
        for parent in materials.parents
    ]
    model = Component(
        name=name,
        version=number,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{materials.model}",
        hashes=sha256(materials.model_digest),
        pedigree=Pedigree(ancestors=ancestors) if ancestors else None,
    )
    components = [model]
    for uri, digest_of_file in _inputs(materials):
        url = PackageURL.from_string(uri)
        components.append(
            Component(
                name=url.name,
                version=url.version,
                type=ComponentType.LIBRARY,
                bom_ref=uri,
                purl=url,
                hashes=sha256(digest_of_file),
            )
        )
    components += [
        Component(name=path, type=ComponentType.FILE, bom_ref=path, hashes=sha256(value))
        for path, value in sorted(materials.files.items())
    ]
    metadata = BomMetaData(
        component=image,
        # as of the image itself: a time would be all that two bills of one image differ in
        timestamp=datetime.fromtimestamp(0, UTC),
        properties=[Property(name="edgekit:base", value=materials.base)],
    )
    metadata.tools.components.add(
        Component(name="edgekit", version=version("edgekit"), type=ComponentType.APPLICATION)
    )
    bom = Bom(
        components=components,
        metadata=metadata,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, digest),
    )
    bom.register_dependency(image, components)
    return JsonV1Dot6(bom).output_as_string(indent=2).encode()
