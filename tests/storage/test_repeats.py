"""A caller's repeats and its idempotency keys, on both engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.storage import idempotency, repeats, tables
from gateway.storage.database import Database, now_ms
from gateway.storage.generations import Intent
from gateway.storage.idempotency import AlreadyClaimed, Claim
from gateway.storage.repeats import AlreadyLost, AlreadyYours
from tests.support.ledger import Books, flight, intent, limit

CLAIM = Claim("key_1", "order-7", "hash")
BUDGET = limit(10**9)


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


async def abandon(books: Books, made: Intent) -> None:
    await books.database.write(lambda conn: repeats.abandon(conn, made.id))


async def take(books: Books, made: Intent) -> bool:
    return await books.database.write(lambda conn: repeats.take(conn, made.id))


async def claimed(books: Books) -> tuple[str, str] | None:
    return await books.database.read(lambda conn: idempotency.find(conn, CLAIM, now_ms=now_ms(conn)))


def again(made: Intent, **changes: Any) -> Intent:
    """An equal call of the same caller."""
    return intent(fingerprint=made.fingerprint, repeat_key=made.repeat_key, **changes)


async def test_an_equal_call_finds_what_its_caller_went_without_and_takes_it_once(books: Books):
    made = await books.sent(BUDGET)
    await books.reserve(again(made), BUDGET)  # the first is still waited for
    await abandon(books, made)
    with pytest.raises(AlreadyYours) as found:
        await books.reserve(again(made), BUDGET)
    assert found.value.generation_id == made.id
    assert sorted(await asyncio.gather(*(take(books, made) for _ in range(3)))) == [False, False, True]
    await books.reserve(again(made), BUDGET)


async def test_another_callers_equal_call_buys(books: Books):
    made = await books.sent()
    await abandon(books, made)
    await books.reserve(intent(fingerprint=made.fingerprint))


async def test_after_a_quarter_of_an_hour_it_is_forgotten(books: Books):
    made = await books.sent()
    await abandon(books, made)
    at_ms = (await books.row(made.id))["abandoned_ms"]
    await books.update(made.id, abandoned_ms=at_ms - repeats.REMEMBERED_MS - 1000)
    await books.reserve(again(made))


@pytest.mark.parametrize("end", ["failed", "unknown"])
async def test_what_brings_no_picture_is_bought_again(books: Books, end: str):
    made = await books.sent()
    await (books.fail(made) if end == "failed" else books.lose(made))
    await abandon(books, made)
    await books.reserve(again(made))
    assert not await take(books, made)


async def test_a_retry_of_what_is_unknown_is_told_so_its_own_and_that_of_its_flight(books: Books):
    made = await books.reserve(flight())
    await books.send(made.id)
    await books.lose(made)
    for retry in (again(made, retried=True), flight(retried=True)):
        with pytest.raises(AlreadyLost):
            await books.reserve(retry)
    await books.reserve(flight())


async def test_an_idempotency_key_is_used_once_however_many_come_at_once(books: Books):
    calls = [intent(claim=CLAIM) for _ in range(6)]
    outcomes = await asyncio.gather(*(books.reserve(call, BUDGET) for call in calls), return_exceptions=True)
    [made] = [outcome for outcome in outcomes if isinstance(outcome, Intent)]
    assert sum(isinstance(outcome, AlreadyClaimed) for outcome in outcomes) == 5
    assert await claimed(books) == ("hash", made.id)
    assert len(await books.rows(tables.generations)) == 1


async def test_a_refused_reservation_leaves_its_idempotency_key_free(books: Books):
    with pytest.raises(Exception, match="limit"):
        await books.reserve(intent(claim=CLAIM), limit(1))
    assert await claimed(books) is None
    await books.reserve(intent(claim=CLAIM))


@pytest.mark.parametrize(("frees", "left"), [(True, 0), (False, 1)])
async def test_a_failure_that_waiting_cures_frees_the_key_and_any_other_is_kept(books: Books, frees: bool, left: int):
    made = await books.reserve(intent(claim=CLAIM))
    await books.fail(made, frees_claims=frees)
    assert len(await books.rows(tables.idempotency_keys)) == left


@pytest.mark.parametrize(("cost", "left"), [(0, 0), (5, 1)])
async def test_an_unknown_outcome_frees_the_key_once_it_proves_unbought(books: Books, cost: int, left: int):
    made = await books.reserve(intent(claim=CLAIM))
    await books.send(made.id)
    await books.lose(made)
    assert await claimed(books) == ("hash", made.id)
    await books.settle(made.id, cost)
    assert len(await books.rows(tables.idempotency_keys)) == left


async def test_keys_of_other_callers_never_meet(books: Books):
    await books.reserve(intent(claim=CLAIM))
    await books.reserve(intent(claim=replace(CLAIM, key_id="key_2")))


async def test_a_key_that_has_run_out_is_free_and_is_pruned(books: Books):
    await books.reserve(intent(claim=CLAIM))
    expired = tables.idempotency_keys.update().values(expires_ms=1)
    await books.database.write(lambda conn: conn.execute(expired))
    assert await claimed(books) is None
    await books.reserve(intent(claim=CLAIM))
    assert len(await books.rows(tables.idempotency_keys)) == 1
    await books.database.write(lambda conn: conn.execute(expired))
    assert await books.database.write(lambda conn: idempotency.prune(conn, now_ms=now_ms(conn))) == 1
