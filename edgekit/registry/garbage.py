"""Garbage collection: what was deleted goes for good, and files that no row names."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from edgekit.registry.blobs import BlobStore
from edgekit.registry.database import Database
from edgekit.registry.records import ModelRef
from edgekit.registry.schema import aliases, graphs, models, version_files, versions

_log = logging.getLogger(__name__)

# a file this young may be one whose row another process is about to write
GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class Collected:
    """What garbage collection removed, or would remove.

    Args:
        versions: deleted versions that can no longer be restored.
        blobs: digests of files, with their sizes in bytes.
        leftovers: unfinished copies of processes that were killed.
    """

    versions: tuple[ModelRef, ...] = ()
    blobs: dict[str, int] = field(default_factory=dict)
    leftovers: int = 0

    @property
    def freed(self) -> int:
        """The bytes of the files."""
        return sum(self.blobs.values())


def collect(
    database: Database,
    blobs: BlobStore,
    *,
    deleted_for: timedelta,
    grace: timedelta,
    dry_run: bool,
) -> Collected:
    """Purge versions deleted at least `deleted_for` ago, then every file that no row names.

    The rows go in a transaction before the files do: killed in between, the next collection finds
    the files. Nobody can register while files are removed, and files younger than `grace` stay.
    """
    cutoff = datetime.now(UTC) - deleted_for
    with database.writing(alone=True) as connection:
        purged = _purgeable(connection, cutoff)
        if not dry_run:
            _purge(connection, purged)
        refs = tuple(purged.values())
    with database.writing(alone=True) as connection:
        named = _named(connection, besides=purged if dry_run else {})
        unnamed = {
            digest: size
            for digest, size in blobs.digests().items()
            if digest not in named and blobs.age(digest) >= grace.total_seconds()
        }
        if dry_run:
            return Collected(refs, unnamed)
        for digest in unnamed:
            blobs.delete(digest)
    leftovers = blobs.sweep(grace.total_seconds())
    _log.info("collected %d versions, %d files", len(refs), len(unnamed))
    return Collected(refs, unnamed, len(leftovers))


def _purgeable(connection: sa.Connection, cutoff: datetime) -> dict[int, ModelRef]:
    """Ids and references of the versions to purge: old enough, and no parent of one that stays."""
    rows = connection.execute(
        sa.select(versions.c.id, versions.c.parent_id, versions.c.deleted)
    ).all()
    stays = {row.id for row in rows if row.deleted is None or row.deleted > cutoff}
    parents = {row.id: row.parent_id for row in rows}
    for version_id in list(stays):
        parent = parents[version_id]
        while parent is not None and parent not in stays:
            stays.add(parent)
            parent = parents[parent]
    gone = sa.select(versions.c.id, models.c.name, versions.c.version).join(models)
    return {
        row.id: ModelRef(row.name, row.version)
        for row in connection.execute(gone.order_by(models.c.name, versions.c.version))
        if row.id not in stays
    }


def _purge(connection: sa.Connection, purged: dict[int, ModelRef]) -> None:
    """Delete the rows; the newest first, since a version is always younger than its parent."""
    for version_id in sorted(purged, reverse=True):
        connection.execute(aliases.delete().where(aliases.c.version_id == version_id))
        connection.execute(versions.delete().where(versions.c.id == version_id))


def _named(connection: sa.Connection, besides: dict[int, ModelRef]) -> set[str]:
    """The digests of all files that a row names, `besides` the rows of these versions."""
    rows = connection.execute(sa.select(versions.c.id, versions.c.digest))
    named = {row.digest for row in rows if row.id not in besides}
    files = connection.execute(sa.select(version_files.c.version_id, version_files.c.digest))
    named |= {row.digest for row in files if row.version_id not in besides}
    return named | set(connection.execute(sa.select(graphs.c.digest)).scalars())
