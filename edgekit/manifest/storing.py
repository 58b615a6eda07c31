"""Writes a file so that it is there as a whole or not at all."""

import os
import tempfile
from pathlib import Path

from edgekit.errors import ManifestError


def store(path: Path, content: bytes) -> None:
    """Write `content` to `path` by way of a temporary file beside it.

    Raises:
        ManifestError: the folder is not there, not writable, or the disk is full.
    """
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes it 0600; as open() would have
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise ManifestError(f"cannot write {path}: {error.strerror}") from error
