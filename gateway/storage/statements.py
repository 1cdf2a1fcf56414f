"""Months that were closed: sums as they were frozen, and what came to earlier months since.

What is frozen never changes. A row that reaches the totals of a closed month later (a replica's journal that was away)
shows as the difference between what the totals say today and what all statements say of that month: the next statement
carries it. All of them together so say what the totals say.

SQL gone: nothing can be closed or shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.domain.month import Month, month_of
from gateway.storage.tables import statement_lines, statements, usage_daily
from gateway.storage.tables_accounts import keys, teams, users

PLACE = ("key_id", "user_id", "team_id", "model", "provider")
MEASURES = ("requests", "hits", "joined", "generations", "images", "errors", "cost_micro_usd", "saved_micro_usd")
_AT_ONCE = 500

Place = tuple[str, ...]
"""The values of PLACE; "" for none."""
_Sums = dict[Place, tuple[int, ...]]


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A closed month. `cost_micro_usd`: of the lines that are seen."""

    month: str
    mode: str
    closed_ms: int
    closed_by: str
    cost_micro_usd: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """`of_month`: the month of the statement, or an earlier one that something was added to after it was closed.

    `names`: what `team`, `user` and `key` were called then.
    """

    of_month: str
    key_id: str
    user_id: str
    team_id: str
    model: str
    provider: str
    names: dict[str, str | None]
    requests: int
    hits: int
    joined: int
    generations: int
    images: int
    errors: int
    cost_micro_usd: int
    saved_micro_usd: int


def lock(conn: sa.Connection) -> None:
    """One closing at a time: two would carry the same differences. (On SQLite every writer is alone.)"""
    if conn.dialect.name != "sqlite":
        conn.exec_driver_sql("LOCK TABLE statements IN SHARE ROW EXCLUSIVE MODE")


def closed_months(conn: sa.Connection, mode: str) -> set[str]:
    return set(conn.execute(sa.select(statements.c.month).where(statements.c.mode == mode)).scalars())


def first_open(conn: sa.Connection, mode: str, *, before_ms: int, closed: set[str]) -> str | None:
    """The first month before that time that has usage and is not closed."""
    since_ms: int | None = 0
    while since_ms is not None:
        day = usage_daily.c.day_ms
        found = sa.select(sa.func.min(day)).where(usage_daily.c.mode == mode, day >= since_ms, day < before_ms)
        first = conn.execute(found).scalar_one()
        month = None if first is None else month_of(first)
        if month is not None and month.text not in closed:
            return month.text
        since_ms = None if month is None else month.end_ms
    return None


def work_out(conn: sa.Connection, month: Month, mode: str, earlier: Sequence[Month]) -> list[Line]:
    """The lines of a month that is closed now: its own, and what came to `earlier`, closed ones since."""
    found = [(month.text, place, sums) for place, sums in _totals(conn, month, mode).items()]
    for before in earlier:
        said = _said(conn, before, mode)
        today = _totals(conn, before, mode)
        found += [(before.text, place, sums) for place, sums in _differences(today, said)]
    names = _Names(conn, [place for _, place, _ in found])
    return [_line(of_month, place, sums, names) for of_month, place, sums in found]


def _totals(conn: sa.Connection, month: Month, mode: str) -> _Sums:
    """What the totals say of a month today."""
    c = usage_daily.c
    within = (c.mode == mode, c.day_ms >= month.start_ms, c.day_ms < month.end_ms)
    return _sums(conn, usage_daily, *within)


def _said(conn: sa.Connection, month: Month, mode: str) -> _Sums:
    """What all statements together say of a month."""
    c = statement_lines.c
    return _sums(conn, statement_lines, c.mode == mode, c.of_month == month.text)


