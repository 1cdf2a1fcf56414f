"""The usage log gets a bound, by which it becomes the first partition of its successor; schemas say who can use them.

First of three steps (0003, 0004), each a transaction of its own: none holds the log for longer than an instant.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
oldest_code = "0001"

_WEEK_MS = 7 * 86_400_000


def upgrade() -> None:
    op.create_table(
        "schema_floor",
        sa.Column("revision", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_schema_floor")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE usage_log ADD CONSTRAINT usage_log_bound CHECK (at_ms < {_bound_ms()}) NOT VALID")


def _bound_ms() -> int:
    """The first start of a month that no row comes near before the third step is done."""
    latest = "SELECT greatest((SELECT max(at_ms) FROM usage_log), extract(epoch FROM clock_timestamp())::bigint * 1000)"
    at = dt.datetime.fromtimestamp((op.get_bind().exec_driver_sql(latest).scalar_one() + _WEEK_MS) / 1000, dt.UTC)
    following = dt.datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=dt.UTC)
    return round(following.timestamp() * 1000)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE usage_log DROP CONSTRAINT usage_log_bound")
    op.drop_table("schema_floor")
