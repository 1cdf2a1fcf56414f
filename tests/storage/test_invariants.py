"""Each rule of the books is looked at, and found broken when it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from gateway.domain.limits import Metric
from gateway.storage import invariants, tables
from gateway.storage.database import Database
from gateway.storage.idempotency import Claim
from tests.support.ledger import PRICE, Books, flight, intent, limit

BUDGET = limit(100 * PRICE)
LIMITS = (BUDGET, limit(9, Metric.CONCURRENCY), limit(9, Metric.IMAGES), limit(99, Metric.MEGAPIXELS))

Break = Callable[[Books], Awaitable[object]]


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


async def lead_a_life(books: Books) -> None:
    """One purchase of each kind."""
    await books.reserved(*LIMITS)
    await books.sent(*LIMITS)
    await books.answered(*LIMITS)
    await books.publish(await books.reserve_answered(flight(claim=Claim("key_1", "a", "hash")), *LIMITS))
    await books.fail(await books.sent(*LIMITS))
    await books.unknown(*LIMITS)
    settled = await books.unknown(*LIMITS)
    await books.settle(settled.id, 2 * PRICE)
    await books.correct(settled.id, PRICE)
    await books.sent(*LIMITS, mode="test")


async def test_books_in_order_break_no_rule(books: Books):
    assert await books.broken_rules() == []
    await lead_a_life(books)
    assert await books.broken_rules() == []


def sql(text: str) -> Break:
    async def work(books: Books) -> object:
        return await books.database.write(lambda conn: conn.exec_driver_sql(text).rowcount)

    return work


async def lose_a_claim(books: Books) -> None:
    row = {"key_id": "k", "idempotency_key": "x", "request_hash": "h", "generation_id": "gen_none", "expires_ms": 1}
    await books.database.write(lambda conn: conn.execute(tables.idempotency_keys.insert().values(row)))


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("each counter", sql("UPDATE counters SET spent = spent + 1 WHERE metric = 'cost_usd'")),
        ("each counter", sql("UPDATE counters SET reserved = reserved + 1 WHERE metric = 'concurrency'")),
        ("what is settled has a cost", sql("UPDATE generations SET cost_micro_usd = NULL WHERE status = 'succeeded'")),
        ("what is settled has a cost", sql("UPDATE generations SET cost_micro_usd = 1 WHERE status = 'unknown'")),
        ("what is settled holds nothing", sql("UPDATE generations SET status = 'answered' WHERE status = 'sent'")),
        ("no purchase is left alone", sql("UPDATE generations SET lease_until_ms = 1 WHERE status = 'sent'")),
        ("corrections add up", sql("UPDATE generations SET adjusted_micro_usd = 1 WHERE status = 'succeeded'")),
        ("reports and purchases", sql("UPDATE usage_hourly SET cost_micro_usd = cost_micro_usd - 1")),
        ("each purchase is in the usage log", sql("DELETE FROM usage_log WHERE outcome = 'bought'")),
        ("each cache entry", sql("UPDATE images SET removed_ms = 1")),
        ("each idempotency key", lose_a_claim),
    ],
)
async def test_a_broken_rule_is_named_with_what_breaks_it(books: Books, rule: str, broken: Break):
    await lead_a_life(books)
    await broken(books)
    found = [finding for finding in await books.database.read(invariants.examine) if finding.count]
    assert rule in {finding.rule[: len(rule)] for finding in found}
    assert all(finding.wrong for finding in found)


async def test_a_paid_picture_under_way_is_no_drift(books: Books):
    await books.answered()
    assert await books.broken_rules() == []
    await books.publish(await books.reserve_answered(intent()))
    assert await books.broken_rules() == []
