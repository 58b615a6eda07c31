"""What the registry holds, as plain data: references, versions, images, graphs."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from edgekit.errors import ModelError, RegistryError

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
ALIAS = re.compile(r"[a-z]([a-z0-9._-]*[a-z0-9])?")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LATEST = "latest"

_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?")
_LONGEST_NAME = 128
_LONGEST_VALUE = 4096
_LONGEST_PATH = 255
_GREATEST_VERSION = 2**31 - 1

Labels = Mapping[str, str]
NO_LABELS: Labels = {}
Role = Literal["weights", "score", "requirements"]


@dataclass(frozen=True)
class ModelRef:
    """A model's name with a version, an alias, or neither for the newest version.

    Args:
        name: lower-case letters, digits, and `.`, `_`, `-` between them.
        version: from 1.
        alias: a name that stands for a version, beginning with a letter.
    """

    name: str
    version: int | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or len(self.name) > _LONGEST_NAME:
            raise RegistryError(
                f"{_shown(self.name)} is no name for a model",
                hint="use lower-case letters and digits, with . _ - between them",
            )
        if self.version is not None and not 1 <= self.version <= _GREATEST_VERSION:
            raise RegistryError(f"versions count from 1: {self.name}:{self.version}")
        if self.alias is not None:
            check_alias(self.alias)
            if self.version is not None:
                raise RegistryError(f"{self.name} has a version and an alias; one says which")

    def __str__(self) -> str:
        which = self.alias or self.version
        return self.name if which is None else f"{self.name}:{which}"

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """The reference that `NAME`, `NAME:latest`, `NAME:VERSION` or `NAME:ALIAS` stands for.

        Raises:
            RegistryError: the text is none of these.
        """
        name, colon, version = text.partition(":")
        if not colon or version == LATEST:
            return cls(name)
        if re.fullmatch(r"[1-9][0-9]{0,9}", version):
            return cls(name, int(version))
        if not ALIAS.fullmatch(version):
            raise RegistryError(
                f"{_shown(text)} is no reference to a model",
                hint="write NAME, NAME:VERSION or NAME:ALIAS, as in digits:3",
            )
        return cls(name, alias=version)


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph.

    Args:
        name: as the graph has it.
        dtype: numpy's name of the element type, as in `float32`.
        shape: a number, a name (`N`) or None (unknown) for each axis.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        axes = ", ".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name} {self.dtype} [{axes}]"


@dataclass(frozen=True)
class Signature:
    """What a graph takes and yields; constants that are declared as inputs are left out."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ModelFile:
    """A file that a version has besides its model's file.

    Args:
        path: from the folder of the model's file, with `/` between its parts.
        role: `weights` that the model's file refers to; the `score` script that loads it, or
            that script's `requirements`.
        digest: `sha256:...`.
        size: in bytes.
    """

    path: str
    role: Role
    digest: str
    size: int

    def __post_init__(self) -> None:
        check_path(self.path)


@dataclass(frozen=True)
class ModelVersion:
    """One registered version of a model; all but its tags and aliases never changes.

    Args:
        name: of the model.
        version: counted from 1.
        framework: `onnx`, or what else the file is for.
        filename: what the model's file is called.
        digest: `sha256:...` of the file.
        size: of the file, in bytes.
        inputs: as the ONNX graph declares them; empty for other frameworks.
        outputs: likewise.
        tags: free, can be changed.
        properties: fixed at registration.
        parent: the version it was made from, as a quantized one is.
        created: in UTC.
        aliases: names that stand for this version at present.
        deleted: when it was deleted, in UTC; it can be restored until garbage collection.
        files: what it has besides the model's file, by path.
    """

    name: str
    version: int
    framework: str
    filename: str
    digest: str
    size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tags: Labels
    properties: Labels
    parent: ModelRef | None
    created: datetime
    aliases: tuple[str, ...] = ()
    deleted: datetime | None = None
    files: tuple[ModelFile, ...] = ()

    @property
    def total_size(self) -> int:
        """The bytes of all its files."""
        return self.size + sum(file.size for file in self.files)

    def check_onnx(self) -> None:
        """Hold that the model is ONNX, for what works on nothing else.

        Raises:
            ModelError: it is of another framework.
        """
        if self.framework != "onnx":
            raise ModelError(
                f"{self.ref} is a {self.framework} model, and this works on ONNX models",
                hint="export it to ONNX and register that",
            )

    def files_for(self, role: Role) -> tuple[ModelFile, ...]:
        """Those of its files that are there for `role`."""
        return tuple(file for file in self.files if file.role == role)

    @property
    def ref(self) -> ModelRef:
        """The reference to exactly this version."""
        return ModelRef(self.name, self.version)

    def as_dict(self) -> dict[str, Any]:
        """The version as plain data, for JSON."""
        return {
            "ref": str(self.ref),
            **asdict(self),
            "total_size": self.total_size,
            "parent": None if self.parent is None else str(self.parent),
            "created": _iso(self.created),
            "deleted": None if self.deleted is None else _iso(self.deleted),
        }


