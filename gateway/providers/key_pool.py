"""Which provider key serves the next purchase: the least busy for its weight, with a slot free.

Slots live in this process. A slot given back goes straight to the longest waiter that may use it, so nobody
who comes later overtakes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.errors import ProviderUnavailable
from gateway.providers.base import ProviderKey


@dataclass(frozen=True, slots=True)
class PooledKey:
    """`weight` (above 0): its share of the calls. `max_concurrency`: calls at once, in this process."""

    key: ProviderKey
    weight: float
    max_concurrency: int


@dataclass(slots=True)
class _Lane:
    pooled: PooledKey
    busy: int = 0
    served: int = 0

    @property
    def id(self) -> str:
        return self.pooled.key.id

    @property
    def load(self) -> tuple[float, float]:
        """Calls under way; calls so far break the tie, so that a quiet gateway spreads its calls too."""
        return self.busy / self.pooled.weight, self.served / self.pooled.weight

    def take(self) -> _Lane:
        self.busy += 1
        self.served += 1
        return self


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    excluded: frozenset[str]
    granted: asyncio.Future[_Lane]


class KeyPool:
    """The slots of one provider's keys."""

    def __init__(self, keys: Sequence[PooledKey]) -> None:
        self._lanes = [_Lane(pooled) for pooled in keys]
        self._waiters: deque[_Waiter] = deque()

    @asynccontextmanager
    async def slot(self, *, exclude: Collection[str] = (), timeout_s: float) -> AsyncIterator[ProviderKey]:
        """A key with a free slot, not among the ids in `exclude`; held until the block ends.

        Raises `ProviderUnavailable` when no slot frees within `timeout_s`, and at once when there is no key.
        """
        lane = await self._acquire(frozenset(exclude), timeout_s)
        try:
            yield lane.pooled.key
        finally:
            self._release(lane)

    async def _acquire(self, excluded: frozenset[str], timeout_s: float) -> _Lane:
        self._require_one_of(excluded)
        if lane := self._free_lane(excluded):
            return lane.take()
        waiter = _Waiter(excluded, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._granted(waiter)
        except TimeoutError as exc:
            raise ProviderUnavailable(
                "Every provider key is at its concurrency limit.", retry_after_s=1, charged="no"
            ) from exc

    async def _granted(self, waiter: _Waiter) -> _Lane:
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not waiter.granted.cancelled():  # the slot was handed over as we were leaving
                self._release(waiter.granted.result())
            raise

    def _release(self, lane: _Lane) -> None:
        lane.busy -= 1
        for waiter in self._waiters:
            # A waiter cancelled this instant still stands in the queue until it runs: it takes nothing.
            if lane.id not in waiter.excluded and not waiter.granted.done():
                self._waiters.remove(waiter)
                waiter.granted.set_result(lane.take())
                return

    def _free_lane(self, excluded: frozenset[str]) -> _Lane | None:
        free = [lane for lane in self._lanes if lane.busy < lane.pooled.max_concurrency and lane.id not in excluded]
        return min(free, key=lambda lane: lane.load, default=None)

    def require_any(self) -> None:
        """Raises ProviderUnavailable when there is no key at all."""
        if not self._lanes:
            raise ProviderUnavailable(
                "No provider key is configured. Set AIMLAPI_API_KEY, or providers[].api_keys in the configuration.",
                charged="no",
            )

    def _require_one_of(self, excluded: frozenset[str]) -> None:
        self.require_any()
        if all(lane.id in excluded for lane in self._lanes):
            raise ProviderUnavailable(
                "The provider refused every key there is. Renew them or their credits, or add one "
                "(AIMLAPI_API_KEY, or providers[].api_keys in the configuration).",
                retry_after_s=60,
                charged="no",
            )
