"""The rows of model versions: numbering, finding, searching. Each function takes a connection."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from edgekit.errors import NotFound
from edgekit.registry.records import Labels, ModelFile, ModelRef, ModelVersion, TensorSpec
from edgekit.registry.registering import Taken
from edgekit.registry.schema import (
    aliases,
    models,
    version_files,
    version_properties,
    version_tags,
    versions,
)

_parent_version = versions.alias("parent_version")
_parent_model = models.alias("parent_model")


@dataclass(frozen=True)
class Query:
    """What to look for; every condition must hold.

    Args:
        name: of the model.
        tags: each key must be there, with the value unless that is None.
        properties: likewise.
        framework: as registered.
        latest: only the newest version of each name.
        uses: only what was made from this version, directly or not.
        text: somewhere in the name, the framework, a tag, a property or an alias; in any case.
        deleted: what is deleted and can still be restored, instead of what is there.
    """

    name: str | None = None
    tags: Mapping[str, str | None] = field(default_factory=dict)
    properties: Mapping[str, str | None] = field(default_factory=dict)
    framework: str | None = None
    latest: bool = False
    uses: ModelRef | None = None
    text: str | None = None
    deleted: bool = False


def insert(
    connection: sa.Connection,
    name: str,
    *,
    taken: Taken,
    framework: str,
    tags: Labels,
    properties: Labels,
    parent_id: int | None,
) -> int:
    """A new version under `name`, with the next number; the id of its row."""
    model_id, version = _next_version(connection, name)
    version_id = connection.execute(
        versions.insert()
        .values(
            model_id=model_id,
            version=version,
            framework=framework,
            filename=taken.main.path.name,
            digest=taken.main.digest,
            size=taken.main.size,
            inputs=[asdict(spec) for spec in taken.signature.inputs],
            outputs=[asdict(spec) for spec in taken.signature.outputs],
            parent_id=parent_id,
            created=datetime.now(UTC),
        )
        .returning(versions.c.id)
    ).scalar_one()
    for file in taken.files:
        connection.execute(version_files.insert().values(version_id=version_id, **asdict(file)))
    put_labels(connection, version_tags, version_id, tags)
    put_labels(connection, version_properties, version_id, properties)
    return int(version_id)


def find_id(connection: sa.Connection, ref: ModelRef, *, deleted: bool = False) -> int:
    """The id of the row of a version that is there (or `deleted`).

    Raises:
        NotFound: there is no such model, or no such version of it.
    """
    found = (
        sa.select(versions.c.id)
        .join(models)
        .where(models.c.name == ref.name, _there(deleted))
        .order_by(versions.c.version.desc())
        .limit(1)
    )
    if ref.alias is not None:
        standing = sa.exists().where(
            aliases.c.version_id == versions.c.id, aliases.c.name == ref.alias
        )
        found = found.where(standing)
    if ref.version is not None:
        found = found.where(versions.c.version == ref.version)
    version_id = connection.execute(found).scalar()
    if version_id is None:
        raise _not_found(connection, ref, deleted=deleted)
    return int(version_id)


def load(connection: sa.Connection, version_id: int) -> ModelVersion:
    """The version with this row."""
    (version,) = _load(connection, sa.select(versions.c.id).where(versions.c.id == version_id))
    return version


def search(connection: sa.Connection, query: Query) -> list[ModelVersion]:
    """The versions that fit, by name and number."""
    chosen = sa.select(versions.c.id).join(models).where(_there(query.deleted))
    if query.name is not None:
        chosen = chosen.where(models.c.name == query.name)
    if query.framework is not None:
        chosen = chosen.where(versions.c.framework == query.framework)
    chosen = chosen.where(*labelled(versions, version_tags, query.tags))
    chosen = chosen.where(*labelled(versions, version_properties, query.properties))
    if query.uses is not None:
        chosen = chosen.where(versions.c.id.in_(derived(find_id(connection, query.uses))))
    if query.text is not None:
        chosen = chosen.where(_mentions(query.text))
    if query.latest:
        newer = versions.alias("newer")
        chosen = chosen.where(
            ~sa.exists().where(
                newer.c.model_id == versions.c.model_id,
                newer.c.version > versions.c.version,
                newer.c.deleted.is_not(None) if query.deleted else newer.c.deleted.is_(None),
            )
        )
    return _load(connection, chosen)


def set_deleted(connection: sa.Connection, version_id: int, when: datetime | None) -> None:
    """Mark a version as deleted, or as there again."""
    connection.execute(versions.update().where(versions.c.id == version_id).values(deleted=when))


def labelled(
    owner: sa.Table, table: sa.Table, labels: Mapping[str, str | None]
) -> list[sa.ColumnElement[bool]]:
    """The conditions that a row of `owner` has these keys and values (any, where it is None)."""
    conditions: list[sa.ColumnElement[bool]] = []
    for key, value in labels.items():
        row = sa.exists().where(table.c.owner_id == owner.c.id, table.c.key == key)
        conditions.append(row if value is None else row.where(table.c.value == value))
    return conditions


def put_labels(
    connection: sa.Connection, table: sa.Table, owner_id: int, labels: Mapping[str, str | None]
) -> None:
    """Set these keys of a row; a key whose value is None is removed, the others stay."""
    if not labels:
        return
    connection.execute(table.delete().where(table.c.owner_id == owner_id, table.c.key.in_(labels)))
    kept = {key: value for key, value in labels.items() if value is not None}
    if kept:
        rows = [{"owner_id": owner_id, "key": key, "value": kept[key]} for key in sorted(kept)]
        connection.execute(table.insert(), rows)


def labels_of(
    connection: sa.Connection, table: sa.Table, owners: sa.Select[tuple[int]]
) -> dict[int, dict[str, str]]:
    """The keys and values of each of these rows that has some."""
    found: dict[int, dict[str, str]] = {}
    rows = sa.select(table).where(table.c.owner_id.in_(owners)).order_by(table.c.key)
    for row in connection.execute(rows):
        found.setdefault(row.owner_id, {})[row.key] = row.value
    return found


def _next_version(connection: sa.Connection, name: str) -> tuple[int, int]:
    """The model's id and its next number; others who want one wait until this one is committed."""
    counted = (
        models.update()
        .where(models.c.name == name)
        .values(counter=models.c.counter + 1)
        .returning(models.c.id, models.c.counter)
    )
    row = connection.execute(counted).one_or_none()
    if row is None:
        try:
            with connection.begin_nested():
                connection.execute(models.insert().values(name=name, counter=0))
        except IntegrityError:
            pass  # another process has just registered the first version of this name
        row = connection.execute(counted).one()
    return int(row.id), int(row.counter)


