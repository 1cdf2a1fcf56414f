"""Pictures that are paid for, while the image store is gone: they wait in a local folder and are served from there.

Store gone: `check` says so, and nothing new is bought; what was under way is spooled, published and delivered. Store
back: `unload` moves it there, soon after the first picture that it takes again. Spool gone too: `put` raises
StorageFailed, and the picture is fetched again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog

from gateway.errors import StorageFailed
from gateway.storage.images import ImageStore, LocalImageStore, Method
from gateway.storage.pauses import Sleep, pause
from gateway.threads import to_thread

_PERIOD_S = 15.0
_log = structlog.get_logger(__name__)


class SpooledImageStore:
    """An image store with a spool behind it."""

    def __init__(self, store: ImageStore, spool: Path, *, sleep: Sleep = asyncio.sleep) -> None:
        self.place = store.place
        self._store = store
        self._spool = LocalImageStore(spool)
        self._sleep = sleep
        self._waiting = False
        self._back = asyncio.Event()

    async def check(self) -> None:
        await self._store.check()

    async def put(self, sha256: str, data: bytes) -> bool:
        try:
            is_new = await self._store.put(sha256, data)
        except StorageFailed as exc:
            is_new = await self._spool.put(sha256, data)
            self._waiting = True
            _log.error("image_spooled", sha256=sha256, reason=exc.message)
        else:
            if self._waiting:
                self._back.set()
        return is_new

    async def get(self, sha256: str) -> bytes | None:
        return await self._spool.get(sha256) or await self._store.get(sha256)

    async def contains(self, sha256: str) -> bool:
        return await self._spool.contains(sha256) or await self._store.contains(sha256)

    async def open(self, sha256: str, start: int, stop: int) -> AsyncIterator[bytes] | None:
        return await self._spool.open(sha256, start, stop) or await self._store.open(sha256, start, stop)

    async def address(self, sha256: str, method: Method) -> str | None:
        return None if await self._spool.contains(sha256) else await self._store.address(sha256, method)

    async def delete(self, hashes: Sequence[str]) -> None:
        await self._spool.delete(hashes)
        await self._store.delete(hashes)

    async def tidy(self) -> None:
        await self._spool.tidy()
        await self._store.tidy()

    async def run(self) -> None:
        """For ever: unload whenever the store takes it."""
        while True:
            self._back.clear()
            try:
                await self.unload()
            except StorageFailed as exc:
                _log.warning("image_store_unavailable", reason=exc.message)
            except Exception:  # noqa: BLE001  (whatever it was, the next round is owed its turn)
                _log.exception("spool_not_unloaded")
            await pause(_PERIOD_S, unless=self._back, sleep=self._sleep)

    async def unload(self) -> int:
        """Move what is spooled into the store. Returns how many. Raises StorageFailed while the store is gone."""
        names = await to_thread(self._spool.names)
        self._waiting = bool(names)
        for sha256 in names:
            data = await self._spool.get(sha256)
            if data is not None:
                await self._store.put(sha256, data)
                await self._spool.delete([sha256])
        self._waiting = False
        if names:
            _log.info("spool_unloaded", images=len(names))
        return len(names)
