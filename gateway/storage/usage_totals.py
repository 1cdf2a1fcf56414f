"""What the usage log sums to: by hour, by day, by tag, and for each generation. Kept in the transaction that inserts
the rows.

Rows that count alike are many in a batch of hits: each kind is worked out once. Tags differ, so rows that carry some
are worked out one by one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from gateway.domain.usage_row import UsageRow
from gateway.errors import BudgetExhausted
from gateway.storage.database import insert_for
from gateway.storage.prepared import Prepared
from gateway.storage.tables import reuses, usage_daily, usage_hourly, usage_tags_daily

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

_alike = attrgetter(*DIMENSIONS, "outcome", "status", "code", "images", "cost_micro_usd", "saved_micro_usd")


def add(conn: sa.Connection, rows: Sequence[UsageRow]) -> None:
    """Add rows that were not counted before.

    Each table in one order of its key: two writers never wait for each other in a circle.
    """
    alike: dict[tuple[Any, ...], list[UsageRow]] = defaultdict(list)
    for row in rows:
        alike[row.at_ms // HOUR_MS, row.generation_id is None, _alike(row)].append(row)
    hourly, daily, reused = _Sums(len(SUMS)), _Sums(len(SUMS)), _Sums(2)
    for (hour, _, fields), same in alike.items():
        group = tuple(value or "" for value in fields[: len(DIMENSIONS)])
        sums = measures(same[0])
        hourly.add((hour * HOUR_MS, *group), sums, len(same))
        daily.add((hour * HOUR_MS // DAY_MS * DAY_MS, *group), sums, len(same))
        if same[0].outcome in REUSED and same[0].generation_id is not None:
            for generation_id, times in Counter(row.generation_id for row in same).items():
                reused.add((generation_id,), (1, same[0].saved_micro_usd), times)
    hourly.post(conn, usage_hourly)
    daily.post(conn, usage_daily)
    _tagged(rows).post(conn, usage_tags_daily)
    reused.post(conn, reuses)


def _tagged(rows: Sequence[UsageRow]) -> _Sums:
    """What rows add to each of their tags."""
    found = _Sums(len(SUMS))
    for row in rows:
        for tag, value in (row.tags or {}).items():
            of_whom = (row.key_id, row.user_id, row.team_id or "", row.model or "", row.provider or "")
            found.add((row.mode, tag, row.at_ms // DAY_MS * DAY_MS, value, *of_whom), measures(row), 1)
    return found


def measures(row: UsageRow) -> tuple[int, ...]:
    """What one row adds to each of SUMS. Settlements and adjustments are money, not calls."""
    is_call = row.outcome not in MONEY_ALONE
    return (
        int(is_call),
        int(is_call and row.status != 429 and row.code != BudgetExhausted.code),
        int(row.outcome == "hit"),
        int(row.outcome == "joined"),
        int(row.generation_id is not None and row.outcome in {"bought", "failed"}),
        row.images,
        int(row.status >= 400),
        row.cost_micro_usd or 0,
        row.saved_micro_usd,
    )


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
        names = table.columns.keys()
        rows = [dict(zip(names, (*place, *sums), strict=True)) for place, sums in sorted(self._by_place.items())]
        _GROW[table].run_each(conn, rows)


def _grow(table: sa.Table, dialect: str) -> Any:
    """Insert sums, or add them to those that are there."""
    statement = insert_for(dialect, table)
    grown = {c.name: c + statement.excluded[c.name] for c in table.columns if not c.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=grown)


_GROW = {table: Prepared(partial(_grow, table)) for table in (usage_hourly, usage_daily, usage_tags_daily, reuses)}
