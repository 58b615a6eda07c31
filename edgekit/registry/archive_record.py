"""What an archive of a registry says is in it; read strictly, since it may come from anywhere."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from edgekit.registry.records import ALIAS, DIGEST, NAME, Role

Digest = Annotated[str, StringConstraints(pattern=f"^{DIGEST.pattern}$")]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$", max_length=128)]
Alias = Annotated[str, StringConstraints(pattern=f"^{ALIAS.pattern}$", max_length=128)]
Text = Annotated[str, StringConstraints(max_length=512)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Size = Annotated[int, Field(ge=0, le=2**63 - 1)]
Labels = dict[str, str]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spec(_Part):
    """An input or output."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class File(_Part):
    """A file that a version has besides its model's file."""

    path: Text
    role: Role
    digest: Digest
    size: Size


class Profile(_Part):
    """What was measured of a version."""

    measured: dict[str, Any]
    created: datetime


class Version(_Part):
    """A version; `parent` as (name, version)."""

    version: Count
    framework: Text
    filename: Text = "model"
    digest: Digest
    size: Size
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    tags: Labels
    properties: Labels
    parent: tuple[Name, Count] | None
    created: datetime
    deleted: datetime | None
    profiles: tuple[Profile, ...]
    files: tuple[File, ...] = ()


class Standing(_Part):
    """An alias and the version it stands for."""

    name: Alias
    version: Count
    protected: bool


class Model(_Part):
    """A name with its versions; `counter` is the last number given."""

    name: Name
    counter: Annotated[int, Field(ge=0, le=2**31 - 1)]
    versions: tuple[Version, ...]
    aliases: tuple[Standing, ...]


class Image(_Part):
    """An image of a version."""

    model: tuple[Name, Count]
    digest: Digest
    reference: Text
    platforms: tuple[Text, ...]
    tags: Labels
    properties: Labels
    created: datetime


class Graph(_Part):
    """An FPGA package of a version."""

    model: tuple[Name, Count]
    digest: Digest
    size: Size
    board: Text
    cycles: Size
    proof: dict[str, Any]
    created: datetime
    tags: Labels = {}
    properties: Labels = {}


class Deployment(_Part):
    """An image in a deployment of a hub."""

    model: tuple[Name, Count]
    hub: Text
    name: Text
    image: Digest
    condition: str
    seen: datetime
    ended: datetime | None


class Record(_Part):
    """Everything that a registry has recorded."""

    format: Literal["edgekit-registry/1"] = "edgekit-registry/1"
    models: tuple[Model, ...]
    images: tuple[Image, ...]
    graphs: tuple[Graph, ...]
    deployments: tuple[Deployment, ...] = ()

    def files(self) -> dict[str, int]:
        """The digest and size of every file."""
        found = {version.digest: version.size for _, version in self.versions()}
        found |= {
            file.digest: file.size for _, version in self.versions() for file in version.files
        }
        return found | {graph.digest: graph.size for graph in self.graphs}

    def versions(self) -> Iterator[tuple[Model, Version]]:
        """Every version with its model."""
        for model in self.models:
            for version in model.versions:
                yield model, version


class Damage(Exception):
    """What is wrong with the archive."""


def check_references(record: Record) -> None:
    """Hold that what the record speaks of is in it, once, and no version is its own ancestor.

    Raises:
        Damage: it is not so.
    """
    there = [(model.name, version.version) for model, version in record.versions()]
    named = [
        *(version.parent for _, version in record.versions() if version.parent),
        *(image.model for image in record.images),
        *(graph.model for graph in record.graphs),
        *(deployment.model for deployment in record.deployments),
        *((model.name, alias.version) for model in record.models for alias in model.aliases),
    ]
    unknown = set(named) - set(there)
    if unknown:
        raise Damage("{}:{} is used but not there".format(*min(unknown)))
    if len(set(there)) < len(there) or len({m.name for m in record.models}) < len(record.models):
        raise Damage("a version is there twice")
    if any(version.version > model.counter for model, version in record.versions()):
        raise Damage("a version is beyond its counter")
    if len(parents_first(record)) < len(there):
        raise Damage("versions are each other's parents")


def parents_first(record: Record) -> list[tuple[str, Version]]:
    """The versions with their names, each after its parent; those in a circle are left out."""
    waiting = [(model.name, version) for model, version in record.versions()]
    ordered: list[tuple[str, Version]] = []
    done: set[tuple[str, int] | None] = {None}
    while True:
        ready = [(name, version) for name, version in waiting if version.parent in done]
        if not ready:
            return ordered
        waiting = [(name, version) for name, version in waiting if version.parent not in done]
        ordered += ready
        done |= {(name, version.version) for name, version in ready}
