"""The rows of what hubs' deployments carry. Each function takes a connection."""

from collections.abc import Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from edgekit.registry.records import Carried, DeploymentRecord, ModelRef
from edgekit.registry.schema import deployments, images, models, versions


def note(connection: sa.Connection, hub: str, carried: Mapping[str, Carried]) -> None:
    """Bring what is recorded of a hub to what it carries now.

    An image that is not recorded here is none of ours; a deployment that the hub has no more has
    ended, and is remembered.

    Args:
        connection: that is writing.
        hub: its host name.
        carried: all deployments of the hub, by name.
    """
    now = datetime.now(UTC)
    ours = {row.digest: row.version_id for row in connection.execute(sa.select(images))}
    standing = {
        (name, digest): each.condition
        for name, each in carried.items()
        for digest in each.images
        if digest in ours
    }
    known = {
        (row.name, row.image): row
        for row in connection.execute(sa.select(deployments).where(deployments.c.hub == hub))
    }
    for (name, digest), condition in standing.items():
        if (name, digest) in known:
            connection.execute(
                deployments.update()
                .where(deployments.c.id == known[name, digest].id)
                .values(condition=condition, ended=None)
            )
        else:
            connection.execute(
                deployments.insert().values(
                    hub=hub,
                    name=name,
                    image=digest,
                    version_id=ours[digest],
                    condition=condition,
                    seen=now,
                )
            )
    for place, row in known.items():
        if place not in standing and row.ended is None:
            over = deployments.update().where(deployments.c.id == row.id)
            connection.execute(over.values(ended=now))


def search(connection: sa.Connection, version_id: int) -> list[DeploymentRecord]:
    """The deployments that carry a version, or carried it, the oldest first."""
    rows = connection.execute(
        sa.select(deployments, models.c.name.label("model"), versions.c.version)
        .join(versions, versions.c.id == deployments.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(deployments.c.version_id == version_id)
        .order_by(deployments.c.seen, deployments.c.id)
    )
    return [
        DeploymentRecord(
            hub=row.hub,
            name=row.name,
            image=row.image,
            model=ModelRef(row.model, row.version),
            condition=row.condition,
            seen=row.seen,
            ended=row.ended,
        )
        for row in rows
    ]
