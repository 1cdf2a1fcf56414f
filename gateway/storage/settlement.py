"""Money of purchases whose outcome was unknown, and corrections of what was settled.

Each generation is settled once. What is learnt later is an adjustment: a row of its own, posted to the counters of the
windows that the generation was reserved in, and to the usage log at the time it is made.

SQL gone: nothing is settled, and what is held stays held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from msgspec.structs import replace

from gateway.domain.ids import new_id
from gateway.domain.limits import Metric, ScopeKind
from gateway.storage import counters, idempotency, usage_log
from gateway.storage.database import now_ms
from gateway.storage.prepared import Prepared, Row
from gateway.storage.tables import adjustments, generations

_LOCK = Prepared(sa.select(generations).where(generations.c.id == sa.bindparam("the_id")).with_for_update())

SettledBy = Literal["answer", "books", "estimate", "administrator"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A generation whose outcome is unknown, its money held. `sent_ago_ms` by the database's time."""

    id: str
    provider: str
    provider_key_id: str
    sent_ms: int
    sent_ago_ms: int
    reserved_micro_usd: int


def list_unknown(conn: sa.Connection, *, limit: int = 1000) -> list[Unknown]:
    """Oldest first. Play money too: the sandbox loses answers on request."""
    now = now_ms(conn)
    g = generations.c
    columns = (g.id, g.provider, g.provider_key_id, g.sent_ms, g.reserved_micro_usd)
    rows = conn.execute(sa.select(*columns).where(g.status == "unknown").order_by(g.finished_ms).limit(limit))
    return [
        Unknown(row.id, row.provider, row.provider_key_id or "", row.sent_ms, now - row.sent_ms, row.reserved_micro_usd)
        for row in rows
    ]


def settle(
    conn: sa.Connection, generation_id: str, cost_micro_usd: int, *, by: SettledBy, error: Mapping[str, Any]
) -> bool:
    """`unknown` -> `failed`, with what it cost. False: it is not `unknown` any more.

    With a cost of 0 an Idempotency-Key that was used for it may be used again.
    """
    now = now_ms(conn)
    g = generations.c
    changed = (
        sa.update(generations)
        .where(g.id == generation_id, g.status == "unknown")
        .values(
            status="failed",
            cost_micro_usd=cost_micro_usd,
            images=0,
            megapixels=0,
            overrun=g.reserved_micro_usd < cost_micro_usd,
            settled_by=by,
            error=dict(error),
        )
        .returning(generations)
    )
    row = conn.execute(changed).mappings().one_or_none()
    if row is None:
        return False
    counters.settle(conn, generation_id, {Metric.COST_USD: cost_micro_usd}, mode=row["mode"])
    book(conn, row, cost_micro_usd, now_ms=now)
    if cost_micro_usd == 0:
        idempotency.free(conn, generation_id)
    return True


def correct(conn: sa.Connection, generation: Mapping[Any, Any], cost_micro_usd: int, *, reason: str, actor: str) -> int:
    """Adjust a settled generation (locked by the caller) to what it really cost. Returns the amount adjusted."""
    amount: int = cost_micro_usd - generation["cost_micro_usd"] - generation["adjusted_micro_usd"]
    if amount == 0:
        return 0
    now = now_ms(conn)
    row = {
        "id": new_id("adj"),
        "generation_id": generation["id"],
        "at_ms": now,
        "amount_micro_usd": amount,
        "reason": reason,
        "actor": actor,
    }
    conn.execute(adjustments.insert().values(row))
    counters.adjust(
        conn,
        _scopes(generation),
        amount,
        mode=generation["mode"],
        at_ms=generation["created_ms"],
    )
    g = generations.c
    conn.execute(
        sa.update(generations)
        .where(g.id == row["generation_id"])
        .values(adjusted_micro_usd=g.adjusted_micro_usd + amount)
    )
    _log(conn, generation, amount, outcome="adjustment", row_id=row["id"], now_ms=now)
    return amount


def adjustments_of(conn: sa.Connection, generation_id: str) -> Sequence[dict[str, Any]]:
    """Oldest first."""
    found = sa.select(adjustments).where(adjustments.c.generation_id == generation_id).order_by(adjustments.c.at_ms)
    return [dict(row) for row in conn.execute(found).mappings()]


def lock(conn: sa.Connection, generation_id: str) -> Row | None:
    return _LOCK.row(conn, {"the_id": generation_id})


def book(conn: sa.Connection, generation: Mapping[Any, Any], cost_micro_usd: int, *, now_ms: int) -> None:
    """The settlement in the usage log: its buyer's row said that the cost is unknown, and stays."""
    row_id = f"set_{generation['id'].removeprefix('gen_')}"
    _log(conn, generation, cost_micro_usd, outcome="settlement", row_id=row_id, now_ms=now_ms)


def _log(
    conn: sa.Connection,
    generation: Mapping[Any, Any],
    amount: int,
    *,
    outcome: str,
    row_id: str,
    now_ms: int,
) -> None:
    """Money alone: no call, no picture."""
    row = replace(
        generation["usage"],
        id=row_id,
        at_ms=now_ms,
        outcome=outcome,
        status=0,
        code=None,
        images=0,
        cost_micro_usd=amount,
        saved_micro_usd=0,
        latency_us=0,
        generation_id=generation["id"],
    )
    usage_log.add(conn, [row])


def _scopes(generation: Mapping[Any, Any]) -> list[tuple[ScopeKind, str]]:
    named = ((kind, generation[f"{kind.value}_id"]) for kind in (ScopeKind.TEAM, ScopeKind.USER, ScopeKind.KEY))
    return [(kind, scope_id) for kind, scope_id in named if scope_id is not None]
