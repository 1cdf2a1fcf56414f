"""Limits beside what is used of them now, of many scopes at once. Looking takes nothing.

Most are read off their counters. A counter that is not made yet, because nothing was bought under its limit in this
window, is worked out from the purchases; limits of requests are counted by the totals of the usage log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from gateway.domain.limits import DefaultLimit, Limit, Metric, ScopeKind, Window, window_bounds
from gateway.storage import counters
from gateway.storage.limits import as_limit
from gateway.storage.paging import is_id
from gateway.storage.tables import counters as counter_table
from gateway.storage.tables import usage_daily
from gateway.storage.tables_accounts import keys, limits, teams, users

_AT_ONCE = 500
_c, _l = counter_table.c, limits.c


@dataclass(frozen=True, slots=True)
class LimitInUse:
    """`reserved`: held by purchases under way. `name`: of the team, user or key. `reset_ms` None: it never resets.

    Concurrency is used by what is under way, and reserves nothing.
    """

    limit: Limit
    name: str
    used: int
    reserved: int
    reset_ms: int | None

    @property
    def left(self) -> int:
        return max(0, self.limit.amount - self.used - self.reserved)

    @property
    def percent(self) -> float:
        """What is used or reserved of it, rounded down to tenths. A limit of 0 is used up."""
        if self.limit.amount == 0:
            return 100.0
        return (self.used + self.reserved) * 1000 // self.limit.amount / 10


def set_limits(
    conn: sa.Connection,
    *,
    mode: str,
    now_ms: int,
    team_id: str | None = None,
    scope: ScopeKind | None = None,
    alerting: bool = False,
) -> list[LimitInUse]:
    """Every limit set at a team, a user or a key that is there; of a team: its own and those of its users and keys.
    `alerting`: those alone that are told to webhooks, and that something was bought under.

    Rates (requests a minute or hour) are left out: they are used up and free again within a moment.
    """
    wanted = [scope] if scope else list(ScopeKind)
    rows: list[sa.Row[Any]] = []
    for each in wanted:
        query = _with_counters(each, mode, now_ms, team_id)
        if alerting:
            counted = sa.or_(_l.metric == Metric.REQUESTS, _c.spent.is_not(None))
            query = query.where(_l.alert_at.is_not(None), counted)
        rows += conn.execute(query).all()
    return _in_use(conn, [(as_limit(row), row.name, row.spent, row.reserved) for row in rows], mode, now_ms)


def default_limits(
    conn: sa.Connection,
    defaults: Sequence[DefaultLimit],
    *,
    mode: str,
    now_ms: int,
    team_id: str | None = None,
) -> list[LimitInUse]:
    """The defaults of those users who have used some of them and have no limit of their own in their place."""
    found: list[LimitInUse] = []
    for default in defaults:
        limit = default.of("")
        if limit.is_rate:
            continue
        if limit.metric is Metric.REQUESTS:
            found += _requested(conn, limit, mode=mode, now_ms=now_ms, team_id=team_id)
        else:
            used = sa.and_(_counter_of(ScopeKind.USER, users.c.id, mode), *_spot(limit, now_ms))
            query = sa.select(users.c.id, users.c.name, _c.spent, _c.reserved).join(counter_table, used)
            query = query.where(_c.spent + _c.reserved > 0, *_defaulted(limit, team_id))
            found += [
                _line(replace(limit, scope_id=row.id), row.name, row.spent, row.reserved, now_ms)
                for row in conn.execute(query)
            ]
    return found


def of_limits(conn: sa.Connection, wanted: Sequence[tuple[Limit, str]], *, mode: str, now_ms: int) -> list[LimitInUse]:
    """These limits, a few, each with the name of its scope; rates are left out."""
    held = {
        standing.limit: (standing.spent, standing.reserved)
        for standing in counters.standings(
            conn, [limit for limit, _ in wanted if limit.metric is not Metric.REQUESTS], mode=mode, now_ms=now_ms
        )
    }
    rows = [(limit, name, *held.get(limit, (None, None))) for limit, name in wanted if not limit.is_rate]
    return _in_use(conn, rows, mode, now_ms)


def _with_counters(scope: ScopeKind, mode: str, now_ms: int, team_id: str | None) -> sa.Select[Any]:
    source, name, of_team = _accounts(scope)
    same = (_c.metric == _l.metric, _c.window == _l.window, _c.window_start_ms == _start(now_ms))
    counter = sa.and_(_counter_of(scope, _l.scope_id, mode), *same)
    rate = sa.and_(_l.metric == Metric.REQUESTS, _l.window.in_((Window.MINUTE, Window.HOUR)))
    query = (
        sa.select(limits, name.label("name"), _c.spent, _c.reserved)
        .select_from(source.outerjoin(counter_table, counter))
        .where(_l.scope == scope, sa.not_(rate))
    )
    if team_id is not None:
        query = query.where(of_team == team_id if is_id(team_id) else sa.false())
    return query


def _accounts(scope: ScopeKind) -> tuple[sa.FromClause, sa.ColumnElement[str], sa.ColumnElement[str | None]]:
    """Limits of a kind of scope joined with what they are set at, its name, and its team."""
    if scope is ScopeKind.TEAM:
        live = sa.and_(teams.c.id == _l.scope_id, teams.c.deleted_ms.is_(None))
        return limits.join(teams, live), teams.c.name, teams.c.id
    if scope is ScopeKind.USER:
        live = sa.and_(users.c.id == _l.scope_id, users.c.deleted_ms.is_(None))
        return limits.join(users, live), users.c.name, users.c.team_id
    live = sa.and_(keys.c.id == _l.scope_id, keys.c.deleted_ms.is_(None))
    source = limits.join(keys, live).join(users, users.c.id == keys.c.user_id)
    return source, sa.func.coalesce(keys.c.name, keys.c.prefix), users.c.team_id


def _start(now_ms: int) -> sa.ColumnElement[int]:
    """The start of the present window of a limit's row."""
    return sa.case({window.value: window_bounds(window, now_ms)[0] for window in Window}, value=_l.window)


