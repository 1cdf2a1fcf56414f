"""The limits set at a team, a user or a key. What they have used lives in `counters`, and outlives them.

SQL gone: callers held in memory keep the limits they came with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.storage.tables_accounts import limits


def put_limits(conn: sa.Connection, scope: ScopeKind, scope_id: str, wanted: Sequence[Limit]) -> None:
    """Replaces all limits of a scope."""
    conn.execute(limits.delete().where(limits.c.scope == scope, limits.c.scope_id == scope_id))
    rows = [{**_place(limit), "amount": limit.amount, "alert_at": limit.alert_at or None} for limit in wanted]
    if rows:
        conn.execute(limits.insert(), rows)


def get_limits(conn: sa.Connection, scopes: Sequence[tuple[ScopeKind, str]]) -> list[Limit]:
    """The limits of these scopes, in the order in which limits are listed: metric, then window."""
    here = sa.tuple_(limits.c.scope, limits.c.scope_id).in_(scopes)
    rows = conn.execute(sa.select(limits).where(here).order_by(limits.c.metric, limits.c.window))
    return [as_limit(row) for row in rows]


def as_limit(row: sa.Row[Any]) -> Limit:
    """A row of `limits`."""
    alert_at = tuple(row.alert_at or ())
    return Limit(ScopeKind(row.scope), row.scope_id, Metric(row.metric), Window(row.window), row.amount, alert_at)


def _place(limit: Limit) -> dict[str, str]:
    return {
        "scope": limit.scope.value,
        "scope_id": limit.scope_id,
        "metric": limit.metric.value,
        "window": limit.window.value,
    }
