"""`serve --workers`: several processes behind one port."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from gateway.demo.provider import FakeProvider, running
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.http_client import open_client
from tests.support.replicas import Engines, process_fleet
from tests.support.waiting import until

WORKERS = 2


@pytest.fixture
async def served(engines: Engines, fake: FakeProvider) -> AsyncIterator[tuple[GatewayProcess, Gateway]]:
    async with (
        running(fake) as provider_url,
        process_fleet(engines, provider_url, replicas=1, workers=WORKERS, drain_s=30) as found,
    ):
        yield found.processes[0], found.gateways[0]


def workers_of(process: GatewayProcess) -> list[psutil.Process]:
    children: list[psutil.Process] = psutil.Process(process.pid).children()
    return children


async def all_ready(gateway: Gateway, counted: int = WORKERS) -> str:
    """The metrics, once every worker has told its own."""

    async def look() -> str:
        async with open_client(connect_timeout_s=30) as http:
            text = (await http.get(f"{gateway.base_url}/metrics")).text
        return text if all(f'worker="{number}"' in text for number in range(1, counted + 1)) else ""

    return await until(look)


async def calls(gateway: Gateway, key: str, count: int) -> Counter[int]:
    """Each on a connection of its own, so that both workers get some."""

    async def one(seed: int) -> int:
        async with open_client(connect_timeout_s=30) as http:
            return (await Gateway(gateway.base_url, http).generate(key, seed=seed)).status_code

    return Counter(await asyncio.gather(*(one(1 + number % 5) for number in range(count))))


def of_worker(metrics: str, number: int) -> list[float]:
    """Its calls, by outcome and the rest."""
    start = f'darkroom_requests_total{{worker="{number}"'
    return [float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(start)]


async def test_workers_share_port_limits_cache_and_metrics(
    served: tuple[GatewayProcess, Gateway], fake: FakeProvider
) -> None:
    process, gateway = served
    await all_ready(gateway)
    assert len(workers_of(process)) == WORKERS
    key = await gateway.new_key(limits=[{"metric": "requests", "window": "day", "amount": "40"}])
    assert await calls(gateway, key, 60) == {200: 40, 429: 20}
    assert len(fake.bill) == 5

    async def counted() -> bool:
        text = await all_ready(gateway)
        lines = [line for line in text.splitlines() if line.startswith("darkroom_requests_total{")]
        assert text.count("# TYPE darkroom_requests_total counter") == 1
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines) == 60

    await until(counted)
    assert (await gateway.usage())["requests"] <= 60  # the other worker's journal may still hold some

    async def recorded() -> bool:
        return bool((await gateway.usage())["requests"] == 60)

    await until(recorded)


async def test_a_worker_that_dies_is_replaced_and_loses_no_row(
    served: tuple[GatewayProcess, Gateway], fake: FakeProvider
) -> None:
    process, gateway = served
    await all_ready(gateway)
    key = await gateway.new_key()
    assert await calls(gateway, key, 40) == {200: 40}
    before = {worker.pid for worker in workers_of(process)}
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    async def replaced() -> bool:
        return len({worker.pid for worker in workers_of(process)} - before) == WORKERS

    await until(replaced)

    async def recorded() -> bool:
        return bool((await gateway.usage())["requests"] == 40)

    await until(recorded)
    assert await calls(gateway, key, 10) == {200: 10}
    assert len(fake.bill) == 5


async def test_terminated_the_workers_finish_what_they_bought(
    served: tuple[GatewayProcess, Gateway], fake: FakeProvider
) -> None:
    process, gateway = served
    fake.gate = asyncio.Event()
    key = await gateway.new_key()
    opened = asyncio.create_task(calls(gateway, key, 20))
    await fake.wait_for_calls(5)
    process.send_signal(signal.SIGTERM)

    async def draining() -> bool:
        return not (await gateway.get("/readyz")).is_success

    await until(draining)
    fake.gate.set()
    assert await opened == {200: 20}
    assert await process.exit_code() == 0
    assert len(fake.bill) == 5


async def test_workers_end_with_the_one_who_watches_over_them(served: tuple[GatewayProcess, Gateway]) -> None:
    process, gateway = served
    await all_ready(gateway)
    workers = workers_of(process)
    process.kill()

    async def gone() -> bool:
        return not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)

    await until(gone)


async def test_what_more_workers_left_is_delivered_by_fewer(
    engines: Engines, fake: FakeProvider, tmp_path: Path
) -> None:
    async with running(fake) as provider_url:
        async with process_fleet(engines, provider_url, replicas=1, workers=3) as found:
            gateway = found.gateways[0]
            await all_ready(gateway, 3)
            key = await gateway.new_key()

            known = 0

            async def all_know_the_key() -> bool:
                nonlocal known
                assert await calls(gateway, key, 30) == {200: 30}
                known += 30
                text = await all_ready(gateway, 3)
                return all(sum(of_worker(text, number)) > 30 for number in (1, 2, 3))

            await until(all_know_the_key)
            await asyncio.to_thread(engines.postgres.stop)  # so that rows stay in the journals
            try:
                hits = await calls(gateway, key, 60)
                assert hits == {200: 60}
                found.processes[0].kill()
            finally:
                await asyncio.to_thread(engines.postgres.start)
        async with process_fleet(engines, provider_url, replicas=1) as alone:
            gateway = alone.gateways[0]

            async def recorded() -> bool:
                return bool((await gateway.usage())["requests"] == known + hits.total())

            await until(recorded)
