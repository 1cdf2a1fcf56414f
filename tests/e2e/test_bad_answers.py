"""F6, and the outcomes that nobody knows: nothing bad is cached or served, every charge is on the books."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.provider import FakeProvider
from tests.e2e.test_money import billed, books
from tests.support.gateway import Gateway, gateway_and_provider

BAD_IMAGES = ["missing", "html", "truncated", "wrong_type", "wrong_size", "bomb", "huge", "redirect_inward"]


async def refused_without_a_trace(gateway: Gateway, key: str, charged: str) -> None:
    answer = await gateway.generate(key, seed=7)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (502, "provider_error")
    assert error["data"]["charged"] == charged
    assert answer.headers["x-should-retry"] == "false"
    assert (await gateway.admin("GET", "/cache"))["entries"] == 0


@pytest.mark.parametrize("fault", BAD_IMAGES)
async def test_a_bad_picture_is_refused_and_its_charge_recorded(tmp_path: Path, fault: str) -> None:
    async with gateway_and_provider(tmp_path, FakeProvider(image_fault=fault)) as (gateway, fake):
        key = await gateway.new_key()
        await refused_without_a_trace(gateway, key, "yes")
        assert billed(fake) == await books(gateway) == Decimal("0.065")
        rows = await gateway.requests()
        assert [(row["outcome"], row["cost_usd"], row["images"]) for row in rows] == [("failed", "0.065", 0)]


@pytest.mark.parametrize("fault", ["html", None], ids=["unusable", "good"])
async def test_the_log_has_the_time_that_a_paid_picture_took_usable_or_not(tmp_path: Path, fault: Any) -> None:
    async with gateway_and_provider(tmp_path, FakeProvider(image_fault=fault, delay_s=0.3)) as (gateway, _):
        await gateway.generate(await gateway.new_key(), seed=7)
        [row] = await gateway.requests()
        assert (row["outcome"], row["latency_ms"] >= 300) == ("failed" if fault else "bought", True)


@pytest.mark.parametrize("fault", ["truncated_json", "html_200", "html_502", "empty_images"])
async def test_an_answer_that_is_none_is_unknown_and_its_money_is_held(tmp_path: Path, fault: Any) -> None:
    async with gateway_and_provider(tmp_path, FakeProvider(answer_fault=fault)) as (gateway, fake):
        budget = {"metric": "cost_usd", "window": "month", "amount": "0.1"}
        key = await gateway.new_key(limits=[budget])
        await refused_without_a_trace(gateway, key, "unknown")
        [held] = await gateway.generations()
        assert (held["status"], held["cost_usd"], held["reserved_usd"]) == ("unknown", None, "0.065")
        fake.behaviour.answer_fault = None
        assert (await gateway.generate(key, seed=8)).status_code == 429  # what is held is not to be spent
        assert (await gateway.generate(await gateway.new_key(), seed=7)).status_code == 200  # free for a new call


@pytest.mark.parametrize("fault", ["reset_after_charge", "never"])
async def test_a_lost_answer_is_not_asked_for_again(tmp_path: Path, fault: Any) -> None:
    provider = FakeProvider(answer_fault=fault)
    async with gateway_and_provider(tmp_path, provider, provider_timeout_s=2) as (gateway, fake):
        key = await gateway.new_key()
        fake.gate = asyncio.Event()
        calls = [asyncio.create_task(gateway.generate(key, seed=7)) for _ in range(5)]
        await fake.wait_for_calls(1)
        fake.gate.set()
        for answer in await asyncio.gather(*calls):
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "provider_timeout")
            assert answer.json()["error"]["data"] == {"charged": "unknown"}
            assert answer.headers["x-should-retry"] == "false"
        assert len(fake.bill) == fake.calls == 1
        assert [row["status"] for row in await gateway.generations()] == ["unknown"]


async def test_a_picture_that_could_not_be_fetched_is_not_bought_again(tmp_path: Path) -> None:
    """An equal request within the hour resumes the fetch."""
    async with gateway_and_provider(tmp_path, FakeProvider(image_fault="missing")) as (gateway, fake):
        key = await gateway.new_key()
        assert (await gateway.generate(key, seed=7)).status_code == 502
        assert [row["status"] for row in await gateway.generations()] == ["answered"]
        fake.behaviour.image_fault = None
        fake.mend_images()
        answer = await gateway.generate(key, seed=7)
        assert (answer.status_code, answer.headers["darkroom-cost-usd"]) == (200, "0")
        assert len(fake.bill) == fake.calls == 1
        assert [row["status"] for row in await gateway.generations()] == ["succeeded"]


async def test_fewer_pictures_than_asked_are_delivered_settled_and_not_stored(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, FakeProvider(images=2)) as (gateway, fake):
        key = await gateway.new_key()
        answer = await gateway.generate(key, seed=7, num_images=4)
        assert (answer.status_code, len(answer.json()["data"])) == (200, 2)
        assert "stored" not in answer.headers["cache-status"]
        assert billed(fake) == await books(gateway) == Decimal("0.13")
        assert (await gateway.admin("GET", "/cache"))["entries"] == 0


@pytest.mark.parametrize("status", [429, 503])
async def test_what_is_provably_refused_for_now_is_tried_again(tmp_path: Path, status: int) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.script.append({"refuse_status": status})
        answer = await gateway.generate(await gateway.new_key(), seed=7)
        assert answer.status_code == 200
        assert (fake.calls, len(fake.bill)) == (2, 1)
