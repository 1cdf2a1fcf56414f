"""Leases, and generations that nobody works on any more, on both engines."""

from __future__ import annotations

import asyncio

import pytest

from gateway.storage import orphans
from gateway.storage.database import Database
from gateway.storage.orphans import Orphan
from tests.support.ledger import ANSWER, PRICE, Books


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


async def claim(books: Books, owner: str = "recovery", **options) -> list[Orphan]:
    return await books.database.write(lambda conn: orphans.claim_orphans(conn, lease_owner=owner, **options))


async def test_only_generations_whose_lease_ran_out_are_orphans_and_each_has_one_taker(books: Books):
    states = [await books.reserved(), await books.sent(), await books.answered()]
    await books.sent()
    for made in states:
        await books.expire(made.id)
    claims = await asyncio.gather(*(claim(books, f"process {i}") for i in range(4)))
    found = [orphan for taken in claims for orphan in taken]
    assert sorted((orphan.id, orphan.status) for orphan in found) == sorted(
        zip([made.id for made in states], ["pending", "sent", "answered"], strict=True)
    )
    assert await claim(books) == []


async def test_what_has_ended_is_nobodys_orphan(books: Books):
    ended = [await books.sent(), await books.sent(), await books.answered()]
    await books.fail(ended[0])
    await books.lose(ended[1])
    await books.publish(ended[2])
    for made in ended:
        await books.expire(made.id)
    assert await claim(books, all_others=True) == []


async def test_a_process_alone_takes_over_all_that_is_not_its_own(books: Books):
    theirs = await books.sent()
    mine = await Books(books.database, owner="recovery").sent()
    assert [orphan.id for orphan in await claim(books, all_others=True)] == [theirs.id]
    assert await books.status(mine.id) == "sent"


async def test_the_former_owner_can_no_longer_send(books: Books):
    made = await books.reserved()
    await books.expire(made.id)
    await claim(books)
    assert not await books.send(made.id)


async def test_a_disowned_generation_is_an_orphan_after_a_while_and_at_once_for_a_call_that_needs_it(books: Books):
    made = await books.answered()
    await books.database.write(lambda conn: orphans.disown(conn, made.id, lease_owner="me"))
    assert await claim(books) == []
    takes = [
        books.database.write(lambda conn: orphans.claim_answered(conn, made.id, lease_owner="one who asks"))
        for _ in range(3)
    ]
    [orphan] = [found for found in await asyncio.gather(*takes) if found is not None]
    assert (orphan.id, orphan.answer, orphan.cost_micro_usd, orphan.storable) == (made.id, ANSWER, PRICE, False)


async def test_a_picture_somebody_works_on_is_not_taken_over(books: Books):
    made, unanswered = await books.answered(), await books.sent()
    await books.expire(unanswered.id)
    for each in (made, unanswered):
        take = lambda conn, each=each: orphans.claim_answered(conn, each.id, lease_owner="x")  # noqa: E731
        assert await books.database.write(take) is None


async def test_leases_are_renewed_of_what_is_under_way_here_and_nothing_else(books: Books):
    mine, forgotten, ended = await books.sent(), await books.sent(), await books.sent()
    theirs = await Books(books.database, owner="another").sent()
    await books.fail(ended)
    every = (mine, forgotten, ended, theirs)
    for made in every:
        await books.expire(made.id)
    asked = {mine.id, ended.id, theirs.id}
    await books.database.write(lambda conn: orphans.renew_leases(conn, "me", asked))
    renewed = [made.id for made in every if (await books.row(made.id))["lease_until_ms"] > 0]
    assert renewed == [mine.id]


async def test_leases_of_thousands_are_renewed(books: Books):
    made = await books.reserved()
    await books.expire(made.id)
    asked = {f"gen_{i}" for i in range(2500)} | {made.id}
    await books.database.write(lambda conn: orphans.renew_leases(conn, "me", asked))
    assert await claim(books) == []


async def test_what_another_process_has_taken_over_is_not_disowned(books: Books):
    made = await books.answered()
    await books.expire(made.id)
    await claim(books)
    await books.database.write(lambda conn: orphans.disown(conn, made.id, lease_owner="me"))
    assert (await books.row(made.id))["lease_owner"] == "recovery"


async def test_the_caller_of_an_orphan_may_come_back_for_its_picture(books: Books):
    made = await books.sent()
    assert (await books.row(made.id))["abandoned_ms"] is None
    await books.expire(made.id)
    await claim(books)
    assert (await books.row(made.id))["abandoned_ms"] is not None
