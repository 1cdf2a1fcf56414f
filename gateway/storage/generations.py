"""Generations: one purchase each, from intent to outcome, settled exactly once.

    pending -> sent -> answered -> succeeded | failed | unknown

Every step is a compare-and-set on the state (and, before money moves, on the lease), so two processes can't both
take it. Each function is one transaction's work, or a part of one.

SQL gone: no step can be taken. Before `sent` that means no purchase; after it the process holds the outcome in
memory and tries again, and a restart finds the generation `sent` and holds its money as `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.domain.answer import ProviderAnswer, StoredAnswer
from gateway.domain.limits import Limit, Metric, ScopeKind
from gateway.domain.pricing import PriceRule
from gateway.domain.usage_row import UsageRow
from gateway.storage import changes, counters, idempotency, image_index, repeats, response_cache, settlement, usage_log
from gateway.storage.database import insert_for, now_ms
from gateway.storage.idempotency import Claim
from gateway.storage.prepared import Prepared, Row
from gateway.storage.tables import UNDER_WAY, generations

LEASE_MS = 60_000

_g = generations.c
_UPDATE = sa.update(generations).where(_g.id == sa.bindparam("the_id"))
_RECORD = Prepared(_UPDATE)
_RECORD_SENT = Prepared(_UPDATE.where(_g.status == "sent").returning(_g.mode))
_MARK_SENT = Prepared(
    _UPDATE.where(
        _g.status.in_(("pending", "sent")),
        _g.lease_owner == sa.bindparam("owner"),
        _g.lease_until_ms > sa.bindparam("now"),
    ).values(status="sent", sent_ms=sa.bindparam("now"), provider_key_id=sa.bindparam("key"))
)
_SUCCEED = Prepared(
    _UPDATE.where(_g.status == "answered")
    .values(
        status="succeeded",
        answer=None,
        published=sa.bindparam("said"),
        finished_ms=sa.bindparam("now"),
        error=None,
    )
    .returning(*(_g[name] for name in ("fingerprint", "mode", "model", "user_id", "settled_by")))
)


@dataclass(frozen=True, slots=True)
class Intent:
    """A purchase about to be made. `flight` is the fingerprint when equal calls may join it and the cache keeps it.

    `request` is what may be kept of the parameters; `expected` is what the pictures must be. `usage` is the buyer's
    usage row as far as it is known. `repeat_key` is the same for equal calls of one caller; `retried`: the caller says
    that it is asking again. `claim`: the Idempotency-Key it came with, which then alone says what is a repeat.
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
    usage: UsageRow
    repeat_key: str
    retried: bool = False
    claim: Claim | None = None

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
    def columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("cost_micro_usd", "images", "megapixels", "overrun")}

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
    """The claim, the intent, the second look at the cache, and the reservation of every limit: one transaction.

    Raises AlreadyClaimed, AlreadyYours, AlreadyLost, AlreadyUnderWay, AlreadyStored (when `accepts(entry, now_ms)`
    takes the entry) or LimitExceeded; each rolls everything back.
    """
    if intent.claim is not None:
        now = now_ms(conn)
        idempotency.make(conn, intent.claim, intent.id, now_ms=now)
    else:
        flight = intent.flight if intent.retried else None
        now = repeats.look(conn, intent.repeat_key, flight=flight, retried=intent.retried)
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
        "repeat_key": intent.repeat_key,
        "lease_owner": lease_owner,
        "lease_until_ms": now + LEASE_MS,
        "created_ms": now,
    }
    return _INSERT.run(conn, row) == 1


_INSERT = Prepared(lambda dialect: insert_for(dialect, generations).on_conflict_do_nothing())


def mark_sent(conn: sa.Connection, generation_id: str, *, lease_owner: str, provider_key_id: str) -> bool:
    """Committed before the first byte leaves. False: the lease ran out and recovery released it; do not send."""
    now = now_ms(conn)
    sent = {"the_id": generation_id, "owner": lease_owner, "now": now, "key": provider_key_id}
    return _MARK_SENT.run(conn, sent) == 1


def record_answer(
    conn: sa.Connection, generation_id: str, answer: ProviderAnswer, charge: Charge, *, lease_owner: str
) -> bool:
    """The provider's answer, and the money settled, before a picture is fetched, which is `lease_owner`'s to do.

    A late answer is taken too, so that its picture is kept: of `unknown` it settles the money; where that was settled
    by other means, what it says differently becomes an adjustment. False: there is nothing more to learn from it.
    """
    now = now_ms(conn)
    said = {
        "the_id": generation_id,
        "status": "answered",
        "answer": msgspec.to_builtins(answer),
        "inference_id": answer.inference_id,
        "answered_ms": now,
        "lease_owner": lease_owner,
        "lease_until_ms": now + LEASE_MS,
    }
    in_time = _RECORD_SENT.row(conn, said | charge.columns)
    if in_time is not None:
        counters.settle(conn, generation_id, charge.actual, mode=in_time["mode"])
        return True
    return _record_late(conn, said, charge, now=now)


