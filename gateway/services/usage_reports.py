"""Who spends what, and what the cache saved: sums of the usage log in groups and steps of time."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.errors import InvalidRequest
from gateway.storage import call_log, usage_queries, usage_tags
from gateway.storage.call_log import CallFilter
from gateway.storage.database import Database
from gateway.storage.paging import DEFAULT_LIMIT, Page
from gateway.storage.usage_queries import UsageQuery, UsageSums
from gateway.storage.usage_totals import DAY_MS, HOUR_MS, SUMS

Bucket = Literal["hour", "day", "month"]
_COLUMNS = {"user": "user_id", "team": "team_id", "key": "key_id", "model": "model", "provider": "provider"}
_STEPS: dict[Bucket, int] = {"hour": HOUR_MS, "day": DAY_MS, "month": DAY_MS}
_SHOWN = tuple(name for name in SUMS if name != "counted")


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One group in one step. `sums` by the names of the report; money in micro-dollars."""

    group: Mapping[str, str | None]
    bucket_ms: int | None
    sums: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    rows: Sequence[ReportRow]
    total: Mapping[str, int]


class UsageReports:
    def __init__(self, database: Database, *, flush: Callable[[], Awaitable[None]]) -> None:
        """`flush` brings rows of this process's journal into SQL, so that a report misses none of its own calls."""
        self._database = database
        self._flush = flush

    async def report(
        self,
        *,
        mode: str,
        group_by: Sequence[str] = (),
        bucket: Bucket | None = None,
        from_ms: int,
        to_ms: int,
        where: Mapping[str, str] | None = None,
        tag: tuple[str, str] | None = None,
    ) -> Report:
        """`group_by`: user, team, key, model, provider, tag:NAME, label:NAME. The range is half-open. `where` restricts
        columns to values, `tag` to calls that carry it (name and value).

        Raises InvalidRequest for another dimension or an empty range.
        """
        _check(group_by, from_ms, to_ms)
        await self._flush()
        grouped = {name.removeprefix("tag:") for name in group_by if name.startswith("tag:")}
        labels = any(name.startswith("label:") for name in group_by)
        several = len(grouped | ({tag[0]} if tag else set())) > 1
        query = UsageQuery(
            mode=mode,
            from_ms=from_ms,
            to_ms=to_ms,
            columns=[_COLUMNS[name] for name in group_by if name in _COLUMNS],
            tags=bool(grouped) and (several or labels),
            labels=labels,
            tag=tag[0] if tag else min(grouped, default=None),
            tag_value=tag[1] if tag else None,
            step_ms=None if bucket is None else _STEPS[bucket],
            where=where or {},
        )
        return await self._database.read(lambda conn: _merged(usage_queries.usage_sums(conn, query), group_by, bucket))

    async def tags(self, mode: str, *, team_id: str | None = None) -> Mapping[str, int]:
        """The names of tags that calls have carried, each with how many values it had."""
        await self._flush()
        return await self._database.read(lambda conn: usage_tags.names(conn, mode, team_id=team_id))

    async def requests(
        self, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, **filters: Any
    ) -> Page[dict[str, Any]]:
        """Rows of the usage log, newest first; `filters` are those of CallFilter. Raises InvalidRequest."""
        asked = CallFilter(**filters)
        await self._flush()
        return await self._database.read(lambda conn: call_log.list_calls(conn, asked, limit=limit, cursor=cursor))


def month_start_ms(at_ms: int) -> int:
    moment = dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)
    return int(moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1000


def _check(group_by: Sequence[str], from_ms: int, to_ms: int) -> None:
    for name in group_by:
        if name not in _COLUMNS and (not name.startswith(("tag:", "label:")) or "\0" in name):
            known = ", ".join([*_COLUMNS, "tag:NAME", "label:NAME"])
            raise InvalidRequest(f"There is no dimension {name!r}; there is: {known}.", param="group_by")
    if from_ms >= to_ms:
        raise InvalidRequest("`from` must lie before `to`.", param="from")


def _merged(found: Sequence[UsageSums], group_by: Sequence[str], bucket: Bucket | None) -> Report:
    """Parts that SQL kept apart (days of a month, different tags, several tables) come together."""
    merged: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    total = [0] * len(SUMS)
    for part in found:
        step = part.step_start_ms
        start = month_start_ms(step) if bucket == "month" and step is not None else step
        sums = merged[(start, *(_value(part, name) for name in group_by))]
        for index, amount in enumerate(part.sums):
            sums[index] += amount
            total[index] += amount
    rows = [
        ReportRow(dict(zip(group_by, place[1:], strict=True)), place[0], _named(sums))
        for place, sums in sorted(
            merged.items(), key=lambda item: [(v is None, v or "") for v in map(_sortable, item[0])]
        )
    ]
    return Report(rows, _named(total))


def _sortable(value: Any) -> str | None:
    return f"{value:020}" if isinstance(value, int) else value


def _value(part: UsageSums, name: str) -> str | None:
    if name.startswith("tag:"):
        return part.tags.get(name.removeprefix("tag:"))
    if name.startswith("label:"):
        return part.labels.get(name.removeprefix("label:"))
    return part.group[_COLUMNS[name]]


def _named(sums: Sequence[int]) -> dict[str, int]:
    named = dict(zip(SUMS, sums, strict=True))
    return {name: named[name] for name in _SHOWN}
