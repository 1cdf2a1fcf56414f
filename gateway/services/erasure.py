"""Erasing a user: one act for whoever asks, batches for the database.

What arrives late (a replica that had not heard yet, a journal that was away, an answer that was lost) is erased by
`follow_up`, for two days.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog

from gateway.domain.usage_row import failed_row
from gateway.errors import Conflict, ProviderError, to_record
from gateway.storage import audit, changes, declared, erasure, generations, orphans, usage_tags
from gateway.storage.audit import Act
from gateway.storage.database import Database, now_ms
from gateway.storage.erasure import Batch, UnderWay

_GENERATIONS_AT_ONCE = 500
_CALLS_AT_ONCE = 2000
_FOLLOWED_MS = 2 * 24 * 3600 * 1000
_GRACE_MS = 60_000
"""For a purchase's turn at a key, and for fetching its picture."""
_CLAIMANT = "erasure"
_log = structlog.get_logger(__name__)


class Erased(NamedTuple):
    """What went. `name`: what is shown in place of the user's. Repeated, it counts what was left."""

    user_id: str
    name: str
    keys: int
    generations: int
    entries: int
    calls: int


class Erasure:
    def __init__(
        self,
        database: Database,
        *,
        notify: Callable[[str, str], None],
        flush: Callable[[], Awaitable[None]],
        longest_purchase_s: float,
    ) -> None:
        """`notify` tells memories what to forget; `flush` brings rows of this process's journal into SQL.

        `longest_purchase_s`: the longest that a purchase may take at a provider.
        """
        self._database = database
        self._longest_ms = int(longest_purchase_s * 1000) + _GRACE_MS
        self._notify = notify
        self._flush = flush

    async def erase(self, user_id: str, *, actor: str) -> Erased:
        """Also a deleted one, and again. A picture that is paid for and can't be fetched is given up.

        Raises NotFound, and Conflict while a purchase of it is under way or a file declares it; nothing was done then.
        """
        await self._flush()

        def begin(conn: sa.Connection) -> int:
            is_deleted = erasure.lock(conn, user_id)
            declared.check_free(conn, "user", user_id)
            _give_up_pictures(conn, user_id)
            under_way = erasure.last_under_way(conn, user_id)
            if under_way is not None:
                raise self._wait_for(under_way, now_ms(conn), is_deleted=is_deleted)
            keys = erasure.erase_account(conn, user_id)
            erasure.redact_statements(conn, user_id)
            erasure.redact_events(conn, user_id)
            audit.record(conn, Act(actor, "erase", "user", user_id))
            changes.record(conn, "user", user_id)
            return keys

        keys = await self._database.write(begin)
        self._notify("user", user_id)
        generations, entries, calls = await self._erase_traces(user_id)
        return Erased(user_id, erasure.pseudonym(user_id), keys, generations, entries, calls)

    def _wait_for(self, under_way: UnderWay, now: int, *, is_deleted: bool) -> Conflict:
        left_ms = max(under_way.since_ms + self._longest_ms - now, _GRACE_MS)
        advice = "" if is_deleted else " Delete the user meanwhile, so that no other begins."
        return Conflict(
            f"The purchase {under_way.generation_id} of this user is under way, for {left_ms // 1000} s more at most: "
            f"its picture would come after the erasure.{advice}",
            retry_after_s=30,
        )

    async def follow_up(self) -> None:
        """What came late of users who were erased lately, and what an erasure that broke off has left."""
        lately = await self._database.read(lambda conn: erasure.erased_since(conn, _FOLLOWED_MS))
        for user_id in lately:
            if not await self._database.read(partial(erasure.has_traces, user_id=user_id)):
                continue
            generations, _, calls = await self._erase_traces(user_id)
            if generations or calls:
                _log.info("erased_late", user_id=user_id, generations=generations, calls=calls)

    async def _erase_traces(self, user_id: str) -> tuple[int, int, int]:
        """How many generations, cache entries and calls were erased."""
        await self._database.write(lambda conn: usage_tags.forget_user(conn, user_id))  # while rows tell that it is due
        generations, entries = await self._each(user_id, erasure.erase_generations, _GENERATIONS_AT_ONCE)
        calls, _ = await self._each(user_id, erasure.erase_calls, _CALLS_AT_ONCE)
        return generations, entries, calls

    async def _each(self, user_id: str, work: Callable[..., Batch], limit: int) -> tuple[int, int]:
        """Batch after batch: a long transaction would hold up the writers of SQLite."""
        done, entries = 0, 0
        since_ms: int | None = 0
        while since_ms is not None:
            batch = await self._batch(user_id, work, since_ms=since_ms, limit=limit)
            for fingerprint in batch.fingerprints:
                self._notify("cache", fingerprint)
            done, entries, since_ms = done + batch.done, entries + len(batch.fingerprints), batch.since_ms
        return done, entries

    async def _batch(self, user_id: str, work: Callable[..., Batch], **bounds: Any) -> Batch:
        return await self._database.write(lambda conn: work(conn, user_id, **bounds))


def _give_up_pictures(conn: sa.Connection, user_id: str) -> None:
    """Purchases that wait for pictures which could not be fetched yet end as `failed`, with their cost."""
    said = ProviderError("Its user was erased before its picture could be fetched.", charged="yes")
    for orphan in orphans.claim_waiting_of(conn, user_id, lease_owner=_CLAIMANT):
        row = failed_row(orphan.usage, said, cost_micro_usd=orphan.cost_micro_usd)
        generations.fail(conn, orphan.id, error=to_record(said), usage=row)
