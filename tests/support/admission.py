"""Limits of requests as a test takes of them, in process and in Redis."""

from __future__ import annotations

import asyncio
import time

from gateway.domain.api_key import Mode
from gateway.domain.caller import Caller
from gateway.domain.ids import new_id
from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.storage.rate_limits import RateLimits, RateState
from gateway.storage.redis_pipe import RedisPipe
from tests.support.ledger import limit
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

S_NS = 1_000_000_000


def requests(amount: int, window: Window, scope: ScopeKind = ScopeKind.USER, scope_id: str = "") -> Limit:
    return limit(amount, Metric.REQUESTS, window, scope, scope_id)


def caller(*limits: Limit, mode: Mode = Mode.LIVE) -> Caller:
    return Caller("key_1", "prefix", "hash", "user_1", "team_1", mode, None, {}, limits)


class UsageLog:
    """What SQL counts; `asked` how often it was."""

    def __init__(self) -> None:
        self.calls = 0
        self.asked = 0

    async def count(self, _caller: Caller, _limit: Limit, _since_ms: int) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        return self.calls


class Door:
    """Limits, with the clocks of a call moved by hand where they are a process's own."""

    def __init__(self, rates: RateLimits, log: UsageLog) -> None:
        self.rates, self.log = rates, log
        self.now_ns, self.now_ms = time.monotonic_ns(), time.time_ns() // 1_000_000

    def forward(self, seconds: float) -> None:
        self.now_ns += int(seconds * S_NS)
        self.now_ms += int(seconds * 1000)

    async def states(self, who: Caller, call_id: str | None = None) -> list[RateState]:
        """Raises LimitExceeded."""
        verdict = await self.rates.take(who, call_id=call_id or new_id("req"), now_ns=self.now_ns, now_ms=self.now_ms)
        if verdict.refusal is not None:
            raise verdict.refusal
        return list(verdict.states)

    async def take(self, who: Caller, times: int = 1) -> list[int]:
        """What is left of each limit after the last."""
        for _ in range(times):
            states = await self.states(who)
        return [state.left for state in states]

    async def look(self, who: Caller) -> list[int]:
        return [state.left for state in await self.rates.look(who, now_ns=self.now_ns, now_ms=self.now_ms)]


async def until_up(pipe: RedisPipe) -> None:
    async def is_up() -> bool:
        return pipe.up

    await until(is_up)


class RunningPipe:
    def __init__(self, server: ValkeyServer) -> None:
        self.pipe = RedisPipe(server.url(), timeout_s=5)

    async def __aenter__(self) -> RedisPipe:
        self._task = asyncio.create_task(self.pipe.run())
        await until_up(self.pipe)
        return self.pipe

    async def __aexit__(self, *_exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
