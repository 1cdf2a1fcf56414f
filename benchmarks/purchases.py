"""A purchase at a provider that takes no time, beside a direct call that fetches the picture too; one at a time.

Both are made by one client over connections that stay open, in turn, and both end with the picture in hand: the
client's, or the gateway's, which checks and keeps it. What the gateway adds is the difference of the medians of a
round. CPU: user and system time of the whole gateway, until its usage rows are in SQL.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable
from typing import Any

import aiohttp

from benchmarks.calls import body
from benchmarks.hot_hits import drained_after_s
from benchmarks.load import PATH
from benchmarks.rows import Bench, Found, Row, compared
from benchmarks.servers import PROVIDER_KEY, Gateway, ProviderServer, Server

ROUNDS = 5
AT_ONCE = 16
_WARM = 10


def measure(bench: Bench) -> Found:
    folder = bench.subfolder("purchases")
    with (
        ProviderServer(folder / "provider.log") as provider,
        Gateway(folder / "gateway", provider.base_url) as gateway,
    ):
        return asyncio.run(_Purchases(gateway, provider, pairs=20 if bench.quick else 40).measure())


class _Purchases:
    """`pairs`: purchases a round, each beside a direct call."""

    def __init__(self, gateway: Gateway, provider: Server, *, pairs: int) -> None:
        self._gateway = gateway
        self._provider = provider
        self._pairs = pairs
        self._seeds = iter(range(1, 1_000_000))
        self._key = gateway.new_key()

    async def measure(self) -> Found:
        async with aiohttp.ClientSession() as self._http:
            for _ in range(_WARM):
                await self._direct()
                await self._through()
            alone = [await self._round() for _ in range(ROUNDS)]
            burst = [await self._burst() for _ in range(ROUNDS)]
        through, direct, cpu_ms = (list(some) for some in zip(*alone, strict=True))
        added = [a - b for a, b in zip(through, direct, strict=True)]
        burst_ms, per_s = (list(some) for some in zip(*burst, strict=True))
        return Found(
            [
                _row("Latency added to a purchase", added, 6, 3),
                compared("A purchase's latency", through, direct, "ms"),
                _row("CPU of a purchase, one at a time", cpu_ms, 12, 6),
                _row(
                    f"CPU of a purchase, {AT_ONCE} at once",
                    burst_ms,
                    12,
                    6,
                    ours=f"{statistics.median(per_s):.0f} purchases/s",
                ),
            ]
        )

    async def _round(self) -> tuple[float, float, float]:
        """Median milliseconds through the gateway and directly, and CPU milliseconds a purchase."""
        through, direct = list[float](), list[float]()
        cpu_s = self._gateway.cpu_s
        for _ in range(self._pairs):
            direct.append(await self._direct())
            through.append(await self._through())
        return _median_ms(through), _median_ms(direct), self._cpu_ms_since(cpu_s, self._pairs)

    async def _burst(self) -> tuple[float, float]:
        """CPU milliseconds a purchase, and purchases a second, with several under way."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with gate:
                await self._through()

        cpu_s, started = self._gateway.cpu_s, time.monotonic()
        await asyncio.gather(*(one() for _ in range(self._pairs)))
        per_s = self._pairs / (time.monotonic() - started)
        return self._cpu_ms_since(cpu_s, self._pairs), per_s

    def _cpu_ms_since(self, cpu_s: float, purchases: int) -> float:
        drained_after_s(self._gateway)
        return (self._gateway.cpu_s - cpu_s) / purchases * 1000

    async def _direct(self) -> float:
        """Seconds of a call to the provider plus fetching the picture."""
        started = time.perf_counter()
        answer = await self._post(self._provider.base_url, PROVIDER_KEY)
        async with self._http.get(answer["images"][0]["url"]) as response:
            response.raise_for_status()
            await response.read()
        return time.perf_counter() - started

    async def _through(self) -> float:
        """Seconds of the same call to the gateway."""
        started = time.perf_counter()
        await self._post(self._gateway.base_url, self._key)
        return time.perf_counter() - started

    async def _post(self, base_url: str, key: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {key}"}
        async with self._http.post(base_url + PATH, json=body(next(self._seeds)), headers=headers) as response:
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer


def _median_ms(seconds: Iterable[float]) -> float:
    return statistics.median(seconds) * 1000


def _row(name: str, each: list[float], reach: float, aim: float, ours: str = "") -> Row:
    return Row(name, statistics.median(each), "ms", each=each, reach=reach, aim=aim, ours=ours)
