"""Leases, and the generations that nobody works on any more.

A process renews the leases of what it has under way; what runs out is an orphan, and the first who claims it settles
or resumes it.

SQL gone: nothing is renewed or claimed; leases count by the database's own time, so they run out while it is gone,
and whoever is back first takes the orphans, its own included.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from gateway.domain.answer import ProviderAnswer
from gateway.domain.usage_row import UsageRow
from gateway.storage.database import now_ms
from gateway.storage.generations import LEASE_MS
from gateway.storage.tables import UNDER_WAY, generations

DISOWNED_MS = 15_000
_CHUNK = 1000


def renew_leases(conn: sa.Connection, lease_owner: str, generation_ids: Collection[str]) -> None:
    """The leases of those a process has under way; a lease that ran out while nobody else took it is good again.

    Only those: a generation that a process lost sight of must run out. A row locked this instant is in somebody's
    hands and waits for the next round.
    """
    now = now_ms(conn)
    g = generations.c
    every = sorted(generation_ids)
    for start in range(0, len(every), _CHUNK):
        mine = sa.and_(g.id.in_(every[start : start + _CHUNK]), g.lease_owner == lease_owner, g.status.in_(UNDER_WAY))
        free = sa.select(g.id).where(mine).with_for_update(skip_locked=True)
        renewed = sa.update(generations).where(g.id.in_(free.scalar_subquery()), mine)
        conn.execute(renewed.values(lease_until_ms=now + LEASE_MS))


def disown(conn: sa.Connection, generation_id: str, *, lease_owner: str) -> None:
    """Leave a generation of ours that is not over to recovery, which looks at it again after a while.

    Its caller went without the picture: the caller's repeat gets it.
    """
    now = now_ms(conn)
    conn.execute(
        sa.update(generations)
        .where(generations.c.id == generation_id, generations.c.status.in_(UNDER_WAY))
        .where(generations.c.lease_owner == lease_owner)
        .values(lease_owner=None, lease_until_ms=now + DISOWNED_MS, abandoned_ms=now)
    )


@dataclass(frozen=True, slots=True)
class Orphan:
    """A generation that nobody works on. `request` is what was kept of its parameters. The time in `usage` is how long
    its process is known to have worked on it.

    `answered_ago_ms` is None before the provider's answer.
    """

    id: str
    status: str
    model: str
    provider: str
    storable: bool
    fingerprint: str
    request: dict[str, Any] | None
    usage: UsageRow
    answer: ProviderAnswer | None
    answered_ago_ms: int | None
    cost_micro_usd: int | None
    expected: dict[str, Any]


def claim_orphans(conn: sa.Connection, *, lease_owner: str, all_others: bool = False, limit: int = 100) -> list[Orphan]:
    """Take over generations whose lease ran out; with `all_others`, every one that is not `lease_owner`'s.

    `all_others` is for a process that knows it is alone with its database.
    """
    now = now_ms(conn)
    owner = generations.c.lease_owner
    free = sa.or_(owner.is_(None), owner != lease_owner) if all_others else generations.c.lease_until_ms <= now
    return _claim(
        conn,
        sa.and_(generations.c.status.in_(UNDER_WAY), free),
        lease_owner=lease_owner,
        now=now,
        limit=limit,
    )


def claim_answered(conn: sa.Connection, generation_id: str, *, lease_owner: str) -> Orphan | None:
    """Take over one generation that is paid for and waits for its pictures, unless somebody works on it."""
    now = now_ms(conn)
    g = generations.c
    free = sa.or_(g.lease_owner.is_(None), g.lease_until_ms <= now)
    chosen = sa.and_(g.id == generation_id, g.status == "answered", free)
    found = _claim(conn, chosen, lease_owner=lease_owner, now=now, limit=1)
    return found[0] if found else None


def claim_waiting_of(conn: sa.Connection, user_id: str, *, lease_owner: str) -> list[Orphan]:
    """Take over all of a user's that are paid for and wait for their pictures, unless somebody works on them."""
    now = now_ms(conn)
    g = generations.c
    free = sa.or_(g.lease_owner.is_(None), g.lease_until_ms <= now)
    chosen = sa.and_(g.user_id == user_id, g.status == "answered", free)
    return _claim(conn, chosen, lease_owner=lease_owner, now=now, limit=None)


def _claim(
    conn: sa.Connection, condition: sa.ColumnElement[bool], *, lease_owner: str, now: int, limit: int | None
) -> list[Orphan]:
    chosen = (
        sa.select(generations.c.id)
        .where(condition)
        .order_by(generations.c.created_ms)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claimed = (
        sa.update(generations)
        .where(generations.c.id.in_(chosen.scalar_subquery()))
        .values(
            lease_owner=lease_owner,
            lease_until_ms=now + LEASE_MS,
            # the connection of its caller went with the process
            abandoned_ms=sa.func.coalesce(generations.c.abandoned_ms, now),
        )
        .returning(generations)
    )
    return [_orphan(row, now) for row in conn.execute(claimed).mappings()]


def _orphan(row: sa.RowMapping, now: int) -> Orphan:
    answered_ms, usage = row["answered_ms"], row["usage"]
    worked_ms = (answered_ms or row["sent_ms"] or row["created_ms"]) - row["created_ms"]
    return Orphan(
        id=row["id"],
        status=row["status"],
        model=row["model"],
        provider=row["provider"],
        storable=row["flight"] is not None,
        fingerprint=row["fingerprint"],
        request=row["request"],
        usage=replace(usage, latency_us=usage.latency_us + 1000 * worked_ms),
        answer=None if row["answer"] is None else msgspec.convert(row["answer"], ProviderAnswer),
        answered_ago_ms=None if answered_ms is None else now - answered_ms,
        cost_micro_usd=row["cost_micro_usd"],
        expected=row["expected"],
    )
