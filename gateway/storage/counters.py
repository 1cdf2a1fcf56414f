"""What each scope has spent and holds of each metric in each window: guarded counters, never passed by N callers.

A counter belongs to (mode, scope, metric, window start), not to a limit's row. It is made when first needed, from
the generations the window already holds: so a limit added in mid-window counts what was spent before it. From then on
every purchase of its scope is counted, with a limit or without: so it is right when a limit comes back.

SQL gone: nothing can be held, so nothing is bought.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from gateway.domain.limits import Limit, Metric, ScopeKind, Window, refusal, window_bounds
from gateway.storage.database import insert
from gateway.storage.prepared import Prepared, Row
from gateway.storage.tables import counters, generations, holds

_SCOPE_COLUMNS = {"team": generations.c.team_id, "user": generations.c.user_id, "key": generations.c.key_id}
_SCOPE_ORDER = {scope.value: place for place, scope in enumerate(ScopeKind)}
_SETTLED = ("answered", "succeeded", "failed")
_g = generations.c
_IS_OPEN: sa.ColumnElement[int] = sa.case((_g.status.in_(_SETTLED), 0), else_=1)
_AMOUNTS: dict[Metric, sa.ColumnElement[int]] = {
    Metric.IMAGES: _g.images,
    Metric.MEGAPIXELS: _g.megapixels,
    Metric.COST_USD: sa.case(
        (_g.status.in_(_SETTLED), sa.func.coalesce(_g.cost_micro_usd, 0) + _g.adjusted_micro_usd),
        else_=_g.reserved_micro_usd,
    ),
    Metric.CONCURRENCY: sa.case((_g.status.in_(("pending", "sent")), 1), else_=0),
}
"""What a purchase counts as, settled or open."""
_Spot = tuple[str, str, str, str]
"""Scope, scope id, metric and window: a counter but for mode and start."""


_c = counters.c
_PLACE = ("mode", "scope", "scope_id", "metric", "window", "window_start_ms")
_ONE = sa.update(counters).where(*(_c[name] == sa.bindparam(f"the_{name}") for name in _PLACE))
_AMOUNT = sa.bindparam("amount", type_=sa.BigInteger)
_MORE = _ONE.values(reserved=_c.reserved + _AMOUNT)
_ADD = Prepared(_MORE)
_GUARDED = _MORE.where(_c.spent + _c.reserved + _AMOUNT <= sa.bindparam("limit", type_=sa.BigInteger))
_ADD_GUARDED = Prepared(_GUARDED)


def _and_hold(taken: sa.Update) -> Prepared:
    """The same, and the row of what is held, in PostgreSQL's one statement: it is written if the counter took it."""
    counter = taken.returning(*(_c[name] for name in _PLACE[1:])).cte("counter")
    generation = sa.bindparam("generation_id", type_=holds.c.generation_id.type)
    row = sa.select(generation, *(counter.c[name] for name in _PLACE[1:]), _AMOUNT)
    return Prepared(holds.insert().from_select(["generation_id", *_PLACE[1:], "amount"], row))


_ADD_AND_HOLD = _and_hold(_MORE)
_ADD_AND_HOLD_GUARDED = _and_hold(_GUARDED)
_POST = Prepared(
    _ONE.values(reserved=_c.reserved - _AMOUNT, spent=_c.spent + sa.bindparam("actual", type_=sa.BigInteger))
)
_HOLD = Prepared(holds.insert())
_LET_GO_OF = sa.delete(holds).where(holds.c.generation_id == sa.bindparam("generation_id")).returning(holds)
_LET_GO = Prepared(_LET_GO_OF)
_LET_GO_OF_METRIC = Prepared(_LET_GO_OF.where(holds.c.metric == sa.bindparam("metric")))


@dataclass(frozen=True, slots=True)
class Standing:
    """A limit and how much of it is used. `reset_ms` None: it never resets."""

    limit: Limit
    spent: int
    reserved: int
    reset_ms: int | None

    @property
    def left(self) -> int:
        return max(0, self.limit.amount - self.spent - self.reserved)


