"""Who uses a model version: aliases that guard it, what was made from it, what carries it."""

import sqlalchemy as sa

from edgekit.registry.schema import aliases, deployments, graphs, images, models, versions


def users(connection: sa.Connection, version_id: int) -> list[str]:
    """Everything that would be left without its model, named for people."""
    derived = connection.execute(
        sa.select(models.c.name, versions.c.version)
        .join(models)
        .where(versions.c.parent_id == version_id, versions.c.deleted.is_(None))
        .order_by(models.c.name, versions.c.version)
    )
    made = connection.execute(
        sa.select(images.c.reference)
        .where(images.c.version_id == version_id)
        .order_by(images.c.reference)
    )
    compiled = connection.execute(
        sa.select(graphs.c.board, graphs.c.digest)
        .where(graphs.c.version_id == version_id)
        .order_by(graphs.c.board, graphs.c.digest)
    )
    guarding = connection.execute(
        sa.select(aliases.c.name)
        .where(aliases.c.version_id == version_id, aliases.c.protected)
        .order_by(aliases.c.name)
    ).scalars()
    carrying = connection.execute(
        sa.select(deployments.c.hub, deployments.c.name)
        .where(deployments.c.version_id == version_id, deployments.c.ended.is_(None))
        .distinct()
        .order_by(deployments.c.hub, deployments.c.name)
    )
    return [
        *(f"protected alias {name}" for name in guarding),
        *(f"model {row.name}:{row.version}" for row in derived),
        *(f"image {row.reference}" for row in made),
        *(f"FPGA package {row.digest[:19]} for {row.board}" for row in compiled),
        *(f"deployment {row.name} on {row.hub}" for row in carrying),
    ]
