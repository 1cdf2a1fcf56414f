"""The usage log: one row a call, and totals that count exactly the rows inserted.

Rows carry their id and time, so inserting one twice is no harm: only new rows reach the totals, in the same
transaction. SQL gone: rows wait in the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import asdict, astuple

from gateway.domain.usage_row import UsageRow
from gateway.storage import usage_totals
from gateway.storage.database import insert
from gateway.storage.prepared import run_alone
from gateway.storage.tables import usage_hourly, usage_log

_Place = tuple[int, str]
"""A row's key: when, and its id."""

_COLUMNS = tuple(column.name for column in usage_log.columns)
_CHUNK = 500
_AT_ONCE = 100
"""Rows in one statement of SQLite. For each statement sqlite3 gives up Python's lock, and has to get it back."""
_SLOTS = f"({', '.join('?' * len(_COLUMNS))})"
_INSERT = f"INSERT INTO usage_log ({', '.join(_COLUMNS)}) VALUES {_SLOTS}"  # noqa: S608  (names of ours)
_INSERT_NEW = _INSERT + " ON CONFLICT DO NOTHING"
_INSERT_MANY = _INSERT + f", {_SLOTS}" * (_AT_ONCE - 1)
_FIND = (
    "SELECT log.at_ms, log.id FROM json_each(?) AS wanted CROSS JOIN usage_log AS log "
    "ON log.at_ms = json_extract(wanted.value, '$[0]') AND log.id = json_extract(wanted.value, '$[1]')"
)


def add(conn: sa.Connection, rows: Iterable[UsageRow]) -> int:
    """Insert the rows that are not there yet, and add those to the totals. Returns how many were new."""
    unique = {(row.at_ms, row.id): row for row in rows}
    insert_new = _insert_new_sqlite if conn.dialect.name == "sqlite" else _insert_new
    fresh = insert_new(conn, unique)
    usage_totals.add(conn, fresh)
    return len(fresh)


def _insert_new(conn: sa.Connection, rows: Mapping[_Place, UsageRow]) -> Sequence[UsageRow]:
    """Insert rows; returns those that were not there.

    In the order of their key: two writers of the same rows would else wait for each other in a circle.
    """
    fresh: list[UsageRow] = []
    every = [asdict(rows[place]) for place in sorted(rows)]
    for start in range(0, len(every), _CHUNK):
        made = insert(conn, usage_log).on_conflict_do_nothing().returning(usage_log.c.at_ms, usage_log.c.id)
        fresh += [rows[at_ms, row_id] for at_ms, row_id in conn.execute(made, every[start : start + _CHUNK])]
    return fresh


def _insert_new_sqlite(conn: sa.Connection, rows: Mapping[_Place, UsageRow]) -> Sequence[UsageRow]:
    """The same at a third of the CPU, by the driver itself, and without RETURNING, which doubles it again.

    Rows come twice after a crash alone: only when one is refused is it looked which are there. To look is exact: a
    transaction that writes is the only one.
    """
    every = list(rows.values())
    if len(every) == 1:
        return every[: run_alone(conn, _INSERT_NEW, _as_stored(every[0])).rowcount]
    conn.exec_driver_sql("SAVEPOINT fresh")
    try:
        _insert_all_sqlite(conn, every)
    except sa.exc.IntegrityError:
        conn.exec_driver_sql("ROLLBACK TO fresh")
        wanted = msgspec.json.encode(list(rows)).decode()
        there = {(at_ms, row_id) for at_ms, row_id in conn.exec_driver_sql(_FIND, (wanted,))}
        every = [row for place, row in rows.items() if place not in there]
        _insert_all_sqlite(conn, every)
    conn.exec_driver_sql("RELEASE fresh")
    return every


def _insert_all_sqlite(conn: sa.Connection, rows: Sequence[UsageRow]) -> None:
    stored = list(map(_as_stored, rows))
    whole = len(stored) - len(stored) % _AT_ONCE
    for start in range(0, whole, _AT_ONCE):
        conn.exec_driver_sql(_INSERT_MANY, tuple(chain.from_iterable(stored[start : start + _AT_ONCE])))
    if rest := stored[whole:]:
        conn.exec_driver_sql(_INSERT, rest)


def _as_stored(row: UsageRow) -> tuple[Any, ...]:
    values = astuple(row)
    if row.tags is None and row.labels is None:
        return values
    return (*values[:-2], _json(row.tags), _json(row.labels))


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def count_requests(conn: sa.Connection, *, mode: str, scope_column: str, scope_id: str, since_ms: int) -> int:
    """Calls that count against limits of requests since the start of an hour."""
    total = sa.select(sa.func.coalesce(sa.func.sum(usage_hourly.c.counted), 0)).where(
        usage_hourly.c.mode == mode,
        usage_hourly.c[scope_column] == scope_id,
        usage_hourly.c.hour_ms >= since_ms,
    )
    return int(conn.execute(total).scalar_one())


def delete_before(conn: sa.Connection, before_ms: int, *, limit: int = 5000) -> int:
    """Up to `limit` rows older than the retention allows, the oldest first; the totals stay. Returns how many."""
    key = (usage_log.c.at_ms, usage_log.c.id)
    old = sa.select(*key).where(usage_log.c.at_ms < before_ms).order_by(*key).limit(limit)
    return conn.execute(sa.delete(usage_log).where(sa.tuple_(*key).in_(old))).rowcount
