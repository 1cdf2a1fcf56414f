"""Backups under load, restores elsewhere, the move from SQLite to PostgreSQL: drilled with all of the application."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Settings
from gateway.demo.provider import FakeProvider, running
from gateway.errors import ConfigurationError
from gateway.resources import migrate_database, safe_keeping
from gateway.storage.table_files import Figures
from tests.e2e.test_crashes import Load, gateway_process, under_load
from tests.e2e.test_money import billed, books, month_budget
from tests.support.gateway import ADMIN_KEY, Gateway, running_gateway, settings_for
from tests.support.ledger import Books
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.waiting import until

SECURITY = {"admin_key": ADMIN_KEY, "secrets": ["s" * 32]}


def nobody_asks(_name: str, _done: int, _total: int) -> None:
    """Progress that no one watches."""


async def settings_on(engine: str, server: PostgresServer, folder: Path, provider_url: str) -> Settings:
    """Of a gateway with a data folder, and with PostgreSQL a database, of its own."""
    url = None
    if engine == "postgresql":
        made = await asyncio.to_thread(server.create_database)
        url = made.render_as_string(hide_password=False)
    return settings_for(folder, provider_url, port=free_port(), database_url=url, security=SECURITY)


@pytest.mark.parametrize(
    ("source", "target"), [("sqlite", "sqlite"), ("postgresql", "postgresql"), ("postgresql", "sqlite")]
)
async def test_a_backup_made_under_load_serves_elsewhere_with_its_keys_pictures_and_balanced_books(
    tmp_path: Path, postgres: PostgresServer, source: str, target: str
) -> None:
    fake = FakeProvider(delay_s=0.05)
    async with running(fake) as provider_url:
        here = await settings_on(source, postgres, tmp_path / "here", provider_url)
        await migrate_database(here)
        async with running_gateway(here) as gateway:
            key = await gateway.new_key(limits=[month_budget("1000")])
            first = [await gateway.generate(key, seed=seed, prompt="before") for seed in range(1, 6)]
            pictures = [(await gateway.get(answer.json()["images"][0]["url"])).content for answer in first]
            async with under_load(gateway, key) as callers:
                await until(lambda: _some(callers))
                made = await safe_keeping.back_up(here, tmp_path / "kept", with_images=True, tell=nobody_asks)
        assert safe_keeping.verify(tmp_path / "kept") == made
        assert (made.images.with_bytes, made.images.lost) == (True, [])
        there = await settings_on(target, postgres, tmp_path / "there", provider_url)
        assert (await safe_keeping.restore(there, tmp_path / "kept", tell=nobody_asks)).warnings == []
        async with running_gateway(there) as gateway:
            again = [await gateway.generate(key, seed=seed, prompt="before") for seed in range(1, 6)]
            assert {answer.headers["cache-status"] for answer in again} == {"darkroom; hit"}
            shown = [(await gateway.get(answer.json()["images"][0]["url"])).content for answer in again]
            assert shown == pictures
            assert await Books(gateway.resources.database).broken_rules() == []
            await assert_settled_to_the_bill(gateway, fake, made.tables["generations"].figures)
            assert (await gateway.generate(key, seed=10**12, prompt="after")).status_code == 200


async def assert_settled_to_the_bill(gateway: Gateway, fake: FakeProvider, kept: Figures) -> None:
    """Each purchase of the backup costs what the provider charged for it. Those that were out when it was made are
    settled by the provider's logs, or unknown yet."""
    charged = {row["client_request_id"]: Decimal(str(row["cost_usd"])) for row in fake.bill}
    rows = await gateway.generations(mode="live")
    costs = {row["id"]: Decimal(row["cost_usd"]) for row in rows if Decimal(row["cost_usd"] or 0)}
    assert len(rows) == kept.rows
    assert costs == {generation_id: charged[generation_id] for generation_id in costs}
    assert sum(costs.values()) * 10**6 >= kept.sums["cost_micro_usd"]


async def _some(callers: Load) -> bool:
    return len(callers.answered) > 60


