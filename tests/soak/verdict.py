"""What a soak ends with: bill beside books, and the usage log beside what was answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from gateway.demo.provider import FakeProvider
from tests.e2e.test_crashes import every_generation
from tests.support.gateway import Gateway

_QUIET_S = 300


async def quiet(gateway: Gateway) -> list[dict[str, Any]]:
    """Every generation, once none is under way and the books have settled what was unknown."""
    until = time.monotonic() + _QUIET_S
    while True:
        await gateway.admin("POST", "/reconcile", {"adjust": True})
        rows = await every_generation(gateway)
        if not any(row["status"] == "unknown" for row in rows) or time.monotonic() > until:
            return rows
        await asyncio.sleep(1)


def cost_of(row: dict[str, Any]) -> Decimal:
    return Decimal(row["cost_usd"] or 0) + Decimal(row["adjusted_usd"])


def compare(rows: list[dict[str, Any]], fake: FakeProvider) -> dict[str, Any]:
    bill = sum((Decimal(row["cost_usd"]) for row in fake.bill), Decimal(0))
    books = sum(map(cost_of, rows), Decimal(0))
    return {"charged_calls": len(fake.bill), "bill_usd": str(bill), "books_usd": str(books), "apart": str(bill - books)}


def differences(rows: list[dict[str, Any]], fake: FakeProvider) -> list[str]:
    """By generation: what was charged beside what is booked."""
    billed: Counter[str] = Counter()
    for row in fake.bill:
        billed[row["client_request_id"]] += int(Decimal(row["cost_usd"]) * 10**6)
    booked = {row["id"]: int(cost_of(row) * 10**6) for row in rows}
    wrong = [
        f"{each}: billed {billed[each]}, booked {booked.get(each)} micro-dollars"
        for each in billed.keys() | booked.keys()
        if billed[each] != booked.get(each)
    ]
    twice = [each for each, count in Counter(row["client_request_id"] for row in fake.bill).items() if count > 1]
    open_ones = [f"{row['id']} is {row['status']}" for row in rows if row["status"] not in {"succeeded", "failed"}]
    return [*wrong, *(f"{each} was bought twice" for each in twice), *open_ones]


def usage_faults(
    logged: Iterable[str], calls_and_cost: tuple[int, int], totals: tuple[int, int], answered: set[str]
) -> list[str]:
    """No answered call is missing from the usage log (`logged`: its ids), none is there twice; its totals agree."""
    ids = Counter(logged)
    wrong = [f"{each} was answered and is not in the usage log" for each in answered - ids.keys()]
    wrong += [f"{each} is {count} times in the usage log" for each, count in ids.items() if count > 1]
    return wrong if totals == calls_and_cost else [*wrong, f"totals {totals} are not {calls_and_cost}"]


IDS = "SELECT id FROM usage_log"
CALLS_AND_COST = (
    "SELECT SUM(CASE WHEN outcome IN ('settlement', 'adjustment') THEN 0 ELSE 1 END), SUM(cost_micro_usd) "
    "FROM usage_log"
)
TOTALS = "SELECT SUM(requests), SUM(cost_micro_usd) FROM usage_hourly"
