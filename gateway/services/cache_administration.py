"""What the cache holds, purging, and retention by age."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog

from gateway.errors import LedgerUnavailable, reason_of
from gateway.storage import (
    audit,
    changes,
    idempotency,
    image_index,
    response_cache,
    usage_log,
    usage_partitions,
    webhooks,
)
from gateway.storage.database import Database, now_ms
from gateway.storage.image_index import Removal
from gateway.storage.images import ImageStore
from gateway.storage.response_cache import MemoryAnswers, PurgeFilter
from gateway.storage.tables import generations

_BATCH = 500
_ROWS_AT_ONCE = 2000
_DELETED_AT_ONCE = 50
_DAY_MS = 86_400_000
_log = structlog.get_logger(__name__)
Notify = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class CacheContents:
    """Entries in SQL, by mode and model, and what this process's memory holds of them."""

    entries: int
    by_model: Sequence[Mapping[str, Any]]
    memory_entries: int
    memory_bytes: int


class CacheAdministration:
    """`notify(kind, object_id)` tells this process's memory at once; others follow by the `changes` table."""

    def __init__(self, database: Database, memory: MemoryAnswers, images: ImageStore, notify: Notify) -> None:
        self._database = database
        self._memory = memory
        self._images = images
        self._notify = notify

    async def stats(self) -> CacheContents:
        by_model = await self._database.read(response_cache.stats)
        entries = sum(row["entries"] for row in by_model)
        return CacheContents(entries, by_model, len(self._memory), self._memory.size_bytes)

    async def purge(self, chosen: PurgeFilter, *, actor: str, detail: dict[str, object]) -> int:
        """Delete the entries that match, with their pictures. Returns how many."""
        total = await self._remove(lambda conn, now: response_cache.purge(conn, chosen, now_ms=now, limit=_BATCH))
        act = audit.Act(actor, "purge", "cache", "cache", {**detail, "entries": total})
        await self._database.write(lambda conn: audit.record(conn, act))
        return total

    async def apply_retention(self, *, images_days: int | None, requests_days: int | None) -> None:
        """Remove what is too old: expired entries, pictures, usage rows, kept prompts, deliveries, idempotency keys,
        bytes dead for an hour and half-written ones. Before that, make the months of the usage log that are to come.
        """
        await self._make_months()
        await self._remove(
            lambda conn, now: response_cache.purge(conn, PurgeFilter(expired_at_ms=now), now_ms=now, limit=_BATCH)
        )
        if images_days is not None:
            await self._remove(
                lambda conn, now: image_index.remove_before(conn, now - images_days * _DAY_MS, now_ms=now, limit=_BATCH)
            )
        if requests_days is not None:
            await self._forget_requests(await self._database.read(now_ms) - requests_days * _DAY_MS)
        await self._database.write(lambda conn: idempotency.prune(conn, now_ms=now_ms(conn)))
        while await self._sweep() == _DELETED_AT_ONCE:
            pass
        await self._images.tidy()

    async def _make_months(self) -> None:
        """Ahead of time, so that a month that can't be made now has weeks of rounds to come."""
        await self._change_months("usage_log_months_made", usage_partitions.make_ahead)

    async def _change_months(self, said: str, work: Callable[[sa.Connection], list[str]]) -> None:
        """What can't be done (no lock in time; the gateway's role does not own the log) is left for the next round.

        Nothing else waits for it: rows without a month are kept, and old ones are deleted one by one.
        """
        try:
            months = await self._database.write(work)
        except (LedgerUnavailable, sa.exc.DBAPIError) as exc:
            _log.error("usage_log_months_wait", reason=reason_of(exc))
        else:
            if months:
                _log.info(said, months=months)

    async def _forget_requests(self, before_ms: int) -> None:
        """Whole months at once, the rest in small transactions: a long one holds up the writers of SQLite."""
        await self._change_months(
            "usage_log_months_dropped", partial(usage_partitions.drop_before, before_ms=before_ms)
        )
        for table in (usage_log, webhooks):
            while await self._database.write(partial(table.delete_before, before_ms=before_ms, limit=_ROWS_AT_ONCE)):
                pass
        since_ms: int | None = 0
        while since_ms is not None:
            since_ms = await self._database.write(partial(_forget_prompts, since_ms=since_ms, before_ms=before_ms))

    async def _sweep(self) -> int:
        """Delete bytes that have been dead for an hour, between two transactions. Raises StorageFailed."""
        claim = await self._database.write(
            lambda conn: image_index.claim_dead(conn, now_ms=now_ms(conn), limit=_DELETED_AT_ONCE)
        )
        if claim.hashes:
            await self._images.delete(claim.hashes)
            await self._database.write(lambda conn: image_index.forget(conn, claim))
        return len(claim.hashes)

    async def _remove(self, work: Callable[[sa.Connection, int], Removal]) -> int:
        """Run a removal in batches until nothing is left, telling all memories of each entry gone.

        Returns how many entries went.
        """

        def batch(conn: sa.Connection) -> Removal:
            gone = work(conn, now_ms(conn))
            if gone.fingerprints:
                changes.record(conn, "cache", *gone.fingerprints)
            return gone

        total = 0
        while (gone := await self._database.write(batch)).generations:
            for fingerprint in gone.fingerprints:
                self._notify("cache", fingerprint)
            total += len(gone.fingerprints)
        return total


def _forget_prompts(conn: sa.Connection, since_ms: int, before_ms: int) -> int | None:
    """Those of the next purchases of that time. Returns since when there may be more; None: there are no more."""
    g = generations.c
    old = (g.created_ms >= since_ms, g.created_ms < before_ms, g.request.is_not(None))
    found = conn.execute(sa.select(g.id, g.created_ms).where(*old).order_by(g.created_ms).limit(_BATCH)).all()
    forgotten = sa.update(generations).where(g.id.in_([row.id for row in found]), g.request.is_not(None))
    conn.execute(forgotten.values(request=None))
    return found[-1].created_ms if len(found) == _BATCH else None
