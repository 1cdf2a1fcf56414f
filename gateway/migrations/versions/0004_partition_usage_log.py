"""The usage log is partitioned by month on PostgreSQL; the old table becomes the partition of all before its bound.

Last of three steps. No row is copied or read: the log is held for an instant. Versions that knew it whole go on: its
name, columns and keys stay.
"""

from __future__ import annotations

import re

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
oldest_code = "0001"

_BOUND = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'usage_log_bound'"
_INDEXES = (
    "CREATE INDEX ix_usage_log_generation_id ON usage_log (generation_id) WHERE outcome != 'hit'",
    "CREATE INDEX ix_usage_log_user_id_at_ms ON usage_log (user_id, at_ms)",
)


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    found = re.search(r"\d{6,}", op.get_bind().exec_driver_sql(_BOUND).scalar_one())
    assert found is not None, "0002 wrote it"
    for statement in (
        "ALTER TABLE usage_log RENAME TO usage_log_before",
        "ALTER INDEX pk_usage_log RENAME TO pk_usage_log_before",
        "ALTER INDEX ix_usage_log_generation_id RENAME TO ix_usage_log_before_generation_id",
        "ALTER INDEX ix_usage_log_user_id_at_ms RENAME TO ix_usage_log_before_user_id_at_ms",
        "CREATE TABLE usage_log (LIKE usage_log_before INCLUDING DEFAULTS) PARTITION BY RANGE (at_ms)",
        "ALTER TABLE usage_log ADD CONSTRAINT pk_usage_log PRIMARY KEY (at_ms, id)",
        *_INDEXES,
        f"ALTER TABLE usage_log ATTACH PARTITION usage_log_before FOR VALUES FROM (MINVALUE) TO ('{found[0]}')",
        "ALTER TABLE usage_log_before DROP CONSTRAINT usage_log_bound",
        "CREATE TABLE usage_log_default PARTITION OF usage_log DEFAULT",
    ):
        op.execute(statement)


def downgrade() -> None:
    """Copies every row."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for statement in (
        "LOCK TABLE usage_log IN ACCESS EXCLUSIVE MODE",
        "CREATE TABLE usage_log_whole (LIKE usage_log INCLUDING DEFAULTS)",
        "INSERT INTO usage_log_whole SELECT * FROM usage_log",
        "DROP TABLE usage_log",
        "ALTER TABLE usage_log_whole RENAME TO usage_log",
        "ALTER TABLE usage_log ADD CONSTRAINT pk_usage_log PRIMARY KEY (at_ms, id)",
        *_INDEXES,
        "ALTER TABLE usage_log ADD CONSTRAINT usage_log_bound CHECK (at_ms < 253402300800000) NOT VALID",
    ):
        op.execute(statement)
