"""Hits that wait for what Redis says of their limits: whatever happens to their connection meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.demo.provider import FakeProvider
from tests.support.gateway import Gateway
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy, proxy_to
from tests.support.raw_client import RawClients, post
from tests.support.replicas import engines_for, fleet
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

BODY = json.dumps({"model": "flux-pro", "prompt": "A lighthouse", "seed": 7}).encode()
LIMITS = [{"metric": "requests", "window": "hour", "amount": "10000"}]


class Place:
    """A replica that holds a picture in memory, with its Redis behind a proxy, and the bytes that ask for it."""

    def __init__(self, gateway: Gateway, proxy: Proxy, request: bytes) -> None:
        self.gateway, self.proxy, self.request = gateway, proxy, request

    def black_hole(self) -> None:
        """What is asked of Redis from now on waits until the gateway gives it up."""
        self.proxy.mood = "swallow"

    async def requests(self) -> int:
        return int((await self.gateway.usage())["requests"])


@asynccontextmanager
async def place(
    folder: Path, postgres: PostgresServer, valkey: ValkeyServer, *, wait_s: float, **server: Any
) -> AsyncIterator[tuple[Place, RawClients]]:
    async with proxy_to(valkey.port) as proxy:
        engines = await engines_for(folder, postgres, valkey, redis_port=proxy.port, redis_timeout_s=wait_s)
        chosen = {"port": free_port(), "drain_s": 20, **server}
        async with fleet(engines, FakeProvider(), replicas=1, server=chosen) as found:
            gateway = found.first
            request = post(await gateway.new_key(limits=LIMITS), BODY)
            async with RawClients(gateway.base_url) as connect:
                client = await connect()
                for _ in range(3):  # bought, a hit by way of the application, a hit by a head that is known
                    await client.send(request)
                    assert (await client.answer()).status == 200
                yield Place(gateway, proxy, request), connect


async def test_no_time_limit_of_its_connection_ends_a_hit_that_waits(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
):
    limits = {"head_timeout_s": 0.5, "keep_alive_s": 1}
    async with place(tmp_path, postgres, valkey, wait_s=3, **limits) as (here, connect):
        used, fresh = await connect(here.request), await connect()
        assert (await used.answer()).status == 200
        here.black_hole()
        for client in (used, fresh):
            await client.send(here.request)
        for client in (used, fresh):
            assert (await client.answer()).status == 200


async def test_what_comes_behind_a_hit_that_waits_is_answered_in_turn_however_it_is_cut(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
):
    async with place(tmp_path, postgres, valkey, wait_s=1.5) as (here, connect):
        second = here.request.replace(b"Host: x", b"Host: y")
        behind = second + here.request
        clients = [await connect() for _ in range(len(behind))]
        before = await here.requests()
        here.black_hole()
        for client in clients:
            await client.send(here.request)
        for cut, client in enumerate(clients):
            await client.send(behind[:cut])
        await asyncio.sleep(0.05)
        for cut, client in enumerate(clients):
            await client.send(behind[cut:])
        for client in clients:
            assert [(await client.answer()).status for _ in range(3)] == [200] * 3
        assert await here.requests() == before + 3 * len(clients)


async def test_a_hit_whose_client_has_gone_while_it_waited_is_recorded_all_the_same(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
):
    async with place(tmp_path, postgres, valkey, wait_s=0.5) as (here, connect):
        before = await here.requests()
        here.black_hole()
        clients = [await connect(here.request) for _ in range(10)]
        await asyncio.sleep(0.1)
        for client in clients:
            await client.close()

        async def recorded() -> bool:
            return await here.requests() == before + 10

        await until(recorded)
