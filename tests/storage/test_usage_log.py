"""The usage log and its hourly totals, on both engines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.domain.usage_row import UsageRow
from gateway.storage import tables, usage_log
from gateway.storage.database import Database
from gateway.storage.usage_totals import SUMS
from tests.support.ledger import AT_MS, HOUR_MS, PRICE, usage_row


async def add(database: Database, *rows: UsageRow) -> int:
    return await database.write(lambda conn: usage_log.add(conn, rows))


async def totals(database: Database) -> dict[str, int]:
    """Of all hours and callers."""
    sums = [sa.func.coalesce(sa.func.sum(tables.usage_hourly.c[name]), 0).label(name) for name in SUMS]
    row = await database.read(lambda conn: conn.execute(sa.select(*sums)).mappings().one())
    return {name: int(row[name]) for name in SUMS}


async def count(database: Database, **changes: Any) -> int:
    asked: dict[str, Any] = {
        "mode": "live",
        "scope_column": "user_id",
        "scope_id": "user_1",
        "since_ms": AT_MS,
    } | changes
    return await database.read(lambda conn: usage_log.count_requests(conn, **asked))


async def test_a_row_that_comes_twice_is_counted_once(database: Database):
    row, other = usage_row(), usage_row()
    assert await add(database, row, row, other) == 2
    assert await add(database, other, row) == 0
    assert await totals(database) == (await totals(database)) | {"requests": 2, "cost_micro_usd": 2 * PRICE}


async def test_the_same_rows_from_many_writers_at_once_are_counted_once(database: Database):
    rows = [usage_row(at_ms=AT_MS + i % 5 * HOUR_MS, user_id=f"user_{i % 3}") for i in range(60)]
    added = await asyncio.gather(*(add(database, *rows[i:], *rows[:i]) for i in range(0, 60, 10)))
    assert sum(added) == 60
    assert (await totals(database))["requests"] == 60


async def test_more_rows_than_a_statement_takes_are_all_there(database: Database):
    rows = [usage_row(at_ms=AT_MS + i) for i in range(1201)]
    assert await add(database, *rows) == 1201
    assert (await totals(database))["requests"] == 1201


async def test_no_rows_add_nothing(database: Database):
    assert await add(database) == 0
    assert await totals(database) == dict.fromkeys(SUMS, 0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"generation_id": "gen_1"}, {"counted": 1, "generations": 1, "images": 1, "cost_micro_usd": PRICE}),
        (
            {"outcome": "hit", "generation_id": "gen_1", "cost_micro_usd": 0, "saved_micro_usd": PRICE},
            {"counted": 1, "hits": 1, "images": 1, "saved_micro_usd": PRICE},
        ),
        ({"outcome": "joined", "cost_micro_usd": 0, "images": 2}, {"counted": 1, "joined": 1, "images": 2}),
        (
            {"outcome": "failed", "status": 504, "generation_id": "gen_1", "cost_micro_usd": None, "images": 0},
            {"counted": 1, "generations": 1, "errors": 1},
        ),
        ({"outcome": "refused", "status": 400, "images": 0, "cost_micro_usd": 0}, {"counted": 1, "errors": 1}),
        ({"outcome": "refused", "status": 429, "images": 0, "cost_micro_usd": 0}, {"errors": 1}),
        (
            {"outcome": "refused", "status": 403, "code": "budget_exhausted", "images": 0, "cost_micro_usd": 0},
            {"errors": 1},
        ),
    ],
)
async def test_what_a_row_adds(database: Database, changes: dict[str, Any], expected: dict[str, int]):
    await add(database, usage_row(**changes))
    assert await totals(database) == dict.fromkeys(SUMS, 0) | {"requests": 1} | expected


async def test_rows_without_team_model_or_provider_have_totals_too(database: Database):
    bare = {"team_id": None, "model": None, "provider": None, "outcome": "refused", "status": 400}
    await add(database, usage_row(**bare), usage_row(**bare))
    assert (await totals(database))["requests"] == 2
    [row] = await database.read(lambda conn: conn.execute(sa.select(tables.usage_hourly)).mappings().all())
    assert (row["team_id"], row["model"], row["provider"]) == ("", "", "")


async def test_the_calls_of_a_scope_are_counted_from_an_hour_on_without_those_a_limit_refused(database: Database):
    await add(
        database,
        usage_row(at_ms=AT_MS),
        usage_row(at_ms=AT_MS + 2 * HOUR_MS, outcome="hit", key_id="key_2"),
        usage_row(at_ms=AT_MS, outcome="refused", status=400),
        usage_row(at_ms=AT_MS, outcome="refused", status=429),
        usage_row(at_ms=AT_MS - 1),
        usage_row(mode="test"),
        usage_row(user_id="user_2"),
    )
    assert await count(database) == 3
    assert await count(database, scope_column="key_id", scope_id="key_2") == 1
    assert await count(database, scope_column="team_id", scope_id="team_1") == 4
    assert await count(database, since_ms=0) == 4
    assert await count(database, scope_id="user_of_nobody") == 0


async def test_sums_beyond_32_bits_are_exact_integers(database: Database):
    await add(database, *(usage_row(cost_micro_usd=10**15) for _ in range(3)))
    assert (await totals(database))["cost_micro_usd"] == 3 * 10**15


async def test_rows_past_retention_go_and_the_totals_stay(database: Database):
    await add(database, usage_row(at_ms=AT_MS - 1), usage_row(at_ms=AT_MS))
    assert await database.write(lambda conn: usage_log.delete_before(conn, AT_MS)) == 1
    left = await database.read(lambda conn: conn.execute(sa.select(tables.usage_log.c.at_ms)).scalars().all())
    assert left == [AT_MS]
    assert (await totals(database))["requests"] == 2


async def test_tags_and_labels_are_read_back_as_written(database: Database):
    tags, labels = {"app": "søk", "quote": 'a"b'}, {"cost-centre": "x\u0000y"}
    await add(database, usage_row(tags=tags, labels=labels))
    [row] = await database.read(lambda conn: conn.execute(sa.select(tables.usage_log)).mappings().all())
    assert (row["tags"], row["labels"]) == (tags, labels)
