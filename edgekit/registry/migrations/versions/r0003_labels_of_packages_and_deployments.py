"""Tags and properties of FPGA packages; what hubs' deployments carry."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    for name in ("graph_tags", "graph_properties"):
        op.create_table(
            name,
            sa.Column("owner_id", sa.Integer(), nullable=False),
            sa.Column("key", sa.String(128), nullable=False),
            sa.Column("value", sa.String(4096), nullable=False),
            sa.ForeignKeyConstraint(
                ["owner_id"], ["graphs.id"], name=f"fk_{name}_owner_id", ondelete="CASCADE"
            ),
            sa.PrimaryKeyConstraint("owner_id", "key", name=f"pk_{name}"),
        )
    op.create_table(
        "deployments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hub", sa.String(255), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("image", sa.String(71), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("seen", sa.String(32), nullable=False),
        sa.Column("ended", sa.String(32), nullable=True),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["versions.id"],
            name="fk_deployments_version_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deployments"),
        sa.UniqueConstraint("hub", "name", "image", name="uq_deployments_hub"),
    )
    op.create_index("ix_deployments_version_id", "deployments", ["version_id"], unique=False)
