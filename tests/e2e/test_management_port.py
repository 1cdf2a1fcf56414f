"""A management port: what is not for callers answers there, and there only."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.demo.provider import FakeProvider, running
from tests.support.console import Visitor, signed_in, words_of
from tests.support.gateway import ADMIN_KEY, Gateway, GatewayProcess, gateway_and_provider
from tests.support.http_client import open_client
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.replicas import engines_for, process_fleet
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

FOR_OPERATORS = ["/metrics", "/admin/v1/teams", "/admin/v1/usage"]
FOR_CALLERS = ["/v1/models", "/v1/usage", "/images/img_x.jpg"]


@asynccontextmanager
async def two_doors(tmp_path: Path, fake: FakeProvider) -> AsyncIterator[tuple[GatewayProcess, Gateway, Gateway]]:
    """The process, what callers see of it and what operators do."""
    port = free_port()
    async with running(fake) as provider_url, open_client(connect_timeout_s=30) as http:
        process = GatewayProcess(
            tmp_path / "data", provider_url, tmp_path / "log", drain_s=30, others={"management": {"port": port}}
        )
        await process.start()
        try:
            yield process, Gateway(process.base_url, http), Gateway(f"http://127.0.0.1:{port}", http)
        finally:
            process.kill()


async def statuses(gateway: Gateway, paths: list[str]) -> dict[str, int]:
    return {path: (await gateway.get(path, ADMIN_KEY)).status_code for path in paths}


async def test_each_port_answers_its_own(tmp_path: Path) -> None:
    async with two_doors(tmp_path, FakeProvider()) as (_, callers, operators):
        key = await operators.new_key()
        assert (await callers.generate(key, seed=1)).status_code == 200
        assert (await callers.generate(key, seed=1)).headers["cache-status"] == "darkroom; hit"
        assert (await operators.generate(key, seed=1)).status_code == 404
        assert await statuses(operators, FOR_OPERATORS) == dict.fromkeys(FOR_OPERATORS, 200)
        assert await statuses(callers, FOR_OPERATORS) == dict.fromkeys(FOR_OPERATORS, 404)
        assert await statuses(operators, FOR_CALLERS) == dict.fromkeys(FOR_CALLERS, 404)
        for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
            assert (await callers.get(path)).status_code == (await operators.get(path)).status_code == 200


async def test_what_is_elsewhere_is_refused_in_the_envelope_and_not_documented(tmp_path: Path) -> None:
    async with two_doors(tmp_path, FakeProvider()) as (_, callers, operators):
        refused = await callers.get("/admin/v1/teams", ADMIN_KEY)
        assert refused.json()["error"]["code"] == "not_found"
        for gateway, own, alien in ((callers, "/v1/models", "/metrics"), (operators, "/metrics", "/v1/models")):
            documented = (await gateway.get("/openapi.json")).json()["paths"]
            assert own in documented
            assert alien not in documented


async def test_while_the_gateway_drains_operators_can_look(tmp_path: Path) -> None:
    fake = FakeProvider()
    async with two_doors(tmp_path, fake) as (process, callers, operators):
        key = await operators.new_key()
        fake.gate = asyncio.Event()
        buyer = asyncio.create_task(callers.generate(key, seed=1))
        await fake.wait_for_calls(1)
        process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            return "draining" in (await operators.get("/readyz")).text

        await until(draining)
        assert "darkroom_open_purchases 1.0" in (await operators.get("/metrics")).text
        fake.gate.set()
        assert (await buyer).status_code == 200
        assert await process.exit_code() == 0


async def test_the_command_finds_the_management_port_in_the_settings(tmp_path: Path) -> None:
    async with two_doors(tmp_path, FakeProvider()) as (process, _, operators):
        env = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM")}
        told = [sys.executable, "-m", "gateway", "--config", str(process.config), "team", "create", "Search"]
        env = {**env, "DARKROOM_ADMIN_KEY": ADMIN_KEY}
        await asyncio.to_thread(subprocess.run, told, check=True, env=env, stdout=subprocess.DEVNULL)
        assert [team["name"] for team in (await operators.admin("GET", "/teams"))["data"]] == ["Search"]


async def test_a_port_that_is_taken_is_told_before_anything_is_served(tmp_path: Path) -> None:
    async with two_doors(tmp_path, FakeProvider()) as (_, _, operators):
        other = tmp_path / "other"
        other.mkdir()
        port = int(operators.base_url.rsplit(":", 1)[1])
        second = GatewayProcess(
            other / "data", "http://127.0.0.1:1", other / "log", others={"management": {"port": port}}
        )
        with pytest.raises(RuntimeError, match=rf"management: can't listen on 127\.0\.0\.1:{port}"):
            await second.start()


async def test_workers_share_both_ports(tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer) -> None:
    engines = await engines_for(tmp_path, postgres, valkey)
    port = free_port()
    engines.more = {"management": {"port": port}}
    async with (
        running(FakeProvider()) as provider_url,
        process_fleet(engines, provider_url, replicas=1, workers=2) as fleet,
        open_client(connect_timeout_s=30) as http,
    ):
        callers, operators = fleet.gateways[0], Gateway(f"http://127.0.0.1:{port}", http)
        key = await operators.new_key()
        assert (await callers.generate(key, seed=1)).status_code == 200
        assert (await callers.get("/metrics")).status_code == 404

        async def both_are_shown() -> bool:
            text = (await operators.get("/metrics")).text
            return 'worker="1"' in text and 'worker="2"' in text

        await until(both_are_shown)


async def test_administrators_sign_in_at_their_port_and_callers_at_either(tmp_path: Path) -> None:
    async with two_doors(tmp_path, FakeProvider()) as (_, callers, operators):
        administrator = await signed_in(operators)
        assert "Overview" in await administrator.text("live/overview")
        key = await operators.new_key()
        for door in (callers, operators):
            assert "My usage" in await (await signed_in(door, key)).text("live/mine")
        refused = await Visitor(callers).sign_in(ADMIN_KEY)
        assert refused.status_code == 401
        assert "management port" in words_of(refused.text)
        carried = Visitor(callers, administrator.cookie)
        assert (await carried.get("live/overview")).status_code == 303, "the same cookie opens no page here"


async def test_there_is_no_console_where_it_is_off(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path / "data", console={"enabled": False}) as (gateway, _):
        for path in ("/console", "/console/sign-in"):
            assert (await gateway.get(path)).status_code == 404
