from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from gateway.demo.provider import FakeProvider, running
from gateway.domain.key_health import KeyStatus
from gateway.providers.aimlapi import AimlapiProvider
from gateway.providers.base import ProviderKey
from gateway.providers.key_pool import KeyPool, PooledKey
from gateway.services.balances import BalanceWatch
from gateway.services.buying import Vendor
from gateway.telemetry.metrics import Metrics
from tests.support.verdicts import verdict

KEYS = [PooledKey(ProviderKey(f"main-{name}", f"secret-{name}"), 1, 4) for name in ("a", "b")]


class Watched:
    """A pool of two keys at a fake provider, and the watch over their balances."""

    def __init__(self, base_url: str) -> None:
        self.provider = AimlapiProvider("main", base_url=base_url, image_hosts=[], timeout_s=5)
        self.pool = KeyPool("main", KEYS)
        self.metrics = Metrics()
        self.vendors = {"main": Vendor(self.provider, self.pool, timeout_s=5)}
        self.watch = BalanceWatch(self.vendors, self.metrics)

    def shown(self) -> dict[str, float]:
        samples = [sample for metric in self.metrics.provider_balance_usd.collect() for sample in metric.samples]
        return {sample.labels["key"]: sample.value for sample in samples}


@asynccontextmanager
async def watched(fake: FakeProvider) -> AsyncIterator[Watched]:
    async with running(fake) as base_url:
        world = Watched(base_url)
        yield world
        await world.provider.close()


@pytest.fixture
def fake() -> FakeProvider:
    fake = FakeProvider(keys=["secret-a", "secret-b"])
    fake.books.balance_usd = {"secret-a": Decimal("12.5"), "secret-b": Decimal(0)}
    return fake


async def test_shows_what_is_left_behind_each_key(fake: FakeProvider) -> None:
    async with watched(fake) as world:
        await world.watch.look()
        assert world.shown() == {"main-a": 12.5, "main-b": 0}
        world.pool.replace(KEYS[:1])
        await world.watch.look()
        assert world.shown() == {"main-a": 12.5}


async def test_a_key_out_of_credits_serves_again_once_there_is_money(fake: FakeProvider) -> None:
    async with watched(fake) as world:
        world.pool.failed("main-b", verdict("await_credits"))
        await world.watch.look()
        assert world.pool.statuses() == [KeyStatus.HEALTHY, KeyStatus.OUT_OF_CREDITS]
        fake.books.balance_usd["secret-b"] = Decimal("0.01")
        await world.watch.look()
        assert world.pool.statuses() == [KeyStatus.HEALTHY, KeyStatus.HEALTHY]


async def test_says_each_change_once_and_never_a_secret(fake: FakeProvider) -> None:
    async with watched(fake) as world:
        with capture_logs() as lines:
            for status in (None, None, 500, 500, None):
                fake.books.books_status = status
                await world.watch.look()
    events = [line["event"] for line in lines if line["key_id"] == "main-a"]
    assert events == ["provider_balance", "provider_balance_unavailable", "provider_balance"]
    assert "secret" not in str(lines)


async def test_a_balance_that_is_not_told_is_not_shown(fake: FakeProvider) -> None:
    async with watched(fake) as world:
        await world.watch.look()
        fake.books.key_faults["secret-a"] = "revoked"
        await world.watch.look()
        assert world.shown() == {"main-b": 0}


async def test_nothing_ends_the_watch(fake: FakeProvider) -> None:
    rounds = asyncio.Semaphore(0)

    async def pause(_: float) -> None:
        rounds.release()
        await asyncio.sleep(0)

    async with watched(fake) as world:
        await world.provider.close()  # a closed client fails with an error of its own
        running_watch = asyncio.create_task(BalanceWatch(world.vendors, world.metrics, sleep=pause).run())
        for _ in range(3):
            await rounds.acquire()
        assert not running_watch.done()
        running_watch.cancel()
        await asyncio.wait({running_watch})
