"""Sums over the usage log: from the hourly totals where the question allows, else from the rows.

The totals hold whole hours and no tags or labels; a question about part of an hour, a tag or a label reads rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.errors import BudgetExhausted
from gateway.storage.tables import usage_hourly, usage_log
from gateway.storage.usage_log import HOUR_MS, MONEY_ALONE, SUMS

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """`columns` to group by, tags and labels (as JSON) if asked for, time in steps of `step_ms` (None: no steps).

    `where` restricts columns to values. The range is half-open.
    """

    mode: str
    from_ms: int
    to_ms: int
    columns: Sequence[str] = ()
    tags: bool = False
    labels: bool = False
    step_ms: int | None = None
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole_hours(self) -> bool:
        return self.from_ms % HOUR_MS == 0 and self.to_ms % HOUR_MS == 0


@dataclass(frozen=True, slots=True)
class UsageSums:
    """One group: column values, the tags and labels of its rows, start of the step, and SUMS in order."""

    group: Mapping[str, str | None]
    tags: Mapping[str, str]
    labels: Mapping[str, str]
    step_start_ms: int | None
    sums: tuple[int, ...]


def usage_sums(conn: sa.Connection, query: UsageQuery) -> list[UsageSums]:
    from_rows = query.tags or query.labels or not query.whole_hours
    table, at, sums = _row_source() if from_rows else _total_source()
    keys = [table.c[name].label(name) for name in query.columns]
    if query.tags:
        keys.append(sa.cast(table.c.tags, sa.Text).label("tags"))
    if query.labels:
        keys.append(sa.cast(table.c.labels, sa.Text).label("labels"))
    if query.step_ms is not None:
        keys.append((at - at % query.step_ms).label("step"))
    chosen = (
        sa.select(*keys, *sums)
        .where(table.c.mode == query.mode, at >= query.from_ms, at < query.to_ms)
        .where(*(table.c[name] == value for name, value in query.where.items()))
        .group_by(*keys)
    )
    found = conn.execute(chosen).mappings()
    return [_sums(row, query) for row in found if row["requests"]]


def _sums(row: sa.RowMapping, query: UsageQuery) -> UsageSums:
    return UsageSums(
        group={name: row[name] or None for name in query.columns},
        tags=_pairs(row.get("tags")),
        labels=_pairs(row.get("labels")),
        step_start_ms=row.get("step"),
        sums=tuple(int(row[name] or 0) for name in SUMS),
    )


def _pairs(text: str | None) -> dict[str, str]:
    return msgspec.json.decode(text) if text else {}


def _total_source() -> tuple[sa.Table, sa.ColumnElement[int], list[Any]]:
    sums = [sa.func.sum(usage_hourly.c[name]).label(name) for name in SUMS]
    return usage_hourly, usage_hourly.c.hour_ms, sums


def _row_source() -> tuple[sa.Table, sa.ColumnElement[int], list[Any]]:
    """The same sums from rows: `usage_log.measures` in SQL."""
    c = usage_log.c

    def count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.sum(sa.case((condition, 1), else_=0))

    is_call = c.outcome.not_in(MONEY_ALONE)
    bought = sa.and_(c.generation_id.is_not(None), c.outcome.in_(("bought", "failed")))
    sums = {
        "requests": count(is_call),
        "counted": count(sa.and_(is_call, c.status != 429, c.code.is_distinct_from(BudgetExhausted.code))),
        "hits": count(c.outcome == "hit"),
        "joined": count(c.outcome == "joined"),
        "generations": count(bought),
        "images": sa.func.sum(c.images),
        "errors": count(c.status >= 400),
        "cost_micro_usd": sa.func.sum(sa.func.coalesce(c.cost_micro_usd, 0)),
        "saved_micro_usd": sa.func.sum(c.saved_micro_usd),
    }
    return usage_log, c.at_ms, [sums[name].label(name) for name in SUMS]


def reuse_of(conn: sa.Connection, generation_id: str) -> tuple[int, int]:
    """How often a generation answered another call, and what that saved in micro-dollars."""
    c = usage_log.c
    found = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(c.saved_micro_usd), 0)).where(
        c.generation_id == generation_id, c.outcome.in_(("hit", "joined"))
    )
    count, saved = conn.execute(found).one()
    return int(count), int(saved)