def darkroom(config: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "gateway", "--config", str(config), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_a_gateway_grows_from_sqlite_to_postgresql_with_everything_it_had(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """Killed, not stopped: its journal is copied too. What the command says to write is what makes the new one work."""
    url = (await asyncio.to_thread(postgres.create_database)).set(drivername="postgresql").render_as_string()
    fake = FakeProvider()
    async with gateway_process(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key(limits=[month_budget("0.26")])
        await gateway.admin("POST", "/providers/aimlapi/keys", {"value": "provider-secret-2", "name": "second"})
        first = [await gateway.generate(key, seed=seed) for seed in (1, 2, 3, 1)]
        refused = await asyncio.to_thread(darkroom, process.config, "migrate", "--to", url)
        assert (refused.returncode, "another darkroom is running" in refused.stderr) == (1, True)
        process.kill()
        moved = await asyncio.to_thread(darkroom, process.config, "migrate", "--to", url)
        assert moved.returncode == 0, moved.stderr
        advice = yaml.safe_load(moved.stdout.partition("config.yaml:\n")[2].partition("Pictures stay")[0])
        settings: dict[str, Any] = yaml.safe_load(process.config.read_text())
        settings["security"] |= advice["security"]
        settings["database_url"] = url
        process.config.write_text(yaml.safe_dump(settings))
        await process.start()
        again = [await gateway.generate(key, seed=seed) for seed in (1, 2, 3)]
        assert [answer.headers["cache-status"] for answer in again] == ["darkroom; hit"] * 3
        assert [answer.json()["images"] for answer in again] == [answer.json()["images"] for answer in first[:3]]
        assert (await gateway.usage())["requests"] == 7
        assert [(await gateway.generate(key, seed=seed)).status_code for seed in (4, 5)] == [200, 429]
        assert billed(fake) == await books(gateway) == Decimal("0.26")
        names = {row["name"] for row in (await gateway.admin("GET", "/providers/aimlapi/keys"))["data"]}
        assert "second" in names
        twice = await asyncio.to_thread(darkroom, process.config, "migrate", "--to", url)
        assert (twice.returncode, "embedded database" in twice.stderr) == (1, True)
    assert (tmp_path / "data" / "darkroom.db").is_file()


async def test_a_restore_never_touches_a_database_that_is_in_use(tmp_path: Path) -> None:
    async with running(FakeProvider()) as provider_url:
        settings = settings_for(tmp_path / "data", provider_url, port=free_port())
        async with running_gateway(settings) as gateway:
            await gateway.new_key()
            await safe_keeping.back_up(settings, tmp_path / "kept", with_images=False, tell=nobody_asks)
            with pytest.raises(ConfigurationError, match="another darkroom is running"):
                await safe_keeping.restore(settings, tmp_path / "kept", tell=nobody_asks)
        with pytest.raises(ConfigurationError, match="is not empty"):
            await safe_keeping.restore(settings, tmp_path / "kept", tell=nobody_asks)


async def test_a_restore_says_which_secrets_and_which_pictures_are_missing(tmp_path: Path) -> None:
    async with running(FakeProvider()) as provider_url:
        here = settings_for(tmp_path / "here", provider_url, port=free_port())
        async with running_gateway(here) as gateway:
            await gateway.generate(await gateway.new_key(), seed=1)
            await gateway.admin("POST", "/providers/aimlapi/keys", {"value": "provider-secret-2", "name": "second"})
            made = await safe_keeping.back_up(here, tmp_path / "kept", with_images=False, tell=nobody_asks)
        text = (tmp_path / "kept" / "manifest.json").read_text()
        for name in ("secret", "encryption_key"):
            assert (tmp_path / "here" / name).read_text().strip() not in text
        there = settings_for(tmp_path / "there", provider_url, port=free_port())
        lacking = await safe_keeping.restore(there, tmp_path / "kept", tell=nobody_asks)
    assert [words.split(":")[0].split(" (")[0] for words in lacking.warnings] == [
        f"security.secrets lacks {made.secrets[0]}",
        f"security.encryption_keys lacks {made.encryption_keys[0]}",
        f"1 pictures have no bytes in the folder {tmp_path / 'there' / 'images'}",
    ]
