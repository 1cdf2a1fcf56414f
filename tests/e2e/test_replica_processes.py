"""Replicas as processes: killed, frozen, restarted one by one, and with a clock that is off."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import libfaketime  # type: ignore[import-untyped]
import pytest

from gateway.demo.provider import FakeProvider, running
from tests.e2e.test_money import billed
from tests.support.gateway import Gateway
from tests.support.http_client import open_client
from tests.support.load_balancer import LOOKS_EVERY_S, load_balanced
from tests.support.replicas import Engines, ProcessFleet, calling, expire_leases, process_fleet
from tests.support.waiting import until

PRICE = Decimal("0.065")


@pytest.fixture
async def replicas(engines: Engines, fake: FakeProvider) -> AsyncIterator[ProcessFleet]:
    async with running(fake) as provider_url, process_fleet(engines, provider_url) as found:
        yield found


async def ended(gateway: Gateway, count: int) -> list[dict[str, Any]]:
    """The generations, once there are `count` and none is under way."""

    async def look() -> list[dict[str, Any]]:
        rows = await gateway.generations(mode="live")
        under_way = [row for row in rows if row["status"] in {"pending", "sent", "answered"}]
        return rows if len(rows) == count and not under_way else []

    return await until(look)


async def test_a_buyer_that_is_killed_is_replaced_at_most_once(
    engines: Engines, fake: FakeProvider, replicas: ProcessFleet
) -> None:
    """F2: those who wait elsewhere are answered, and whoever asks anew buys at most once more."""
    fake.gate = asyncio.Event()
    first, second, third = replicas.gateways
    key = await first.new_key()
    buyer = asyncio.create_task(first.generate(key, seed=7))
    await fake.wait_for_calls(1)
    waiting = [asyncio.create_task(gateway.generate(key, seed=7)) for gateway in (second, third) for _ in range(20)]
    await asyncio.wait(waiting, timeout=0.5)  # they are on their way: nobody tells when all of them wait
    replicas.processes[0].kill()
    await asyncio.gather(buyer, return_exceptions=True)
    await expire_leases(engines)
    answers = await asyncio.gather(*waiting)
    assert Counter(answer.status_code for answer in answers) == {504: 40}
    assert {answer.json()["error"]["data"]["charged"] for answer in answers} == {"unknown"}
    fake.gate.set()
    again = await asyncio.gather(*(gateway.generate(key, seed=7) for gateway in (second, third) for _ in range(20)))
    assert Counter(answer.status_code for answer in again) == {200: 40}
    await ended(second, 2)
    assert fake.calls == 2
    await second.admin("POST", "/reconcile", {})
    rows = await second.generations(mode="live")
    assert sum(Decimal(row["cost_usd"] or 0) for row in rows if row["status"] == "succeeded") == PRICE
    assert {row["status"] for row in rows} <= {"succeeded", "unknown", "failed"}
    charged = {row["client_request_id"] for row in fake.bill}
    assert charged <= {row["id"] for row in rows}


async def test_a_buyer_that_was_frozen_past_its_lease_settles_once_when_it_wakes(
    engines: Engines, fake: FakeProvider, replicas: ProcessFleet
) -> None:
    """F14: its late answer settles the unknown purchase and its picture is kept; one further purchase, booked."""
    fake.gate = asyncio.Event()
    first, second, _ = replicas.gateways
    key = await first.new_key()
    buyer = asyncio.create_task(first.generate(key, seed=7))
    await fake.wait_for_calls(1)
    replicas.processes[0].send_signal(signal.SIGSTOP)
    await expire_leases(engines)

    async def unknown() -> bool:
        return [row["status"] for row in await second.generations(mode="live")] == ["unknown"]

    await until(unknown)
    further = asyncio.create_task(second.generate(key, seed=7))
    await fake.wait_for_calls(2)
    fake.gate.set()
    assert (await further).status_code == 200
    replicas.processes[0].send_signal(signal.SIGCONT)
    assert (await buyer).status_code == 200
    rows = await ended(second, 2)
    assert {row["status"] for row in rows} == {"succeeded"}
    assert billed(fake) == 2 * PRICE == sum(Decimal(str(row["cost_usd"])) for row in rows)
    assert Decimal((await second.usage())["cost_usd"]) == 2 * PRICE


async def test_terminated_under_load_a_replica_finishes_what_it_bought(
    fake: FakeProvider, replicas: ProcessFleet
) -> None:
    """F15."""
    fake.gate = asyncio.Event()
    first, second, _ = replicas.gateways
    key = await first.new_key()
    opened = [asyncio.create_task(first.generate(key, seed=seed)) for seed in range(1, 21)]
    await fake.wait_for_calls(20)
    replicas.processes[0].send_signal(signal.SIGTERM)

    async def is_draining() -> bool:
        return not (await first.get("/readyz")).is_success

    await until(is_draining)
    refused = await first.generate(key, seed=99)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    elsewhere = [asyncio.create_task(second.generate(key, seed=seed)) for seed in range(1, 21)]
    fake.gate.set()
    answers = await asyncio.gather(*opened, *elsewhere)
    assert Counter(answer.status_code for answer in answers) == {200: 40}
    assert await replicas.processes[0].exit_code() == 0
    assert len(fake.bill) == 20
    assert Decimal((await second.usage())["cost_usd"]) == 20 * PRICE


async def test_a_clock_that_is_a_day_off_moves_no_window(engines: Engines, fake: FakeProvider) -> None:
    """F13, with a day in place of an hour, so that it would be another window at any time of the day."""
    library = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
    wrong = {"LD_PRELOAD": str(library), "FAKETIME": "+25h", "DONT_FAKE_MONOTONIC": "1"}
    async with (
        running(fake) as provider_url,
        process_fleet(engines, provider_url, replicas=2, environments={1: wrong}) as replicas,
    ):
        right, off = replicas.gateways
        limits = [
            {"metric": "requests", "window": "day", "amount": "10"},
            {"metric": "cost_usd", "window": "day", "amount": "0.39"},
        ]
        key = await right.new_key(limits=limits)
        bought = [await gateway.generate(key, seed=seed, image_size="square") for seed in range(1, 4)
                  for gateway in (right, off)]  # fmt: skip
        assert Counter(answer.headers["cache-status"] for answer in bought) == {
            "darkroom; fwd=miss; stored": 3, "darkroom; hit": 3,
        }  # fmt: skip
        more = [await gateway.generate(key, seed=10 + number, image_size="square")
                for number, gateway in enumerate((off, right, off, right))]  # fmt: skip
        assert Counter(answer.status_code for answer in more) == {200: 3, 429: 1}
        assert len(fake.bill) == 6
        last = await right.generate(key, seed=1, image_size="square")
        refused = [await gateway.generate(key, seed=1, image_size="square") for gateway in (right, off)]
        assert last.status_code == 200
        assert {answer.json()["error"]["code"] for answer in refused} == {"quota_exceeded"}
        tomorrow = await right.admin("GET", "/usage", bucket="day")
        assert len({row["bucket"] for row in tomorrow["data"]}) == 1


async def test_a_rolling_restart_under_load_fails_no_call(engines: Engines) -> None:
    fake = FakeProvider(delay_s=0.3)
    async with (
        running(fake) as provider_url,
        process_fleet(engines, provider_url, drain_delay_s=10 * LOOKS_EVERY_S, drain_s=30) as replicas,
        load_balanced([process.base_url for process in replicas.processes]) as base_url,
        open_client(connect_timeout_s=30) as http,
    ):
        behind = Gateway(base_url, http)
        key = await behind.new_key()
        async with calling(behind, key) as statuses:
            for process in replicas.processes:
                process.send_signal(signal.SIGTERM)
                assert await process.exit_code() == 0
                await process.start()
        assert set(statuses) == {200}
        assert statuses[200] > 100
        assert Decimal((await behind.usage())["cost_usd"]) == billed(fake)
