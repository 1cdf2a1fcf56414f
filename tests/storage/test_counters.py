"""The arithmetic of counters and holds: whatever happens, they equal the sums over the generations."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.limits import Limit, Metric, ScopeKind
from gateway.errors import LimitExceeded
from gateway.storage import counters, generations, tables
from gateway.storage.database import Database, now_ms
from gateway.storage.generations import Charge, Intent
from tests.support.ledger import ANSWER, ERROR, PRICE, Books, intent, limit

BUDGET = limit(1000 * PRICE)
TEAM = limit(1000 * PRICE, scope=ScopeKind.TEAM)
KEY = limit(1000 * PRICE, scope=ScopeKind.KEY)
PLACES = limit(1000, Metric.CONCURRENCY)


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


async def standings(books: Books, *asked: Limit) -> list[counters.Standing]:
    return await books.database.read(lambda conn: counters.standings(conn, asked, mode="live", now_ms=now_ms(conn)))


async def test_what_is_left_is_told_before_and_after_the_first_use(books: Books):
    tight = limit(3 * PRICE)
    assert [line.left for line in await standings(books, tight)] == [3 * PRICE]
    await books.answered()
    await books.sent()
    [before] = await standings(books, tight)
    assert (before.spent, before.reserved, before.left, before.reset_ms) == (PRICE, PRICE, PRICE, None)
    assert await books.rows(tables.counters) == []
    await books.reserved(tight)
    [after] = await standings(books, tight)
    assert (after.spent, after.reserved, after.left) == (PRICE, 2 * PRICE, 0)


async def test_nothing_is_left_of_a_limit_lowered_below_what_is_spent(books: Books):
    await books.answered(BUDGET)
    [line] = await standings(books, limit(1))
    assert (line.left, type(line.left)) == (0, int)


async def test_first_uses_at_once_make_one_counter_that_holds_them_all(books: Books):
    places = limit(1000, Metric.CONCURRENCY, scope=ScopeKind.TEAM)
    await asyncio.gather(*(books.reserved(TEAM, places, BUDGET) for _ in range(20)))
    for each in (TEAM, BUDGET):
        assert await books.counter(each) == (0, 20 * PRICE)
    assert await books.counter(places) == (0, 20)
    assert len(await books.rows(tables.counters)) == 3
    assert len(await books.rows(tables.holds)) == 60


async def test_first_uses_while_open_purchases_are_settled_lose_and_leak_nothing(books: Books):
    open_ones = [await books.sent() for _ in range(30)]
    steps = [books.answer(made.id) for made in open_ones[:20]] + [books.fail(made) for made in open_ones[20:]]
    reserves = [books.reserved(TEAM, BUDGET, KEY, PLACES) for _ in range(10)]
    mixed = [each for pair in zip(steps[::3], reserves, strict=False) for each in pair]
    await asyncio.gather(*mixed, *(each for each in steps if each not in mixed))
    for each in (TEAM, BUDGET, KEY):
        assert await books.counter(each) == (20 * PRICE, 10 * PRICE)
    assert await books.counter(PLACES) == (0, 10)


async def test_callers_with_limits_at_different_scopes_never_wait_in_a_circle(books: Books):
    sets = [(TEAM, BUDGET, KEY, PLACES), (BUDGET,), (TEAM, KEY), (KEY,), (PLACES, BUDGET)]

    async def purchase(number: int) -> None:
        made = await books.sent(*sets[number % len(sets)])
        await books.answer(made.id)

    await asyncio.gather(*(purchase(number) for number in range(60)))
    for each in (TEAM, BUDGET, KEY):
        assert await books.counter(each) == (60 * PRICE, 0)
    assert await books.rows(tables.holds) == []


async def test_a_generation_without_a_team_is_counted_at_its_user_and_key(books: Books):
    await books.reserved(BUDGET, KEY, team_id=None)
    assert await books.counter(BUDGET) == await books.counter(KEY) == (0, PRICE)


async def test_sums_beyond_32_bits_are_exact_integers(books: Books):
    dear = 10**14
    for _ in range(3):
        await books.answered(estimate_micro_usd=dear, charge=Charge(dear, 1, 1, overrun=False))
    [line] = await standings(books, limit(10**15))
    assert (line.spent, type(line.spent)) == (3 * dear, int)
    await books.reserved(limit(10**15), estimate_micro_usd=dear)
    assert await books.counter(limit(10**15)) == (3 * dear, dear)


# -- any sequence of steps, against a model of the books ---------------------------------------------------------------

LIMITS = [
    limit(40 * PRICE, scope=ScopeKind.TEAM),
    limit(25 * PRICE),
    limit(9, Metric.CONCURRENCY),
    limit(30, Metric.IMAGES, scope=ScopeKind.KEY),
    limit(30, Metric.MEGAPIXELS, scope=ScopeKind.KEY),
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "send", "answer", "fail", "lose"]),
        st.integers(0, 7),
        st.sets(st.integers(0, len(LIMITS) - 1)),
        st.integers(1, 4),
        st.integers(0, 6 * PRICE),
    ),
    max_size=40,
)
SHARES = {
    "cost_usd": ("reserved_micro_usd", "cost_micro_usd"),
    "images": ("images",) * 2,
    "megapixels": ("megapixels",) * 2,
}


@contextmanager
def sqlite() -> Iterator[sa.Engine]:
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(Path(folder) / "books.db")))
        tables.metadata.create_all(engine)
        yield engine
        engine.dispose()


def step(
    conn: sa.Connection, made: list[Intent], name: str, which: int, chosen: set[int], images: int, cost: int
) -> None:
    if name == "reserve":
        limits = [LIMITS[i] for i in sorted(chosen)]
        new = intent(images=images, megapixels=images, estimate_micro_usd=images * PRICE)
        try:
            with conn.begin_nested():
                generations.reserve(conn, new, limits, lease_owner="me", accepts=lambda _e, _n: True)
        except LimitExceeded:
            return
        made.append(new)
    elif made:
        one = made[which % len(made)]
        match name:
            case "send":
                generations.mark_sent(conn, one.id, lease_owner="me", provider_key_id="k")
            case "answer":
                charge = Charge(cost, min(images, one.images), 1, overrun=False)
                generations.record_answer(conn, one.id, ANSWER, charge, lease_owner="me")
            case "fail":
                generations.fail(conn, one.id, error=ERROR, usage=one.usage)
            case _:
                generations.lose(conn, one.id, error=ERROR, usage=one.usage)


def expected_counter(rows: list[Any], metric: str) -> tuple[int, int]:
    """What the generations say: spent by the settled, reserved by the open."""
    still_open = [row for row in rows if row["status"] in {"pending", "sent", "unknown"}]
    if metric == "concurrency":
        return 0, sum(row["status"] != "unknown" for row in still_open)
    asked, actual = SHARES[metric]
    settled = [row for row in rows if row["status"] not in {"pending", "sent", "unknown"}]
    corrected = sum(row["adjusted_micro_usd"] for row in settled) if metric == "cost_usd" else 0
    return sum(row[actual] for row in settled) + corrected, sum(row[asked] for row in still_open)


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_whatever_happens_counters_equal_the_sums_over_generations_and_holds(steps: list[Any]):
    with sqlite() as engine, engine.begin() as conn:
        made: list[Intent] = []
        for each in steps:
            step(conn, made, *each)
        rows = list(conn.execute(sa.select(tables.generations)).mappings())
        held = list(conn.execute(sa.select(tables.holds)).mappings())
        for row in conn.execute(sa.select(tables.counters)).mappings():
            assert (row["spent"], row["reserved"]) == expected_counter(rows, row["metric"])
            mine = [h["amount"] for h in held if (h["scope"], h["metric"]) == (row["scope"], row["metric"])]
            assert row["reserved"] == sum(mine)
