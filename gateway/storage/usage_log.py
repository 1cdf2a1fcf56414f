"""The usage log: one row a call, and hourly totals that count exactly the rows inserted.

Rows carry their id and time, so inserting one twice is no harm: only new rows reach the totals, in the same
transaction. SQL gone: rows wait in the journal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.errors import BudgetExhausted
from gateway.storage.database import insert
from gateway.storage.tables import usage_hourly, usage_log

HOUR_MS = 3_600_000
DIMENSIONS = ("mode", "key_id", "user_id", "team_id", "model", "provider")
SUMS = (
    "requests", "counted", "hits", "joined", "generations", "images", "errors", "cost_micro_usd", "saved_micro_usd",
)  # fmt: skip
MONEY_ALONE = frozenset({"settlement", "adjustment"})
"""Outcomes of rows that say what was paid for an earlier call."""
_COLUMNS = tuple(column.name for column in usage_log.columns)
_COUNTED = (*DIMENSIONS, "outcome", "status", "code", "images", "cost_micro_usd", "saved_micro_usd")
_CHUNK = 500
_FIND = "SELECT id FROM usage_log WHERE id IN (SELECT value FROM json_each(?))"
_INSERT = f"INSERT INTO usage_log ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  (names of ours)


def add(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that are not there yet, and add those to the totals. Returns how many were new."""
    unique = {row["id"]: row for row in rows}
    insert_new = _insert_new_sqlite if conn.dialect.name == "sqlite" else _insert_new
    fresh = insert_new(conn, unique)
    _add_to_totals(conn, [unique[row_id] for row_id in fresh])
    return len(fresh)


def _insert_new(conn: sa.Connection, rows: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Insert rows by id; returns the ids that were not there.

    In the order of their ids: two writers of the same rows would else wait for each other in a circle.
    """
    fresh: set[str] = set()
    every = [{name: rows[row_id].get(name) for name in _COLUMNS} for row_id in sorted(rows)]
    for start in range(0, len(every), _CHUNK):
        statement = insert(conn, usage_log).on_conflict_do_nothing().returning(usage_log.c.id)
        fresh.update(conn.execute(statement, every[start : start + _CHUNK]).scalars())
    return fresh


def _insert_new_sqlite(conn: sa.Connection, rows: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The same at a third of the CPU: the driver's own `executemany`, which returns nothing.

    To look first is exact here: a transaction that writes is the only one.
    """
    there = conn.exec_driver_sql(_FIND, (msgspec.json.encode(list(rows)).decode(),)).scalars()
    fresh = rows.keys() - set(there)
    if fresh:
        conn.exec_driver_sql(_INSERT, [_values(rows[row_id]) for row_id in fresh])
    return fresh


def _values(row: Mapping[str, Any]) -> tuple[Any, ...]:
    *values, tags, labels = map(row.get, _COLUMNS)
    return (*values, _json(tags), _json(labels))


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _add_to_totals(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows that count alike are many in a batch: each kind is worked out once."""
    alike = Counter(
        (row["at_ms"] - row["at_ms"] % HOUR_MS, row.get("generation_id") is not None, *map(row.get, _COUNTED))
        for row in rows
    )
    totals: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for (hour_ms, generated, *fields), count in alike.items():
        row = dict(zip(_COUNTED, fields, strict=True), generation_id="any" if generated else None)
        total = totals[hour_ms, *(row[name] or "" for name in DIMENSIONS)]
        for index, amount in enumerate(measures(row)):
            total[index] += amount * count
    if not totals:
        return
    statement = insert(conn, usage_hourly)
    sums = {name: usage_hourly.c[name] + statement.excluded[name] for name in SUMS}
    statement = statement.on_conflict_do_update(index_elements=list(usage_hourly.primary_key), set_=sums)
    names = ("hour_ms", *DIMENSIONS, *SUMS)
    conn.execute(  # in one order, so that two writers never wait for each other in a circle
        statement, [dict(zip(names, (*place, *totals[place]), strict=True)) for place in sorted(totals)]
    )


def measures(row: Mapping[str, Any]) -> tuple[int, ...]:
    """What one row adds to each of SUMS. Settlements and adjustments are money, not calls."""
    outcome, status = row["outcome"], row["status"]
    is_call = outcome not in MONEY_ALONE
    return (
        int(is_call),
        int(is_call and status != 429 and row["code"] != BudgetExhausted.code),
        int(outcome == "hit"),
        int(outcome == "joined"),
        int(row["generation_id"] is not None and outcome in {"bought", "failed"}),
        row["images"],
        int(status >= 400),
        row["cost_micro_usd"] or 0,
        row["saved_micro_usd"],
    )


def count_requests(conn: sa.Connection, *, mode: str, scope_column: str, scope_id: str, since_ms: int) -> int:
    """Calls that count against limits of requests since the start of an hour."""
    total = sa.select(sa.func.coalesce(sa.func.sum(usage_hourly.c.counted), 0)).where(
        usage_hourly.c.mode == mode,
        usage_hourly.c[scope_column] == scope_id,
        usage_hourly.c.hour_ms >= since_ms,
    )
    return int(conn.execute(total).scalar_one())


def delete_before(conn: sa.Connection, before_ms: int) -> int:
    """Rows older than the retention allows; the totals stay."""
    return conn.execute(sa.delete(usage_log).where(usage_log.c.at_ms < before_ms)).rowcount