def hold(
    conn: sa.Connection,
    generation_id: str,
    limits: Sequence[Limit],
    asked: Mapping[Metric, int],
    *,
    scopes: Sequence[tuple[ScopeKind, str]],
    mode: str,
    now_ms: int,
) -> None:
    """Reserve what a purchase asks of every limit, all or nothing (the transaction is the caller's).

    Raises LimitExceeded for the first limit that does not allow it. `scopes` are the generation's own: counters that
    are there without a limit are kept too, so that they are right when a limit comes back.
    """
    wanted = {_spot(limit): limit for limit in limits if asked.get(limit.metric)}
    there = _locked(conn, wanted.keys(), scopes, mode=mode, now_ms=now_ms)
    _make(conn, generation_id, [wanted[spot] for spot in wanted if spot not in there], mode=mode, now_ms=now_ms)
    taken = []
    for spot in sorted(there | wanted.keys(), key=_order):
        limit, amount = wanted.get(spot), asked[Metric(spot[2])]
        start_ms, reset_ms = window_bounds(Window(spot[3]), now_ms)
        where = _place(mode, spot, start_ms)
        held = _hold_row(generation_id, where, amount)
        if not _take(conn, where, held, None if limit is None else limit.amount) and limit is not None:
            standing = _read(conn, limit, where, reset_ms)
            raise refusal(limit, asked=amount, left=standing.left, reset_ms=reset_ms, now_ms=now_ms)
        taken.append(held)
    if conn.dialect.name == "sqlite":  # elsewhere each was held as it was taken
        _HOLD.run_each(conn, taken)


def settle(conn: sa.Connection, generation_id: str, actual: Mapping[Metric, int], *, mode: str) -> None:
    """Turn what a generation holds into what it spent. Posts in full, whatever the limits say by now.

    A metric absent from `actual` is released.
    """
    _post(conn, _LET_GO.rows(conn, {"generation_id": generation_id}), actual, mode=mode)


def release_concurrency(conn: sa.Connection, generation_id: str, *, mode: str) -> None:
    """A purchase of unknown outcome is over for its caller, though its money stays held."""
    mine = {"generation_id": generation_id, "metric": Metric.CONCURRENCY.value}
    _post(conn, _LET_GO_OF_METRIC.rows(conn, mine), {}, mode=mode)


def adjust(conn: sa.Connection, scopes: Sequence[tuple[ScopeKind, str]], amount: int, *, mode: str, at_ms: int) -> None:
    """Correct what was spent in the windows of a moment, where counters of money are there. Never below 0."""
    _lock_scopes(conn, scopes, mode=mode, alone=False)
    corrected = counters.c.spent + amount
    for scope, scope_id in scopes:
        for window in Window:
            spot = (scope.value, scope_id, Metric.COST_USD.value, window.value)
            where = _place(mode, spot, window_bounds(window, at_ms)[0])
            spent = sa.case((corrected < 0, 0), else_=corrected)
            conn.execute(sa.update(counters).filter_by(**where).values(spent=spent))


def standings(conn: sa.Connection, limits: Sequence[Limit], *, mode: str, now_ms: int) -> list[Standing]:
    """How much of each limit is used. Limits of requests are not kept here."""
    found = []
    for limit in limits:
        start_ms, reset_ms = window_bounds(limit.window, now_ms)
        where = _place(mode, _spot(limit), start_ms)
        row = conn.execute(sa.select(counters.c.spent, counters.c.reserved).filter_by(**where)).one_or_none()
        spent, reserved = row if row is not None else _sums(conn, _members(limit, where, reset_ms).subquery())
        found.append(Standing(limit, spent, reserved, reset_ms))
    return found


def wrong_counters(conn: sa.Connection) -> list[str]:
    """Those that differ from the purchases of their window: they are projections, and must never drift."""
    wrong = []
    for row in conn.execute(sa.select(counters)).mappings():
        limit = Limit(ScopeKind(row["scope"]), row["scope_id"], Metric(row["metric"]), Window(row["window"]), 0)
        start_ms, reset_ms = window_bounds(limit.window, row["window_start_ms"])
        where = _place(row["mode"], _spot(limit), start_ms)
        spent, reserved = _sums(conn, _members(limit, where, reset_ms).subquery())
        expected = (0 if limit.metric is Metric.CONCURRENCY else spent, reserved)
        kept = (row["spent"], row["reserved"])
        if expected != kept:
            wrong.append(f"{limit.name} of {limit.scope_id} from {start_ms}: spent and reserved {kept}, not {expected}")
    return wrong


def _spot(limit: Limit) -> _Spot:
    return limit.scope.value, limit.scope_id, limit.metric.value, limit.window.value


def _order(spot: _Spot) -> tuple[int, _Spot]:
    """The one order in which all writers lock counters, `_post` too."""
    return _SCOPE_ORDER[spot[0]], spot


def _place(mode: str, spot: _Spot, start_ms: int) -> dict[str, Any]:
    names = ("scope", "scope_id", "metric", "window")
    return {"mode": mode, **dict(zip(names, spot, strict=True)), "window_start_ms": start_ms}


