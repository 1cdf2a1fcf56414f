"""The usage log: one row a call, and hourly totals that count exactly the rows inserted.

Rows carry their id and time, so inserting one twice is no harm: only new rows reach the totals, in the same
transaction. SQL gone: rows wait in the journal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from gateway.storage.database import insert
from gateway.storage.tables import usage_hourly, usage_log

HOUR_MS = 3_600_000
DIMENSIONS = ("mode", "key_id", "user_id", "team_id", "model", "provider")
SUMS = (
    "requests", "counted", "hits", "joined", "generations", "images", "errors", "cost_micro_usd", "saved_micro_usd",
)  # fmt: skip
_COLUMNS = tuple(column.name for column in usage_log.columns)
_CHUNK = 500


def add(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that are not there yet, and add those to the totals. Returns how many were new."""
    unique = {row["id"]: {name: row.get(name) for name in _COLUMNS} for row in rows}
    fresh: set[str] = set()
    every = list(unique.values())
    for start in range(0, len(every), _CHUNK):
        statement = insert(conn, usage_log).on_conflict_do_nothing().returning(usage_log.c.id)
        fresh.update(conn.execute(statement, every[start : start + _CHUNK]).scalars())
    _add_to_totals(conn, [unique[row_id] for row_id in fresh])
    return len(fresh)


def _add_to_totals(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    totals: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for row in rows:
        place = (row["at_ms"] - row["at_ms"] % HOUR_MS, *(row[name] or "" for name in DIMENSIONS))
        total = totals[place]
        for index, amount in enumerate(measures(row)):
            total[index] += amount
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
    """What one row adds to each of SUMS."""
    outcome, status = row["outcome"], row["status"]
    return (
        1,
        int(status != 429),
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
