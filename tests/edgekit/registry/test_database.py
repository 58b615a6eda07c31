import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from edgekit.errors import RegistryError
from edgekit.registry.database import Database
from edgekit.registry.migrations import scripts
from edgekit.registry.schema import HEAD, metadata, models, versions
from edgekit.workspace import Workspace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


@pytest.fixture
def database(file: Path) -> Database:
    return Database(f"sqlite:///{file}")


def test_the_migrations_end_at_the_tables_the_code_knows(workspace: Workspace) -> None:
    with Database(workspace.database_url).reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_newest_migration_is_the_one_the_code_names() -> None:
    assert scripts().get_current_head() == HEAD


def test_opening_again_changes_nothing(database: Database, file: Path) -> None:
    with database.writing() as connection:
        connection.execute(models.insert().values(name="a", counter=0))

    with Database(f"sqlite:///{file}").reading() as connection:
        assert connection.execute(sa.select(models.c.name)).scalars().all() == ["a"]


def test_sqlite_keeps_a_write_ahead_log(database: Database) -> None:
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_block_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            connection.execute(models.insert().values(name="a", counter=0))
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    with database.reading() as connection:
        assert connection.execute(sa.select(models)).all() == []


def test_a_newer_database_is_refused(database: Database, file: Path) -> None:
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(RegistryError, match="newer edgekit") as caught:
        Database(f"sqlite:///{file}")

    assert "upgrade edgekit" in caught.value.hint


def test_a_file_that_is_no_database_is_named(file: Path) -> None:
    file.write_bytes(b"not a database" * 100)

    with pytest.raises(RegistryError, match="file is not a database"):
        Database(f"sqlite:///{file}")


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db", "oracle+nosuch://host/db", "://"])
def test_a_url_of_no_known_kind_is_refused(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Database(url)

    assert "workspace.toml" in caught.value.hint


@pytest.mark.needs("postgresql")
def test_a_refusing_server_is_told_in_one_line_without_its_password(postgresql: Path) -> None:
    url = f"postgresql+psycopg://edgekit:secret@/nosuch?host={postgresql}"

    with pytest.raises(RegistryError, match='database "nosuch" does not exist') as caught:
        Database(url)

    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_in_one_line(database: Database, file: Path) -> None:
    def fill() -> None:
        with database.writing() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            rows = [{"name": f"{number:0128}", "counter": 0} for number in range(1000)]
            connection.execute(models.insert(), rows)

    with pytest.raises(RegistryError, match="database or disk is full"):
        fill()

    with sqlite3.connect(file) as plain:
        assert plain.execute("SELECT count(*) FROM models").fetchone() == (0,)
    plain.close()


def test_versions_from_before_files_had_names_get_one(file: Path) -> None:
    from edgekit.registry import migrations

    engine = sa.create_engine(f"sqlite:///{file}", poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        migrations.upgrade(connection, None, to="0001")
        connection.exec_driver_sql("INSERT INTO models (name, counter) VALUES ('a', 2)")
        for version, framework in ((1, "onnx"), (2, "sklearn")):
            connection.exec_driver_sql(
                "INSERT INTO versions (model_id, version, framework, digest, size, inputs, outputs,"
                f" created) VALUES (1, {version}, '{framework}', 'd', 1, '[]', '[]', '')"
            )

    with Database(f"sqlite:///{file}").reading() as connection:
        names = connection.execute(sa.select(versions.c.filename).order_by(versions.c.id))
        assert names.scalars().all() == ["model.onnx", "model"]