def _hold_row(generation_id: str, where: Mapping[str, Any], amount: int) -> dict[str, Any]:
    place = {name: where[name] for name in where if name != "mode"}
    return {"generation_id": generation_id, **place, "amount": amount}


def _existing(conn: sa.Connection, scopes: Sequence[tuple[ScopeKind, str]], *, mode: str, now_ms: int) -> set[_Spot]:
    """The counters of the present windows that are there."""
    asked: dict[str, Any] = {"mode": mode}
    for place, (scope, scope_id) in enumerate(scopes):
        asked |= {f"scope_{place}": scope.value, f"scope_id_{place}": scope_id}
    asked |= {f"start_{window.name}": window_bounds(window, now_ms)[0] for window in Window}
    return {
        (row["scope"], row["scope_id"], row["metric"], row["window"])
        for row in _counters_of(len(scopes)).rows(conn, asked)
    }


@cache
def _counters_of(scopes: int) -> Prepared:
    """The counters of so many scopes in the windows of one moment. (Scopes joined by OR would make SQLite scan.)"""
    present = sa.or_(
        *(
            sa.and_(_c.window == window.value, _c.window_start_ms == sa.bindparam(f"start_{window.name}"))
            for window in Window
        )
    )
    each = (
        sa.select(_c.scope, _c.scope_id, _c.metric, _c.window).where(
            _c.mode == sa.bindparam("mode"),
            _c.scope == sa.bindparam(f"scope_{place}"),
            _c.scope_id == sa.bindparam(f"scope_id_{place}"),
            present,
        )
        for place in range(scopes)
    )
    return Prepared(sa.union_all(*each))


def _locked(
    conn: sa.Connection,
    wanted: AbstractSet[_Spot],
    scopes: Sequence[tuple[ScopeKind, str]],
    *,
    mode: str,
    now_ms: int,
) -> set[_Spot]:
    """The counters that are there, as they stay until the transaction ends: the scopes are locked, alone if one of
    `wanted` has to be made.

    Counters never go, so one that was seen is there: then the scopes are locked at once, and looked at once.
    """
    seen = _SEEN.setdefault(conn.engine, set())
    places = {(mode, spot, window_bounds(Window(spot[3]), now_ms)[0]) for spot in wanted}
    there = None if places <= seen else _existing(conn, scopes, mode=mode, now_ms=now_ms)
    alone = there is not None and not wanted <= there
    if _lock_scopes(conn, scopes, mode=mode, alone=alone) or there is None:
        there = _existing(conn, scopes, mode=mode, now_ms=now_ms)
    if not alone:
        if len(seen) > _MOST_SEEN:
            seen.clear()
        seen |= places
    return there


_SEEN: WeakKeyDictionary[sa.Engine, set[tuple[str, _Spot, int]]] = WeakKeyDictionary()
"""Of each database, counters that other transactions had made: mode, spot, start of the window."""
_MOST_SEEN = 100_000


def _lock_scopes(conn: sa.Connection, scopes: Sequence[tuple[ScopeKind, str]], *, mode: str, alone: bool) -> bool:
    """Whoever makes a counter is `alone` with its scopes: no purchase that saw none may commit unseen.

    Held until the transaction ends. False: nothing to lock, SQLite has one writer.
    """
    if conn.dialect.name == "sqlite":
        return False
    lock = sa.func.pg_advisory_xact_lock if alone else sa.func.pg_advisory_xact_lock_shared
    keys = {
        hashlib.blake2b(f"{mode} {scope} {scope_id}".encode(), digest_size=8).digest() for scope, scope_id in scopes
    }
    numbers = sorted(int.from_bytes(key, signed=True) for key in keys)
    conn.execute(sa.select(*(lock(sa.literal(number, sa.BigInteger)) for number in numbers)))
    return True


def _take(conn: sa.Connection, where: Mapping[str, Any], held: Mapping[str, Any], limit: int | None) -> bool:
    """The guard and the reservation are one statement: there is no moment between them. `limit` None: no guard.

    On PostgreSQL the same statement writes down what is `held`: a round trip for both.
    """
    asked = _named(where) | {"amount": held["amount"]}
    if limit is not None:
        asked["limit"] = limit
    if conn.dialect.name == "sqlite":
        return (_ADD if limit is None else _ADD_GUARDED).run(conn, asked) == 1
    asked["generation_id"] = held["generation_id"]
    return (_ADD_AND_HOLD if limit is None else _ADD_AND_HOLD_GUARDED).run(conn, asked) == 1


def _read(conn: sa.Connection, limit: Limit, where: Mapping[str, Any], reset_ms: int | None) -> Standing:
    spent, reserved = conn.execute(sa.select(counters.c.spent, counters.c.reserved).filter_by(**where)).one()
    return Standing(limit, spent, reserved, reset_ms)


