"""Names that stand for a version and can be moved. Each function takes a connection."""

from typing import Any

import sqlalchemy as sa

from edgekit.errors import Conflict, NotFound
from edgekit.registry.schema import aliases, versions


def put(connection: sa.Connection, version_id: int, name: str, protected: bool | None) -> None:
    """Let `name` stand for the version, whatever it stood for before.

    Args:
        connection: that is writing.
        version_id: of the version's row.
        name: of the alias.
        protected: guard the version against deletion, and the alias against being moved; None
            leaves this as it is.

    Raises:
        Conflict: it is protected, and to be moved without its protection being lifted.
    """
    model_id = _model_of(connection, version_id)
    row = _row(connection, model_id, name)
    if row is None:
        connection.execute(
            aliases.insert().values(
                model_id=model_id, name=name, version_id=version_id, protected=bool(protected)
            )
        )
        return
    if row.protected and row.version_id != version_id and protected is not False:
        raise _protected(connection, name, row.version_id, "moved")
    connection.execute(
        aliases.update()
        .where(aliases.c.model_id == model_id, aliases.c.name == name)
        .values(version_id=version_id, protected=row.protected if protected is None else protected)
    )


def remove(connection: sa.Connection, version_id: int, name: str) -> None:
    """Remove the alias from the version's model.

    Raises:
        NotFound: the model has no such alias.
        Conflict: it is protected.
    """
    model_id = _model_of(connection, version_id)
    row = _row(connection, model_id, name)
    if row is None:
        raise NotFound(f"the model has no alias {name}")
    if row.protected:
        raise _protected(connection, name, row.version_id, "removed")
    connection.execute(
        aliases.delete().where(aliases.c.model_id == model_id, aliases.c.name == name)
    )


def _model_of(connection: sa.Connection, version_id: int) -> int:
    chosen = sa.select(versions.c.model_id).where(versions.c.id == version_id)
    return int(connection.execute(chosen).scalar_one())


def _row(connection: sa.Connection, model_id: int, name: str) -> Any:
    """The version and the protection of the alias, or None."""
    return connection.execute(
        sa.select(aliases.c.version_id, aliases.c.protected).where(
            aliases.c.model_id == model_id, aliases.c.name == name
        )
    ).one_or_none()


def _protected(connection: sa.Connection, name: str, version_id: int, verb: str) -> Conflict:
    number = connection.execute(
        sa.select(versions.c.version).where(versions.c.id == version_id)
    ).scalar_one()
    return Conflict(
        f"alias {name} is protected: it stays at version {number} and is not {verb}",
        hint="lift the protection first: --no-protect",
    )
