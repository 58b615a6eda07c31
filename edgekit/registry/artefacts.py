"""The rows of what is known of model versions: images, FPGA packages, profiles."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from edgekit.errors import NotFound
from edgekit.registry.records import (
    GraphRecord,
    ImageRecord,
    Labels,
    ModelRef,
    ProfileRecord,
    check_digest,
)
from edgekit.registry.schema import (
    graphs,
    image_properties,
    image_tags,
    images,
    models,
    profiles,
    versions,
)
from edgekit.registry.versions import labelled, labels_of, put_labels


def insert_image(
    connection: sa.Connection,
    version_id: int,
    *,
    digest: str,
    reference: str,
    platforms: tuple[str, ...],
    tags: Labels,
    properties: Labels,
) -> int:
    """Record an image; recorded again under the same reference, only its tags change."""
    known = connection.execute(
        sa.select(images.c.id).where(images.c.digest == digest, images.c.reference == reference)
    ).scalar()
    if known is None:
        known = connection.execute(
            images.insert()
            .values(
                digest=digest,
                reference=reference,
                version_id=version_id,
                platforms=list(platforms),
                created=datetime.now(UTC),
            )
            .returning(images.c.id)
        ).scalar_one()
        put_labels(connection, image_properties, known, properties)
    put_labels(connection, image_tags, known, tags)
    return int(known)


def search_images(
    connection: sa.Connection,
    *,
    image_id: int | None = None,
    model: ModelRef | None = None,
    digest: str | None = None,
    tags: Mapping[str, str | None] | None = None,
) -> list[ImageRecord]:
    """The images that fit, the oldest first; a model without version stands for all of its."""
    chosen = sa.select(images.c.id).join(versions, versions.c.id == images.c.version_id)
    chosen = chosen.join(models, models.c.id == versions.c.model_id).where(
        *_of_model(model), *labelled(images, image_tags, tags or {})
    )
    if image_id is not None:
        chosen = chosen.where(images.c.id == image_id)
    if digest is not None:
        chosen = chosen.where(images.c.digest == digest)
    rows = connection.execute(
        sa.select(images, models.c.name, versions.c.version)
        .join(versions, versions.c.id == images.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(images.c.id.in_(chosen))
        .order_by(images.c.created, images.c.id)
    ).all()
    all_tags = labels_of(connection, image_tags, chosen)
    all_properties = labels_of(connection, image_properties, chosen)
    return [
        ImageRecord(
            digest=row.digest,
            reference=row.reference,
            model=ModelRef(row.name, row.version),
            platforms=tuple(row.platforms),
            created=row.created,
            tags=all_tags.get(row.id, {}),
            properties=all_properties.get(row.id, {}),
        )
        for row in rows
    ]


def delete_image(connection: sa.Connection, digest: str, reference: str | None) -> None:
    """Forget an image, under one of its references or all.

    Raises:
        NotFound: no such image is recorded.
    """
    rows = images.delete().where(images.c.digest == digest)
    if reference is not None:
        rows = rows.where(images.c.reference == reference)
    if not connection.execute(rows).rowcount:
        raise NotFound(f"no image {digest} is recorded", hint="edgekit image list shows them")


def insert_graph(
    connection: sa.Connection,
    version_id: int,
    *,
    digest: str,
    size: int,
    board: str,
    cycles: int,
    proof: Mapping[str, Any],
) -> None:
    """Record an FPGA package; the same file again changes nothing."""
    known = connection.execute(sa.select(graphs.c.id).where(graphs.c.digest == digest)).scalar()
    if known is None:
        connection.execute(
            graphs.insert().values(
                digest=digest,
                size=size,
                version_id=version_id,
                board=board,
                cycles=cycles,
                proof=dict(proof),
                created=datetime.now(UTC),
            )
        )


def search_graphs(
    connection: sa.Connection,
    *,
    model: ModelRef | None = None,
    board: str | None = None,
    digest: str | None = None,
) -> list[GraphRecord]:
    """The FPGA packages that fit, the oldest first."""
    chosen = (
        sa.select(graphs, models.c.name, versions.c.version)
        .join(versions, versions.c.id == graphs.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(*_of_model(model))
        .order_by(graphs.c.created, graphs.c.id)
    )
    if board is not None:
        chosen = chosen.where(graphs.c.board == board)
    if digest is not None:
        check_digest(digest)
        chosen = chosen.where(graphs.c.digest == digest)
    return [
        GraphRecord(
            digest=row.digest,
            size=row.size,
            model=ModelRef(row.name, row.version),
            board=row.board,
            cycles=row.cycles,
            proof=row.proof,
            created=row.created,
        )
        for row in connection.execute(chosen)
    ]


def delete_graph(connection: sa.Connection, digest: str) -> None:
    """Forget an FPGA package; its file stays until garbage collection.

    Raises:
        NotFound: no such package is recorded.
    """
    if not connection.execute(graphs.delete().where(graphs.c.digest == digest)).rowcount:
        raise NotFound(f"no FPGA package {digest} is recorded")


def insert_profile(connection: sa.Connection, version_id: int, measured: Mapping[str, Any]) -> None:
    """Keep a profile of the version."""
    connection.execute(
        profiles.insert().values(
            version_id=version_id, measured=dict(measured), created=datetime.now(UTC)
        )
    )


def search_profiles(connection: sa.Connection, model: ModelRef) -> list[ProfileRecord]:
    """The profiles of a version (of all of a model's, where none is named), the oldest first."""
    rows = connection.execute(
        sa.select(profiles, models.c.name, versions.c.version)
        .join(versions, versions.c.id == profiles.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(*_of_model(model))
        .order_by(profiles.c.created, profiles.c.id)
    )
    return [
        ProfileRecord(ModelRef(row.name, row.version), row.measured, row.created) for row in rows
    ]


def _of_model(model: ModelRef | None) -> list[sa.ColumnElement[bool]]:
    if model is None:
        return []
    conditions = [models.c.name == model.name]
    if model.version is not None:
        conditions.append(versions.c.version == model.version)
    return conditions