def _make(conn: sa.Connection, generation_id: str, limits: Sequence[Limit], *, mode: str, now_ms: int) -> None:
    """Make counters from what their windows already hold; open generations hold their share of them from now on.

    `generation_id` is the one being reserved: its row is there already, its share is not taken yet. The open ones are
    locked before any counter: a settlement under way is waited for, and one that comes later finds its hold.
    """
    if not limits:
        return
    open_ids = _lock_open(conn, limits, mode=mode, but=generation_id)
    for limit in sorted(limits, key=lambda limit: _order(_spot(limit))):
        start_ms, reset_ms = window_bounds(limit.window, now_ms)
        where = _place(mode, _spot(limit), start_ms)
        members = _members(limit, where, reset_ms).subquery()
        spent, _ = _sums(conn, members)
        shares = sa.select(members.c.id, members.c.amount).where(members.c.id.in_(open_ids), members.c.amount > 0)
        held = [_hold_row(row.id, where, row.amount) for row in conn.execute(shares)]
        reserved = sum(row["amount"] for row in held)
        made = insert(conn, counters).values(**where, spent=spent, reserved=reserved).on_conflict_do_nothing()
        if conn.execute(made).rowcount == 1 and held:
            conn.execute(insert(conn, holds).on_conflict_do_nothing(), held)


def _lock_open(conn: sa.Connection, limits: Sequence[Limit], *, mode: str, but: str) -> list[str]:
    """The open generations of these scopes, locked in one order."""
    of_scopes = sa.or_(*(_SCOPE_COLUMNS[limit.scope] == limit.scope_id for limit in limits))
    found = sa.select(generations.c.id).where(
        of_scopes, generations.c.mode == mode, generations.c.status.not_in(_SETTLED), generations.c.id != but
    )
    return list(conn.execute(found.order_by(generations.c.id).with_for_update()).scalars())


def _sums(conn: sa.Connection, members: sa.Subquery) -> tuple[int, int]:
    """Spent and reserved by these generations, at one moment."""

    def total(is_open: int) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((members.c.open == is_open, members.c.amount), else_=0)), 0)

    spent, reserved = conn.execute(sa.select(total(0), total(1))).one()
    return int(spent), int(reserved)


def spent_since(
    conn: sa.Connection, scope: ScopeKind, scope_ids: Collection[str], *, mode: str, since_ms: int
) -> dict[tuple[str, Metric], tuple[int, int]]:
    """Spent and reserved by the purchases of scopes since the start of a window, by scope and metric: what a counter
    would say that is not made yet. Scopes that bought nothing are absent.
    """
    column = _SCOPE_COLUMNS[scope]
    sums = [
        sa.func.sum(sa.case({is_open: amount}, value=_IS_OPEN, else_=0)).label(f"{metric}_{is_open}")
        for metric, amount in _AMOUNTS.items()
        for is_open in (0, 1)
    ]
    chosen = sa.select(column.label("scope_id"), *sums).where(
        column.in_(scope_ids), generations.c.mode == mode, generations.c.created_ms >= since_ms
    )
    return {
        (row["scope_id"], metric): (int(row[f"{metric}_0"]), int(row[f"{metric}_1"]))
        for row in conn.execute(chosen.group_by(column)).mappings()
        for metric in _AMOUNTS
    }


def _members(limit: Limit, where: Mapping[str, Any], reset_ms: int | None) -> sa.Select[Any]:
    """The generations of a counter: id, whether it is still open (1) or settled (0), and its share."""
    g = generations.c
    chosen = (
        sa.select(g.id, _IS_OPEN.label("open"), _AMOUNTS[limit.metric].label("amount"))
        .where(g.mode == where["mode"], _SCOPE_COLUMNS[limit.scope] == limit.scope_id)
        .where(g.created_ms >= where["window_start_ms"])
    )
    return chosen if reset_ms is None else chosen.where(g.created_ms < reset_ms)


def _post(conn: sa.Connection, held: Sequence[Row], actual: Mapping[Metric, int], *, mode: str) -> None:
    posts = [
        _named({"mode": mode} | {name: row[name] for name in _PLACE[1:]})
        | {"amount": row["amount"], "actual": actual.get(Metric(row["metric"]), 0)}
        for row in sorted(held, key=lambda row: _order((row["scope"], row["scope_id"], row["metric"], row["window"])))
    ]
    _POST.run_each(conn, posts)


def _named(place: Mapping[str, Any]) -> dict[str, Any]:
    """A counter's place as the parameters of `_ONE`."""
    return {f"the_{name}": value for name, value in place.items()}
