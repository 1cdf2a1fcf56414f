"""What the usage log sums to: by hour, by day, and for each generation. Kept in the transaction that inserts the rows.

Rows that count alike are many in a batch of hits: each kind is worked out once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from gateway.errors import BudgetExhausted
from gateway.storage.database import insert
from gateway.storage.tables import reuses, usage_daily, usage_hourly

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DIMENSIONS = ("mode", "key_id", "user_id", "team_id", "model", "provider")
SUMS = (
    "requests", "counted", "hits", "joined", "generations", "images", "errors", "cost_micro_usd", "saved_micro_usd",
)  # fmt: skip
MONEY_ALONE = frozenset({"settlement", "adjustment"})
"""Outcomes of rows that say what was paid for an earlier call."""
REUSED = frozenset({"hit", "joined"})
"""Outcomes of calls that somebody else's purchase answered."""

_MEASURED = ("outcome", "status", "code", "images", "cost_micro_usd", "saved_micro_usd")
_alike = itemgetter(*DIMENSIONS, *_MEASURED)


def add(conn: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows that were not counted before.

    Each table in one order of its key: two writers never wait for each other in a circle.
    """
    alike = Counter((row["at_ms"] // HOUR_MS, row["generation_id"] is not None, *_alike(row)) for row in rows)
    hourly, daily = _Sums(len(SUMS)), _Sums(len(SUMS))
    for (hour, generated, *fields), count in alike.items():
        row = dict(zip((*DIMENSIONS, *_MEASURED), fields, strict=True), generation_id="any" if generated else None)
        group = tuple(row[name] or "" for name in DIMENSIONS)
        sums = measures(row)
        hourly.add((hour * HOUR_MS, *group), sums, count)
        daily.add((hour * HOUR_MS // DAY_MS * DAY_MS, *group), sums, count)
    reused = _Sums(2)
    answered = Counter((row["generation_id"], row["saved_micro_usd"]) for row in rows if _is_reuse(row))
    for (generation_id, saved_micro_usd), count in answered.items():
        reused.add((generation_id,), (1, saved_micro_usd), count)
    hourly.post(conn, usage_hourly)
    daily.post(conn, usage_daily)
    reused.post(conn, reuses)


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


def _is_reuse(row: Mapping[str, Any]) -> bool:
    return row["generation_id"] is not None and row["outcome"] in REUSED


class _Sums:
    """Sums by place, for a table whose key columns come first and whose other columns are the sums."""

    def __init__(self, width: int) -> None:
        self._by_place: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * width)

    def add(self, place: tuple[Any, ...], amounts: Sequence[int], times: int) -> None:
        sums = self._by_place[place]
        for index, amount in enumerate(amounts):
            sums[index] += amount * times

    def post(self, conn: sa.Connection, table: sa.Table) -> None:
        if not self._by_place:
            return
        statement = insert(conn, table)
        grown = {c.name: c + statement.excluded[c.name] for c in table.columns if not c.primary_key}
        statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=grown)
        names = table.columns.keys()
        rows = [dict(zip(names, (*place, *sums), strict=True)) for place, sums in sorted(self._by_place.items())]
        conn.execute(statement, rows)
