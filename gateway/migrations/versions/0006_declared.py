"""Accounts that a file declares."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
oldest_code = "0001"


def upgrade() -> None:
    op.create_table(
        "declared",
        sa.Column("object_id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_declared")),
        sa.UniqueConstraint("source", "kind", "handle", name=op.f("uq_declared_source_kind_handle")),
    )


def downgrade() -> None:
    op.drop_table("declared")
