"""The state machine of a purchase and what it does to the books, on both engines."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.domain.limits import Metric, ScopeKind, Window
from gateway.errors import LimitExceeded
from gateway.storage import response_cache, tables
from gateway.storage.database import Database
from gateway.storage.generations import AlreadyOver, AlreadyStored, AlreadyUnderWay, Charge
from tests.support.ledger import PRICE, Books, flight, intent, limit, stored_image

BUDGET = limit(10 * PRICE)
CONCURRENCY = limit(5, Metric.CONCURRENCY)
IMAGES = limit(10, Metric.IMAGES, scope=ScopeKind.KEY)


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


async def test_every_step_is_taken_once(books: Books):
    made = await books.reserved(BUDGET)
    assert await books.send(made.id)
    assert await books.answer(made.id)
    assert not await books.answer(made.id)
    await books.publish(made)
    with pytest.raises(AlreadyOver):
        await books.publish(made)
    assert not await books.fail(made)
    assert await books.counter(BUDGET) == (PRICE, 0)
    assert len(await books.rows(tables.usage_log)) == len(await books.rows(tables.images)) == 1


async def test_a_step_out_of_order_is_refused_and_changes_nothing(books: Books):
    made = await books.reserved(BUDGET)
    before = await books.row(made.id)
    assert not await books.answer(made.id)
    assert not await books.lose(made)
    with pytest.raises(AlreadyOver):
        await books.publish(made)
    assert await books.row(made.id) == before
    assert await books.counter(BUDGET) == (0, PRICE)
    assert await books.rows(tables.usage_log) == []


@pytest.mark.parametrize("end", ["fail", "lose"])
async def test_an_ended_generation_is_not_sent_and_not_ended_again(books: Books, end: str):
    made = await books.sent(BUDGET)
    assert await getattr(books, end)(made)
    assert not await books.send(made.id)
    assert not await books.fail(made)
    assert not await books.lose(made)
    assert len(await books.rows(tables.usage_log)) == 1


async def test_a_purchase_is_sent_again_for_another_attempt_by_its_owner_alone(books: Books):
    made = await books.sent()
    assert await books.send(made.id)
    assert not await books.send(made.id, owner="another process")


async def test_a_purchase_whose_lease_ran_out_is_not_sent(books: Books):
    made = await books.reserved(BUDGET)
    await books.expire(made.id)
    assert not await books.send(made.id)


async def test_a_failure_before_the_answer_releases_everything(books: Books):
    made = await books.sent(BUDGET, CONCURRENCY, IMAGES)
    assert await books.fail(made)
    for each in (BUDGET, CONCURRENCY, IMAGES):
        assert await books.counter(each) == (0, 0)
    assert await books.rows(tables.holds) == []
    row = await books.row(made.id)
    assert (row["cost_micro_usd"], row["images"], row["megapixels"]) == (0, 0, 0)


async def test_a_failure_after_the_answer_keeps_its_cost(books: Books):
    made = await books.answered(BUDGET)
    assert await books.fail(made)
    assert await books.counter(BUDGET) == (PRICE, 0)
    row = await books.row(made.id)
    assert (row["status"], row["cost_micro_usd"], row["answer"]) == ("failed", PRICE, None)


async def test_unknown_keeps_its_money_and_frees_the_callers_place(books: Books):
    made = await books.sent(BUDGET, CONCURRENCY, IMAGES)
    assert await books.lose(made)
    assert await books.counter(BUDGET) == (0, PRICE)
    assert await books.counter(IMAGES) == (0, 1)
    assert await books.counter(CONCURRENCY) == (0, 0)
    assert (await books.row(made.id))["cost_micro_usd"] is None


async def test_a_late_answer_settles_an_unknown_generation_though_an_equal_one_is_under_way(books: Books):
    late = await books.reserve(flight(), BUDGET)
    await books.send(late.id)
    await books.lose(late)
    again = await books.reserve(flight(), BUDGET)
    assert await books.answer(late.id)
    assert await books.counter(BUDGET) == (PRICE, PRICE)
    with pytest.raises(AlreadyUnderWay) as joined:
        await books.reserve(flight(), BUDGET)
    assert joined.value.generation_id == again.id
    await books.publish(late)
    await books.send(again.id)
    await books.answer(again.id)
    await books.publish(again, stored_image("bb" * 32))
    assert await books.counter(BUDGET) == (2 * PRICE, 0)


async def test_a_cost_above_the_estimate_posts_in_full_and_blocks_the_next(books: Books):
    tight = limit(2 * PRICE)
    made = await books.answered(tight, charge=Charge(3 * PRICE, 1, 1, overrun=True))
    assert await books.counter(tight) == (3 * PRICE, 0)
    assert (await books.row(made.id))["overrun"]
    with pytest.raises(LimitExceeded) as refused:
        await books.reserved(tight)
    assert refused.value.data["left"] == "0"  # type: ignore[call-overload, index]


async def test_a_purchase_estimated_at_nothing_posts_what_it_cost(books: Books):
    await books.answered(BUDGET)
    await books.answered(BUDGET, estimate_micro_usd=0)
    assert await books.counter(BUDGET) == (2 * PRICE, 0)


async def test_fewer_images_than_asked_post_what_came(books: Books):
    await books.answered(BUDGET, IMAGES, images=4, estimate_micro_usd=4 * PRICE, charge=Charge(PRICE, 1, 1, False))
    assert await books.counter(BUDGET) == (PRICE, 0)
    assert await books.counter(IMAGES) == (1, 0)


async def test_a_refused_reservation_takes_nothing_of_any_limit(books: Books):
    team = limit(100 * PRICE, scope=ScopeKind.TEAM)
    key = limit(1, Metric.IMAGES, scope=ScopeKind.KEY)
    await books.reserved(team, BUDGET, key)
    with pytest.raises(LimitExceeded) as refused:
        await books.reserved(team, BUDGET, key)
    assert refused.value.data["limit"] == "key-images-total"  # type: ignore[call-overload, index]
    assert [await books.counter(each) for each in (team, BUDGET, key)] == [(0, PRICE), (0, PRICE), (0, 1)]
    assert len(await books.rows(tables.generations)) == 1


@pytest.mark.parametrize("scope", list(ScopeKind))
async def test_a_hundred_at_once_buy_exactly_what_the_limit_allows(books: Books, scope: ScopeKind):
    budget = limit(17 * PRICE + PRICE - 1, scope=scope)
    images = limit(1000, Metric.IMAGES, scope=ScopeKind.TEAM)

    async def attempt() -> str:
        try:
            await books.reserved(images, budget) if scope is not ScopeKind.TEAM else await books.reserved(budget)
        except LimitExceeded:
            return "refused"
        return "reserved"

    outcomes = Counter(await asyncio.gather(*(attempt() for _ in range(100))))
    assert outcomes == {"reserved": 17, "refused": 83}
    assert await books.counter(budget) == (0, 17 * PRICE)
    held = [row for row in await books.rows(tables.holds) if row["metric"] == Metric.COST_USD]
    assert (len(held), sum(row["amount"] for row in held)) == (17, 17 * PRICE)


async def test_modes_keep_books_of_their_own(books: Books):
    tight = limit(PRICE)
    await books.reserved(tight)
    await books.reserved(tight, mode="test")
    assert await books.counter(tight) == await books.counter(tight, mode="test") == (0, PRICE)


async def test_an_equal_purchase_under_way_is_joined_and_touches_no_limit(books: Books):
    first = await books.reserve(flight(), BUDGET)
    for step in (books.send, books.answer):
        with pytest.raises(AlreadyUnderWay) as joined:
            await books.reserve(flight(), limit(0))
        assert joined.value.generation_id == first.id
        await step(first.id)
    assert await books.counter(BUDGET) == (PRICE, 0)
    assert len(await books.rows(tables.generations)) == 1


async def test_of_fifty_equal_purchases_at_once_one_is_made(books: Books):
    tries = [books.reserve(flight(), BUDGET) for _ in range(50)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert Counter(type(outcome).__name__ for outcome in outcomes) == {"Intent": 1, "AlreadyUnderWay": 49}
    assert await books.counter(BUDGET) == (0, PRICE)


async def test_equal_purchases_of_calls_that_may_not_be_joined_do_not_meet(books: Books):
    await books.reserve(intent(fingerprint="fp"))
    await books.reserve(intent(fingerprint="fp"))
    assert len(await books.rows(tables.generations)) == 2


async def test_an_entry_stored_meanwhile_answers_and_the_reservation_is_rolled_back(books: Books):
    first = await books.reserve(flight(), BUDGET)
    await books.send(first.id)
    await books.answer(first.id)
    await books.publish(first)
    with pytest.raises(AlreadyStored) as found:
        await books.reserve(flight(), BUDGET)
    assert found.value.entry.answer.generation_id == first.id
    assert await books.counter(BUDGET) == (PRICE, 0)
    again = await books.reserve(flight(), BUDGET, accepts=lambda _entry, _now: False)
    assert await books.status(again.id) == "pending"


async def test_a_purchase_is_published_with_its_pictures_its_entry_and_its_buyers_row(books: Books):
    made = await books.reserve(flight(), BUDGET)
    await books.send(made.id)
    await books.answer(made.id)
    entry = await books.publish(made, stored_image("aa" * 32), stored_image("bb" * 32), ttl_ms=1000)
    assert entry.expires_ms == entry.created_ms + 1000
    assert await books.database.read(lambda conn: response_cache.find(conn, "fp")) == entry
    images = await books.rows(tables.images)
    assert {(row["sha256"], row["position"]) for row in images} == {("aa" * 32, 0), ("bb" * 32, 1)}
    [row] = await books.rows(tables.usage_log)
    assert row["id"] == made.usage.id
    assert (await books.row(made.id))["answer"] is None


async def test_an_entry_that_replaces_another_tells_the_memories(books: Books):
    for expected in (0, 1):
        made = await books.reserve(flight(), accepts=lambda _entry, _now: False)
        await books.send(made.id)
        await books.answer(made.id)
        await books.publish(made)
        told = [(row["kind"], row["object_id"]) for row in await books.rows(tables.changes)]
        assert told == [("cache", "fp")] * expected


async def test_a_publication_that_breaks_off_leaves_nothing(books: Books):
    made = await books.answered()
    twice = stored_image()
    with pytest.raises(Exception, match=r"UNIQUE|duplicate"):
        await books.publish(made, twice, twice)
    assert await books.status(made.id) == "answered"
    assert await books.rows(tables.images) == await books.rows(tables.usage_log) == []


async def test_two_who_publish_at_once_leave_one_entry_and_one_row(books: Books):
    made = await books.answered()
    outcomes = await asyncio.gather(
        books.publish(made, stored_image()), books.publish(made, stored_image()), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyOver", "NoneType"]
    assert len(await books.rows(tables.images)) == 1


async def test_of_an_answer_and_a_loss_at_once_the_money_is_posted_once(books: Books):
    for _ in range(10):
        made = await books.sent(BUDGET, CONCURRENCY)
        await asyncio.gather(books.answer(made.id), books.lose(made), books.answer(made.id), books.fail(made))
    spent = sum(row["cost_micro_usd"] for row in await books.rows(tables.generations))
    assert await books.counter(BUDGET) == (spent, 0)
    assert await books.counter(CONCURRENCY) == (0, 0)
    assert await books.rows(tables.holds) == []


async def test_a_limit_added_in_mid_window_counts_what_was_spent_and_is_held(books: Books):
    await books.answered()
    unknown, open_one = await books.sent(), await books.reserved()
    await books.lose(unknown)
    released = await books.sent()
    await books.fail(released)
    with pytest.raises(LimitExceeded):
        await books.reserved(limit(4 * PRICE - 1))
    added = limit(4 * PRICE)
    places = limit(2, Metric.CONCURRENCY)
    last = await books.reserved(added, places)
    assert await books.counter(added) == (PRICE, 3 * PRICE)
    assert await books.counter(places) == (0, 2)
    await books.answer(unknown.id)
    await books.fail(open_one)
    await books.fail(last)
    assert await books.counter(added) == (2 * PRICE, 0)
    assert await books.counter(places) == (0, 0)


async def test_a_limit_taken_away_and_set_again_counts_what_was_spent_without_it(books: Books):
    await books.answered(BUDGET)
    await books.answered()
    open_one = await books.sent()
    with pytest.raises(LimitExceeded):
        await books.reserved(limit(4 * PRICE - 1))
    await books.answer(open_one.id)
    await books.reserved(limit(4 * PRICE))
    assert await books.counter(BUDGET) == (3 * PRICE, PRICE)


async def test_another_users_purchases_do_not_count(books: Books):
    await books.answered(user_id="user_2", key_id="key_2", team_id=None)
    await books.reserved(limit(PRICE))
    assert await books.counter(BUDGET) == (0, PRICE)


@pytest.mark.parametrize("window", [Window.MINUTE, Window.HOUR, Window.DAY, Window.MONTH])
async def test_a_window_is_chosen_at_the_reservation_and_does_not_move(books: Books, window: Window):
    budget = limit(10 * PRICE, window=window)
    made = await books.sent(budget)
    [held] = await books.rows(tables.holds)
    earlier = held["window_start_ms"] - 40 * 86_400_000
    await books.update(made.id, created_ms=earlier)
    for table in (tables.holds, tables.counters):  # as if it had been reserved in a window long gone
        moved = table.update().values(window_start_ms=earlier)
        await books.database.write(lambda conn: conn.execute(moved))  # noqa: B023  (awaited here)
    await books.reserved(budget)
    await books.answer(made.id)
    found = {row["window_start_ms"] == earlier: row for row in await books.rows(tables.counters)}
    assert (found[True]["spent"], found[True]["reserved"]) == (PRICE, 0)
    assert (found[False]["spent"], found[False]["reserved"]) == (0, PRICE)