def _counter_of(scope: ScopeKind, scope_id: Any, mode: str) -> sa.ColumnElement[bool]:
    return sa.and_(_c.mode == mode, _c.scope == scope, _c.scope_id == scope_id)


def _spot(limit: Limit, now_ms: int) -> Iterator[sa.ColumnElement[bool]]:
    yield _c.metric == limit.metric
    yield _c.window == limit.window
    yield _c.window_start_ms == window_bounds(limit.window, now_ms)[0]


def _defaulted(limit: Limit, team_id: str | None) -> Iterator[sa.ColumnElement[bool]]:
    """Users who are there and have no such limit of their own."""
    own = sa.exists().where(
        _l.scope == ScopeKind.USER, _l.scope_id == users.c.id, _l.metric == limit.metric, _l.window == limit.window
    )
    yield users.c.deleted_ms.is_(None)
    yield ~own
    if team_id is not None:
        yield users.c.team_id == team_id if is_id(team_id) else sa.false()


def _requested(
    conn: sa.Connection, limit: Limit, *, mode: str, now_ms: int, team_id: str | None
) -> Iterator[LimitInUse]:
    counted = _calls(ScopeKind.USER, limit.window, mode, now_ms).subquery()
    query = sa.select(users.c.id, users.c.name, counted.c.calls).join(counted, counted.c.scope_id == users.c.id)
    for row in conn.execute(query.where(counted.c.calls > 0, *_defaulted(limit, team_id))):
        yield _line(replace(limit, scope_id=row.id), row.name, int(row.calls), 0, now_ms)


def _calls(scope: ScopeKind, window: Window, mode: str, now_ms: int) -> sa.Select[Any]:
    """Calls of the present window that count against limits of requests, by scope. Such windows are whole days."""
    d = usage_daily.c
    column = d[f"{scope}_id"]
    return (
        sa.select(column.label("scope_id"), sa.func.sum(d.counted).label("calls"))
        .where(d.mode == mode, d.day_ms >= window_bounds(window, now_ms)[0])
        .group_by(column)
    )


def _in_use(
    conn: sa.Connection, rows: Iterable[tuple[Limit, str, int | None, int | None]], mode: str, now_ms: int
) -> list[LimitInUse]:
    """Rows as limit, name, and what its counter says; None: there is no counter."""
    found: list[LimitInUse] = []
    requests: defaultdict[tuple[ScopeKind, Window], list[tuple[Limit, str]]] = defaultdict(list)
    missing: defaultdict[tuple[ScopeKind, Window], list[tuple[Limit, str]]] = defaultdict(list)
    for limit, name, spent, reserved in rows:
        if limit.metric is Metric.REQUESTS:
            requests[limit.scope, limit.window].append((limit, name))
        elif spent is None or reserved is None:
            missing[limit.scope, limit.window].append((limit, name))
        else:
            found.append(_line(limit, name, spent, reserved, now_ms))
    for (scope, window), some in requests.items():
        calls = _called(conn, scope, window, [limit.scope_id for limit, _ in some], mode, now_ms)
        found += [_line(limit, name, calls.get(limit.scope_id, 0), 0, now_ms) for limit, name in some]
    for (scope, window), some in missing.items():
        found += _worked_out(conn, scope, window, some, mode, now_ms)
    return found


def _called(
    conn: sa.Connection, scope: ScopeKind, window: Window, scope_ids: Collection[str], mode: str, now_ms: int
) -> dict[str, int]:
    query = _calls(scope, window, mode, now_ms)
    if len(scope_ids) <= _AT_ONCE:
        query = query.where(usage_daily.c[f"{scope}_id"].in_(scope_ids))
    return {row.scope_id: int(row.calls) for row in conn.execute(query)}


def _worked_out(
    conn: sa.Connection, scope: ScopeKind, window: Window, some: Sequence[tuple[Limit, str]], mode: str, now_ms: int
) -> Iterator[LimitInUse]:
    since_ms = window_bounds(window, now_ms)[0]
    for start in range(0, len(some), _AT_ONCE):
        part = some[start : start + _AT_ONCE]
        ids = {limit.scope_id for limit, _ in part}
        sums = counters.spent_since(conn, scope, ids, mode=mode, since_ms=since_ms)
        for limit, name in part:
            yield _line(limit, name, *sums.get((limit.scope_id, limit.metric), (0, 0)), now_ms)


def _line(limit: Limit, name: str, spent: int, reserved: int, now_ms: int) -> LimitInUse:
    _, reset_ms = window_bounds(limit.window, now_ms)
    if limit.metric is Metric.CONCURRENCY:
        spent, reserved = reserved, 0
    return LimitInUse(limit, name, spent, reserved, reset_ms)
