"""F7: kill -9 under load, then bill beside books."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo.provider import FakeProvider, running
from tests.e2e.test_money import billed
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.http_client import open_client

KILLS = 20


@asynccontextmanager
async def gateway_process(tmp_path: Path, fake: FakeProvider) -> AsyncIterator[tuple[GatewayProcess, Gateway]]:
    async with running(fake) as provider_url, open_client(connect_timeout_s=30) as http:
        process = GatewayProcess(tmp_path / "data", provider_url, tmp_path / "log")
        await process.start()
        try:
            yield process, Gateway(process.base_url, http)
        finally:
            process.kill()


class Load:
    """Callers that never stop asking: some equal, some different, some unseeded. Notes what was answered with 200."""

    def __init__(self, gateway: Gateway, key: str, *, seed: int) -> None:
        self._gateway = gateway
        self._key = key
        self._random = random.Random(seed)
        self.answered: set[str] = set()
        self.refused = 0
        self.progress = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(*(self._caller() for _ in range(12)))

    async def _caller(self) -> None:
        while True:
            seed = self._random.choice([self._random.randint(1, 40), self._random.randint(1, 10**9), None])
            try:
                answer = await self._gateway.generate(self._key, seed=seed, image_size={"width": 256, "height": 256})
            except (httpx.HTTPError, OSError):
                await asyncio.sleep(0.02)  # the gateway is down: come back
                continue
            if answer.status_code == 200:
                self.answered.add(answer.headers["x-request-id"])
            else:
                self.refused += 1
            self.progress.set()


@asynccontextmanager
async def under_load(gateway: Gateway, key: str) -> AsyncIterator[Load]:
    callers = Load(gateway, key, seed=1)
    asking = asyncio.create_task(callers.run())
    try:
        yield callers
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_killed_twenty_times_under_load_the_books_equal_the_bill(tmp_path: Path) -> None:
    fake = FakeProvider(delay_s=0.1)
    chance = random.Random(7)
    async with gateway_process(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key(limits=[{"metric": "cost_usd", "window": "month", "amount": "100000"}])
        load = Load(gateway, key, seed=7)
        callers = asyncio.create_task(load.run())
        for _ in range(KILLS):
            load.progress.clear()
            await load.progress.wait()
            await asyncio.sleep(chance.uniform(0, 0.4))  # a random moment, not a wait for something
            process.kill()
            await process.start()
        callers.cancel()
        await asyncio.gather(callers, return_exceptions=True)
        process.kill()
        await process.start()
        await every_generation(gateway)
        found = await gateway.admin("POST", "/reconcile", {})
        assert not found["drift"], found
        rows = await every_generation(gateway)
        process.kill()
    assert_books_balance(rows, fake)
    assert_usage_is_whole(tmp_path / "data" / "darkroom.db", load.answered)


async def every_generation(gateway: Gateway) -> list[dict[str, Any]]:
    """Once none is under way any more: those recovered at the start may still be fetching pictures."""
    while True:
        rows: list[dict[str, Any]] = []
        cursor = None
        while cursor or not rows:
            query = {"limit": 1000} | ({"cursor": cursor} if cursor else {})
            page = await gateway.admin("GET", "/generations", **query)
            rows += page["data"]
            cursor = page["next_cursor"]
        if not any(row["status"] in {"pending", "sent", "answered"} for row in rows):
            return rows
        await asyncio.sleep(0.2)


def assert_books_balance(rows: list[dict[str, Any]], fake: FakeProvider) -> None:
    """Every charged call is one generation, settled with its cost; what is still unknown was never charged."""
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows)
    charged = [row["client_request_id"] for row in fake.bill]
    assert len(set(charged)) == len(charged), "bought twice under one id"
    assert all(by_id[row["client_request_id"]]["cost_usd"] == row["cost_usd"] for row in fake.bill)
    assert sum(Decimal(row["cost_usd"]) for row in rows if row["cost_usd"] is not None) == billed(fake)
    assert len(charged) > KILLS


def assert_usage_is_whole(database: Path, answered: set[str]) -> None:
    """No answered call is missing from the usage log, none is there twice; totals, counters and holds agree."""
    with sqlite3.connect(database) as sql:
        ids = [row[0] for row in sql.execute("SELECT id FROM usage_log")]
        assert answered <= set(ids)
        assert len(set(ids)) == len(ids)
        [(total,)] = sql.execute("SELECT SUM(requests) FROM usage_hourly")
        [(calls,)] = sql.execute("SELECT COUNT(*) FROM usage_log WHERE outcome <> 'settlement'")
        assert total == calls
        [(spent, reserved)] = sql.execute("SELECT spent, reserved FROM counters WHERE metric = 'cost_usd'")
        [(settled,)] = sql.execute("SELECT SUM(cost_micro_usd) FROM generations")
        [(held,)] = sql.execute("SELECT TOTAL(reserved_micro_usd) FROM generations WHERE status = 'unknown'")
        assert (spent, reserved) == (settled, int(held))
        [(logged,)] = sql.execute("SELECT SUM(cost_micro_usd) FROM usage_log")
        assert logged == settled
    sql.close()


@pytest.mark.parametrize("moment", ["before the answer", "before the picture"])
async def test_killed_in_the_middle_of_a_purchase_it_is_held_or_resumed(tmp_path: Path, moment: str) -> None:
    fake = FakeProvider(image_fault="missing" if moment == "before the picture" else None)
    fake.gate = asyncio.Event() if moment == "before the answer" else None
    async with gateway_process(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key()
        call = asyncio.create_task(gateway.generate(key, seed=7))
        if fake.gate:
            await fake.wait_for_calls(1)
            fake.gate.set()
        else:
            assert (await call).status_code == 502
        process.kill()
        await asyncio.gather(call, return_exceptions=True)
        fake.behaviour.image_fault = None
        fake.mend_images()
        await process.start()
        [row] = await every_generation(gateway)
        assert row["status"] in {"unknown", "failed", "succeeded"} if fake.gate else row["status"] == "succeeded"
        again = await gateway.generate(key, seed=7)
        assert again.status_code == 200
        assert len(fake.bill) == (1 if row["status"] == "succeeded" else 2)