def _load(connection: sa.Connection, chosen: sa.Select[tuple[int]]) -> list[ModelVersion]:
    rows = connection.execute(
        sa.select(
            versions,
            models.c.name.label("model_name"),
            _parent_model.c.name.label("parent_name"),
            _parent_version.c.version.label("parent_version"),
        )
        .join(models, models.c.id == versions.c.model_id)
        .outerjoin(_parent_version, _parent_version.c.id == versions.c.parent_id)
        .outerjoin(_parent_model, _parent_model.c.id == _parent_version.c.model_id)
        .where(versions.c.id.in_(chosen))
        .order_by(models.c.name, versions.c.version)
    ).all()
    tags = labels_of(connection, version_tags, chosen)
    properties = labels_of(connection, version_properties, chosen)
    standing: dict[int, list[str]] = {}
    for row in connection.execute(
        sa.select(aliases).where(aliases.c.version_id.in_(chosen)).order_by(aliases.c.name)
    ):
        standing.setdefault(row.version_id, []).append(row.name)
    files: dict[int, list[ModelFile]] = {}
    for row in connection.execute(
        sa.select(version_files)
        .where(version_files.c.version_id.in_(chosen))
        .order_by(version_files.c.path)
    ):
        file = ModelFile(row.path, row.role, row.digest, row.size)
        files.setdefault(row.version_id, []).append(file)
    return [
        ModelVersion(
            name=row.model_name,
            version=row.version,
            framework=row.framework,
            filename=row.filename,
            digest=row.digest,
            size=row.size,
            inputs=_specs(row.inputs),
            outputs=_specs(row.outputs),
            tags=tags.get(row.id, {}),
            properties=properties.get(row.id, {}),
            parent=row.parent_name and ModelRef(row.parent_name, row.parent_version),
            created=row.created,
            aliases=tuple(standing.get(row.id, ())),
            deleted=row.deleted,
            files=tuple(files.get(row.id, ())),
        )
        for row in rows
    ]


def _specs(rows: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)


def _there(deleted: bool) -> sa.ColumnElement[bool]:
    return versions.c.deleted.is_not(None) if deleted else versions.c.deleted.is_(None)


def derived(version_id: int) -> sa.Select[tuple[int]]:
    """The ids of all versions made from this one, from those, and so on."""
    made = sa.select(versions.c.id).where(versions.c.parent_id == version_id).cte(recursive=True)
    later = versions.alias("later")
    made = made.union(sa.select(later.c.id).join(made, later.c.parent_id == made.c.id))
    return sa.select(made.c.id)


def within(column: sa.Column[Any], text: str) -> sa.ColumnElement[bool]:
    """The condition that a column has the text somewhere, in any case."""
    return sa.func.lower(column).contains(text.lower(), autoescape=True)


def labels_mention(owner: sa.Table, table: sa.Table, text: str) -> sa.ColumnElement[bool]:
    """The condition that a row of `owner` has a label with the text in its key or value."""
    fits = sa.or_(within(table.c.key, text), within(table.c.value, text))
    return sa.exists().where(table.c.owner_id == owner.c.id, fits)


def _mentions(text: str) -> sa.ColumnElement[bool]:
    return sa.or_(
        within(models.c.name, text),
        within(versions.c.framework, text),
        labels_mention(versions, version_tags, text),
        labels_mention(versions, version_properties, text),
        sa.exists().where(aliases.c.version_id == versions.c.id, within(aliases.c.name, text)),
    )


def _not_found(connection: sa.Connection, ref: ModelRef, *, deleted: bool) -> NotFound:
    kind = "deleted " if deleted else ""
    numbers = connection.execute(
        sa.select(versions.c.version)
        .join(models)
        .where(models.c.name == ref.name, _there(deleted))
        .order_by(versions.c.version)
    ).scalars()
    there = [str(number) for number in numbers]
    if not there:
        names = connection.execute(
            sa.select(models.c.name)
            .join(versions)
            .where(_there(deleted))
            .distinct()
            .order_by(models.c.name)
        ).scalars()
        return NotFound(
            f"no {kind}model named {ref.name}",
            hint=f"there are {_listed(list(names))}: edgekit model list"
            + (" --deleted" if deleted else ""),
        )
    if ref.alias is not None:
        return NotFound(
            f"no alias {ref.alias} of {ref.name}",
            hint=f"set it: edgekit model alias {ref.name}:VERSION {ref.alias}",
        )
    return NotFound(
        f"no {kind}version {ref.version} of {ref.name}", hint=f"there are {_listed(there)}"
    )


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
