"""Brings a database of any age to the present tables, by Alembic."""

import sqlalchemy as sa
from alembic.config import Config
from alembic.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from edgekit.errors import RegistryError


def scripts() -> ScriptDirectory:
    """The migrations of this package."""
    config = Config()
    config.set_main_option("script_location", "edgekit.registry:migrations")
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def upgrade(connection: sa.Connection, revision: str | None, to: str = "head") -> None:
    """Run the migrations that come after `revision`, in the connection's transaction.

    Args:
        connection: that is writing.
        revision: the last one that the database has seen; None where it has no tables.
        to: the last one to run; the newest by default.

    Raises:
        RegistryError: the database is newer than this edgekit.
    """
    directory = scripts()
    try:
        if revision is not None:
            directory.get_revision(revision)
    except CommandError as error:
        raise RegistryError(
            f"the registry's database was made by a newer edgekit (its tables are of {revision})",
            hint="upgrade edgekit: pip install --upgrade edgekit",
        ) from error
    environment = EnvironmentContext(
        Config(), directory, fn=lambda rev, _context: directory._upgrade_revs(to, rev)
    )
    with environment:
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()
