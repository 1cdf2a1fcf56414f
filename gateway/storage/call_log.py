"""The usage log for those who look for calls in it, newest first.

It has indexes by time, by user, by generation (but of hits) and of what failed, and no others: each would cost every
call. What is rare otherwise is found by the daily totals, which know on which days whose calls can match; of those
alone rows are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.storage import usage_queries, usage_tags
from gateway.storage.paging import MAX_LIMIT, Page, cursor_of, filtered, parse_cursor, read_page
from gateway.storage.records import within
from gateway.storage.tables import usage_daily, usage_log, usage_tags_daily
from gateway.storage.tables_accounts import keys
from gateway.storage.usage_totals import DAY_MS

Row = dict[str, Any]
_c = usage_log.c
_ORDER = (_c.at_ms, _c.id)
_FEW = 50
"""Users of a day that are looked up one by one; of more, the day is read."""
_COUNTED = ("mode", "user_id", "team_id", "key_id", "model", "provider")


@dataclass(frozen=True, slots=True)
class CallFilter:
    """`status_class`: the first digit of the answer's status. `tag`: name and value. The range is half-open."""

    user_id: str | None = None
    team_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    provider: str | None = None
    outcome: str | None = None
    mode: str | None = None
    status_class: int | None = None
    code: str | None = None
    generation_id: str | None = None
    tag: tuple[str, str] | None = None
    from_ms: int | None = None
    to_ms: int | None = None


def list_calls(conn: sa.Connection, asked: CallFilter, *, limit: int, cursor: str | None) -> Page[Row]:
    """Raises InvalidRequest."""
    query = _query(conn, asked)
    is_rare = asked.team_id or asked.model or asked.provider or asked.tag
    if not is_rare or asked.generation_id or _is_failure(asked):
        return read_page(conn, query, order=_ORDER, convert=_as_dict, limit=limit, cursor=cursor)
    found: list[Row] = []
    for bounds in _stretches(conn, asked, cursor):
        page = read_page(
            conn,
            query.where(*bounds),
            order=_ORDER,
            convert=_as_dict,
            limit=min(limit - len(found) + 1, MAX_LIMIT),
            cursor=cursor,
        )
        found += page.data
        if len(found) > limit:
            return Page(found[:limit], cursor_of(found[limit - 1]["at_ms"], found[limit - 1]["id"]))
    return Page(found, None)


def _is_failure(asked: CallFilter) -> bool:
    return asked.code is not None or asked.status_class in {4, 5}


def _query(conn: sa.Connection, asked: CallFilter) -> sa.Select[Any]:
    names = ("user_id", "team_id", "key_id", "outcome", "mode", "generation_id")
    query = filtered(sa.select(usage_log), {_c[name]: getattr(asked, name) for name in names})
    query = within(query, _c.at_ms, asked.from_ms, asked.to_ms).where(*_bounds(conn, asked))
    if asked.key_id is not None:  # the log has an index by user: a key's calls are among those of its user
        query = query.where(_c.user_id == sa.select(keys.c.user_id).where(keys.c.id == asked.key_id).scalar_subquery())
    return query


def _bounds(conn: sa.Connection, asked: CallFilter) -> Iterator[sa.ColumnElement[bool]]:
    for name in ("model", "provider", "code"):
        value = getattr(asked, name)
        if value is not None:
            yield _c[name] == value if "\0" not in value else sa.false()
    if asked.status_class is not None:
        yield _c.status >= asked.status_class * 100
        yield _c.status < asked.status_class * 100 + 100
    if _is_failure(asked):  # in the words of the index
        yield _c.status >= sa.literal_column("400")
    if asked.generation_id is not None:  # the same: what hits a picture had is in its receipt
        yield _c.outcome != sa.literal_column("'hit'")
    if asked.tag is not None:
        yield usage_queries.carries(conn, usage_log, *asked.tag)


def _stretches(conn: sa.Connection, asked: CallFilter, cursor: str | None) -> Iterator[list[sa.ColumnElement[bool]]]:
    """Days with calls that may match, the latest first; each as conditions on rows."""
    since_ms = usage_tags.whole_since(conn) if asked.tag is not None else 0
    until_ms = None if cursor is None else parse_cursor(cursor)[0]
    users: defaultdict[int, set[str]] = defaultdict(set)
    for day_ms, user_id in conn.execute(_days(conn, asked, since_ms, until_ms)):
        users[day_ms].add(user_id)
    for day_ms in sorted(users, reverse=True):
        bounds = [_c.at_ms >= day_ms, _c.at_ms < day_ms + DAY_MS]
        yield bounds if len(users[day_ms]) > _FEW else [*bounds, _c.user_id.in_(users[day_ms])]
    if since_ms:
        yield [_c.at_ms < since_ms]


def _days(conn: sa.Connection, asked: CallFilter, since_ms: int, until_ms: int | None) -> sa.Select[Any]:
    table = usage_daily if asked.tag is None else usage_tags_daily
    t = table.c
    query: sa.Select[Any] = sa.select(t.day_ms, t.user_id).distinct().where(t.day_ms >= since_ms)
    if asked.tag is not None:
        query = query.where(usage_queries.carries(conn, table, *asked.tag))
    for name in _COUNTED:
        value = getattr(asked, name)
        if value is not None:
            query = query.where(t[name] == value if "\0" not in value else sa.false())
    first_ms = None if asked.from_ms is None else asked.from_ms // DAY_MS * DAY_MS
    query = within(query, t.day_ms, first_ms, asked.to_ms)
    return query if until_ms is None else query.where(t.day_ms <= until_ms)


def _as_dict(row: sa.Row[Any]) -> Row:
    return dict(row._mapping)  # noqa: SLF001  (SQLAlchemy's public attribute, whatever its name says)
