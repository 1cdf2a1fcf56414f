"""What must hold of money, measured against the provider's own bill."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo.provider import FakeProvider
from tests.support.gateway import PATH, Gateway, gateway_and_provider


def billed(fake: FakeProvider) -> Decimal:
    return sum((Decimal(str(row["cost_usd"])) for row in fake.bill), Decimal(0))


async def books(gateway: Gateway) -> Decimal:
    """What our purchases cost; reports say the same."""
    rows = [row for row in await gateway.generations(mode="live") if row["cost_usd"] is not None]
    total = sum((Decimal(row["cost_usd"]) + Decimal(row["adjusted_usd"]) for row in rows), Decimal(0))
    assert Decimal((await gateway.usage())["cost_usd"]) == total
    return total


def month_budget(usd: str) -> dict[str, Any]:
    return {"metric": "cost_usd", "window": "month", "amount": usd}


async def test_a_budget_for_a_hundred_buys_exactly_a_hundred_of_a_thousand_at_once(tmp_path: Path) -> None:
    """F8."""
    async with gateway_and_provider(tmp_path, FakeProvider(delay_s=0.5)) as (gateway, fake):
        key = await gateway.new_key(limits=[month_budget("6.5")])
        answers = await asyncio.gather(
            *(gateway.generate(key, seed=seed, image_size="square") for seed in range(1, 1001))
        )
        assert Counter(answer.status_code for answer in answers) == {200: 100, 429: 900}
        assert len(fake.bill) == 100
        assert billed(fake) == await books(gateway) == Decimal("6.5")
        refusal = next(answer for answer in answers if answer.status_code == 429).json()["error"]
        assert refusal["code"] == "quota_exceeded"
        assert refusal["data"]["limit"] == "user-cost_usd-month"
        assert (refusal["data"]["asked"], refusal["data"]["left"]) == ("0.065", "0")
        assert await gateway.usage() | {"cost_usd": "6.5", "errors": 900, "requests": 1000} == await gateway.usage()


async def test_two_hundred_equal_calls_at_once_are_bought_once(tmp_path: Path) -> None:
    """F1."""
    async with gateway_and_provider(tmp_path, FakeProvider(delay_s=1)) as (gateway, fake):
        keys = [await gateway.new_key() for _ in range(4)]
        answers = await asyncio.gather(*(gateway.generate(keys[i % 4], seed=7) for i in range(200)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(fake.bill) == fake.calls == 1
        assert len({answer.content for answer in answers}) == 1
        costs = Counter(answer.headers["darkroom-cost-usd"] for answer in answers)
        assert costs == {"0": 199, "0.065": 1}
        usage = await gateway.usage()
        assert (usage["generations"], usage["joined"] + usage["hits"]) == (1, 199)
        assert usage["saved_usd"] == str(199 * Decimal("0.065"))


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        ({"refuse_status": 400, "message": "No such thing"}, 400, "invalid_request"),
        ({"refuse_status": 403, "message": "You've run out of credits."}, 503, "provider_unavailable"),
        ({"refuse_status": 500}, 502, "provider_error"),
    ],
)
async def test_a_refusal_by_the_provider_is_shared_and_not_asked_again(
    tmp_path: Path, refusal: dict[str, Any], status: int, code: str
) -> None:
    """F4."""
    async with gateway_and_provider(tmp_path, FakeProvider(delay_s=1, **refusal)) as (gateway, fake):
        key = await gateway.new_key(limits=[month_budget("100")])
        answers = await asyncio.gather(*(gateway.generate(key, seed=7) for _ in range(200)))
        assert {answer.status_code for answer in answers} == {status}
        assert {answer.json()["error"]["code"] for answer in answers} == {code}
        assert fake.calls == 1
        assert not fake.bill
        assert (await gateway.admin("GET", "/cache"))["entries"] == 0
        assert await books(gateway) == 0


async def test_a_refused_reservation_concerns_its_caller_alone(tmp_path: Path) -> None:
    """A flight whose first caller may not buy is bought by the next who may; the refused one is refused."""
    async with gateway_and_provider(tmp_path, FakeProvider(delay_s=0.5)) as (gateway, fake):
        poor = await gateway.new_key(limits=[month_budget("0.01")])
        rich = await gateway.new_key()
        keys = [*[poor] * 20, rich, *[poor] * 20]
        answers = await asyncio.gather(*(gateway.generate(key, seed=7) for key in keys))
        assert answers[20].status_code == 200
        assert {answer.status_code for answer in answers} <= {200, 429}  # who comes after the rich one joins
        assert len(fake.bill) == 1
        assert len(await gateway.generations()) == 1


async def test_a_caller_that_leaves_gets_its_picture_from_the_cache_later(tmp_path: Path) -> None:
    """F3, with a seed."""
    fake = FakeProvider()
    fake.gate = asyncio.Event()
    async with gateway_and_provider(tmp_path, fake) as (gateway, _):
        key = await gateway.new_key()
        body = {"model": "flux-pro", "prompt": "A lighthouse", "seed": 7}
        async with httpx.AsyncClient() as leaver:
            call = asyncio.create_task(
                leaver.post(gateway.base_url + PATH, json=body, headers={"Authorization": f"Bearer {key}"})
            )
            await fake.wait_for_calls(1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        repeat = asyncio.create_task(gateway.post(key, body))
        fake.gate.set()
        answer = await repeat
        assert answer.status_code == 200
        assert answer.headers["darkroom-cost-usd"] == "0"
        assert len(fake.bill) == fake.calls == 1
        assert [row["status"] for row in await gateway.generations()] == ["succeeded"]


async def test_a_cost_above_the_list_is_settled_in_full_and_stops_the_next(tmp_path: Path) -> None:
    """F28: the price rises by 30 %, the budget allowed for three by the list."""
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key(limits=[month_budget("0.2")])
        assert (await gateway.generate(key, seed=1)).status_code == 200
        fake.behaviour.price_usd = "0.0845"
        assert (await gateway.generate(key, seed=2)).headers["darkroom-cost-usd"] == "0.0845"
        refused = await gateway.generate(key, seed=3)
        assert (
            refused.json()["error"]["data"] | {"asked": "0.0845", "left": "0.0505"} == refused.json()["error"]["data"]
        )
        rows = {row["cost_usd"]: row["overrun"] for row in await gateway.generations()}
        assert rows == {"0.065": False, "0.0845": True}
        assert billed(fake) == await books(gateway) == Decimal("0.1495")


async def test_a_limit_lowered_below_what_is_spent_refuses_the_next(tmp_path: Path) -> None:
    """F28, the other half; and a limit set in mid-window counts what was spent before it."""
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        user = await gateway.new_user()
        key = await gateway.new_key(user_id=user)
        assert (await gateway.generate(key, seed=1)).status_code == 200
        await gateway.admin("PUT", f"/users/{user}/limits", [month_budget("0.05")])
        refused = await gateway.generate(key, seed=2)
        assert (refused.status_code, refused.json()["error"]["data"]["left"]) == (429, "0")
        await gateway.admin("PUT", f"/users/{user}/limits", [month_budget("0.13")])
        assert (await gateway.generate(key, seed=2)).status_code == 200
        assert (await gateway.generate(key, seed=3)).status_code == 429
        assert len(fake.bill) == 2


async def test_concurrency_counts_purchases_under_way_and_frees_them(tmp_path: Path) -> None:
    fake = FakeProvider()
    fake.gate = asyncio.Event()
    async with gateway_and_provider(tmp_path, fake) as (gateway, _):
        key = await gateway.new_key(limits=[{"metric": "concurrency", "amount": 2}])
        calls = [asyncio.create_task(gateway.generate(key, seed=seed)) for seed in (1, 2)]
        await fake.wait_for_calls(2)
        third = await gateway.generate(key, seed=3)
        assert (third.status_code, third.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        fake.gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*calls)] == [200, 200]
        assert (await gateway.generate(key, seed=3)).status_code == 200


async def test_with_no_provider_key_a_live_call_says_what_to_do_and_holds_nothing(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, providers=[{"kind": "aimlapi"}]) as (gateway, fake):
        key = await gateway.new_key()
        answer = await gateway.generate(key, seed=1)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "provider_unavailable")
        assert "AIMLAPI_API_KEY" in answer.json()["error"]["message"]
        assert fake.calls == 0
        assert await gateway.generations() == []
