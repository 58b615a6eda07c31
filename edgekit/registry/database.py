"""Connections to the registry's database: SQLite in WAL mode, or PostgreSQL, by URL."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from edgekit.errors import RegistryError
from edgekit.registry.schema import HEAD

# how long one process waits for another that is writing
_BUSY_SECONDS = 30
# of PostgreSQL's advisory lock that stands for the registry: any number nobody else takes
_LOCK = 0x656B6974


class Database:
    """A database with the registry's tables, made or migrated when it is opened.

    Args:
        url: SQLAlchemy's, with the dialect `sqlite` or `postgresql`.

    Raises:
        RegistryError: it does not open, or a newer edgekit made it.
    """

    def __init__(self, url: str) -> None:
        with explained("the registry's database"):
            self._engine = _engine(url)
        self._migrate()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the database and changes nothing."""
        with explained("the registry's database"), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[sa.Connection]:
        """A connection whose changes happen all when the block ends, or not at all.

        Args:
            alone: let no other writer in meanwhile. SQLite has one writer at a time in any case.
        """
        with explained("the registry's database"), self._engine.connect() as connection:
            connection.execution_options(edgekit_writing=True)
            with connection.begin():
                if self._engine.dialect.name == "postgresql":
                    shared = "" if alone else "_shared"
                    connection.execute(
                        sa.text(f"SELECT pg_advisory_xact_lock{shared}(:key)"),
                        {"key": _LOCK},
                    )
                yield connection

    def _migrate(self) -> None:
        with self.reading() as connection:
            if _revision(connection) == HEAD:
                return
        with self.writing(alone=True) as connection:
            revision = _revision(connection)  # another process may have been faster
            if revision != HEAD:
                from edgekit.registry.migrations import upgrade

                upgrade(connection, revision)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what a driver or the file system raises into a RegistryError that names `what`."""
    try:
        yield
    except DBAPIError as error:
        # the driver's own words: SQLAlchemy's would show the statement, or the URL's password
        raise RegistryError(f"{what} failed: {first_line(error.orig)}") from error
    except ModuleNotFoundError as error:
        raise RegistryError(
            f"{what} needs the Python package {error.name}", hint=f"pip install {error.name}"
        ) from error
    except OSError as error:
        named = error.filename and str(error.filename) not in what
        place = f" ({error.filename})" if named else ""
        raise RegistryError(f"{what} failed: {error.strerror or error}{place}") from error


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        dialect = parsed.get_backend_name()
        if dialect not in ("sqlite", "postgresql"):
            raise RegistryError(
                f"the registry does not work with {dialect}",
                hint="set database in workspace.toml to sqlite:///FILE or postgresql+psycopg://...",
            )
        if dialect == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        # no pool: a command is short, and a connection left open outlives its workspace
        engine = sa.create_engine(parsed, poolclass=sa.pool.NullPool)
    except (ArgumentError, NoSuchModuleError) as error:
        raise RegistryError(
            "the database URL does not read",
            hint="set database in workspace.toml to sqlite:///FILE or postgresql+psycopg://...",
        ) from error
    if dialect == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: Any) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # transactions are begun below, not by the driver
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    # a writer takes its lock at once: one that begins by reading may find it cannot write later
    writing = connection.get_execution_options().get("edgekit_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _revision(connection: sa.Connection) -> str | None:
    """The last migration the database has seen; None where it has no tables yet."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def first_line(cause: object) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
