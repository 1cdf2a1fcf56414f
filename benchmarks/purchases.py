"""A purchase at a provider that takes no time, beside a direct call plus fetching the picture; one at a time."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import aiohttp

from benchmarks.load import PATH
from benchmarks.report import Row
from benchmarks.servers import MODEL, Gateway, Server

PAIRS = 100
AT_ONCE = 16
BURST = 160


def measure(gateway: Gateway, provider: Server, key: str) -> list[Row]:
    return asyncio.run(_measure(gateway, provider, key))


async def _measure(gateway: Gateway, provider: Server, key: str) -> list[Row]:
    async with aiohttp.ClientSession() as http:
        for seed in range(10):
            await _direct(http, provider, 90_000 + seed)
            await _through(http, gateway, key, 90_000 + seed)
        cpu_s = gateway.cpu_s
        direct, through = list[float](), list[float]()
        for seed in range(PAIRS):
            direct.append(await _direct(http, provider, 10_000 + seed))
            through.append(await _through(http, gateway, key, 20_000 + seed))
        alone_ms = (gateway.cpu_s - cpu_s) / PAIRS * 1000
        burst_ms, per_s = await _burst(http, gateway, key)
    theirs, ours = (statistics.median(some) * 1000 for some in (direct, through))
    bytes_only = f"{theirs:.1f} ms"
    return [
        Row("A purchase's latency", f"{ours:.1f} ms", bytes_only, ours / theirs),
        Row("Latency added to a purchase", f"{ours - theirs:.1f} ms", reach="<= 6 ms"),
        Row("CPU per purchase, one at a time", f"{alone_ms:.1f} ms", reach="<= 12 ms"),
        Row(f"CPU per purchase, {AT_ONCE} at once", f"{burst_ms:.1f} ms ({per_s:.0f} purchases/s)", reach="<= 12 ms"),
    ]


async def _burst(http: aiohttp.ClientSession, gateway: Gateway, key: str) -> tuple[float, float]:
    """CPU milliseconds a purchase, and purchases a second, with several under way."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> None:
        async with gate:
            await _through(http, gateway, key, seed)

    cpu_s, started = gateway.cpu_s, time.monotonic()
    await asyncio.gather(*(one(30_000 + i) for i in range(BURST)))
    return (gateway.cpu_s - cpu_s) / BURST * 1000, BURST / (time.monotonic() - started)


async def _direct(http: aiohttp.ClientSession, provider: Server, seed: int) -> float:
    """Seconds of a call to the provider plus fetching the picture."""
    started = time.perf_counter()
    answer = await _post(http, provider.base_url, "provider-secret", seed)
    async with http.get(answer["images"][0]["url"]) as response:
        response.raise_for_status()
        await response.read()
    return time.perf_counter() - started


async def _through(http: aiohttp.ClientSession, gateway: Gateway, key: str, seed: int) -> float:
    """Seconds of the same call to the gateway, which fetches and keeps the picture."""
    started = time.perf_counter()
    await _post(http, gateway.base_url, key, seed)
    return time.perf_counter() - started


async def _post(http: aiohttp.ClientSession, base_url: str, key: str, seed: int) -> dict[str, Any]:
    size = {"width": 512, "height": 512}
    body = {"model": MODEL, "prompt": "A lighthouse at dusk", "seed": seed, "image_size": size}
    async with http.post(base_url + PATH, json=body, headers={"Authorization": f"Bearer {key}"}) as response:
        response.raise_for_status()
        answer: dict[str, Any] = await response.json()
        return answer
