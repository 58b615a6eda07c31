"""Writes what a manifest or a plan is, as a whole or not at all."""

from pathlib import Path

from edgekit.errors import ManifestError
from edgekit.wholefile import whole_file


def store(path: Path, content: bytes) -> None:
    """Write `content` to `path`.

    Raises:
        ManifestError: the folder is not there, not writable, or the disk is full.
    """
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise ManifestError(f"cannot write {path}: {error.strerror}") from error
