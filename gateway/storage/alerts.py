"""Limits that have reached a share of their amount: found, and written down once for each window and amount.

Any replica may look at any time: what makes a crossing one is a unique key. SQL gone: nothing is bought, so nothing is
crossed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from gateway.domain.ids import new_id
from gateway.domain.limits import DefaultLimit, Limit, Metric, ScopeKind, Window, window_bounds
from gateway.errors import NotFound
from gateway.storage import limits_in_use
from gateway.storage.database import insert, now_ms
from gateway.storage.paging import Page, filtered, is_id, read_page
from gateway.storage.records import within
from gateway.storage.tables_accounts import alerts, keys, limits, teams, users

_MODES = ("live", "test")
_AT_ONCE = 200
_a = alerts.c
_SOME_ALERT = sa.select(sa.literal(1)).where(limits.c.alert_at.is_not(None)).limit(1)
_UNIQUE = ("mode", "scope", "scope_id", "metric", "window", "window_start_ms", "percent", "amount")


class Crossing(NamedTuple):
    """A limit that has used `percent` of its amount, in a mode."""

    mode: str
    limit: Limit
    window_start_ms: int
    percent: int
    used: int

    @property
    def place(self) -> tuple[Any, ...]:
        """What makes it one."""
        limit = self.limit
        where = (limit.scope.value, limit.scope_id, limit.metric.value, limit.window.value)
        return (self.mode, *where, self.window_start_ms, self.percent, limit.amount)


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """`amount` and `used` as they were then. `name`: of the team, user or key; None when it is no more."""

    id: str
    mode: str
    scope: ScopeKind
    scope_id: str
    metric: Metric
    window: Window
    window_start_ms: int
    percent: int
    amount: int
    used: int
    at_ms: int
    name: str | None

    @property
    def limit(self) -> Limit:
        return Limit(self.scope, self.scope_id, self.metric, self.window, self.amount)

    @property
    def period_ms(self) -> tuple[int | None, int | None]:
        """Its window; None: without beginning and end."""
        return self.window_start_ms or None, window_bounds(self.window, self.window_start_ms)[1]


def new_crossings(conn: sa.Connection, defaults: Sequence[DefaultLimit]) -> list[Crossing]:
    """What has been reached and is not written down yet."""
    told = [default for default in defaults if default.alert_at]
    if not told and conn.execute(_SOME_ALERT).first() is None:
        return []
    now = now_ms(conn)
    found = {crossing.place: crossing for mode in _MODES for crossing in _crossings(conn, mode, told, now)}
    known: set[tuple[Any, ...]] = set()
    places = list(found)
    for start in range(0, len(places), _AT_ONCE):
        some = sa.tuple_(_a.scope_id, _a.window_start_ms).in_({(p[2], p[5]) for p in places[start : start + _AT_ONCE]})
        known |= {tuple(row) for row in conn.execute(sa.select(*(_a[name] for name in _UNIQUE)).where(some))}
    return [crossing for place, crossing in found.items() if place not in known]


def _crossings(conn: sa.Connection, mode: str, defaults: Sequence[DefaultLimit], now: int) -> Iterator[Crossing]:
    lines = limits_in_use.set_limits(conn, mode=mode, now_ms=now, alerting=True)
    lines += limits_in_use.default_limits(conn, defaults, mode=mode, now_ms=now)
    for line in lines:
        for percent in line.limit.crossed(line.used):
            yield Crossing(mode, line.limit, window_bounds(line.limit.window, now)[0], percent, line.used)


def record(conn: sa.Connection, crossings: Sequence[Crossing]) -> list[str]:
    """Write them down; returns the ids of those that nobody else wrote in the meantime."""
    now = now_ms(conn)
    made: list[str] = []
    for crossing in sorted(crossings):
        values = dict(zip(_UNIQUE, crossing.place, strict=True))
        values |= {"id": new_id("alert"), "used": crossing.used, "at_ms": now}
        added = insert(conn, alerts).values(values).on_conflict_do_nothing().returning(_a.id)
        made += conn.execute(added).scalars().all()
    return made


def require(conn: sa.Connection, alert_id: str) -> Alert:
    """Raises NotFound."""
    row = conn.execute(_query().where(_a.id == alert_id)).one_or_none()
    if row is None:
        raise NotFound("This alert is not there any more.")
    return _alert(row)


def list_alerts(
    conn: sa.Connection,
    *,
    mode: str | None = None,
    scope_id: str | None = None,
    team_id: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int,
    cursor: str | None = None,
) -> Page[Alert]:
    """Newest first; of a team: its own and those of its users and keys."""
    query = filtered(_query(), {_a.mode: mode, _a.scope_id: scope_id})
    query = within(query, _a.at_ms, from_ms, to_ms)
    if team_id is not None:
        query = query.where(_team() == team_id if is_id(team_id) else sa.false())
    return read_page(conn, query, order=(_a.at_ms, _a.id), convert=_alert, limit=limit, cursor=cursor)


_of_key = users.alias("of_key")


def _query() -> sa.Select[Any]:
    source = (
        alerts.outerjoin(teams, sa.and_(_a.scope == ScopeKind.TEAM, teams.c.id == _a.scope_id))
        .outerjoin(users, sa.and_(_a.scope == ScopeKind.USER, users.c.id == _a.scope_id))
        .outerjoin(keys, sa.and_(_a.scope == ScopeKind.KEY, keys.c.id == _a.scope_id))
        .outerjoin(_of_key, _of_key.c.id == keys.c.user_id)
    )
    name = sa.func.coalesce(teams.c.name, users.c.name, keys.c.name, keys.c.prefix)
    return sa.select(alerts, name.label("name")).select_from(source)


def _team() -> sa.ColumnElement[Any]:
    return sa.func.coalesce(teams.c.id, users.c.team_id, _of_key.c.team_id)


def _alert(row: sa.Row[Any]) -> Alert:
    return msgspec.convert(row, Alert, from_attributes=True)
