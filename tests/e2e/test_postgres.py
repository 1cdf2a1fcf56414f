"""The same application on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.demo.provider import FakeProvider, running
from gateway.errors import ConfigurationError
from gateway.resources import migrate_database, open_resources
from tests.e2e.test_money import billed, books, month_budget
from tests.support.gateway import running_gateway, settings_for
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer


async def test_on_postgresql_a_budget_is_exact_and_equal_calls_are_bought_once(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """F8 and F1, after `darkroom migrate`; without it `serve` says so."""
    fake = FakeProvider(delay_s=0.5)
    database_url = (await asyncio.to_thread(postgres.create_database)).render_as_string()
    async with running(fake) as provider_url:
        settings = settings_for(
            tmp_path,
            provider_url,
            port=free_port(),
            database_url=database_url,
            security={"admin_key": "admin-key-of-the-tests", "secrets": ["s" * 32]},
        )
        with pytest.raises(ConfigurationError, match="run `darkroom migrate` first"):
            async with open_resources(settings):
                pass
        await migrate_database(settings)
        async with running_gateway(settings) as gateway:
            key = await gateway.new_key(limits=[month_budget("1.3")])
            different = [gateway.generate(key, seed=seed, image_size="square") for seed in range(1, 201)]
            answers = await asyncio.gather(*different)
            assert Counter(answer.status_code for answer in answers) == {200: 20, 429: 180}
            rich = await gateway.new_key()
            equal = await asyncio.gather(*(gateway.generate(rich, seed=999) for _ in range(100)))
            assert {answer.status_code for answer in equal} == {200}
            assert len(fake.bill) == 21
            assert billed(fake) == await books(gateway) == Decimal("1.365")
            assert (await gateway.usage())["requests"] == 300
            report = await gateway.admin("GET", "/usage", group_by="user,tag:app", bucket="day")
            assert sum(row["requests"] for row in report["data"]) == 300
