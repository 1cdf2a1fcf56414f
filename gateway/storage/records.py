"""Lists and single rows of generations for those who look, newest first; `call_log` has those of the usage log."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gateway.storage.paging import DEFAULT_LIMIT, Page, filtered, is_id, read_page
from gateway.storage.tables import generations


def list_generations(
    conn: sa.Connection,
    *,
    status: str | None = None,
    user_id: str | None = None,
    team_id: str | None = None,
    mode: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[dict[str, Any]]:
    c = generations.c
    query = filtered(sa.select(generations), {c.status: status, c.user_id: user_id, c.team_id: team_id, c.mode: mode})
    query = within(query, c.created_ms, from_ms, to_ms)
    order = (c.created_ms, c.id)
    return read_page(conn, query, order=order, convert=_as_dict, limit=limit, cursor=cursor)


def find_generation(conn: sa.Connection, generation_id: str) -> dict[str, Any] | None:
    if not is_id(generation_id):
        return None
    row = conn.execute(sa.select(generations).where(generations.c.id == generation_id)).mappings().one_or_none()
    return None if row is None else dict(row)


def within(query: sa.Select[Any], at: sa.ColumnElement[int], from_ms: int | None, to_ms: int | None) -> sa.Select[Any]:
    """Half-open range of time."""
    if from_ms is not None:
        query = query.where(at >= from_ms)
    return query if to_ms is None else query.where(at < to_ms)


def _as_dict(row: sa.Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)  # noqa: SLF001  (SQLAlchemy's public attribute, whatever its name says)
