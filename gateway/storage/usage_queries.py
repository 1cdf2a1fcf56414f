"""Sums over the usage log: whole days from the daily totals, whole hours from the hourly ones, the rest from rows.

A question about one tag is answered from the totals by tag, which are daily; one about several, or about labels, reads
rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.errors import BudgetExhausted
from gateway.storage import usage_tags
from gateway.storage.tables import reuses, usage_daily, usage_hourly, usage_log, usage_tags_daily
from gateway.storage.usage_totals import DAY_MS, HOUR_MS, MONEY_ALONE, SUMS

_DAILY = (usage_daily, usage_tags_daily)
_Source = tuple[sa.Table, sa.Column[int], Sequence[sa.ColumnElement[int]]]
"""A table, its column of time, and SUMS of it."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """`columns` to group by, all tags and labels (as JSON) if asked for, time in steps of `step_ms` (None: no steps).

    `tag`: a tag to group by its values, or with `tag_value` the one that rows must carry. `where` restricts columns to
    values. The range is half-open.
    """

    mode: str
    from_ms: int
    to_ms: int
    columns: Sequence[str] = ()
    tags: bool = False
    labels: bool = False
    tag: str | None = None
    tag_value: str | None = None
    step_ms: int | None = None
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageSums:
    """Part of a group: column values, the tags and labels of its rows, start of the step, and SUMS in order."""

    group: Mapping[str, str | None]
    tags: Mapping[str, str]
    labels: Mapping[str, str]
    step_start_ms: int | None
    sums: tuple[int, ...]


def usage_sums(conn: sa.Connection, query: UsageQuery) -> list[UsageSums]:
    """The same group may come in several parts, from several tables."""
    tags_since_ms = 0 if query.tag is None else usage_tags.whole_since(conn)
    return [
        part
        for source, from_ms, to_ms in _sources(query, tags_since_ms)
        for part in _sums_of(conn, query, source, from_ms=from_ms, to_ms=to_ms)
    ]


def _sources(query: UsageQuery, tags_since_ms: int) -> Iterator[tuple[_Source, int, int]]:
    """The range cut into stretches, each with the coarsest table that can answer for it."""
    in_hours = query.step_ms is not None and query.step_ms % DAY_MS
    if query.tags or query.labels or (query.tag is not None and in_hours):
        yield _row_source(), query.from_ms, query.to_ms
        return
    if query.tag is not None:
        start_ms = min(max(query.from_ms, tags_since_ms), query.to_ms)
        if query.from_ms < start_ms:
            yield _row_source(), query.from_ms, start_ms
        if start_ms < query.to_ms:
            yield from _cut(start_ms, query.to_ms, [(DAY_MS, _row_source(), _tag_totals())])
        return
    finest = HOUR_MS if in_hours else DAY_MS
    rows, hours, days = _row_source(), _totals(usage_hourly), _totals(usage_daily)
    steps = ((HOUR_MS, rows, hours), (DAY_MS, hours, days)) if finest == DAY_MS else ((HOUR_MS, rows, hours),)
    yield from _cut(query.from_ms, query.to_ms, steps)


def _cut(from_ms: int, to_ms: int, steps: Sequence[tuple[int, _Source, _Source]]) -> Iterator[tuple[_Source, int, int]]:
    """The ends that are no whole step from the finer source, the middle from the coarser one or what is coarser yet."""
    (step_ms, finer, coarser), *further = steps
    start, end = -(-from_ms // step_ms) * step_ms, to_ms // step_ms * step_ms
    if start >= end:
        yield finer, from_ms, to_ms
        return
    if from_ms < start:
        yield finer, from_ms, start
    if further:
        yield from _cut(start, end, further)
    else:
        yield coarser, start, end
    if end < to_ms:
        yield finer, end, to_ms


def _sums_of(conn: sa.Connection, query: UsageQuery, source: _Source, *, from_ms: int, to_ms: int) -> list[UsageSums]:
    table, at, sums = source
    if table is usage_tags_daily and _is_grouped_by_tag(query):
        return _by_value(conn, query, from_ms=from_ms, to_ms=to_ms)
    keys = [table.c[name].label(name) for name in query.columns]
    if query.tags or _is_grouped_by_tag(query):
        keys.append(sa.cast(table.c.tags, sa.Text).label("tags"))
    if query.labels:
        keys.append(sa.cast(table.c.labels, sa.Text).label("labels"))
    if query.step_ms is not None:
        is_start = table in _DAILY and query.step_ms == DAY_MS  # then it needs no sorting
        keys.insert(0, (at if is_start else at - at % query.step_ms).label("step"))
    chosen = (
        sa.select(*keys, *sums)
        .where(table.c.mode == query.mode, at >= from_ms, at < to_ms)
        .where(*(table.c[name] == value for name, value in query.where.items()))
        .group_by(*keys)
    )
    if query.tag is not None and query.tag_value is not None:
        chosen = chosen.where(carries(conn, table, query.tag, query.tag_value))
    return [_sums(row, query) for row in conn.execute(chosen).mappings() if row["requests"] is not None]


def _is_grouped_by_tag(query: UsageQuery) -> bool:
    return query.tag is not None and query.tag_value is None


def carries(conn: sa.Connection, table: sa.Table, tag: str, value: str) -> sa.ColumnElement[bool]:
    """Rows of the log, or totals by tag, of calls with that tag."""
    if "\0" in tag + value:  # which no call can have, and PostgreSQL refuses
        return sa.false()
    if table is usage_tags_daily:
        return sa.and_(table.c.tag == tag, table.c.value == value)
    # JSON escapes every quotation mark inside a text, so this stands nowhere else
    pair = f"{msgspec.json.encode(tag).decode()}:{msgspec.json.encode(value).decode()}"
    find = sa.func.instr if conn.dialect.name == "sqlite" else sa.func.strpos
    return find(sa.type_coerce(table.c.tags, sa.Text), pair) > 0


def _by_value(conn: sa.Connection, query: UsageQuery, *, from_ms: int, to_ms: int) -> list[UsageSums]:
    """Whole days by the values of a tag. Calls without it are all calls but those with it."""
    tag = query.tag or ""
    of_all = replace(query, tag=None)
    of_tag = replace(of_all, columns=["value", *query.columns], where={**query.where, "tag": tag}, step_ms=DAY_MS)
    found: list[UsageSums] = []
    rest: defaultdict[_Group, list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for one in _sums_of(conn, of_tag, _tag_totals(), from_ms=from_ms, to_ms=to_ms):
        group = {name: one.group[name] for name in query.columns}
        step = None if query.step_ms is None else one.step_start_ms
        part = UsageSums(group, {tag: one.group["value"] or ""}, {}, step, one.sums)
        found.append(part)
        _add(rest[_group(part, query)], part.sums, -1)
    for part in _sums_of(conn, of_all, _totals(usage_daily), from_ms=from_ms, to_ms=to_ms):
        _add(rest[_group(part, query)], part.sums, 1)
    return found + [
        UsageSums(dict(zip(query.columns, group, strict=True)), {}, {}, step, tuple(sums))
        for (step, *group), sums in rest.items()
        if any(sums)
    ]


_Group = tuple[Any, ...]
"""The start of a step, then the values of the columns."""


def _group(part: UsageSums, query: UsageQuery) -> _Group:
    return (part.step_start_ms, *(part.group[name] for name in query.columns))


def _add(sums: list[int], amounts: Sequence[int], times: int) -> None:
    for index, amount in enumerate(amounts):
        sums[index] += amount * times


def _sums(row: sa.RowMapping, query: UsageQuery) -> UsageSums:
    known = {} if query.tag is None or query.tag_value is None else {query.tag: query.tag_value}
    return UsageSums(
        group={name: row[name] or None for name in query.columns},
        tags=_pairs(row["tags"]) if "tags" in row else known,
        labels=_pairs(row.get("labels")),
        step_start_ms=row.get("step"),
        sums=tuple(int(row[name] or 0) for name in SUMS),
    )


def _pairs(text: str | None) -> dict[str, str]:
    return msgspec.json.decode(text) if text else {}


def _totals(table: sa.Table) -> _Source:
    at = next(iter(table.primary_key))
    return table, at, _added(table)


def _added(table: sa.Table) -> list[sa.ColumnElement[int]]:
    return [sa.func.sum(table.c[name]).label(name) for name in SUMS]


def _tag_totals() -> _Source:
    return usage_tags_daily, usage_tags_daily.c.day_ms, _added(usage_tags_daily)


def _row_source() -> _Source:
    """The same sums from rows: `usage_totals.measures` in SQL."""
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
    found = sa.select(reuses.c.times, reuses.c.saved_micro_usd).where(reuses.c.generation_id == generation_id)
    times, saved = conn.execute(found).one_or_none() or (0, 0)
    return times, saved
