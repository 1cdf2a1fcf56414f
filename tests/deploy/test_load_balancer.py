"""The load balancer of deploy/compose: Caddy itself, with the file as it is, in front of replicas."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import httpx
import pytest

from gateway.demo.provider import FakeProvider, running
from tests.e2e.test_money import billed
from tests.support.deploy import DEPLOY, TOOLS, run
from tests.support.gateway import Gateway
from tests.support.http_client import open_client
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.raw_server import Handler, raw_server, read_request
from tests.support.replicas import calling, engines_for, process_fleet
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

pytestmark = pytest.mark.browser

CADDYFILE = DEPLOY / "compose" / "Caddyfile"
POST = b"POST "


@asynccontextmanager
async def caddy(folder: Path, *replicas: str) -> AsyncIterator[str]:
    """Its address. It keeps what it keeps in `folder`, and administers itself on a port of its own."""
    port, admin = free_port(), free_port()
    config = folder / "Caddyfile"
    config.write_text(CADDYFILE.read_text(encoding="utf-8").replace("localhost:2019", f"localhost:{admin}"))
    env = {"DARKROOM_SITE": f":{port}", "DARKROOM_REPLICAS": " ".join(replicas), "XDG_DATA_HOME": str(folder)}
    with (folder / "caddy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            TOOLS / "bin" / "caddy", "run", "--adapter", "caddyfile", "--config", config,
            env={**os.environ, **env, "XDG_CONFIG_HOME": str(folder)}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        base_url = f"http://127.0.0.1:{port}"
        async with open_client(connect_timeout_s=5) as http:

            async def answers() -> bool:
                try:
                    return (await http.get(f"{base_url}/readyz")).is_success
                except httpx.TransportError:
                    return False

            await until(answers)
        yield base_url
    finally:
        process.terminate()
        await process.wait()


def replica(posts: list[bytes], on_post: Handler, *, ready: int = 200) -> Handler:
    """Says at /readyz whether it is ready, notes each POST and then does with it as it is told."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if request.startswith(POST):
            posts.append(request)
            await on_post(reader, writer)
        else:
            writer.write(f"HTTP/1.1 {ready} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()

    return handle


async def leave(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """The request was read, and no answer comes."""


async def say_ok(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()


def test_its_file_is_one_that_it_accepts() -> None:
    run("caddy", "validate", "--adapter", "caddyfile", "--config", CADDYFILE)
    run("caddy", "fmt", "--diff", CADDYFILE)


async def test_what_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    posts: list[bytes] = []
    handler = replica(posts, leave)
    async with (
        raw_server(handler) as a,
        raw_server(handler) as b,
        caddy(tmp_path, f"127.0.0.1:{a}", f"127.0.0.1:{b}") as base_url,
        open_client(connect_timeout_s=5) as http,
    ):
        assert (await http.post(f"{base_url}/v1/images/generations", json={})).status_code == 502
        assert len(posts) == 1


async def test_a_refused_connection_goes_to_the_other(tmp_path: Path) -> None:
    posts: list[bytes] = []
    nobody = free_port()
    async with (
        raw_server(replica(posts, say_ok)) as there,
        caddy(tmp_path, f"127.0.0.1:{nobody}", f"127.0.0.1:{there}") as base_url,
        open_client(connect_timeout_s=5) as http,
    ):
        answers = [await http.post(f"{base_url}/v1/images/generations", json={}) for _ in range(20)]
        assert [answer.status_code for answer in answers] == [200] * 20


async def test_who_is_not_ready_gets_nothing(tmp_path: Path) -> None:
    leaving: list[bytes] = []
    staying: list[bytes] = []
    async with (
        raw_server(replica(leaving, say_ok, ready=503)) as a,
        raw_server(replica(staying, say_ok)) as b,
        caddy(tmp_path, f"127.0.0.1:{a}", f"127.0.0.1:{b}") as base_url,
        open_client(connect_timeout_s=5) as http,
    ):

        async def noticed() -> bool:
            return "unexpected status code" in (tmp_path / "caddy.log").read_text(encoding="utf-8")

        await until(noticed)
        for _ in range(20):
            assert (await http.post(f"{base_url}/v1/images/generations", json={})).status_code == 200
        assert (len(leaving), len(staying)) == (0, 20)


async def test_a_rolling_restart_behind_it_fails_no_call(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
) -> None:
    engines = await engines_for(tmp_path, postgres, valkey)
    fake = FakeProvider(delay_s=0.3)
    async with (
        running(fake) as provider_url,
        process_fleet(engines, provider_url, replicas=2, drain_delay_s=5, drain_s=30) as replicas,
        caddy(tmp_path, *(process.base_url.removeprefix("http://") for process in replicas.processes)) as base_url,
        open_client(connect_timeout_s=30) as http,
    ):
        behind = Gateway(base_url, http)
        key = await behind.new_key()
        async with calling(behind, key) as statuses:
            for restarted, process in enumerate(replicas.processes, 1):
                process.send_signal(signal.SIGTERM)
                assert await process.exit_code() == 0
                await process.start()
                await until(
                    partial(is_back, tmp_path / "caddy.log", restarted)
                )  # as a rollout waits before the next one
        assert set(statuses) == {200}
        assert Decimal((await behind.usage())["cost_usd"]) == billed(fake)


async def is_back(log: Path, restarted: int) -> bool:
    """Whether the load balancer has seen every restarted replica ready again."""
    return log.read_text(encoding="utf-8").count("host is up") >= restarted
