"""A share of a limit is told once for each amount that the limit had in a window."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
oldest_code = "0001"

_CROSSING = ("mode", "scope", "scope_id", "metric", "window", "window_start_ms", "percent")


def upgrade() -> None:
    _make_unique(*_CROSSING, "amount")


def downgrade() -> None:
    alerts = sa.table("alerts", *(sa.column(name) for name in ("id", *_CROSSING)))
    kept = sa.select(sa.func.min(alerts.c.id)).group_by(*(alerts.c[name] for name in _CROSSING))
    op.execute(sa.delete(alerts).where(alerts.c.id.not_in(kept)))
    _make_unique(*_CROSSING)


def _make_unique(*columns: str) -> None:
    with op.batch_alter_table("alerts") as alerts:
        alerts.drop_constraint("uq_alerts_crossing", type_="unique")
        alerts.create_unique_constraint("uq_alerts_crossing", list(columns))
