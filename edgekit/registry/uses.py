"""Who uses a model version: the images and graphs made from it, the versions derived from it."""

import sqlalchemy as sa

from edgekit.registry.schema import graphs, images, models, versions


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
    return [
        *(f"model {row.name}:{row.version}" for row in derived),
        *(f"image {row.reference}" for row in made),
        *(f"FPGA package {row.digest[:19]} for {row.board}" for row in compiled),
    ]
