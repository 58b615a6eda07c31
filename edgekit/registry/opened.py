"""The database and the files of a registry, opened together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from edgekit.errors import RegistryError
from edgekit.registry.blobs import BlobStore, Incoming
from edgekit.registry.database import Database
from edgekit.workspace import Workspace


class Opened:
    """What a workspace has registered. Open it with `Registry.open`.

    A file is stored before the row that names it is written, and a row is gone before its file is:
    a process killed in between leaves no row without its file.

    Args:
        database: with the registry's tables.
        blobs: where the files are.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    @classmethod
    def open(cls, workspace: Workspace) -> Self:
        """The registry of a workspace; its tables are made or migrated where they must be.

        Raises:
            RegistryError: the database or the blob store does not open.
        """
        return cls(Database(workspace.database_url), BlobStore(workspace.blob_url, workspace.cache))

    def stored_file(self, digest: str, *, verify: bool = True) -> Path:
        """A local file with a stored file's content, verified on this very call.

        Args:
            digest: of the file.
            verify: may be False for a caller that hashes all it reads of the file.

        Raises:
            RegistryError: it is missing or damaged.
        """
        return self._blobs.path(digest, verify=verify)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for files on their way in; gone when the block ends, swept where it is killed.

        Raises:
            RegistryError: it cannot be made.
        """
        with self._blobs.intake() as intake:
            yield intake.folder

    def _hold_stored(self, *stored: Incoming) -> None:
        """Make sure, now that garbage collection is locked out, that it has taken no file."""
        for incoming in stored:
            if not self._blobs.exists(incoming.digest):
                raise RegistryError(
                    f"the file {incoming.digest} was collected while it was registered",
                    hint="try again",
                )
