"""The same application on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.demo.provider import FakeProvider, running
from gateway.errors import ConfigurationError
from gateway.resources import migrate_database, open_resources
from gateway.storage import tables
from gateway.storage.database import open_database
from tests.e2e.test_crashes import Load, under_load
from tests.e2e.test_money import billed, books, month_budget
from tests.support.gateway import running_gateway, settings_for
from tests.support.ledger import Books
from tests.support.line import line_to
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.waiting import until


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


async def test_with_answers_of_postgresql_lost_after_the_effect_nothing_is_bought_or_booked_twice(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """F10: under load the line to the database is cut, answers first, so that commits are done and not known to be."""
    fake = FakeProvider(delay_s=0.2)
    url = await asyncio.to_thread(postgres.create_database)
    async with running(fake) as provider_url, line_to(url.port or 0) as line:
        settings = settings_for(
            tmp_path,
            provider_url,
            port=free_port(),
            database_url=url.set(port=line.port).render_as_string(),
            database={
                "statement_timeout_s": 1,
                "lock_timeout_s": 0.5,
                "connect_timeout_s": 1,
                "pool_wait_s": 2,
                "idle_in_transaction_timeout_s": 5,  # for what the server never hears to have been given up
            },
            security={"admin_key": "admin-key-of-the-tests", "secrets": ["s" * 32]},
        )
        await migrate_database(settings)
        async with running_gateway(settings) as gateway:
            ledger = Books(open_database(url))  # by a line of its own
            async with under_load(gateway, await gateway.new_key()) as callers:
                for _ in range(2):
                    await until(partial(more_than, callers, len(callers.answered) + 20))
                    line.cut()
                    await until(partial(refused, callers))
                    line.mend()
            await until(partial(nothing_is_open, ledger))
            await gateway.usage()  # what the journal holds is in SQL then
            charged = Counter(row["client_request_id"] for row in fake.bill)
            rows = {row["id"]: row for row in await ledger.rows(tables.generations)}
            assert set(charged.values()) == {1}
            assert set(charged) <= set(rows)
            assert {rows[each]["status"] for each in charged} <= {"succeeded", "unknown"}
            assert {row["id"] for row in rows.values() if row["status"] == "succeeded"} <= set(charged)
            assert await ledger.broken_rules() == []
            await ledger.database.close()


async def more_than(callers: Load, count: int) -> bool:
    return len(callers.answered) > count


async def refused(callers: Load) -> bool:
    """Whether a call was refused since the line was cut: then the time-outs have run out."""
    before = callers.refused
    callers.progress.clear()
    await callers.progress.wait()
    return callers.refused > before


async def nothing_is_open(ledger: Books) -> bool:
    """Leases of what was lost sight of run out at once; recovery, every 15 s, does the rest."""
    g = tables.generations.c
    under_way = sa.select(g.id).where(g.status.in_(tables.UNDER_WAY))
    free = under_way.with_for_update(skip_locked=True)  # a transaction whose line was cut may hold its row for a while
    expired = sa.update(tables.generations).where(g.id.in_(free.scalar_subquery())).values(lease_until_ms=0)
    await ledger.database.write(lambda conn: conn.execute(expired))
    return await ledger.database.read(lambda conn: conn.execute(under_way).first()) is None
