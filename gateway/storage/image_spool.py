"""Pictures that are paid for, while the image store is gone: they wait in a local folder and are served from there.

Store gone: `check` says so, and nothing new is bought; what was under way is spooled, published and delivered. Store
back: `unload` moves it there. Spool gone too: `put` raises StorageFailed, and the picture is fetched again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from gateway.errors import StorageFailed
from gateway.storage.images import ImageStore, LocalImageStore

_PERIOD_S = 15.0
_log = structlog.get_logger(__name__)


class SpooledImageStore:
    """An image store with a spool behind it."""

    def __init__(
        self, store: ImageStore, spool: Path, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._store = store
        self._spool = LocalImageStore(spool)
        self._sleep = sleep

    async def check(self) -> None:
        await self._store.check()

    async def put(self, sha256: str, data: bytes) -> None:
        try:
            await self._store.put(sha256, data)
        except StorageFailed as exc:
            await self._spool.put(sha256, data)
            _log.error("image_spooled", sha256=sha256, reason=exc.message)

    async def get(self, sha256: str) -> bytes | None:
        return await self._spool.get(sha256) or await self._store.get(sha256)

    async def contains(self, sha256: str) -> bool:
        return await self._spool.contains(sha256) or await self._store.contains(sha256)

    def delete(self, sha256: str) -> None:
        self._store.delete(sha256)
        self._spool.delete(sha256)

    def path(self, sha256: str) -> Path | None:
        spooled = self._spool.path(sha256)
        return spooled if spooled is not None and spooled.exists() else self._store.path(sha256)

    async def run(self) -> None:
        """For ever: unload whenever the store takes it."""
        while True:
            try:
                await self.unload()
            except StorageFailed as exc:
                _log.warning("image_store_unavailable", reason=exc.message)
            except Exception:  # noqa: BLE001  (whatever it was, the next round is owed its turn)
                _log.exception("spool_not_unloaded")
            await self._sleep(_PERIOD_S)

    async def unload(self) -> int:
        """Move what is spooled into the store. Returns how many. Raises StorageFailed while the store is gone."""
        moved = 0
        for sha256 in await asyncio.to_thread(self._spool.names):
            data = await self._spool.get(sha256)
            if data is not None:
                await self._store.put(sha256, data)
                self._spool.delete(sha256)
                moved += 1
        if moved:
            _log.info("spool_unloaded", images=moved)
        return moved