def _sums(conn: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> _Sums:
    place = [table.c[name] for name in PLACE]
    sums = [sa.func.sum(table.c[name]) for name in MEASURES]
    rows = conn.execute(sa.select(*place, *sums).where(*where).group_by(*place))
    return {tuple(row[: len(PLACE)]): tuple(map(int, row[len(PLACE) :])) for row in rows}


def _differences(today: _Sums, said: _Sums) -> Iterator[tuple[Place, tuple[int, ...]]]:
    nothing = (0,) * len(MEASURES)
    for place in sorted(today.keys() | said.keys()):
        pairs = zip(today.get(place, nothing), said.get(place, nothing), strict=True)
        more = tuple(now - before for now, before in pairs)
        if any(more):
            yield place, more


class _Names:
    """What accounts are called now, deleted ones too."""

    def __init__(self, conn: sa.Connection, places: Sequence[Place]) -> None:
        tables = {"key": keys, "user": users, "team": teams}
        self._by_kind = {
            kind: _names(conn, table, sorted({place[PLACE.index(f"{kind}_id")] for place in places}))
            for kind, table in tables.items()
        }

    def of(self, place: Place) -> dict[str, str | None]:
        return {kind: self._by_kind[kind].get(place[PLACE.index(f"{kind}_id")]) for kind in ("team", "user", "key")}


def _names(conn: sa.Connection, table: sa.Table, ids: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for start in range(0, len(ids), _AT_ONCE):
        chosen = sa.select(table.c.id, table.c.name).where(table.c.id.in_(ids[start : start + _AT_ONCE]))
        found |= {row.id: row.name for row in conn.execute(chosen)}
    return found


def _line(of_month: str, place: Place, sums: tuple[int, ...], names: _Names) -> Line:
    values: dict[str, Any] = {
        **dict(zip(PLACE, place, strict=True)),
        **dict(zip(MEASURES, sums, strict=True)),
    }
    return Line(of_month=of_month, names=names.of(place), **values)


def put(conn: sa.Connection, statement: Statement, lines: Sequence[Line]) -> None:
    conn.execute(statements.insert().values(msgspec.structs.asdict(statement)))
    head = {"month": statement.month, "mode": statement.mode}
    for start in range(0, len(lines), _AT_ONCE):
        rows = [head | msgspec.structs.asdict(line) for line in lines[start : start + _AT_ONCE]]
        conn.execute(statement_lines.insert(), rows)


def list_all(conn: sa.Connection, *, mode: str | None = None, team_id: str | None = None) -> list[Statement]:
    """Newest month first; with a team, what its lines cost."""
    c, line = statements.c, statement_lines.c
    cost = sa.select(sa.func.coalesce(sa.func.sum(line.cost_micro_usd), 0)).where(
        line.month == c.month, line.mode == c.mode, line.team_id == team_id
    )
    columns = [column for column in statements.columns if column is not c.cost_micro_usd]
    shown = c.cost_micro_usd if team_id is None else cost.scalar_subquery()
    query = sa.select(*columns, shown.label("cost_micro_usd")).order_by(c.month.desc(), c.mode)
    if mode is not None:
        query = query.where(c.mode == mode)
    return [_statement(row) for row in conn.execute(query).mappings()]


def find(
    conn: sa.Connection, month: str, mode: str, *, team_id: str | None = None
) -> tuple[Statement, list[Line]] | None:
    """A statement and its lines, or those of a team."""
    heads = [found for found in list_all(conn, mode=mode, team_id=team_id) if found.month == month]
    if not heads:
        return None
    c = statement_lines.c
    query = sa.select(statement_lines).where(c.month == month, c.mode == mode)
    if team_id is not None:
        query = query.where(c.team_id == team_id)
    ordered = query.order_by(
        c.of_month.desc(), *(c[name] for name in ("team_id", "user_id", "key_id", "model", "provider"))
    )
    return heads[0], [msgspec.convert(row, Line, from_attributes=True) for row in conn.execute(ordered)]


def _statement(row: Mapping[Any, Any]) -> Statement:
    return Statement(**{**row, "cost_micro_usd": int(row["cost_micro_usd"])})