@dataclass(frozen=True)
class ProfileRecord:
    """A profile of a model version, as it was measured on some machine.

    Args:
        model: the version.
        measured: latencies, memory, machine, as plain data.
        created: in UTC.
    """

    model: ModelRef
    measured: Mapping[str, Any]
    created: datetime

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data, for JSON."""
        return {"model": str(self.model), **self.measured, "created": _iso(self.created)}


@dataclass(frozen=True)
class ImageRecord:
    """A module image made from a model version.

    Args:
        digest: `sha256:...` of its manifest or index.
        reference: where it is, as `host/repository:tag` or `oci:folder`.
        model: the version inside.
        platforms: as `linux/arm64`.
        created: in UTC.
        tags: free.
        properties: fixed when it was recorded.
    """

    digest: str
    reference: str
    model: ModelRef
    platforms: tuple[str, ...]
    created: datetime
    tags: Labels = field(default_factory=dict)
    properties: Labels = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data, for JSON."""
        return {**asdict(self), "model": str(self.model), "created": _iso(self.created)}


@dataclass(frozen=True)
class GraphRecord:
    """An FPGA package made from a model version.

    Args:
        digest: `sha256:...` of the package file.
        size: of the file, in bytes.
        model: the version it computes.
        board: it was compiled for.
        cycles: estimated clock cycles for one input.
        proof: what was proved when it was compiled, as the compiler summarises it.
        created: in UTC.
        tags: free.
        properties: fixed when it was recorded.
    """

    digest: str
    size: int
    model: ModelRef
    board: str
    cycles: int
    proof: Mapping[str, Any]
    created: datetime
    tags: Labels = field(default_factory=dict)
    properties: Labels = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data, for JSON."""
        return {**asdict(self), "model": str(self.model), "created": _iso(self.created)}


@dataclass(frozen=True)
class DeploymentRecord:
    """An image in a deployment of an IoT Hub.

    Args:
        hub: its host name.
        name: of the deployment.
        image: `sha256:...` of the image.
        model: the version inside.
        condition: which devices it is for, as the hub has it.
        seen: when the hub was first seen to have it, in UTC.
        ended: when it was first seen to have it no more.
    """

    hub: str
    name: str
    image: str
    model: ModelRef
    condition: str
    seen: datetime
    ended: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data, for JSON."""
        return {
            **asdict(self),
            "model": str(self.model),
            "seen": _iso(self.seen),
            "ended": None if self.ended is None else _iso(self.ended),
        }


@dataclass(frozen=True)
class Carried:
    """What a deployment on a hub is for and carries: its condition, its images by digest."""

    condition: str
    images: frozenset[str]


def check_alias(alias: str) -> None:
    """Hold that `alias` can stand for a version.

    Raises:
        RegistryError: it is not well formed, or `latest`, which moves by itself.
    """
    if not ALIAS.fullmatch(alias) or len(alias) > _LONGEST_NAME:
        raise RegistryError(
            f"{_shown(alias)} is no name for an alias",
            hint="begin with a lower-case letter; letters, digits and . _ - may follow",
        )
    if alias == LATEST:
        raise RegistryError(f"{LATEST} is always the newest version and cannot be set")


def check_digest(digest: str) -> None:
    """Hold that `digest` is `sha256:` and 64 hexadecimal digits.

    Raises:
        RegistryError: it is not.
    """
    if not DIGEST.fullmatch(digest):
        raise RegistryError(f"{_shown(digest)} is no sha256 digest")


def check_path(path: str) -> None:
    """Hold that `path` names a file in or below a folder, in the one way there is to write it.

    Raises:
        RegistryError: it leads outside, is absolute, or has characters that do not print.
    """
    parts = path.split("/")
    if (
        not path
        or len(path.encode()) > _LONGEST_PATH
        or not path.isprintable()
        or "\\" in path
        or any(part in ("", ".", "..") for part in parts)
        or PurePosixPath(path).as_posix() != path
    ):
        raise RegistryError(f"{_shown(path)} is no path of a file in a model's folder")


def check_labels(kind: str, labels: Labels) -> dict[str, str]:
    """The tags or properties as a dict, sorted by key.

    Args:
        kind: `tag` or `property`, for the message.
        labels: keys of letters, digits and `. _ / -`, values of one line.

    Raises:
        RegistryError: a key or value that is not so.
    """
    for key, value in labels.items():
        if not _KEY.fullmatch(key) or len(key) > _LONGEST_NAME:
            raise RegistryError(
                f"{_shown(key)} is no name for a {kind}",
                hint="use letters and digits, with . _ / - between them",
            )
        if len(value) > _LONGEST_VALUE or not value.isprintable():
            raise RegistryError(
                f"the value of {kind} {key} is longer than {_LONGEST_VALUE} characters "
                "or has control characters"
            )
    return dict(sorted(labels.items()))


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _shown(text: str) -> str:
    short = text if len(text) <= 60 else text[:57] + "..."
    return ascii(short)
