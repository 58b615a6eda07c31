"""Local copies of a version's files, as whoever loads or downloads the model needs them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from edgekit.errors import Conflict
from edgekit.registry.blobs import BlobStore, copy_verified, digest_of_file
from edgekit.registry.database import explained
from edgekit.registry.records import ModelFile, ModelVersion


def local_model(blobs: BlobStore, version: ModelVersion) -> Path:
    """The model's file with its weights beside it, verified on this very call.

    One file alone is the blob itself. Several are copied together into the cache, once: onnx
    refuses weights behind a link.

    Raises:
        RegistryError: a file is missing or damaged.
    """
    weights = version.files_for("weights")
    if not weights:
        return blobs.path(version.digest)
    wanted = {version.filename: version.digest} | {file.path: file.digest for file in weights}
    key = hashlib.sha256(repr(sorted(wanted.items())).encode()).hexdigest()
    folder = blobs.cache / "models" / key
    for name, digest in wanted.items():
        _renew(blobs, folder / name, digest)
    return folder / version.filename


def copy_files(blobs: BlobStore, version: ModelVersion, target: Path) -> tuple[Path, ...]:
    """Write the model's file to `target` and its other files beside it, the model's last.

    Raises:
        Conflict: a file with another content is in the way of one of the others.
        RegistryError: a file is missing or damaged, or cannot be written.
    """
    beside = {target.parent / file.path: file for file in version.files}
    if target in beside:
        raise Conflict(
            f"{version.ref} has a file called {target.name} besides the model's",
            hint="give the model's another name: --output PATH",
        )
    _refuse_others(beside.items())
    written = []
    for path, file in beside.items():
        if not path.exists():
            with explained(f"writing {path}"):
                path.parent.mkdir(parents=True, exist_ok=True)
            copy_verified(blobs.path(file.digest), path, file.digest)
        written.append(path)
    copy_verified(blobs.path(version.digest), target, version.digest)
    return (*written, target)


def _refuse_others(beside: Iterable[tuple[Path, ModelFile]]) -> None:
    for path, file in beside:
        if path.exists() and (not path.is_file() or digest_of_file(path) != file.digest):
            raise Conflict(
                f"{path} is in the way: the model comes with another file of this name",
                hint="download into an empty folder: --output FOLDER/MODEL",
            )


def _renew(blobs: BlobStore, path: Path, digest: str) -> None:
    """Have the blob at `path`, which others may be making at the same time."""
    with explained(f"writing {path}"):
        if path.is_file() and digest_of_file(path) == digest:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    copy_verified(blobs.path(digest), path, digest)
