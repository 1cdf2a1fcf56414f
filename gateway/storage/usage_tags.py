"""What calls were tagged with, by the daily totals of tags that `usage_totals` keeps.

A tag whose values are as many as calls makes as many totals: tags are for the bill, not for the ids of requests.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.storage.tables import usage_tags_daily, usage_tags_since


def whole_since(conn: sa.Connection) -> int:
    """The first day (milliseconds) whose sums are whole; before, only rows can be asked."""
    return conn.execute(sa.select(usage_tags_since.c.day_ms)).scalar_one_or_none() or 0


def names(conn: sa.Connection, mode: str, *, team_id: str | None = None) -> dict[str, int]:
    """The tags that calls have carried, by name, and how many values each has had."""
    t = usage_tags_daily.c
    chosen = sa.select(t.tag, sa.func.count(t.value.distinct()).label("values")).where(t.mode == mode)
    if team_id is not None:
        chosen = chosen.where(t.team_id == team_id)
    return {row["tag"]: row["values"] for row in conn.execute(chosen.group_by(t.tag).order_by(t.tag)).mappings()}


def forget_user(conn: sa.Connection, user_id: str) -> None:
    """The tags of a user's calls may name a person. Totals without tags stay."""
    conn.execute(sa.delete(usage_tags_daily).where(usage_tags_daily.c.user_id == user_id))
