"""F15: a process told to stop finishes what it began, serves what it can, and leaves."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from gateway.demo.provider import FakeProvider, running
from tests.e2e.test_crashes import assert_books_balance, assert_usage_is_whole, every_generation
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.http_client import open_client

OPEN_PURCHASES = 24


@asynccontextmanager
async def process_to_leave(
    tmp_path: Path, fake: FakeProvider, *, drain_s: float = 60
) -> AsyncIterator[tuple[GatewayProcess, Gateway]]:
    async with running(fake) as provider_url, open_client(connect_timeout_s=30) as http:
        process = GatewayProcess(tmp_path / "data", provider_url, tmp_path / "log", drain_s=drain_s)
        await process.start()
        try:
            yield process, Gateway(process.base_url, http)
        finally:
            process.kill()


async def draining(gateway: Gateway) -> httpx.Response:
    """The first answer of /readyz that says so."""
    while (ready := await gateway.get("/readyz")).is_success:
        pass
    return ready


class Hits:
    """Callers that ask for one cached picture again and again, until told to stop."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self._gateway = gateway
        self._key = key
        self._enough = False
        self.statuses: Counter[int] = Counter()
        self._callers = [asyncio.create_task(self._call()) for _ in range(4)]

    async def _call(self) -> None:
        while not self._enough:
            self.statuses[(await self._gateway.generate(self._key, seed=1)).status_code] += 1

    async def stop(self) -> None:
        self._enough = True
        await asyncio.gather(*self._callers)


async def test_told_to_stop_under_load_nothing_fails_and_nothing_is_lost(tmp_path: Path) -> None:
    fake = FakeProvider()
    async with process_to_leave(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key(limits=[{"metric": "cost_usd", "window": "month", "amount": "1000"}])
        assert (await gateway.generate(key, seed=1)).status_code == 200
        fake.gate = asyncio.Event()
        seeds = [*range(2, 2 + OPEN_PURCHASES // 2), *([None] * (OPEN_PURCHASES // 2))]
        buyers = [asyncio.create_task(gateway.generate(key, seed=seed)) for seed in seeds]
        hits = Hits(gateway, key)
        await fake.wait_for_calls(1 + OPEN_PURCHASES)
        process.send_signal(signal.SIGTERM)
        assert (await draining(gateway)).json()["error"]["code"] == "draining"
        refused = await gateway.generate(key, seed=999)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["code"] == "draining"
        assert refused.json()["error"]["data"]["charged"] == "no"
        hit = await gateway.generate(key, seed=1)
        assert (hit.status_code, hit.headers["connection"]) == (200, "close")
        joining = asyncio.create_task(gateway.generate(key, seed=2))
        await asyncio.sleep(2)  # long enough for whatever would end it too early
        await hits.stop()
        fake.gate.set()
        answers = await asyncio.gather(*buyers, joining)
        assert await process.exit_code() == 0
        await process.start()
        rows = await every_generation(gateway)
        process.kill()
    assert {answer.status_code for answer in answers} == {200}
    assert set(hits.statuses) == {200}
    assert len(fake.bill) == 1 + OPEN_PURCHASES
    assert {row["status"] for row in rows} == {"succeeded"}
    assert_books_balance(rows, fake)
    assert_usage_is_whole(tmp_path / "data" / "darkroom.db", {answer.headers["x-request-id"] for answer in answers})


async def test_with_nothing_under_way_it_leaves_at_once(tmp_path: Path) -> None:
    async with process_to_leave(tmp_path, FakeProvider(), drain_s=10**6) as (process, gateway):
        assert (await gateway.get("/livez")).status_code == 200  # an idle connection is left open
        process.send_signal(signal.SIGINT)
        assert await process.exit_code() == 0


async def test_what_is_not_done_in_time_is_told_so_and_recovered_at_the_next_start(tmp_path: Path) -> None:
    fake = FakeProvider()
    async with process_to_leave(tmp_path, fake, drain_s=0.5) as (process, gateway):
        key = await gateway.new_key()
        fake.gate = asyncio.Event()
        call = asyncio.create_task(gateway.generate(key, seed=7))
        await fake.wait_for_calls(1)
        process.send_signal(signal.SIGTERM)
        answer = await call
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
        assert answer.json()["error"]["data"]["charged"] == "unknown"
        assert answer.headers["x-should-retry"] == "false"
        assert await process.exit_code() == 0
        fake.gate.set()
        await process.start()
        [row] = await every_generation(gateway)
        assert (row["status"], row["cost_usd"]) in {("unknown", None), ("failed", "0.065")}  # the books may say already
        assert (await gateway.generate(key, seed=8)).status_code == 200


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_where_it_is(tmp_path: Path, second: signal.Signals) -> None:
    fake = FakeProvider()
    async with process_to_leave(tmp_path, fake) as (process, gateway):
        fake.gate = asyncio.Event()
        call = asyncio.create_task(gateway.generate(await gateway.new_key(), seed=7))
        await fake.wait_for_calls(1)
        process.send_signal(signal.SIGTERM)
        await draining(gateway)
        process.send_signal(second)
        assert await process.exit_code() == -second
        await asyncio.gather(call, return_exceptions=True)
        fake.gate.set()
