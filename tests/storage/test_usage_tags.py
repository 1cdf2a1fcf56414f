"""Totals by tag: whatever is asked, they say what the rows say, on both engines."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

import pytest

from gateway.domain.usage_row import UsageRow
from gateway.storage import tables, usage_log, usage_queries, usage_tags
from gateway.storage.database import Database
from gateway.storage.usage_queries import UsageQuery
from gateway.storage.usage_totals import DAY_MS, SUMS, measures
from tests.storage.test_usage_queries import END_MS, some_rows
from tests.support.ledger import AT_MS, HOUR_MS, Books, usage_row

Counted = dict[tuple[Any, ...], tuple[int, ...]]


def by_hand(rows: list[UsageRow], query: UsageQuery) -> Counted:
    """Sums by step, value of the tag, and columns; groups of nothing but zeros left out."""
    assert query.tag is not None
    found: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for row in rows:
        value = (row.tags or {}).get(query.tag)
        if row.mode != query.mode or not query.from_ms <= row.at_ms < query.to_ms:
            continue
        if query.tag_value not in {None, value} or any(getattr(row, n) != v for n, v in query.where.items()):
            continue
        step = None if query.step_ms is None else row.at_ms - row.at_ms % query.step_ms
        for index, amount in enumerate(measures(row)):
            found[step, value, *(getattr(row, name) for name in query.columns)][index] += amount
    return {place: tuple(sums) for place, sums in found.items() if any(sums)}


async def asked(database: Database, query: UsageQuery) -> Counted:
    found: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for part in await database.read(lambda conn: usage_queries.usage_sums(conn, query)):
        place = (part.step_start_ms, part.tags.get(query.tag or ""), *(part.group[name] for name in query.columns))
        for index, amount in enumerate(part.sums):
            found[place][index] += amount
    return {place: tuple(sums) for place, sums in found.items() if any(sums)}


async def fill(database: Database, rows: list[UsageRow]) -> None:
    await database.write(lambda conn: usage_log.add(conn, rows))


async def since(database: Database, day_ms: int) -> None:
    await database.write(lambda conn: conn.execute(tables.usage_tags_since.insert().values(day_ms=day_ms)))


WHERE: list[dict[str, str]] = [{}, {"user_id": "user_1"}, {"team_id": "team_1", "model": "flux-pro"}]


@pytest.mark.parametrize("seed", range(6))
async def test_totals_by_tag_are_what_a_count_by_hand_gives(database: Database, seed: int):
    chance = random.Random(seed)
    rows = some_rows(seed=seed)
    await fill(database, rows)
    if seed % 2:
        await since(database, (AT_MS // DAY_MS + chance.randrange(4)) * DAY_MS)
    for _ in range(40):
        query = UsageQuery(
            chance.choice(["live", "test"]),
            AT_MS + chance.choice([0, 1234, HOUR_MS, DAY_MS, -5 * DAY_MS]),
            END_MS - chance.choice([0, 1, HOUR_MS, 2 * DAY_MS - 1, -5 * DAY_MS]),
            columns=chance.choice([(), ("user_id",), ("team_id", "model"), ("key_id", "provider")]),
            tag=chance.choice(["app", "env", "none"]),
            tag_value=chance.choice([None, "a", "x", "z"]),
            step_ms=chance.choice([None, HOUR_MS, DAY_MS]),
            where=chance.choice(WHERE),
        )
        assert await asked(database, query) == by_hand(rows, query), query


async def test_a_row_that_comes_twice_is_counted_once_and_one_without_tags_not_at_all(database: Database):
    tagged = usage_row(tags={"app": "a", "env": "x"})
    for _ in range(2):
        await fill(database, [tagged, usage_row(tags=None), usage_row(tags={})])
    rows = await Books(database).rows(tables.usage_tags_daily)
    assert [(row["tag"], row["value"], row["requests"]) for row in rows] == [("app", "a", 1), ("env", "x", 1)]


async def test_writers_at_once_lose_nothing(database: Database):
    tags = {"b": "2", "a": "1"}
    await asyncio.gather(*(fill(database, [usage_row(tags=tags) for _ in range(20)]) for _ in range(8)))
    rows = await Books(database).rows(tables.usage_tags_daily)
    assert [(row["tag"], row["requests"]) for row in rows] == [("a", 160), ("b", 160)]


async def test_the_names_of_tags_are_those_of_a_mode_and_a_team(database: Database):
    await fill(
        database,
        [
            usage_row(tags={"app": "a", "env": "x"}),
            usage_row(tags={"app": "b"}, team_id="team_2"),
            usage_row(tags={"secret": "s"}, mode="test"),
        ],
    )
    assert await database.read(lambda conn: usage_tags.names(conn, "live")) == {"app": 2, "env": 1}
    assert await database.read(lambda conn: usage_tags.names(conn, "live", team_id="team_2")) == {"app": 1}


async def test_the_tags_of_a_user_can_be_forgotten(database: Database):
    await fill(database, [usage_row(tags={"app": "a"}), usage_row(tags={"app": "a"}, user_id="user_2")])
    await database.write(lambda conn: usage_tags.forget_user(conn, "user_1"))
    assert [row["user_id"] for row in await Books(database).rows(tables.usage_tags_daily)] == ["user_2"]