def _record_late(conn: sa.Connection, said: dict[str, Any], charge: Charge, *, now: int) -> bool:
    """An equal generation may be under way: the late one no longer takes part in flights."""
    generation_id = said["the_id"]
    found = settlement.lock(conn, generation_id)
    if found is None or not (found["status"] == "unknown" or _settled_otherwise(found)):
        return False
    values = said | {"flight": None, "settled_by": found["settled_by"] or "answer"}
    if found["status"] == "failed":
        settlement.correct(conn, found, charge.cost_micro_usd, reason="the answer came after all", actor="gateway")
    else:
        values |= charge.columns
        counters.settle(conn, generation_id, charge.actual, mode=found["mode"])
        settlement.book(conn, found, charge.cost_micro_usd, now_ms=now)
    _RECORD.run(conn, values)
    return True


def _settled_otherwise(found: Row) -> bool:
    return found["status"] == "failed" and found["settled_by"] is not None and found["published"] is None


class AlreadyOver(Exception):
    """The generation has ended, or is not answered yet: there is nothing to publish."""


def publish(
    conn: sa.Connection,
    generation_id: str,
    answer: StoredAnswer,
    *,
    storable: bool,
    ttl_ms: int | None,
    usage: UsageRow,
) -> response_cache.Entry | None:
    """The pictures, the cache entry (returned, if `storable`) and the buyer's usage row: one transaction.

    Raises AlreadyOver.
    """
    now = now_ms(conn)
    succeeded = {"the_id": generation_id, "said": msgspec.json.encode(answer), "now": now}
    row = _SUCCEED.row(conn, succeeded)
    if row is None:
        raise AlreadyOver(generation_id)
    image_index.add(conn, generation_id, answer.images, now_ms=now)
    if row["settled_by"] is None:  # else its buyer was told long ago that the outcome is unknown, and has its row
        usage_log.add(conn, [usage])
    if storable:
        expires = None if ttl_ms is None else now + ttl_ms
        entry = response_cache.Entry(row["fingerprint"], answer, created_ms=now, expires_ms=expires)
        if response_cache.find(conn, entry.fingerprint) is not None:  # memories hold what is replaced now
            changes.record(conn, "cache", entry.fingerprint)
        response_cache.put(conn, entry, mode=row["mode"], model=row["model"], user_id=row["user_id"])
        return entry
    return None


def fail(
    conn: sa.Connection,
    generation_id: str,
    *,
    error: dict[str, Any],
    usage: UsageRow,
    frees_claims: bool = False,
) -> bool:
    """End a generation that brings no picture. From `pending` or `sent`: not bought, all is released, cost 0.

    From `answered`: it was charged, the cost stays. `frees_claims`: an Idempotency-Key that came with it may buy anew.
    False: it had ended already.
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
        .returning(generations.c.mode, generations.c.settled_by)
    )
    row = conn.execute(changed).one_or_none()
    if row is None:
        return False
    counters.settle(conn, generation_id, {}, mode=row.mode)  # nothing is held any more once answered: then it is empty
    if row.settled_by is None:
        usage_log.add(conn, [usage])
    if frees_claims:
        idempotency.free(conn, generation_id)
    return True


def lose(conn: sa.Connection, generation_id: str, *, error: dict[str, Any], usage: UsageRow) -> bool:
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


@dataclass(frozen=True, slots=True)
class State:
    """Where a generation stands. `answer` once it succeeded; `error` as `gateway.errors.to_record` writes it.

    `is_free`: nobody works on it. `key_id`: who pays.
    """

    key_id: str
    status: str
    error: dict[str, Any] | None
    was_sent: bool
    answer: StoredAnswer | None
    is_free: bool

    @property
    def under_way(self) -> bool:
        return self.status in UNDER_WAY


def state_of(conn: sa.Connection, generation_id: str) -> State | None:
    c = generations.c
    free = sa.or_(c.lease_owner.is_(None), c.lease_until_ms <= now_ms(conn)).label("free")
    found = sa.select(c.key_id, c.status, c.error, c.sent_ms, c.published, free).where(c.id == generation_id)
    row = conn.execute(found).one_or_none()
    if row is None:
        return None
    answer = None if row.published is None else msgspec.json.decode(row.published, type=StoredAnswer)
    return State(row.key_id, row.status, row.error, row.sent_ms is not None, answer, bool(row.free))
