"""What the cache holds, purging, and retention by age."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.storage import audit, changes, idempotency, image_index, response_cache, usage_log
from gateway.storage.database import Database, now_ms
from gateway.storage.image_index import Removal
from gateway.storage.images import ImageStore
from gateway.storage.response_cache import MemoryAnswers, PurgeFilter
from gateway.storage.tables import generations

_BATCH = 500
_DELETED_AT_ONCE = 50
_DAY_MS = 86_400_000
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
        """Remove what is too old: expired entries, pictures, usage rows, kept prompts, idempotency keys, and bytes dead
        for an hour.
        """
        await self._remove(
            lambda conn, now: response_cache.purge(conn, PurgeFilter(expired_at_ms=now), now_ms=now, limit=_BATCH)
        )
        if images_days is not None:
            await self._remove(
                lambda conn, now: image_index.remove_before(conn, now - images_days * _DAY_MS, now_ms=now, limit=_BATCH)
            )
        if requests_days is not None:
            await self._database.write(lambda conn: _forget_requests(conn, now_ms(conn) - requests_days * _DAY_MS))
        await self._database.write(lambda conn: idempotency.prune(conn, now_ms=now_ms(conn)))
        while await self._sweep() == _DELETED_AT_ONCE:
            pass

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
            for fingerprint in gone.fingerprints:
                changes.record(conn, "cache", fingerprint)
            return gone

        total = 0
        while (gone := await self._database.write(batch)).generations:
            for fingerprint in gone.fingerprints:
                self._notify("cache", fingerprint)
            total += len(gone.fingerprints)
        return total


def _forget_requests(conn: sa.Connection, before_ms: int) -> None:
    usage_log.delete_before(conn, before_ms)
    old = (generations.c.created_ms < before_ms, generations.c.request.is_not(None))
    conn.execute(sa.update(generations).where(*old).values(request=None))
