"""Generations: one purchase each, from intent to outcome, settled exactly once.

    pending -> sent -> answered -> succeeded | failed | unknown

Every step is a compare-and-set on the state (and, before money moves, on the lease), so two processes can't both
take it. Each function is one transaction's work, or a part of one.

SQL gone: no step can be taken. Before `sent` that means no purchase; after it the process holds the outcome in
memory and tries again, and a restart finds the generation `sent` and holds its money as `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.domain.answer import ProviderAnswer, StoredAnswer
from gateway.domain.limits import Limit, Metric, ScopeKind
from gateway.domain.pricing import PriceRule
from gateway.storage import changes, counters, image_index, response_cache, usage_log
from gateway.storage.database import insert, now_ms
from gateway.storage.tables import UNDER_WAY, generations

LEASE_MS = 60_000
DISOWNED_MS = 15_000
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Intent:
    """A purchase about to be made. `flight` is the fingerprint when equal calls may join it and the cache keeps it.

    `request` is what may be kept of the parameters; `expected` is what the pictures must be. `usage` is the buyer's
    usage row as far as it is known.
    """

    id: str
    mode: str
    fingerprint: str
    flight: str | None
    model: str
    model_version: str
    provider: str
    key_id: str
    user_id: str
    team_id: str | None
    request: dict[str, Any] | None
    expected: dict[str, Any]
    images: int
    megapixels: int
    estimate_micro_usd: int
    price_rule: PriceRule
    usage: dict[str, Any]

    @property
    def scopes(self) -> list[tuple[ScopeKind, str]]:
        team = [] if self.team_id is None else [(ScopeKind.TEAM, self.team_id)]
        return [*team, (ScopeKind.USER, self.user_id), (ScopeKind.KEY, self.key_id)]

    @property
    def asked(self) -> dict[Metric, int]:
        return {
            Metric.CONCURRENCY: 1,
            Metric.COST_USD: self.estimate_micro_usd,
            Metric.IMAGES: self.images,
            Metric.MEGAPIXELS: self.megapixels,
        }


@dataclass(frozen=True, slots=True)
class Charge:
    """What an answered purchase came to."""

    cost_micro_usd: int
    images: int
    megapixels: int
    overrun: bool

    @property
    def actual(self) -> dict[Metric, int]:
        return {
            Metric.COST_USD: self.cost_micro_usd,
            Metric.IMAGES: self.images,
            Metric.MEGAPIXELS: self.megapixels,
        }


class AlreadyUnderWay(Exception):
    """An equal generation is under way: join it. No limit was touched."""

    def __init__(self, generation_id: str) -> None:
        super().__init__(generation_id)
        self.generation_id = generation_id


class AlreadyStored(Exception):
    """An equal generation was stored in the meantime: the entry answers."""

    def __init__(self, entry: response_cache.Entry) -> None:
        super().__init__(entry.fingerprint)
        self.entry = entry


def reserve(
    conn: sa.Connection,
    intent: Intent,
    limits: Sequence[Limit],
    *,
    lease_owner: str,
    accepts: Callable[[response_cache.Entry, int], bool],
) -> None:
    """The intent, the second look at the cache, and the reservation of every limit: one transaction.

    Raises AlreadyUnderWay, AlreadyStored (when `accepts(entry, now_ms)` takes the entry) or LimitExceeded; each
    rolls everything back.
    """
    now = now_ms(conn)
    while not _insert_intent(conn, intent, lease_owner=lease_owner, now=now):
        found = sa.select(generations.c.id).where(
            generations.c.flight == intent.flight, generations.c.status.in_(UNDER_WAY)
        )
        other = conn.execute(found).scalar_one_or_none()
        if other is not None:  # else it ended between the two statements, and the way is free
            raise AlreadyUnderWay(other)
    if intent.flight is not None:
        entry = response_cache.find(conn, intent.flight)
        if entry is not None and accepts(entry, now):
            raise AlreadyStored(entry)
    counters.hold(conn, intent.id, limits, intent.asked, scopes=intent.scopes, mode=intent.mode, now_ms=now)


def _insert_intent(conn: sa.Connection, intent: Intent, *, lease_owner: str, now: int) -> bool:
    row = {
        "id": intent.id,
        "status": "pending",
        "mode": intent.mode,
        "fingerprint": intent.fingerprint,
        "flight": intent.flight,
        "model": intent.model,
        "model_version": intent.model_version,
        "provider": intent.provider,
        "key_id": intent.key_id,
        "user_id": intent.user_id,
        "team_id": intent.team_id,
        "request": intent.request,
        "expected": intent.expected,
        "images": intent.images,
        "megapixels": intent.megapixels,
        "reserved_micro_usd": intent.estimate_micro_usd,
        "price_rule": intent.price_rule,
        "usage": intent.usage,
        "lease_owner": lease_owner,
        "lease_until_ms": now + LEASE_MS,
        "created_ms": now,
    }
    return bool(conn.execute(insert(conn, generations).values(row).on_conflict_do_nothing()).rowcount == 1)


def mark_sent(conn: sa.Connection, generation_id: str, *, lease_owner: str, provider_key_id: str) -> bool:
    """Committed before the first byte leaves. False: the lease ran out and recovery released it; do not send."""
    now = now_ms(conn)
    changed = (
        sa.update(generations)
        .where(generations.c.id == generation_id, generations.c.status.in_(("pending", "sent")))
        .where(generations.c.lease_owner == lease_owner, generations.c.lease_until_ms > now)
        .values(status="sent", sent_ms=now, provider_key_id=provider_key_id)
    )
    return conn.execute(changed).rowcount == 1


def record_answer(conn: sa.Connection, generation_id: str, answer: ProviderAnswer, charge: Charge) -> bool:
    """The provider's answer, and the money settled, before a picture is fetched. Takes a late answer to `unknown` too.

    False: it was settled already.
    """
    changed = (
        sa.update(generations)
        .where(generations.c.id == generation_id, generations.c.status.in_(("sent", "unknown")))
        .values(
            status="answered",
            answer=msgspec.to_builtins(answer),
            inference_id=answer.inference_id,
            cost_micro_usd=charge.cost_micro_usd,
            images=charge.images,
            megapixels=charge.megapixels,
            overrun=charge.overrun,
            # after `unknown` an equal generation may be under way: the late one no longer takes part in flights
            flight=sa.case((generations.c.status == "unknown", None), else_=generations.c.flight),
            answered_ms=now_ms(conn),
        )
        .returning(generations.c.mode)
    )
    mode = conn.execute(changed).scalar_one_or_none()
    if mode is None:
        return False
    counters.settle(conn, generation_id, charge.actual, mode=mode)
    return True


class AlreadyOver(Exception):
    """The generation has ended, or is not answered yet: there is nothing to publish."""


def publish(
    conn: sa.Connection,
    generation_id: str,
    answer: StoredAnswer,
    *,
    storable: bool,
    ttl_ms: int | None,
    usage: Mapping[str, Any],
) -> response_cache.Entry | None:
    """The pictures, the cache entry (returned, if `storable`) and the buyer's usage row: one transaction.

    Raises AlreadyOver.
    """
    now = now_ms(conn)
    changed = (
        sa.update(generations)
        .where(generations.c.id == generation_id, generations.c.status == "answered")
        .values(status="succeeded", answer=None, finished_ms=now, error=None)
        .returning(*(generations.c[name] for name in ("fingerprint", "mode", "model", "user_id")))
    )
    row = conn.execute(changed).mappings().one_or_none()
    if row is None:
        raise AlreadyOver(generation_id)
    image_index.add(conn, generation_id, answer.images, now_ms=now)
    usage_log.add(conn, [usage])
    if storable:
        expires = None if ttl_ms is None else now + ttl_ms
        entry = response_cache.Entry(row["fingerprint"], answer, created_ms=now, expires_ms=expires)
        if response_cache.find(conn, entry.fingerprint) is not None:  # memories hold what is replaced now
            changes.record(conn, "cache", entry.fingerprint)
        response_cache.put(conn, entry, mode=row["mode"], model=row["model"], user_id=row["user_id"])
        return entry
    return None


def fail(conn: sa.Connection, generation_id: str, *, error: dict[str, Any], usage: Mapping[str, Any]) -> bool:
    """End a generation that brings no picture. From `pending` or `sent`: not bought, all is released, cost 0.

    From `answered`: it was charged, the cost stays. False: it had ended already.
    """
    now = now_ms(conn)
    answered = generations.c.status == "answered"
    changed = (
        sa.update(generations)
        .where(generations.c.id == generation_id, generations.c.status.in_(UNDER_WAY))
        .values(
            status="failed",
            cost_micro_usd=sa.case((answered, generations.c.cost_micro_usd), else_=0),
            images=sa.case((answered, generations.c.images), else_=0),
            megapixels=sa.case((answered, generations.c.megapixels), else_=0),
            answer=None,
            error=error,
            finished_ms=now,
        )
        .returning(generations.c.mode)
    )
    mode = conn.execute(changed).scalar_one_or_none()
    if mode is None:
        return False
    counters.settle(conn, generation_id, {}, mode=mode)  # nothing is held any more once answered: then it is empty
    usage_log.add(conn, [usage])
    return True


def lose(conn: sa.Connection, generation_id: str, *, error: dict[str, Any], usage: Mapping[str, Any]) -> bool:
    """`sent` -> `unknown`: it may have been charged. The money stays held; the caller's place does not."""
    changed = (
        sa.update(generations)
        .where(generations.c.id == generation_id, generations.c.status == "sent")
        .values(status="unknown", error=error, finished_ms=now_ms(conn))
        .returning(generations.c.mode)
    )
    mode = conn.execute(changed).scalar_one_or_none()
    if mode is None:
        return False
    counters.release_concurrency(conn, generation_id, mode=mode)
    usage_log.add(conn, [usage])
    return True


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


