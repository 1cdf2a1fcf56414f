"""What each scope has spent and holds of each metric in each window: guarded counters, never passed by N callers.

A counter belongs to (mode, scope, metric, window start), not to a limit's row. It is made when first needed, from
the generations the window already holds: so a limit added in mid-window counts what was spent before it.

SQL gone: nothing can be held, so nothing is bought.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.domain.limits import Limit, Metric, refusal, window_bounds
from gateway.storage.database import insert
from gateway.storage.tables import counters, generations, holds

_SCOPE_COLUMNS = {"team": generations.c.team_id, "user": generations.c.user_id, "key": generations.c.key_id}
_SETTLED = ("answered", "succeeded", "failed")


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
    mode: str,
    now_ms: int,
) -> None:
    """Reserve what a purchase asks of every limit, all or nothing (the transaction is the caller's).

    Raises LimitExceeded for the first limit that does not allow it. `limits` come in the one order of all writers.
    """
    for limit in limits:
        amount = asked.get(limit.metric, 0)
        if not amount:
            continue
        start_ms, reset_ms = window_bounds(limit.window, now_ms)
        where = _place(mode, limit, start_ms)
        if not _take(conn, where, amount, limit.amount):
            _ensure(conn, generation_id, limit, where, reset_ms)
            if not _take(conn, where, amount, limit.amount):
                standing = _read(conn, limit, where, reset_ms)
                raise refusal(limit, asked=amount, left=standing.left, reset_ms=reset_ms, now_ms=now_ms)
        place = {name: where[name] for name in where if name != "mode"}
        conn.execute(holds.insert().values(generation_id=generation_id, amount=amount, **place))


def settle(conn: sa.Connection, generation_id: str, actual: Mapping[Metric, int], *, mode: str) -> None:
    """Turn what a generation holds into what it spent. Posts in full, whatever the limits say by now.

    A metric absent from `actual` is released.
    """
    _post(conn, generation_id, actual, mode=mode, where=sa.true())


def release_concurrency(conn: sa.Connection, generation_id: str, *, mode: str) -> None:
    """A purchase of unknown outcome is over for its caller, though its money stays held."""
    _post(conn, generation_id, {}, mode=mode, where=holds.c.metric == Metric.CONCURRENCY.value)


def standings(conn: sa.Connection, limits: Sequence[Limit], *, mode: str, now_ms: int) -> list[Standing]:
    """How much of each limit is used. Limits of requests are not kept here."""
    found = []
    for limit in limits:
        start_ms, reset_ms = window_bounds(limit.window, now_ms)
        where = _place(mode, limit, start_ms)
        row = conn.execute(sa.select(counters.c.spent, counters.c.reserved).filter_by(**where)).one_or_none()
        spent, reserved = row if row is not None else _sums(conn, _members(limit, where, reset_ms).subquery())
        found.append(Standing(limit, spent, reserved, reset_ms))
    return found


def _place(mode: str, limit: Limit, start_ms: int) -> dict[str, Any]:
    return {
        "mode": mode,
        "scope": limit.scope.value,
        "scope_id": limit.scope_id,
        "metric": limit.metric.value,
        "window": limit.window.value,
        "window_start_ms": start_ms,
    }


def _take(conn: sa.Connection, where: Mapping[str, Any], amount: int, limit: int) -> bool:
    """The guard and the reservation are one statement: there is no moment between them."""
    statement = (
        sa.update(counters)
        .filter_by(**where)
        .where(counters.c.spent + counters.c.reserved + amount <= limit)
        .values(reserved=counters.c.reserved + amount)
    )
    return conn.execute(statement).rowcount == 1


def _read(conn: sa.Connection, limit: Limit, where: Mapping[str, Any], reset_ms: int | None) -> Standing:
    spent, reserved = conn.execute(sa.select(counters.c.spent, counters.c.reserved).filter_by(**where)).one()
    return Standing(limit, spent, reserved, reset_ms)


def _ensure(
    conn: sa.Connection, generation_id: str, limit: Limit, where: Mapping[str, Any], reset_ms: int | None
) -> None:
    """Make the counter from what the window already holds; open generations hold their share of it from now on.

    `generation_id` is the one being reserved: its row is there already, its share is not taken yet.
    """
    if conn.execute(sa.select(counters.c.spent).filter_by(**where)).one_or_none() is not None:
        return
    others = _members(limit, where, reset_ms).where(generations.c.id != generation_id).subquery()
    spent, reserved = _sums(conn, others)
    made = insert(conn, counters).values(**where, spent=spent, reserved=reserved).on_conflict_do_nothing()
    if conn.execute(made).rowcount != 1 or not reserved:
        return
    place = [sa.literal(where[c.name]).label(c.name) for c in holds.c if c.name in where]
    chosen = sa.select(others.c.id, *place, others.c.amount).where(others.c.open == 1, others.c.amount > 0)
    names = ["generation_id", *(c.name for c in place), "amount"]
    conn.execute(insert(conn, holds).from_select(names, chosen).on_conflict_do_nothing())


def _sums(conn: sa.Connection, members: sa.Subquery) -> tuple[int, int]:
    """Spent and reserved by these generations."""
    total = sa.func.coalesce(sa.func.sum(members.c.amount), 0)
    spent = conn.execute(sa.select(total).where(members.c.open == 0)).scalar_one()
    reserved = conn.execute(sa.select(total).where(members.c.open == 1)).scalar_one()
    return int(spent), int(reserved)


def _members(limit: Limit, where: Mapping[str, Any], reset_ms: int | None) -> sa.Select[Any]:
    """The generations of a counter: id, whether it is still open (1) or settled (0), and its share."""
    g = generations.c
    is_open = sa.case((g.status.in_(_SETTLED), 0), else_=1)
    amounts: dict[Metric, Any] = {
        Metric.IMAGES: g.images,
        Metric.MEGAPIXELS: g.megapixels,
        Metric.COST_USD: sa.case(
            (g.status.in_(_SETTLED), sa.func.coalesce(g.cost_micro_usd, 0)), else_=g.reserved_micro_usd
        ),
        Metric.CONCURRENCY: sa.case((g.status.in_(("pending", "sent")), 1), else_=0),
    }
    chosen = (
        sa.select(g.id, is_open.label("open"), amounts[limit.metric].label("amount"))
        .where(g.mode == where["mode"], _SCOPE_COLUMNS[limit.scope] == limit.scope_id)
        .where(g.created_ms >= where["window_start_ms"])
    )
    return chosen if reset_ms is None else chosen.where(g.created_ms < reset_ms)


def _post(
    conn: sa.Connection,
    generation_id: str,
    actual: Mapping[Metric, int],
    *,
    mode: str,
    where: sa.ColumnElement[bool],
) -> None:
    mine = sa.and_(holds.c.generation_id == generation_id, where)
    order = sa.case({"team": 0, "user": 1, "key": 2}, value=holds.c.scope)
    for row in conn.execute(
        sa.select(holds).where(mine).order_by(order, holds.c.scope_id, holds.c.metric, holds.c.window)
    ).mappings():
        place = {c.name: row[c.name] for c in counters.c if c.name in row}
        conn.execute(
            sa.update(counters)
            .filter_by(mode=mode, **place)
            .values(
                reserved=counters.c.reserved - row["amount"],
                spent=counters.c.spent + actual.get(Metric(row["metric"]), 0),
            )
        )
    conn.execute(sa.delete(holds).where(mine))
