"""Versions of several files: weights beside the graph, a scoring script, its requirements."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Name the file that each version has, and make room for more."""
    op.add_column(
        "versions",
        sa.Column("filename", sa.String(255), nullable=False, server_default="model"),
    )
    op.execute("UPDATE versions SET filename = 'model.onnx' WHERE framework = 'onnx'")
    op.create_table(
        "version_files",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["versions.id"],
            name="fk_version_files_version_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "path", name="pk_version_files"),
    )
    op.create_index("ix_version_files_digest", "version_files", ["digest"], unique=False)
