"""The registry's tables, for SQLite and PostgreSQL alike.

A change here needs a migration in `migrations/versions`; a test holds the two together.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

# the newest migration, known here so that a database that is up to date need not import Alembic
HEAD = "0003"

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class Utc(sa.types.TypeDecorator[datetime]):
    """A time in UTC, kept as text of ISO 8601, which sorts and reads alike everywhere."""

    impl = sa.String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """The text of an aware time."""
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """The aware time of a text."""
        return None if value is None else datetime.fromisoformat(value)


models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(128), nullable=False, unique=True),
    # the last number given to a version: a number is never given twice, whatever is deleted
    sa.Column("counter", sa.Integer, nullable=False),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model_id", sa.ForeignKey("models.id"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("framework", sa.String(64), nullable=False),
    # what the model's file is called; its digest and size are the next two
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("parent_id", sa.ForeignKey("versions.id"), index=True),
    sa.Column("created", Utc, nullable=False),
    sa.Column("deleted", Utc),
    sa.UniqueConstraint("model_id", "version"),
)


def _labels(name: str, owner: str) -> sa.Table:
    """A table of keys and values that belong to rows of `owner` and go with them."""
    return sa.Table(
        name,
        metadata,
        sa.Column("owner_id", sa.ForeignKey(f"{owner}.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("value", sa.String(4096), nullable=False),
    )


version_tags = _labels("version_tags", "versions")
version_properties = _labels("version_properties", "versions")

# what a version has besides its model's file: weights kept apart, a scoring script
version_files = sa.Table(
    "version_files",
    metadata,
    sa.Column("version_id", sa.ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("path", sa.String(255), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
)

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("model_id", sa.ForeignKey("models.id"), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("version_id", sa.ForeignKey("versions.id"), nullable=False, index=True),
    sa.Column("protected", sa.Boolean(name="protected"), nullable=False),
)

profiles = sa.Table(
    "profiles",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "version_id", sa.ForeignKey("versions.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("measured", sa.JSON, nullable=False),
    sa.Column("created", Utc, nullable=False),
)

images = sa.Table(
    "images",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("reference", sa.String(512), nullable=False),
    sa.Column("version_id", sa.ForeignKey("versions.id"), nullable=False, index=True),
    sa.Column("platforms", sa.JSON, nullable=False),
    sa.Column("created", Utc, nullable=False),
    sa.UniqueConstraint("digest", "reference"),
)

image_tags = _labels("image_tags", "images")
image_properties = _labels("image_properties", "images")

graphs = sa.Table(
    "graphs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(71), nullable=False, unique=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("version_id", sa.ForeignKey("versions.id"), nullable=False, index=True),
    sa.Column("board", sa.String(128), nullable=False),
    sa.Column("cycles", sa.BigInteger, nullable=False),
    sa.Column("proof", sa.JSON, nullable=False),
    sa.Column("created", Utc, nullable=False),
)

graph_tags = _labels("graph_tags", "graphs")
graph_properties = _labels("graph_properties", "graphs")

# which images a hub's deployments carry, and carried
deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("hub", sa.String(255), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("image", sa.String(71), nullable=False),
    sa.Column(
        "version_id", sa.ForeignKey("versions.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("condition", sa.Text, nullable=False),
    sa.Column("seen", Utc, nullable=False),
    sa.Column("ended", Utc),
    sa.UniqueConstraint("hub", "name", "image"),
)
