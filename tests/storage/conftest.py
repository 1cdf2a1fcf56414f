"""Limits of requests, in process and in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.storage.rate_limits import MemoryRateLimits
from gateway.storage.rate_limits_redis import RedisRateLimits
from tests.support.admission import Door, RunningPipe, UsageLog
from tests.support.valkey import ValkeyServer


@pytest.fixture
def log() -> UsageLog:
    return UsageLog()


@pytest.fixture
def memory(log: UsageLog) -> Door:
    return Door(MemoryRateLimits(log.count), log)


@pytest.fixture
async def redis(log: UsageLog, valkey: ValkeyServer) -> AsyncIterator[Door]:
    async with RunningPipe(valkey) as pipe:
        yield Door(RedisRateLimits(pipe, MemoryRateLimits(log.count), log.count), log)
