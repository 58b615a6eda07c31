"""The rows of what is known of model versions: images, FPGA packages, profiles."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    graph_properties,
    graph_tags,
    graphs,
    image_properties,
    image_tags,
    images,
    models,
    profiles,
    versions,
)
from edgekit.registry.versions import (
    derived,
    find_id,
    labelled,
    labels_mention,
    labels_of,
    load,
    put_labels,
    within,
)


@dataclass(frozen=True)
class ArtefactQuery:
    """Which images or FPGA packages to look for; every condition must hold.

    Args:
        model: made from this version, or from any of the model's where none is named.
        uses: made from this version, or from one that was made from it.
        digest: with this digest.
        tags: each key must be there, with the value unless that is None.
        properties: likewise.
        board: an FPGA package for it.
        latest: only the newest of each model, of an FPGA package for each board.
        text: somewhere in the model's name, the digest, a tag, a property, an image's place, a
            package's board; in any case.
    """

    model: ModelRef | None = None
    uses: ModelRef | None = None
    digest: str | None = None
    tags: Mapping[str, str | None] = field(default_factory=dict)
    properties: Mapping[str, str | None] = field(default_factory=dict)
    board: str | None = None
    latest: bool = False
    text: str | None = None


def insert_image(
    connection: sa.Connection,
    version_id: int,
    *,
    digest: str,
    reference: str,
    platforms: tuple[str, ...],
    tags: Labels,
    properties: Labels,
) -> None:
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


def search_images(connection: sa.Connection, query: ArtefactQuery) -> list[ImageRecord]:
    """The images that fit, the oldest first."""
    newer, newer_version = images.alias("newer"), versions.alias("newer_version")
    later = sa.exists().where(
        newer_version.c.id == newer.c.version_id,
        newer_version.c.model_id == versions.c.model_id,
        _after(newer, images),
    )
    chosen = (
        sa.select(images.c.id)
        .join(versions, versions.c.id == images.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(*_conditions(connection, query, images, image_tags, image_properties))
    )
    if query.latest:
        chosen = chosen.where(~later)
    if query.text is not None:
        chosen = chosen.where(
            _mention(query.text, images, image_tags, image_properties, images.c.reference)
        )
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
    tags: Labels,
    properties: Labels,
) -> None:
    """Record an FPGA package; the same file again changes nothing but its tags."""
    known = connection.execute(sa.select(graphs.c.id).where(graphs.c.digest == digest)).scalar()
    if known is None:
        known = connection.execute(
            graphs.insert()
            .values(
                digest=digest,
                size=size,
                version_id=version_id,
                board=board,
                cycles=cycles,
                proof=dict(proof),
                created=datetime.now(UTC),
            )
            .returning(graphs.c.id)
        ).scalar_one()
        put_labels(connection, graph_properties, known, properties)
    put_labels(connection, graph_tags, known, tags)


def search_graphs(connection: sa.Connection, query: ArtefactQuery) -> list[GraphRecord]:
    """The FPGA packages that fit, the oldest first."""
    newer, newer_version = graphs.alias("newer"), versions.alias("newer_version")
    later = sa.exists().where(
        newer_version.c.id == newer.c.version_id,
        newer_version.c.model_id == versions.c.model_id,
        newer.c.board == graphs.c.board,
        _after(newer, graphs),
    )
    chosen = (
        sa.select(graphs.c.id)
        .join(versions, versions.c.id == graphs.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(*_conditions(connection, query, graphs, graph_tags, graph_properties))
    )
    if query.board is not None:
        chosen = chosen.where(graphs.c.board == query.board)
    if query.latest:
        chosen = chosen.where(~later)
    if query.text is not None:
        chosen = chosen.where(
            _mention(query.text, graphs, graph_tags, graph_properties, graphs.c.board)
        )
    rows = connection.execute(
        sa.select(graphs, models.c.name, versions.c.version)
        .join(versions, versions.c.id == graphs.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(graphs.c.id.in_(chosen))
        .order_by(graphs.c.created, graphs.c.id)
    ).all()
    all_tags = labels_of(connection, graph_tags, chosen)
    all_properties = labels_of(connection, graph_properties, chosen)
    return [
        GraphRecord(
            digest=row.digest,
            size=row.size,
            model=ModelRef(row.name, row.version),
            board=row.board,
            cycles=row.cycles,
            proof=row.proof,
            created=row.created,
            tags=all_tags.get(row.id, {}),
            properties=all_properties.get(row.id, {}),
        )
        for row in rows
    ]


def tag_artefact(
    connection: sa.Connection, digest: str, tags: Mapping[str, str | None]
) -> list[ImageRecord] | list[GraphRecord]:
    """Set tags of an image, in all places it is recorded, or of an FPGA package; its records.

    Raises:
        NotFound: neither has this digest.
    """
    for owner, table in ((images, image_tags), (graphs, graph_tags)):
        found = connection.execute(sa.select(owner.c.id).where(owner.c.digest == digest)).scalars()
        ids = found.all()
        for owner_id in ids:
            put_labels(connection, table, owner_id, tags)
        if ids and owner is images:
            return search_images(connection, ArtefactQuery(digest=digest))
        if ids:
            return search_graphs(connection, ArtefactQuery(digest=digest))
    raise NotFound(
        f"no image and no FPGA package {digest} is recorded",
        hint="edgekit image list and edgekit fpga list show them",
    )


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


def search_profiles(connection: sa.Connection, model: ModelRef | None) -> list[ProfileRecord]:
    """The profiles of a version, of all of a model's, or of all models, the oldest first."""
    rows = connection.execute(
        sa.select(profiles, models.c.name, versions.c.version)
        .join(versions, versions.c.id == profiles.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(*_of_model(_exact(connection, model)))
        .order_by(profiles.c.created, profiles.c.id)
    )
    return [
        ProfileRecord(ModelRef(row.name, row.version), row.measured, row.created) for row in rows
    ]


def _conditions(
    connection: sa.Connection,
    query: ArtefactQuery,
    table: sa.Table,
    tags: sa.Table,
    properties: sa.Table,
) -> list[sa.ColumnElement[bool]]:
    """What images and FPGA packages are looked for by alike."""
    conditions = [
        *_of_model(_exact(connection, query.model)),
        *labelled(table, tags, query.tags),
        *labelled(table, properties, query.properties),
    ]
    if query.digest is not None:
        check_digest(query.digest)
        conditions.append(table.c.digest == query.digest)
    if query.uses is not None:
        version_id = find_id(connection, query.uses)
        conditions.append(
            sa.or_(versions.c.id == version_id, versions.c.id.in_(derived(version_id)))
        )
    return conditions


def _exact(connection: sa.Connection, model: ModelRef | None) -> ModelRef | None:
    """The version that an alias stands for; other references as they are."""
    if model is None or model.alias is None:
        return model
    return load(connection, find_id(connection, model)).ref


def _after(newer: Any, table: sa.Table) -> sa.ColumnElement[bool]:
    same = sa.and_(newer.c.created == table.c.created, newer.c.id > table.c.id)
    return sa.or_(newer.c.created > table.c.created, same)


def _mention(
    text: str, table: sa.Table, tags: sa.Table, properties: sa.Table, *columns: sa.Column[Any]
) -> sa.ColumnElement[bool]:
    return sa.or_(
        *(within(column, text) for column in (models.c.name, table.c.digest, *columns)),
        labels_mention(table, tags, text),
        labels_mention(table, properties, text),
    )


def _of_model(model: ModelRef | None) -> list[sa.ColumnElement[bool]]:
    if model is None:
        return []
    conditions = [models.c.name == model.name]
    if model.version is not None:
        conditions.append(versions.c.version == model.version)
    return conditions
