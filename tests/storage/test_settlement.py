"""Unknown outcomes settled once, and corrections that never edit, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.domain.limits import Metric, ScopeKind, Window
from gateway.storage import settlement, tables
from gateway.storage.database import Database
from gateway.storage.generations import Charge
from tests.support.ledger import PRICE, Books, limit

BUDGET = limit(10 * PRICE)
MONTHLY = limit(10 * PRICE, window=Window.MONTH, scope=ScopeKind.KEY)
IMAGES = limit(10, Metric.IMAGES)


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    """Books that are in order when a test is over."""
    made = Books(database)
    yield made
    assert await made.broken_rules() == []


@pytest.mark.parametrize("cost", [0, PRICE, 2 * PRICE])
async def test_what_was_unknown_is_settled_once_to_what_it_cost(books: Books, cost: int):
    made = await books.unknown(BUDGET, MONTHLY, IMAGES)
    assert await books.counter(BUDGET) == (0, PRICE)
    outcomes = await asyncio.gather(*(books.settle(made.id, cost) for _ in range(4)))
    assert sorted(outcomes) == [False, False, False, True]
    row = await books.row(made.id)
    assert (row["status"], row["cost_micro_usd"], row["settled_by"]) == ("failed", cost, "books")
    assert row["overrun"] is (cost > PRICE)
    assert await books.counter(BUDGET) == await books.counter(MONTHLY) == (cost, 0)
    assert await books.counter(IMAGES) == (0, 0)
    assert await books.rows(tables.holds) == []
    assert await books.logged_cost() == cost


async def test_a_settlement_is_money_and_no_call(books: Books):
    made = await books.unknown(BUDGET)
    await books.settle(made.id, PRICE)
    lost, settled = sorted(await books.rows(tables.usage_log), key=lambda row: row["outcome"])
    assert (lost["outcome"], lost["cost_micro_usd"]) == ("failed", None)
    assert (settled["outcome"], settled["cost_micro_usd"], settled["images"]) == ("settlement", PRICE, 0)
    assert sum(row["requests"] for row in await books.rows(tables.usage_hourly)) == 1


async def test_only_the_unknown_is_settled(books: Books):
    for made in (await books.reserved(), await books.sent(), await books.answered()):
        assert not await books.settle(made.id, PRICE)
    assert await books.database.read(settlement.list_unknown) == []


async def test_a_correction_is_a_row_of_its_own_and_moves_every_counter_of_money(books: Books):
    made = await books.answered(BUDGET, MONTHLY)
    await books.publish(made)
    assert await books.correct(made.id, PRICE + 500) == 500
    assert await books.correct(made.id, PRICE + 500) == 0
    assert await books.correct(made.id, PRICE - 200) == -700
    row = await books.row(made.id)
    assert (row["cost_micro_usd"], row["adjusted_micro_usd"]) == (PRICE, -200)
    assert await books.counter(BUDGET) == await books.counter(MONTHLY) == (PRICE - 200, 0)
    assert {row["amount_micro_usd"] for row in await books.rows(tables.adjustments)} == {500, -700}
    assert await books.logged_cost() == PRICE - 200


async def test_a_limit_set_after_a_correction_counts_it(books: Books):
    made = await books.answered()
    await books.correct(made.id, 3 * PRICE)
    await books.reserved(BUDGET)
    assert await books.counter(BUDGET) == (3 * PRICE, PRICE)


async def test_a_late_answer_of_what_is_unknown_settles_it_and_its_picture_is_kept(books: Books):
    made = await books.unknown(BUDGET)
    assert await books.answer(made.id)
    assert await books.counter(BUDGET) == (PRICE, 0)
    assert await books.logged_cost() == PRICE
    await books.publish(made)
    assert (await books.row(made.id))["settled_by"] == "answer"
    assert await books.logged_cost() == PRICE
    assert len(await books.rows(tables.images)) == 1


@pytest.mark.parametrize("said", [0, PRICE])
async def test_a_late_answer_after_the_settlement_is_kept_and_what_differs_is_adjusted(books: Books, said: int):
    made = await books.unknown(BUDGET)
    await books.settle(made.id, said, by="estimate")
    assert await books.answer(made.id, Charge(PRICE + 1, 1, 1, overrun=True))
    await books.publish(made)
    row = await books.row(made.id)
    assert (row["status"], row["cost_micro_usd"], row["adjusted_micro_usd"]) == ("succeeded", said, PRICE + 1 - said)
    assert await books.counter(BUDGET) == (PRICE + 1, 0)
    assert await books.logged_cost() == PRICE + 1
    assert not await books.answer(made.id)


async def test_settlements_and_late_answers_at_once_post_the_money_once(books: Books):
    every = [await books.unknown(BUDGET) for _ in range(5)]
    await asyncio.gather(
        *(step(made.id) for made in every for step in (books.answer, lambda i: books.settle(i, PRICE)))
    )
    assert await books.counter(BUDGET) == (5 * PRICE, 0)
    assert await books.logged_cost() == 5 * PRICE
