"""The bound of the usage log is checked against every row. Takes long on a large one, and holds up nobody.

Second of three steps. Known to hold, it lets the third one attach the table without reading it.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
oldest_code = "0001"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE usage_log VALIDATE CONSTRAINT usage_log_bound")


def downgrade() -> None:
    pass
