"""Sums over the usage log: from rows and from totals alike, on both engines."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from gateway.domain.usage_row import UsageRow
from gateway.storage import usage_log, usage_queries
from gateway.storage.database import Database
from gateway.storage.usage_queries import UsageQuery, UsageSums
from gateway.storage.usage_totals import DAY_MS, SUMS, measures
from tests.support.ledger import AT_MS, HOUR_MS, PRICE, usage_row

END_MS = AT_MS + 4 * DAY_MS


def some_rows(*, seed: int, count: int = 300) -> list[UsageRow]:
    """Rows of every kind over four days, some on the very edges of hours."""
    chance = random.Random(seed)
    return [
        usage_row(
            at_ms=AT_MS
            + chance.choice([0, HOUR_MS - 1, HOUR_MS, chance.randrange(HOUR_MS)])
            + chance.randrange(95) * HOUR_MS,
            mode=chance.choice(["live", "live", "test"]),
            user_id=chance.choice(["user_1", "user_2"]),
            team_id=chance.choice(["team_1", None]),
            model=chance.choice(["flux-pro", "flux-dev", None]),
            provider=chance.choice(["aimlapi", None]),
            outcome=chance.choice(["bought", "hit", "joined", "failed", "refused"]),
            status=chance.choice([200, 200, 400, 403, 429, 504]),
            code=chance.choice([None, "budget_exhausted", "provider_error"]),
            images=chance.randrange(4),
            cost_micro_usd=chance.choice([None, 0, PRICE]),
            saved_micro_usd=chance.choice([0, PRICE]),
            generation_id=chance.choice([None, "gen_1"]),
            tags=chance.choice([None, {"app": "a"}, {"app": "b", "env": "x"}]),
            labels=chance.choice([None, {"cc": "1"}]),
        )
        for _ in range(count)
    ]


def counted_by_hand(rows: list[UsageRow], query: UsageQuery) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The same answer from the rows themselves."""
    found: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for row in rows:
        if row.mode != query.mode or not query.from_ms <= row.at_ms < query.to_ms:
            continue
        if any(getattr(row, name) != value for name, value in query.where.items()):
            continue
        step = None if query.step_ms is None else row.at_ms - row.at_ms % query.step_ms
        tags = tuple((row.tags or {}).items()) if query.tags else ()
        labels = tuple((row.labels or {}).items()) if query.labels else ()
        place = (step, tags, labels, *(getattr(row, name) for name in query.columns))
        for index, amount in enumerate(measures(row)):
            found[place][index] += amount
    return {place: tuple(sums) for place, sums in found.items()}


def by_place(found: list[UsageSums], query: UsageQuery) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Groups with their parts added up."""
    placed: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for part in found:
        group = (part.group[name] for name in query.columns)
        place = (part.step_start_ms, tuple(part.tags.items()), tuple(part.labels.items()), *group)
        for index, amount in enumerate(part.sums):
            placed[place][index] += amount
    return {place: tuple(sums) for place, sums in placed.items()}


async def fill(database: Database, rows: list[UsageRow]) -> None:
    await database.write(lambda conn: usage_log.add(conn, rows))


async def ask(database: Database, query: UsageQuery) -> list[UsageSums]:
    return await database.read(lambda conn: usage_queries.usage_sums(conn, query))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("step_ms", [None, HOUR_MS, DAY_MS])
@pytest.mark.parametrize("columns", [(), ("user_id",), ("team_id", "model"), ("key_id", "provider")])
@pytest.mark.parametrize("cut_ms", [0, 1234, HOUR_MS, 5 * HOUR_MS + 1, 2 * DAY_MS - 1])
async def test_the_answer_is_what_a_count_by_hand_gives_from_totals_and_from_rows(
    database: Database, seed: int, step_ms: int | None, columns: tuple[str, ...], cut_ms: int
):
    rows = some_rows(seed=seed)
    await fill(database, rows)
    query = UsageQuery("live", AT_MS + cut_ms, END_MS - cut_ms, columns=columns, step_ms=step_ms)
    assert by_place(await ask(database, query), query) == counted_by_hand(rows, query)


@pytest.mark.parametrize(("tags", "labels"), [(True, False), (False, True), (True, True)])
async def test_groups_by_tags_and_labels(database: Database, tags: bool, labels: bool):
    rows = some_rows(seed=3)
    await fill(database, rows)
    query = UsageQuery("live", AT_MS, END_MS, columns=["user_id"], tags=tags, labels=labels, step_ms=DAY_MS)
    assert by_place(await ask(database, query), query) == counted_by_hand(rows, query)


@pytest.mark.parametrize("cut_ms", [0, 1])
async def test_restricted_to_a_user_and_a_model(database: Database, cut_ms: int):
    rows = some_rows(seed=4)
    await fill(database, rows)
    where = {"user_id": "user_1", "model": "flux-pro"}
    query = UsageQuery("test", AT_MS, END_MS - cut_ms, columns=["model"], where=where)
    assert by_place(await ask(database, query), query) == counted_by_hand(rows, query)


async def test_nothing_in_the_range_is_no_group(database: Database):
    await fill(database, [usage_row()])
    assert await ask(database, UsageQuery("live", 0, HOUR_MS)) == []
    assert await ask(database, UsageQuery("live", 1, 2)) == []
    assert await ask(database, UsageQuery("test", 0, END_MS)) == []


async def test_how_often_a_generation_answered_another_call(database: Database):
    of_it = {"generation_id": "gen_1", "saved_micro_usd": PRICE}
    await fill(
        database,
        [
            usage_row(generation_id="gen_1"),
            usage_row(outcome="hit", **of_it),
            usage_row(outcome="joined", **of_it),
            usage_row(outcome="hit", generation_id="gen_2"),
        ],
    )
    assert await database.read(lambda conn: usage_queries.reuse_of(conn, "gen_1")) == (2, 2 * PRICE)
    assert await database.read(lambda conn: usage_queries.reuse_of(conn, "gen_3")) == (0, 0)


async def test_what_was_paid_for_a_call_of_another_month_is_reported_by_itself(database: Database):
    await fill(database, [usage_row(at_ms=END_MS, outcome="settlement", status=0, images=0)])
    query = UsageQuery("live", END_MS, END_MS + DAY_MS, columns=["user_id"])
    assert by_place(await ask(database, query), query) == {
        (None, (), (), "user_1"): tuple(PRICE if name == "cost_micro_usd" else 0 for name in SUMS)
    }
