"""F24: a provider key that is revoked, out of credits or rate limited, and all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.demo.books import KeyFault
from gateway.demo.provider import FakeProvider
from tests.support.gateway import Gateway, gateway_and_provider

KEYS = ["provider-a", "provider-b", "provider-c"]
FAULTS: list[KeyFault] = ["revoked", "out_of_credits", "rate_limited"]


@asynccontextmanager
async def with_keys(tmp_path: Path, *keys: str) -> AsyncIterator[tuple[Gateway, FakeProvider]]:
    configured = [{"value": key, "max_concurrency": 50} for key in keys]
    async with gateway_and_provider(tmp_path, FakeProvider(keys=keys), provider_keys=configured) as world:
        yield world


async def state_counts(gateway: Gateway) -> dict[str, int]:
    """How many keys of the provider are in which state; empty states left out."""
    lines = (await gateway.get("/metrics")).text.splitlines()
    found = [line for line in lines if line.startswith('darkroom_provider_keys{provider="aimlapi"')]
    counts = {line.split('state="')[1].split('"')[0]: int(float(line.split()[-1])) for line in found}
    return {state: count for state, count in counts.items() if count}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_others_carry_on_within_the_budget_of_attempts(tmp_path: Path, fault: KeyFault) -> None:
    async with with_keys(tmp_path, *KEYS) as (gateway, fake):
        key = await gateway.new_key()
        fake.books.key_faults["provider-a"] = fault
        fake.behaviour.retry_after = "600"
        answers = [await gateway.generate(key, seed=seed) for seed in range(1, 13)]
        assert [answer.status_code for answer in answers] == [200] * 12
        assert (len(fake.bill), fake.books.calls_by_key["provider-a"]) == (12, 1)
        states = {"revoked": "ejected", "out_of_credits": "out_of_credits", "rate_limited": "cooling"}
        assert await state_counts(gateway) == {"healthy": 2, states[fault]: 1}


@pytest.mark.parametrize("fault", FAULTS)
async def test_with_every_key_in_trouble_calls_are_refused_without_bothering_the_provider(
    tmp_path: Path, fault: KeyFault
) -> None:
    async with with_keys(tmp_path, "provider-a") as (gateway, fake):
        key = await gateway.new_key()
        fake.books.key_faults["provider-a"] = fault
        fake.behaviour.retry_after = "600"
        answers = [await gateway.generate(key, seed=seed) for seed in range(1, 6)]
        errors = [answer.json()["error"] for answer in answers]
        assert {(answer.status_code, error["code"]) for answer, error in zip(answers, errors, strict=True)} == {
            (503, "provider_unavailable")
        }
        assert {error["data"]["charged"] for error in errors} == {"no"}
        assert all(int(answer.headers["retry-after"]) >= 59 for answer in answers)
        assert (fake.calls, fake.bill) == (1, [])
        assert (await gateway.usage())["cost_usd"] == "0"


async def test_a_crowd_that_meets_a_revoked_key_is_not_multiplied(tmp_path: Path) -> None:
    async with with_keys(tmp_path, "provider-a", "provider-b") as (gateway, fake):
        key = await gateway.new_key()
        for seed in range(1, 11):
            assert (await gateway.generate(key, seed=seed)).status_code == 200
        fake.books.key_faults["provider-a"] = "revoked"
        answers = await asyncio.gather(*(gateway.generate(key, seed=seed) for seed in range(11, 51)))
        assert fake.calls <= 1.1 * 50 + 0.9
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert len(fake.bill) == 10 + sum(answer.status_code == 200 for answer in answers)


async def test_the_balance_is_shown(tmp_path: Path) -> None:
    fake = FakeProvider(keys=["provider-a"])
    fake.books.balance_usd["provider-a"] = Decimal("7.5")
    configured = [{"value": "provider-a"}]
    async with gateway_and_provider(tmp_path, fake, provider_keys=configured) as (gateway, _):
        shown: list[str] = []
        while not shown:
            lines = (await gateway.get("/metrics")).text.splitlines()
            shown = [line for line in lines if line.startswith("darkroom_provider_balance_usd{")]
        assert shown[0].endswith("7.5")
