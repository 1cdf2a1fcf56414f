"""How much one address may have open, with and without a proxy in front."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.gateway import gateway_and_provider
from tests.support.ports import free_port
from tests.support.raw_client import RawAnswer, RawClient, RawClients

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
MOST = 3


async def ask(connect: RawClients) -> tuple[RawClient, RawAnswer]:
    client = await connect(GET)
    return client, await client.answer()


async def test_one_connection_too_many_is_refused_until_another_closes(tmp_path: Path) -> None:
    server = {"port": free_port(), "max_connections_per_address": MOST}
    async with gateway_and_provider(tmp_path, server=server) as (gateway, _), RawClients(gateway.base_url) as connect:
        held = [await ask(connect) for _ in range(MOST)]
        assert {answer.status for _, answer in held} == {200}
        _, refused = await ask(connect)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "too_many_connections", "1")
        assert refused.headers["connection"] == "close"
        await held[0][0].close()
        while (await ask(connect))[1].status != 200:  # the server hears of the close in its own time
            pass


async def test_a_trusted_proxy_may_open_any_number(tmp_path: Path) -> None:
    server = {"port": free_port(), "max_connections_per_address": 1, "trusted_proxies": ["127.0.0.0/8"]}
    async with gateway_and_provider(tmp_path, server=server) as (gateway, _), RawClients(gateway.base_url) as connect:
        assert {(await ask(connect))[1].status for _ in range(5)} == {200}


async def test_behind_a_proxy_a_clients_calls_under_way_are_counted(tmp_path: Path) -> None:
    server = {"port": free_port(), "max_connections_per_address": 1, "trusted_proxies": ["127.0.0.1"]}
    async with gateway_and_provider(tmp_path, server=server) as (gateway, fake):
        key = await gateway.new_key()
        fake.gate = asyncio.Event()

        def call(address: str) -> asyncio.Task[object]:
            return asyncio.create_task(gateway.generate(key, headers={"x-forwarded-for": address}))

        first = [call("203.0.113.9"), call("2001:db8::1")]
        await fake.wait_for_calls(2)
        for address in ("203.0.113.9", "2001:db8::2", "2001:db8::1"):
            refused = await gateway.get("/v1/models", key, **{"x-forwarded-for": address})
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_connections")
            assert refused.headers["retry-after"] == "1"
        for address in ("203.0.113.10", "2001:db8:0:1::1"):
            assert (await gateway.get("/v1/models", key, **{"x-forwarded-for": address})).status_code == 200
        fake.gate.set()
        await asyncio.gather(*first)
        assert (await gateway.get("/v1/models", key, **{"x-forwarded-for": "203.0.113.9"})).status_code == 200
