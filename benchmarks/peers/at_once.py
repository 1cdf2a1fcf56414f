"""Many calls at one moment, each on a connection of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from benchmarks.peers.work import PATH

_LOOK_EVERY_S = 0.25
_LOST = 0


@dataclass(frozen=True)
class Answers:
    """`statuses`: one a call, 0 for one that got no answer. `peak`: the highest of what was watched."""

    statuses: list[int]
    taken_s: float
    peak: int = 0

    @property
    def good(self) -> int:
        return self.statuses.count(200)


def ask_at_once(
    base_url: str,
    headers: dict[str, str],
    bodies: list[dict[str, object]],
    *,
    within_s: float,
    watch: Callable[[], int] | None = None,
) -> Answers:
    """Returns when all have been answered, or given up after `within_s`."""
    return asyncio.run(_ask(base_url + PATH, headers, bodies, within_s, watch))


async def _ask(
    url: str,
    headers: dict[str, str],
    bodies: list[dict[str, object]],
    within_s: float,
    watch: Callable[[], int] | None,
) -> Answers:
    limit = aiohttp.ClientTimeout(total=within_s)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(headers=headers, timeout=limit, connector=connector) as http:
        started = time.monotonic()
        asked = asyncio.gather(*(_one(http, url, body) for body in bodies))
        peak = 0
        while watch is not None and not asked.done():
            peak = max(peak, watch())
            await asyncio.wait([asked], timeout=_LOOK_EVERY_S)
        statuses = await asked
        return Answers(statuses, time.monotonic() - started, peak)


async def _one(http: aiohttp.ClientSession, url: str, body: dict[str, object]) -> int:
    try:
        async with http.post(url, json=body) as response:
            await response.read()
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return _LOST