def disown(conn: sa.Connection, generation_id: str) -> None:
    """Leave a generation that is not over to recovery, which looks at it again after a while."""
    conn.execute(
        sa.update(generations)
        .where(generations.c.id == generation_id, generations.c.status.in_(UNDER_WAY))
        .values(lease_owner=None, lease_until_ms=now_ms(conn) + DISOWNED_MS)
    )


@dataclass(frozen=True, slots=True)
class Orphan:
    """A generation that nobody works on. `request` is what was kept of its parameters.

    `answered_ago_ms` is None before the provider's answer.
    """

    id: str
    status: str
    model: str
    provider: str
    storable: bool
    fingerprint: str
    request: dict[str, Any] | None
    usage: dict[str, Any]
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


def _claim(
    conn: sa.Connection, condition: sa.ColumnElement[bool], *, lease_owner: str, now: int, limit: int
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
        .values(lease_owner=lease_owner, lease_until_ms=now + LEASE_MS)
        .returning(generations)
    )
    return [_orphan(row, now) for row in conn.execute(claimed).mappings()]


def _orphan(row: sa.RowMapping, now: int) -> Orphan:
    answered_ms = row["answered_ms"]
    return Orphan(
        id=row["id"],
        status=row["status"],
        model=row["model"],
        provider=row["provider"],
        storable=row["flight"] is not None,
        fingerprint=row["fingerprint"],
        request=row["request"],
        usage=row["usage"],
        answer=None if row["answer"] is None else msgspec.convert(row["answer"], ProviderAnswer),
        answered_ago_ms=None if answered_ms is None else now - answered_ms,
        cost_micro_usd=row["cost_micro_usd"],
        expected=row["expected"],
    )


def status_of(conn: sa.Connection, generation_id: str) -> tuple[str, dict[str, Any] | None, bool]:
    """Status and error of a generation, and whether its order was ever sent."""
    c = generations.c
    found = sa.select(c.status, c.error, c.sent_ms).where(c.id == generation_id)
    status, error, sent_ms = conn.execute(found).one()
    return status, error, sent_ms is not None
